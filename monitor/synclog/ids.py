"""Turns what a sync log holds as an id into the text that the API knows, or says why it is no id. Pure."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import partial
from uuid import UUID

from monitor.database.text import UNPRINTABLE
from monitor.model.json_body import decode_json
from monitor.model.json_path import JsonPath, look_up


class IdFormat(StrEnum):
    """What becomes of ids that are UUIDs in another form than 8-4-4-4-12."""

    AUTO = "auto"
    """They are made canonical if the provider's ids are UUIDs."""
    AS_IS = "as_is"
    UUID = "uuid"
    """They are made canonical, and nothing else is an id."""


@dataclass(frozen=True, slots=True)
class NotAnId:
    """A value that can't be an id."""

    kind: str
    """Such as `a JSON object`."""
    text: str | None = None
    """It, if it is a single text; what a structure holds is nobody's business."""


IdReader = Callable[[object], str | NotAnId | None]
"""Reads one value of the log; None if it is null."""

_UUID_BYTES = 16
_CANONICAL = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UUID = re.compile(
    r"\s*(?:urn:uuid:)?(\{)?([0-9a-f]{8})(-?)([0-9a-f]{4})\3([0-9a-f]{4})\3([0-9a-f]{4})\3([0-9a-f]{12})(?(1)\})\s*",
    re.IGNORECASE | re.ASCII,
)
_PICKLE = re.compile(rb"\x80[\x02-\x08].*\.", re.DOTALL)
"""Protocol 2 and later."""
_JSON_KINDS: dict[type, str] = {dict: "a JSON object", list: "a JSON array", bool: "a JSON boolean"}


def id_reader(*, id_format: IdFormat, uuid_ids: bool, path: JsonPath | None) -> IdReader:
    """The reader of the id column.

    `uuid_ids`: whether the provider's ids are UUIDs. `path`: where the id is in the JSON that the column holds; None
    if it holds the id itself.
    """
    canonical = id_format is IdFormat.UUID or (id_format is IdFormat.AUTO and uuid_ids)
    strict = id_format is IdFormat.UUID
    read: IdReader = partial(_read_uuid, strict=strict) if canonical else read_text
    return read if path is None else partial(_read_json, path=path, read=read)


def canonical_uuid(text: str) -> str | None:
    """A UUID as 8-4-4-4-12 digits in lower case (RFC 9562); None if it is none.

    The same UUID may come with capitals, without dashes, in braces, or as a URN.
    """
    if _CANONICAL.fullmatch(text):
        return text
    found = _UUID.fullmatch(text)
    return None if found is None else "-".join(found.group(2, 4, 5, 6, 7)).lower()


def read_text(value: object) -> str | NotAnId | None:
    """An id as text: 7 for 7.0, decoded bytes if they are text, else their hexadecimal digits."""
    match value:
        case str():
            return _not_json(value) if value[:1] in {"{", "["} else value
        case None:
            return None
        case bytes() | memoryview():
            return _read_bytes(bytes(value))
        case bool():
            return NotAnId("a boolean")
        case float() if math.isfinite(value) and value.is_integer():
            return str(int(value))
        case Decimal() if value.is_finite():
            # not by way of int or division: PostgreSQL has 131,072 digits, Python divides 28 and prints 4,300
            whole, _, fraction = format(value, "f").partition(".")
            return whole if not fraction.strip("0") else str(value)
        case _:
            return str(value)


def _read_uuid(value: object, strict: bool) -> str | NotAnId | None:  # noqa: FBT001  # bound by name
    if isinstance(value, str):
        found = canonical_uuid(value)
    elif isinstance(value, bytes | memoryview) and len(value) == _UUID_BYTES:
        return str(UUID(bytes=bytes(value)))
    else:
        found = None
    if found is not None:
        return found
    other = read_text(value)
    if not isinstance(other, str):
        return other
    # a text in bytes may be a UUID
    found = canonical_uuid(other)
    if found is None and strict and other.strip():
        return NotAnId("no UUID", other)
    return found or other


def _read_bytes(raw: bytes) -> str | NotAnId:
    if _PICKLE.fullmatch(raw):
        return NotAnId("a Python pickle")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.hex()
    # the bytes of a hash or UUID are UTF-8 now and then: all of one column have to come out in one form
    random = UNPRINTABLE.search(text) or (len(raw) == _UUID_BYTES and not text.isascii())
    return raw.hex() if random else text


def _not_json(text: str) -> str | NotAnId:
    """The text, unless it is a whole JSON object or array."""
    try:
        document: object = decode_json(text.encode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return text
    return NotAnId(_JSON_KINDS[type(document)])


def _read_json(value: object, path: JsonPath, read: IdReader) -> str | NotAnId | None:
    if value is None:
        return None
    body = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
    if not body.strip():
        return ""
    try:
        found = look_up(decode_json(body), path)
    except (ValueError, RecursionError):
        return NotAnId("no JSON")
    kind = _JSON_KINDS.get(type(found))
    return read(found) if kind is None else NotAnId(kind)
