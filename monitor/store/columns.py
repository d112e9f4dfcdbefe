"""Types of columns, the same on SQLite and PostgreSQL."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Integer, TypeDecorator
from sqlalchemy.engine import Dialect

__all__ = ["Key", "UtcDateTime", "as_text", "in_utc"]

Key = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only for INTEGER PRIMARY KEY."""


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes in and out: `timestamptz` on PostgreSQL, readable UTC text on SQLite.

    Raises:
        ValueError: when a naive datetime is bound.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        """Aware in. SQLite gets the text that SQLAlchemy's own type would write, at a fifth of its cost."""
        return as_text if dialect.name == "sqlite" else super().bind_processor(dialect)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        """Aware out, in UTC, whatever the session's time zone."""
        return _from_text if dialect.name == "sqlite" else super().result_processor(dialect, coltype)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  # SQLAlchemy's signature
        """Aware in, in UTC."""
        return in_utc(value)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  # SQLAlchemy's signature
        """Aware out, in UTC."""
        return None if value is None else value.astimezone(UTC)


def in_utc(value: datetime | None) -> datetime | None:
    """An aware datetime in UTC.

    Raises:
        ValueError: it is naive.
    """
    if value is None or value.tzinfo is UTC:
        return value
    if value.tzinfo is None:
        raise ValueError("only aware datetimes are stored")
    return value.astimezone(UTC)


def as_text(value: datetime | None) -> str | None:
    """An aware datetime as SQLite keeps it: UTC, to the microsecond, without an offset.

    Raises:
        ValueError: it is naive.
    """
    utc = in_utc(value)
    # cut before the offset
    return None if utc is None else utc.isoformat(" ", "microseconds")[:26]


def _from_text(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value).replace(tzinfo=UTC)
