"""Reads when a server says to come back: headers and body in, one sane duration out. Pure.

The first row of `RETRY_AFTER_SOURCES` that gives a sane time wins; `docs/client.md` has the rules with examples, which
are tested. `email.utils` is not used for dates: it reads a date in an unknown zone such as CET as UTC, an hour off, and
rejects a leap second.

Zero counts as nothing: a server that asks every client to come back at once would be flooded. `Date` comes first
because a wrong clock on either side then cancels out; if it makes no sense (a frozen clock, a cached page), our own
clock is used.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone

import msgspec

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
"""Hours from UTC of the zones in RFC 5322 (4.3); other names are ambiguous or unknown."""

_FIFTY_YEARS = timedelta(days=18_262.5)


def parse_http_date(text: str, *, now: datetime) -> datetime | None:
    """The instant that a date names, in UTC without a zone; None if it is no date or in an unknown zone.

    The second may be 60. A year of two digits is the latest that is at most 50 years ahead of `now` (RFC 9110).
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
_MAX_RETRY_AFTER_S = MAX_RETRY_AFTER.total_seconds()
_UNIX_SECONDS_FROM = 1e8
_UNIX_MILLISECONDS_FROM = 1e11
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[ \t]*,[ \t]*[0-9]+(?:\.[0-9]+)?){0,9}")
_MAX_HINTS = 10
_DURATION = re.compile(
    r"(?=[0-9])(?:([0-9]+)h)?(?:([0-9]+)m(?!s))?(?:([0-9]+(?:\.[0-9]+)?)s)?(?:([0-9]+(?:\.[0-9]+)?)ms)?"
)
_DURATION_UNITS_S = (3600.0, 60.0, 1.0, 0.001)


class _Clocks(msgspec.Struct, frozen=True, kw_only=True):
    own: datetime
    server: datetime | None

    def until(self, instant_s: float) -> float:
        """Seconds until an instant in Unix seconds; negative when it is past."""
        waits_s = [instant_s - clock.timestamp() for clock in (self.server, self.own) if clock]
        return next((wait_s for wait_s in waits_s if 0 < wait_s <= _MAX_RETRY_AFTER_S), waits_s[-1])


def _milliseconds(text: str, _: _Clocks) -> float | None:
    return float(text) / 1000 if _NUMBER.fullmatch(text) else None


def _retry_after(text: str, clocks: _Clocks) -> float | None:
    if _SECONDS.fullmatch(text):
        return max(map(float, text.split(",")))
    instant = parse_http_date(text, now=clocks.own)
    if instant is not None:
        return clocks.until(instant.timestamp())
    hints = _split_hints(text)
    if not 1 < len(hints) <= _MAX_HINTS:
        return None
    waits_s = [_retry_after(hint, clocks) for hint in hints]
    # a gateway may add its own: the longest wait counts
    return None if None in waits_s else max(wait_s for wait_s in waits_s if wait_s is not None)


def _split_hints(text: str) -> list[str]:
    """The values of a header that came several times: joined by commas, of which a date may have its own."""
    hints: list[str] = []
    for part in (each.strip(" \t") for each in text.split(",")):
        if hints and hints[-1].isalpha():  # a weekday
            hints[-1] += f", {part}"
        else:
            hints.append(part)
    return hints


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


class RetryAfterSource(msgspec.Struct, frozen=True, kw_only=True):
    """One place where a server may say when to come back."""

    header: str | None
    """In lower case; None: the body's `retry_after`."""
    statuses: frozenset[int] | None = None
    """The only statuses on which it counts; None: any."""
    read: Callable[[str, _Clocks], float | None]
    """Seconds from now, if it says so; may be zero, negative or infinite."""


_RATE_LIMIT_STATUSES = frozenset({429, 503})
"""On other statuses rate-limit headers are routine."""

RETRY_AFTER_SOURCES = (
    RetryAfterSource(header="retry-after-ms", read=_milliseconds),
    RetryAfterSource(header="retry-after", read=_retry_after),
    RetryAfterSource(header="x-ratelimit-reset", read=_reset, statuses=_RATE_LIMIT_STATUSES),
    RetryAfterSource(header="x-ratelimit-reset-requests", read=_reset, statuses=_RATE_LIMIT_STATUSES),
    RetryAfterSource(header=None, read=_seconds),
)


def parse_retry_after(
    headers: Mapping[str, str], body_retry_after: object, *, now: datetime, status: int | None = 429
) -> timedelta | None:
    """How long the server asks to wait, from `now` (our clock, aware); None without a sane hint. Never raises."""
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
    """A number as digits; a text as it is; empty for the rest."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    # an integer may have more digits than a float can hold, or Python would print
    return format(value if isinstance(value, float) else max(-1, min(value, int(_MAX_RETRY_AFTER_S))), "f")
