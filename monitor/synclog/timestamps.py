"""Parses upload times in common forms to aware UTC datetimes. Pure."""

import math
import re
from datetime import UTC, date, datetime, time, tzinfo
from decimal import Decimal

_NUMBER = re.compile(r"\d{9,13}(?:\.\d+)?", re.ASCII)
"""Unix seconds since 1973, or milliseconds until 2286; fewer digits are a year or a date."""
_MILLISECONDS_FROM = 1e11
"""The year 5138 in seconds, 1973 in milliseconds."""
_MAX_UNIX = 1e14


def parse_timestamp(value: object, zone: tzinfo) -> datetime | None:
    """Parses ISO 8601 text, a native date or timestamp, or Unix seconds or milliseconds as number or text.

    `zone` is the zone of times without an offset. Returns None for other values, zero and negative numbers.
    """
    if isinstance(value, str):
        text = value.strip()
        value = float(text) if _NUMBER.fullmatch(text) else _from_iso(text)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    try:
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=zone)).astimezone(UTC)
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            return _from_unix(float(value))
    except (OverflowError, ValueError):  # beyond the calendar
        return None
    return None


def _from_iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _from_unix(number: float) -> datetime | None:
    if not math.isfinite(number) or not 0 < number < _MAX_UNIX:
        return None
    return datetime.fromtimestamp(number / 1000 if number >= _MILLISECONDS_FROM else number, UTC)
