"""Reads single settings that are more than a number: names, cron, time zones, URLs, credentials. Pure.

Each raises PydanticCustomError with a predicate ("must be …"), which `problems` puts after the key.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from monitor.config.addresses import database_url, webhook_url
from monitor.config.secret import Secret

__all__ = [
    "Cron",
    "DatabaseUrl",
    "HeaderSecret",
    "Name",
    "Patterns",
    "Text",
    "TimeZone",
    "WebhookUrl",
    "secret_that",
    "text_that",
    "wrong",
]


def wrong(predicate: str, **context: str) -> PydanticCustomError:
    """What a validator raises: the sentence is the key, a space, and this predicate."""
    return PydanticCustomError("wrong", "{predicate}", {"predicate": predicate, **context})


def _text(value: str) -> str:
    if not value.isprintable() or not value.strip():
        raise wrong("must be printable text, and not blank")
    return value


def _cron(value: str) -> str:
    fault = wrong('must be a cron expression of five fields, for dates that exist, such as "*/5 * * * *"')
    if len(value.split()) != 5:  # cronsim would also take seconds
        raise fault
    try:
        CronSim(value, datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError:
        raise fault from None
    return value


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    # a KeyError for an unknown name, an OSError for a folder of zones, a ValueError for a path
    except (KeyError, ValueError, OSError):
        raise wrong('must be a time zone\'s name, such as "Europe/Paris" or "UTC"') from None
    return value


def _patterns(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def secret_that(read: Callable[[str], str]) -> Callable[[Secret], Secret]:
    """Makes a validator of the secret's value now, which also reads it at each later `reveal`."""

    def check(secret: Secret) -> Secret:
        try:
            read(secret.reveal())
        except ValueError as error:
            raise wrong(str(error)) from None
        return secret.changed(read)

    return check


def text_that(read: Callable[[str], str]) -> Callable[[str], str]:
    """Makes a validator of plain text."""

    def check(value: str) -> str:
        try:
            return read(value)
        except ValueError as error:
            raise wrong(str(error)) from None

    return check


def _for_header(value: str) -> str:
    if not value.isascii():
        raise ValueError("holds characters that no HTTP header can carry: was it copied whole?")
    return value


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
"""The name of a target or channel: it goes into tables, logs and glob patterns."""

Text = Annotated[str, Field(max_length=200), AfterValidator(_text)]
"""Printable text of 1 to 200 characters."""

Patterns = Annotated[
    tuple[Text, ...],
    Field(min_length=1),
    BeforeValidator(_patterns),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}]}
    ),
]
"""One glob pattern or a list of them."""

Cron = Annotated[
    str, Field(max_length=200, json_schema_extra={"pattern": r"^\s*(\S+\s+){4}\S+\s*$"}), AfterValidator(_cron)
]
TimeZone = Annotated[str, Field(max_length=100), AfterValidator(_time_zone)]
DatabaseUrl = Annotated[
    Secret,
    Field(json_schema_extra={"pattern": r"^(sqlite:///|postgres(ql)?(\+psycopg)?://)."}),
    AfterValidator(secret_that(database_url)),
]
WebhookUrl = Annotated[Secret, AfterValidator(secret_that(webhook_url))]
HeaderSecret = Annotated[Secret, AfterValidator(secret_that(_for_header))]
