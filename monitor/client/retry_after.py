"""Reads when a server says to come back: headers and body in, one sane duration out. Pure: it waits for nothing.

The first row that names a sane time wins; a row that does not is passed over, as if it were absent.

| # | where                        | read as                                                               | on       |
|---|------------------------------|-----------------------------------------------------------------------|----------|
| 1 | `retry-after-ms`             | milliseconds, decimals allowed                                        | any      |
| 2 | `retry-after`                | seconds, decimals allowed, or an HTTP date in any of its three forms  | any      |
| 3 | `x-ratelimit-reset`          | < 10⁸: seconds from now; < 10¹¹: Unix s; else Unix ms; or like "6m0s" | 429, 503 |
| 4 | `x-ratelimit-reset-requests` | as above (OpenAI sends durations)                                     | 429, 503 |
| 5 | body `retry_after`           | seconds, as a number or in ASCII digits, or a duration like "6m0s"    | any      |

| said                                                               | taken as                                      |
|--------------------------------------------------------------------|-----------------------------------------------|
| zero, past, negative, `nan`, `inf`, digits beyond ASCII, garbage   | nothing: the caller backs off by its own rule |
| longer than an hour, however long                                  | an hour                                       |
| an instant that the `Date` header puts within the hour to come     | the time from `Date` until then               |
| an instant that it does not, or beside a `Date` that can't be read | the time from our own clock until then        |
| a date without a zone, as asctime has none                         | UTC                                           |
| a date in a zone by a name that RFC 5322 does not know             | nothing                                       |
| a year of two digits                                               | the latest at most 50 years ahead (RFC 9110)  |

Zero would mean "now", but a server that says so to everyone at once is met by a storm: our own backoff harms nobody.
`Date` comes first because a clock that is off on either side cancels out; where it makes no sense of the instant (a
frozen or absurd clock, a cached page), the instant may still make sense by our own.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

_DAY, _MONTH = "(?P<day>[0-9]{1,2})", "(?P<month>[a-z]{3})"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_ZONE = "(?: ?(?P<zone>[a-z]{1,3}|[+-][0-9]{2}:?[0-9]{2}))?"
_DATE_FORMATS = tuple(
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


def parse_http_date(text: str, *, now: datetime) -> datetime | None:
    """The instant that a date names.

    Args:
        text: a header's value, whatever it is. The weekday may be wrong, the second 60 (a leap second).
        now: our clock, aware: a year of two digits is the latest that is at most 50 years ahead of it (RFC 9110).

    Returns:
        An aware instant, UTC where the date names no zone; None for what is no date, or in a zone that is not known.
    """
    line = " ".join(text.split())
    found = next((match for form in _DATE_FORMATS if (match := form.fullmatch(line))), None)
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


MAX_RETRY_AFTER = timedelta(hours=1)
"""What a longer hint counts as."""

_MAX_RETRY_AFTER_S = MAX_RETRY_AFTER.total_seconds()
_UNIX_SECONDS_FROM = 1e8
_UNIX_MILLISECONDS_FROM = 1e11
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[ \t]*,[ \t]*[0-9]+(?:\.[0-9]+)?){0,9}")
_DURATION = re.compile(
    r"(?=[0-9])(?:([0-9]+)h)?(?:([0-9]+)m(?!s))?(?:([0-9]+(?:\.[0-9]+)?)s)?(?:([0-9]+(?:\.[0-9]+)?)ms)?"
)
_DURATION_UNITS_S = (3600.0, 60.0, 1.0, 0.001)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clocks:
    own: datetime
    server: datetime | None
    """What the `Date` header says."""

    def until(self, instant_s: float) -> float:
        """Seconds until an instant in Unix seconds; negative when it is past."""
        waits_s = [instant_s - clock.timestamp() for clock in (self.server, self.own) if clock]
        return next((wait_s for wait_s in waits_s if 0 < wait_s <= _MAX_RETRY_AFTER_S), waits_s[-1])


def _milliseconds(text: str, _: _Clocks) -> float | None:
    return float(text) / 1000 if _NUMBER.fullmatch(text) else None


def _retry_after(text: str, clocks: _Clocks) -> float | None:
    if _SECONDS.fullmatch(text):
        return max(map(float, text.split(",")))  # a gateway may have added its own
    instant = parse_http_date(text, now=clocks.own)
    return clocks.until(instant.timestamp()) if instant else None


def _reset(text: str, clocks: _Clocks) -> float | None:
    if not _NUMBER.fullmatch(text):
        return _duration(text)
    number = float(text)
    if number < _UNIX_SECONDS_FROM:
        return number
    return clocks.until(number if number < _UNIX_MILLISECONDS_FROM else number / 1000)


def _seconds(text: str, _: _Clocks) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else _duration(text)


def _duration(text: str) -> float | None:
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    return sum(float(part) * unit_s for part, unit_s in zip(match.groups("0"), _DURATION_UNITS_S, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryAfterSource:
    """One place where a server may say when to come back."""

    header: str | None
    """In lower case; None: the body's `retry_after`."""
    statuses: frozenset[int] | None = None
    """The only statuses on which it is a hint; None: any."""
    read: Callable[[str, _Clocks], float | None]
    """Seconds from now, if it says so; may be zero, negative or infinite."""


_RATE_LIMIT_STATUSES = frozenset({429, 503})
"""On other statuses the rate limit headers are routine."""

RETRY_AFTER_SOURCES = (
    RetryAfterSource(header="retry-after-ms", read=_milliseconds),
    RetryAfterSource(header="retry-after", read=_retry_after),
    RetryAfterSource(header="x-ratelimit-reset", read=_reset, statuses=_RATE_LIMIT_STATUSES),
    RetryAfterSource(header="x-ratelimit-reset-requests", read=_reset, statuses=_RATE_LIMIT_STATUSES),
    RetryAfterSource(header=None, read=_seconds),
)
"""The rows of the table above, in its order."""


def parse_retry_after(
    headers: Mapping[str, str], body_retry_after: object, *, now: datetime, status: int | None = 429
) -> timedelta | None:
    """When the server says to come back, counted from `now`.

    Args:
        headers: of the reply, names in lower case.
        body_retry_after: the body's `retry_after`, whatever it is; None when absent.
        now: our clock, aware.
        status: of the reply.

    Returns:
        More than zero and at most `MAX_RETRY_AFTER`, or None when nothing sane was said. Never raises.
    """
    clocks = _Clocks(own=now, server=parse_http_date(headers.get("date", ""), now=now))
    for source in RETRY_AFTER_SOURCES:
        if source.statuses is not None and status not in source.statuses:
            continue
        text = _number_text(body_retry_after) if source.header is None else headers.get(source.header, "")
        wait_s = source.read(text.strip(" \t"), clocks)
        if wait_s is not None and (wait := timedelta(seconds=max(0.0, min(wait_s, _MAX_RETRY_AFTER_S)))):
            return wait
    return None


def _number_text(value: object) -> str:
    """A number as digits; a text as it is; nothing for the rest."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    # an integer may have more digits than a float can hold, or Python would spell
    return format(value if isinstance(value, float) else max(-1, min(value, int(_MAX_RETRY_AFTER_S))), "f")
