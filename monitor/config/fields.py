"""Types of single settings: names, cron expressions, time zones, rates, statuses. Pure.

A validator raises PydanticCustomError with a predicate ("must be …"); `problems` puts the key before it.
"""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from monitor.config.secret import Secret
from monitor.config.urls import validate_database_url, validate_webhook_url
from monitor.providers.paths import word_text
from monitor.providers.registry import built_in_names, installed_providers


def invalid_value(predicate: str, **context: str) -> PydanticCustomError:
    """The error of a validator. `suffix` in the context is added to the key."""
    return PydanticCustomError("invalid_value", "{predicate}", {"predicate": predicate, **context})


def invalid_choice(value: object, choices: Sequence[str]) -> PydanticCustomError:
    """The error of a value that is none of the choices; a near one is suggested."""
    near = did_you_mean(value, choices) if isinstance(value, str) and len(choices) > 1 else ""
    return invalid_value(f"is not a known value{near}" if near else f"must be {format_choices(choices)}")


def require(accepts: Callable[[str], object], predicate: str) -> Callable[[str], str]:
    """A validator of a single condition; `predicate` is its error."""

    def check(value: str) -> str:
        if not accepts(value):
            raise invalid_value(predicate)
        return value

    return check


def _validate_cron(value: str) -> str:
    fault = invalid_value('must be a cron expression with five fields that match real dates, such as "*/5 * * * *"')
    if len(value.split()) != 5:  # cronsim would also accept seconds
        raise fault
    try:
        CronSim(value, datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError:
        raise fault from None
    return value


def _validate_time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    # KeyError: an unknown name; OSError: a folder of zones; ValueError: a path
    except (KeyError, ValueError, OSError):
        raise invalid_value('must be the name of a time zone, such as "Europe/Paris" or "UTC"') from None
    return value


def secret_validator(read: Callable[[str], str]) -> Callable[[Secret], Secret]:
    """A validator that applies `read` to the secret's value now, and again at each later `reveal`."""

    def check(secret: Secret) -> Secret:
        text_validator(read)(secret.reveal())
        return secret.transform(read)

    return check


def text_validator(read: Callable[[str], str]) -> Callable[[str], str]:
    """A validator that applies `read` to plain text."""

    def check(value: str) -> str:
        try:
            return read(value)
        except ValueError as error:
            raise invalid_value(str(error)) from None

    return check


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
"""The name of a target or channel, as used in tables, logs and glob patterns."""

_validate_text = require(lambda text: text.isprintable() and text.strip(), "must be printable text, and not blank")

Text = Annotated[str, Field(max_length=200), AfterValidator(_validate_text)]
"""Printable text of 1 to 200 characters."""


def _status_text(value: object) -> object:
    """A JSON scalar as the text that statuses are compared as; TOML has no null, so its name is "null"."""
    if isinstance(value, float) and not math.isfinite(value):
        raise invalid_value(f"must be a status: JSON has no {value}")
    if value is None or isinstance(value, int | float):
        return word_text(value) or str(value)
    return value


StatusWord = Annotated[
    str,
    Field(max_length=200),
    BeforeValidator(_status_text),
    AfterValidator(
        require(
            lambda text: text.isprintable() and text.strip(),
            'must be printable text, and not blank; a status that is null is called "null"',
        )
    ),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
"""A status of an API, or another value in its answers."""

GlobPatterns = Annotated[
    tuple[Text, ...],
    Field(min_length=1),
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}]}
    ),
]

CronExpression = Annotated[
    str, Field(max_length=200, json_schema_extra={"pattern": r"^\s*(\S+\s+){4}\S+\s*$"}), AfterValidator(_validate_cron)
]
TimeZone = Annotated[str, Field(max_length=100), AfterValidator(_validate_time_zone)]
DatabaseUrl = Annotated[
    Secret,
    Field(json_schema_extra={"pattern": r"^(sqlite:///|postgres(ql)?(\+psycopg)?://)."}),
    AfterValidator(secret_validator(validate_database_url)),
]
WebhookUrl = Annotated[Secret, AfterValidator(secret_validator(validate_webhook_url))]
_validate_header_value = require(
    str.isascii, "contains characters that an HTTP header can't contain: check that it was copied correctly"
)
HeaderSecret = Annotated[Secret, AfterValidator(secret_validator(_validate_header_value))]


_COUNT = r"[1-9][0-9]{0,7}(\.[0-9]{1,6})?|0\.[0-9]{0,5}[1-9][0-9]{0,5}"
"""A decimal number above zero."""
_PATTERN = re.compile(rf"(?P<count>{_COUNT})/(?P<unit>[smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


class RequestRate(float):
    """Requests per second, read from "50/s", "0.5/s", "100/m" or "3000/h", else ValueError; `written` is the text."""

    __slots__ = ("written",)
    written: str

    def __new__(cls, written: str) -> Self:
        """Parses the text."""
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
        """Dumps the original text."""
        written = core_schema.plain_serializer_function_ser_schema(lambda rate: rate.written, when_used="json")
        return core_schema.no_info_plain_validator_function(cls._read, serialization=written)

    @classmethod
    def __get_pydantic_json_schema__(cls, source: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, object]:
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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean "…"?` with the nearest known name; empty if none is near."""
    near = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def format_choices(names: Iterable[str]) -> str:
    """The names as a list of alternatives: `"a", "b" or "c"`."""
    quoted = [f'"{name}"' for name in names]
    return " or ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))


def quote_name(text: str) -> str:
    """A name in quotes, printable and no longer than 60 characters."""
    clean = replace_unprintable(text)
    return f'"{clean}"' if len(clean) <= 60 else f'"{clean[:59]}…"'


def replace_unprintable(text: str) -> str:
    """The text with a question mark in place of each unprintable character."""
    return "".join(each if each.isprintable() else "?" for each in text)


def validate_provider_name(name: str) -> str:
    """The name, if there is such a provider."""
    built_in = built_in_names()
    if name in built_in:
        return name
    others = installed_providers()  # slow, so only for a name that is not built in
    if name in others:
        return name
    known = [*built_in, *others]
    near = did_you_mean(name, known)
    raise invalid_value(f'is not a known provider{near or ":"} use {format_choices(known)} ("generic" is for any API)')
