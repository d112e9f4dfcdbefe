"""Forms with files, as uploads have them (multipart/form-data)."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from monitor.errors import ConfigError
from monitor.providers.forms import multipart


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of an upload."""

    name: str
    """Its file name, as the API will know it."""
    content: bytes = field(repr=False)
    content_type: str = "application/octet-stream"


def encode_form(fields: Mapping[str, str], files: Mapping[str, File]) -> tuple[str, bytes]:
    """The content type and the body of a form.

    Raises:
        ConfigError: a content type is not one line of printable ASCII, or a field is no Unicode text.
    """
    parts = {}
    for name, file in files.items():
        if not (file.content_type.isascii() and file.content_type.isprintable()):
            raise ConfigError([f"the content type of the file {file.name!a} is no line of ASCII"])
        parts[name] = (file.name, file.content, file.content_type)
    try:
        return multipart(fields, parts, boundary=secrets.token_hex(16))
    except UnicodeEncodeError:
        raise ConfigError(["a value of the form is no Unicode text"]) from None
