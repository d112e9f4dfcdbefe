"""Reads dates as HTTP headers carry them: the three forms of RFC 9110 (5.6.7), and with zones as in mail. Pure.

The time zone of this process never matters: a date says its own zone, or is UTC.
"""

import re
from datetime import datetime, timedelta, timezone

__all__ = ["http_date"]

_DAY, _MONTH = "(?P<day>[0-9]{1,2})", "(?P<month>[a-z]{3})"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_ZONE = "(?: ?(?P<zone>[a-z]{1,3}|[+-][0-9]{2}:?[0-9]{2}))?"
_FORMS = tuple(
    re.compile(form, re.ASCII | re.IGNORECASE)
    for form in (
        f"(?:[a-z]{{3,9}}, ?)?{_DAY}[ -]{_MONTH}[ -](?P<year>[0-9]{{4}}|[0-9]{{2}}) {_TIME}{_ZONE}",
        f"[a-z]{{3}} {_MONTH} {_DAY} {_TIME} (?P<year>[0-9]{{4}}){_ZONE}",
    )
)
"""IMF-fixdate, RFC 850 and RFC 5322; asctime."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ZONES_H = dict.fromkeys(("", "gmt", "utc", "ut", "z"), 0) | {
    name: hours
    for zone, hours in (("e", -5), ("c", -6), ("m", -7), ("p", -8))
    for name, hours in ((f"{zone}st", hours), (f"{zone}dt", hours + 1))
}
"""Hours from UTC of the zones that RFC 5322 (4.3) names; other names mean several zones, or are unknown to us."""

_FIFTY_YEARS = timedelta(days=18_262.5)


def http_date(text: str, *, now: datetime) -> datetime | None:
    """The instant that a date names.

    Args:
        text: a header's value, whatever it is. The weekday may be wrong, the second 60 (a leap second).
        now: our clock, aware: a year of two digits is the latest that is at most 50 years ahead of it (RFC 9110).

    Returns:
        An aware instant, UTC where the date names no zone; None for what is no date, or in a zone that is not known.
    """
    line = " ".join(text.split())
    found = next((match for form in _FORMS if (match := form.fullmatch(line))), None)
    if found is None:
        return None
    try:
        return _instant(found.groupdict(""), now)
    except (KeyError, ValueError, OverflowError):
        return None


def _instant(parts: dict[str, str], now: datetime) -> datetime:
    day, hour, minute = (int(parts[name]) for name in ("day", "hour", "minute"))
    second, year = int(parts["second"]), int(parts["year"])
    short = len(parts["year"]) == 2
    if short:
        latest = now.year + 50
        year = latest - (latest - year) % 100
    if second > 60:
        raise ValueError
    zone = timezone(_offset(parts["zone"].lower()))
    start = datetime(year, _MONTHS.index(parts["month"].lower()) + 1, day, hour, minute, tzinfo=zone)
    instant = start + timedelta(seconds=second)
    return instant.replace(year=year - 100) if short and instant - now > _FIFTY_YEARS else instant


def _offset(zone: str) -> timedelta:
    if zone[:1] not in {"+", "-"}:
        return timedelta(hours=_ZONES_H[zone])
    size = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
    return -size if zone[0] == "-" else size
