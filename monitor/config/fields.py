"""Reads single settings that are more than a number: names, cron, time zones, URLs, credentials. Pure.

Each raises PydanticCustomError with a predicate ("must be …"), which `problems` puts after the key.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from monitor.config.secret import Secret
from monitor.config.urls import normalise_database_url, validate_webhook_url
from monitor.providers.registry import BUILT_IN, installed_providers


def invalid_value(predicate: str, **context: str) -> PydanticCustomError:
    """What a validator raises: the sentence is the key, a space, and this predicate."""
    return PydanticCustomError("invalid_value", "{predicate}", {"predicate": predicate, **context})


def _validate_text(value: str) -> str:
    if not value.isprintable() or not value.strip():
        raise invalid_value("must be printable text, and not blank")
    return value


def _validate_cron(value: str) -> str:
    fault = invalid_value('must be a cron expression of five fields, for dates that exist, such as "*/5 * * * *"')
    if len(value.split()) != 5:  # cronsim would also take seconds
        raise fault
    try:
        CronSim(value, datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError:
        raise fault from None
    return value


def _validate_time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    # a KeyError for an unknown name, an OSError for a folder of zones, a ValueError for a path
    except (KeyError, ValueError, OSError):
        raise invalid_value('must be a time zone\'s name, such as "Europe/Paris" or "UTC"') from None
    return value


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def secret_validator(read: Callable[[str], str]) -> Callable[[Secret], Secret]:
    """Makes a validator of the secret's value now, which also reads it at each later `reveal`."""

    def check(secret: Secret) -> Secret:
        try:
            read(secret.reveal())
        except ValueError as error:
            raise invalid_value(str(error)) from None
        return secret.transform(read)

    return check


def text_validator(read: Callable[[str], str]) -> Callable[[str], str]:
    """Makes a validator of plain text."""

    def check(value: str) -> str:
        try:
            return read(value)
        except ValueError as error:
            raise invalid_value(str(error)) from None

    return check


def _validate_header_value(value: str) -> str:
    if not value.isascii():
        raise ValueError("holds characters that no HTTP header can carry: was it copied whole?")
    return value


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
"""The name of a target or channel: it goes into tables, logs and glob patterns."""

Text = Annotated[str, Field(max_length=200), AfterValidator(_validate_text)]
"""Printable text of 1 to 200 characters."""

GlobPatterns = Annotated[
    tuple[Text, ...],
    Field(min_length=1),
    BeforeValidator(_as_tuple),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}]}
    ),
]
"""One glob pattern or a list of them."""

CronExpression = Annotated[
    str, Field(max_length=200, json_schema_extra={"pattern": r"^\s*(\S+\s+){4}\S+\s*$"}), AfterValidator(_validate_cron)
]
TimeZone = Annotated[str, Field(max_length=100), AfterValidator(_validate_time_zone)]
DatabaseUrl = Annotated[
    Secret,
    Field(json_schema_extra={"pattern": r"^(sqlite:///|postgres(ql)?(\+psycopg)?://)."}),
    AfterValidator(secret_validator(normalise_database_url)),
]
WebhookUrl = Annotated[Secret, AfterValidator(secret_validator(validate_webhook_url))]
HeaderSecret = Annotated[Secret, AfterValidator(secret_validator(_validate_header_value))]


_COUNT = r"[1-9][0-9]{0,7}(\.[0-9]{1,6})?|0\.[0-9]{0,5}[1-9][0-9]{0,5}"
"""A number above zero: one that begins with 0 has another digit behind the point."""
_PATTERN = re.compile(rf"(?P<count>{_COUNT})/(?P<unit>[smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


class RequestRate(float):
    """Requests per second (above zero), which remember how they were written.

    It is made from a decimal number above zero and what that is per: "50/s", "0.5/s", "100/m", "3000/h".

    Raises:
        ValueError: for anything else.
    """

    __slots__ = ("written",)
    written: str

    def __new__(cls, written: str) -> Self:
        """Reads what was written."""
        match = _PATTERN.fullmatch(written)
        if match is None:
            raise ValueError("not a rate")
        made = super().__new__(cls, float(match["count"]) / _SECONDS[match["unit"]])
        made.written = written
        return made

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]  # a copy is made from what was written
        return (self.written,)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """How pydantic reads one and dumps it (as it was written)."""
        written = core_schema.plain_serializer_function_ser_schema(lambda rate: rate.written, when_used="json")
        return core_schema.no_info_plain_validator_function(cls._read, serialization=written)

    @classmethod
    def __get_pydantic_json_schema__(cls, source: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, object]:
        """What a file may hold for it."""
        return {"type": "string", "pattern": f"^({_COUNT})/[smh]$"}

    @classmethod
    def _read(cls, value: object) -> Self:
        try:
            return value if isinstance(value, cls) else cls(value if isinstance(value, str) else "")
        except ValueError:
            raise invalid_value('must be a rate above zero, such as "50/s", "100/m" or "3000/h"') from None


def _validate_share(value: float) -> float:
    if not 0 < value <= 1:
        raise invalid_value("must be above 0 and at most 1, such as 0.5")
    return value


Share = Annotated[
    float, AfterValidator(_validate_share), Field(json_schema_extra={"exclusiveMinimum": 0, "maximum": 1})
]
"""A share above 0, up to 1 for all of it."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean "…"?` for the nearest of the known names; empty when none is near."""
    near = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def format_choices(names: Iterable[str]) -> str:
    """The names in quotes, as people list alternatives: `"a", "b" or "c"`."""
    quoted = [f'"{name}"' for name in names]
    return " or ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))


def quote_name(text: str) -> str:
    """A name in quotes, printable and no longer than 60 characters."""
    clean = replace_unprintable(text)
    return f'"{clean}"' if len(clean) <= 60 else f'"{clean[:59]}…"'


def replace_unprintable(text: str) -> str:
    """The text with a question mark for each character that can't be printed."""
    return "".join(each if each.isprintable() else "?" for each in text)


_NOT_BUILT_IN = {"uppzy", "rag_modulo", "openai", "ragie", "contextual", "llamacloud", "pinecone"}
"""APIs that people look for by name, and that the generic provider may be told about."""


def validate_provider_name(name: str) -> str:
    """The name of a provider that exists.

    Raises:
        PydanticCustomError: there is none of that name; the text is a predicate.
    """
    if name in BUILT_IN:
        return name
    others = installed_providers()  # asked only for a name that is not ours: it takes a while
    if name in others:
        return name
    known = [*BUILT_IN, *others]
    if name.lower() in _NOT_BUILT_IN:
        raise invalid_value(
            f'must be {format_choices(known)}: {quote_name(name)} is not built in, but "generic" can be told how to ask it'
        )
    raise invalid_value("is not a known provider" + (did_you_mean(name, known) or f": use {format_choices(known)}"))


_PATH = re.compile(r"/(?!/)[!-~]*", re.ASCII)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}", re.ASCII)
_PARAMETER = re.compile(r"[A-Za-z0-9._~\[\]-]{1,100}", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z0-9._-]{0,50}", re.ASCII)
_VALUE = re.compile(r"[!-~](?:[ -~]{0,998}[!-~])?", re.ASCII)
_RESERVED_HEADERS = {
    "accept-encoding", "authorization", "connection", "content-encoding", "content-length", "content-type", "cookie",
    "expect", "host", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding",
    "upgrade",
}  # fmt: skip
"""Headers that the client itself decides on, or that carry credentials, which belong under auth."""


def _validate_path(path: str) -> str:
    if not _PATH.fullmatch(path) or "#" in path:
        raise invalid_value('must begin with one "/" and hold neither spaces nor "#": escape them as %20 and %23')
    return path


def _path_validator(*allowed: str) -> Callable[[str], str]:
    braced = " and ".join(f"{{{name}}}" for name in allowed)

    def check(path: str) -> str:
        unknown = [name for name in _PLACEHOLDER.findall(_validate_path(path)) if name not in allowed]
        if unknown or set("{}") & set(_PLACEHOLDER.sub("", path)):
            raise invalid_value(f"holds braces around something else: only {braced} may stand in them")
        return path

    return check


def _validate_item_path(path: str) -> str:
    if path.count("{item_id}") != 1:
        raise invalid_value('must hold {item_id} once, where the id belongs, as in "/documents/{item_id}"')
    return path


def _validate_dotted_path(path: str) -> str:
    if not all(part.strip() for part in path.split(".")):
        raise invalid_value('must be names with dots between them, such as "status" or "document.status"')
    return path


def _validate_regex(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error:
        raise invalid_value("must be a regular expression as Python reads them") from None
    return pattern


def _validate_query_parameter(name: str) -> str:
    if not _PARAMETER.fullmatch(name):
        raise invalid_value('must be the name of a query parameter, such as "page" or "limit"')
    return name


def _validate_header_name(name: str) -> str:
    if not _TOKEN.fullmatch(name) or name.lower() in _RESERVED_HEADERS - {"authorization"}:
        raise invalid_value(
            f'must be the name of a header that carries a key, such as "X-API-Key"; {quote_name(name)} is none'
        )
    return name


def _validate_auth_scheme(word: str) -> str:
    if not _SCHEME.fullmatch(word):
        raise invalid_value('must be one word such as "Bearer", or "" for the bare key')
    return word


def _validate_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise invalid_value(f"names {quote_name(name)}, which is no header's name: use letters, digits and hyphens")
        if name.lower() in _RESERVED_HEADERS:
            raise invalid_value(
                f"names {quote_name(name)}, which the monitor sets itself: remove it (credentials belong under auth)"
            )
        if not _VALUE.fullmatch(value):
            raise invalid_value(
                f"gives {quote_name(name)} a value that no header can carry: use 1 to 1000 plain ASCII characters"
            )
    if len({name.lower() for name in headers}) < len(headers):
        raise invalid_value("names one header twice: case does not count in their names")
    return headers


RequestPath = Annotated[
    str, Field(max_length=1000, json_schema_extra={"pattern": "^/"}), AfterValidator(_validate_path)
]
"""A path below the base URL, query included."""

ItemPath = Annotated[
    str,
    Field(max_length=1000, json_schema_extra={"pattern": r"^/.*\{item_id\}"}),
    AfterValidator(_path_validator("item_id", "publisher_id")),
    AfterValidator(_validate_item_path),
]
"""The path of one item: a template."""

ListPath = Annotated[
    str, Field(max_length=1000, json_schema_extra={"pattern": "^/"}), AfterValidator(_path_validator("publisher_id"))
]
"""The path of the list: a template."""

DottedPath = Annotated[Text, AfterValidator(_validate_dotted_path)]
"""Where in a JSON body to look: names of objects' keys, and positions in arrays, with dots between them."""

DottedPathOrBody = Annotated[
    str, Field(max_length=200), AfterValidator(lambda path: path and _validate_dotted_path(path))
]
"""The same, or nothing for the body itself."""

QueryParameter = Annotated[str, AfterValidator(_validate_query_parameter)]
"""The name of a query parameter."""

Regex = Annotated[str, Field(max_length=1000), AfterValidator(_validate_regex)]
HeaderName = Annotated[str, AfterValidator(_validate_header_name)]
Headers = Annotated[Mapping[str, str], AfterValidator(_validate_headers)]
AuthScheme = Annotated[str, AfterValidator(_validate_auth_scheme)]
