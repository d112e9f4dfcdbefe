"""Forms with files, as uploads have them (multipart/form-data, RFC 7578)."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from monitor.errors import ConfigError

_LINE = b"\r\n"
_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})
"""As browsers write names and file names (WHATWG, "multipart/form-data encoding algorithm")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of an upload."""

    name: str
    """Its file name, as the API will know it."""
    content: bytes = field(repr=False)
    content_type: str = "application/octet-stream"


def encode_form(
    fields: Mapping[str, str], files: Mapping[str, File], *, token: Callable[[], str] = lambda: secrets.token_hex(16)
) -> tuple[str, bytes]:
    """The content type and the body of a form.

    Raises:
        ConfigError: a content type is not one line of printable ASCII.
    """
    boundary = token()
    parts: list[tuple[str, str | None, bytes]] = []
    parts += [(_disposition(name), None, value.encode()) for name, value in fields.items()]
    for name, file in files.items():
        if not (file.content_type.isascii() and file.content_type.isprintable()):
            raise ConfigError([f"the content type of the file {file.name!a} is no line of ASCII"])
        disposition = f'{_disposition(name)}; filename="{file.name.translate(_ESCAPES)}"'
        parts.append((disposition, file.content_type, file.content))
    body = b"".join(_part(boundary, *part) for part in parts) + f"--{boundary}--\r\n".encode()
    return f"multipart/form-data; boundary={boundary}", body


def _disposition(name: str) -> str:
    return f'Content-Disposition: form-data; name="{name.translate(_ESCAPES)}"'


def _part(boundary: str, disposition: str, content_type: str | None, content: bytes) -> bytes:
    head = f"--{boundary}\r\n{disposition}\r\n" + (f"Content-Type: {content_type}\r\n" if content_type else "")
    return head.encode(errors="replace") + _LINE + content + _LINE
