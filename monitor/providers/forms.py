"""Forms with files (multipart/form-data), encoded by httpx, which is imported when a form is sent."""

from collections.abc import Mapping

File = tuple[str, bytes, str]
"""Its name, its content and its content type."""


def multipart(fields: Mapping[str, str], files: Mapping[str, File], *, boundary: str) -> tuple[str, bytes]:
    """The content type and the body of a form. Raises UnicodeEncodeError if a field is no Unicode text."""
    from httpx import Request

    content_type = f"multipart/form-data; boundary={boundary}"
    parts: dict[str, tuple[None, bytes] | File] = {name: (None, value.encode()) for name, value in fields.items()}
    form = Request(
        "POST", "http://form/", files=[*parts.items(), *files.items()], headers={"content-type": content_type}
    )
    return content_type, form.read()
