"""Parses upload times in common forms to aware UTC datetimes. Pure."""

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal

from monitor.database.text import to_single_line

_NUMBER = re.compile(r"\d{10,20}(?:\.\d+)?", re.ASCII)
_UNITS = ((10**9, 10**11, 10**6), (10**11, 10**13, 10**3), (10**14, 10**17, 1), (10**17, 10**20, Decimal("0.001")))
"""From, to (exclusive), and microseconds per unit: seconds from 2001 on; ms, µs and ns from 1973 on.

Smaller numbers are years, dates and Julian days; one of 14 digits may be a date as in 20261120083000."""
_ZONE_NAME = re.compile(r"(?<=[\d.])\s*(?:([+-]\d\d:?\d\d)\s*)?(?:UTC|GMT|Z)$", re.IGNORECASE)
"""Such as ` UTC`, and Go's ` +0000 UTC`."""
_SPACED_OFFSET = re.compile(r"\s+(?=[+-]\d\d(?::?\d\d)?$)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_SAMPLE_LENGTH = 60


def parse_timestamp(value: object, zone: tzinfo) -> datetime | None:
    """Parses ISO 8601 text, a native date or timestamp, or Unix seconds, ms, µs or ns as number or text.

    `zone` is the zone of times without an offset. Returns None for all other values, and numbers below 10⁹.
    """
    if isinstance(value, str):
        text = value.strip()
        value = Decimal(text) if _NUMBER.fullmatch(text) else _from_iso(text)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    try:
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=zone)).astimezone(UTC)
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            return _from_unix(Decimal(value))
    except (OverflowError, ValueError):  # beyond the calendar
        return None
    return None


def unreadable_sample(value: object) -> str | None:
    """A value that is no time, as one line of at most 60 characters; None for an empty one, which says nothing."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return to_single_line(text, MAX_SAMPLE_LENGTH) or None


def _from_iso(text: str) -> datetime | None:
    text = _ZONE_NAME.sub(lambda found: found[1] or "+00:00", text)
    try:
        return datetime.fromisoformat(_SPACED_OFFSET.sub("", text))
    except ValueError:
        return None


def _from_unix(number: Decimal) -> datetime | None:
    if not number.is_finite():
        return None
    per_unit = next((factor for least, end, factor in _UNITS if least <= number < end), None)
    return None if per_unit is None else _EPOCH + timedelta(microseconds=round(number * per_unit))
