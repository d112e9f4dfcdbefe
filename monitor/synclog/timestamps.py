"""Parses upload times, in the forms that tools really write, to aware UTC datetimes. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from functools import partial
from zoneinfo import ZoneInfo

import msgspec

from monitor.database.text import to_single_line

AUTO, JULIAN = "auto", "julian"
TimeReader = Callable[[object], datetime | None]
"""Reads one value of the log; None if it is empty, or no time of that format."""

_PER_SECOND: Mapping[str, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_FIRST_S, _END_S = 10**9, 10**10
"""The instants that a number without a unit can mean: from 2001 to 2286, whatever its unit is.

So no number has two readings, and those that are no Unix times have none: years and dates (20261120, 202611200830,
20261120083000), Julian days (2461374.2) and the days of a spreadsheet (46346.35).
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_JULIAN_DAY = Decimal("2440587.5")
_JULIAN_DAYS = (1_721_426, 5_373_484)
"""From the year 1 to 9999."""
_NUMBER = re.compile(r"\d+(?:\.\d*)?|\d(?:\.\d+)?e\+?\d{1,2}", re.ASCII | re.IGNORECASE)
"""With an exponent as PostgreSQL writes large floating-point numbers."""

_ISO_DATE_LENGTH = 10
_OFFSET = r"[+-]\d\d:?\d\d|[+-]\d\d"
_TAGS = re.compile(r"(?:\[!?([^\]=]+)\])?(?:\[[^\]]*\])*$")
"""Suffixes in brackets: Java writes `[Europe/Paris]`, RFC 9557 has more."""
_MONOTONIC = re.compile(r" m=[+-][\d.]+$")
"""What Go's `time.Time.String` adds."""
_END = re.compile(
    rf"(?<=[\d.])\s*(?:(?P<offset>{_OFFSET})(?:\s+(?!BC)(?:[A-Za-z]{{1,5}}|{_OFFSET}))?"
    r"|(?P<utc>UTC|GMT|UT|Z)|\s(?P<zone>[A-Za-z]+(?:/[A-Za-z0-9_+-]+)+))$",
    re.ASCII | re.IGNORECASE,
)
"""An offset, with or without a name behind it (Go: ` +0100 CET`); or UTC; or the name of a zone. PostgreSQL's ` BC` is
no name.
"""
_MIDNIGHT = re.compile(r"(?<=[\sTt])24(?=:00(?::00(?:\.0+)?)?(?:$|[^\d:.]))", re.ASCII)
"""The end of a day (ISO 8601)."""
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_MONTH = "(?P<month>" + "|".join(_MONTHS) + ")[a-z]*"
_CLOCK = r"(?P<clock>\d\d:\d\d(?::\d\d(?:\.\d+)?)?)"
_BEHIND = rf"(?:\s*(?P<zone>(?:GMT|UTC)?(?:{_OFFSET})|GMT|UTC|UT|Z))?(?:\s*\([^()]*\))?"
_DAY_NAME = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s+)?"
_WORDED = tuple(
    re.compile(form, re.ASCII | re.IGNORECASE)
    for form in (
        rf"{_DAY_NAME}(?P<day>\d\d?)[ -]{_MONTH}[ -](?P<year>\d{{4}}),?\s+{_CLOCK}{_BEHIND}",
        rf"{_DAY_NAME}{_MONTH}\s+(?P<day>\d\d?),?\s+(?P<year>\d{{4}}),?\s+{_CLOCK}{_BEHIND}",
        rf"{_DAY_NAME}{_MONTH}\s+(?P<day>\d\d?)\s+{_CLOCK}{_BEHIND}\s+(?P<year>\d{{4}})",
    )
)
"""RFC 2822 and HTTP; JavaScript's `Date.toString`; C's `asctime` and `date`."""
MAX_SAMPLE_LENGTH = 60
_MAX_INTEGER = (1 << 63) - 1
"""SQLite's integers have 64 bits."""
_DAY_FIRST = re.compile(r"%Y([-/.]?)%m\1%d")


class NumberRange(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers that are times of one unit, so that their order is that of time."""

    lowest: int
    end: int | None
    """Exclusive; None: there is none."""
    count: Callable[[datetime], int]
    """The number that stands for an instant, rounded down."""

    def holds(self, value: object) -> bool:
        """Whether a value, as number or text, is one of these."""
        number = _number(value)
        return number is not None and self.lowest <= number and (self.end is None or number < self.end)


def number_ranges(time_format: str) -> Sequence[NumberRange]:
    """The ranges of numbers that a `time_format` reads."""
    if time_format == JULIAN:
        first, last = _JULIAN_DAYS
        return [NumberRange(lowest=first, end=last, count=lambda at: int(_EPOCH_JULIAN_DAY) + (at - _EPOCH).days)]
    if time_format in _PER_SECOND:
        return [NumberRange(lowest=1, end=None, count=partial(_count, per_second=_PER_SECOND[time_format]))]
    if time_format == AUTO:
        return [
            NumberRange(
                lowest=_FIRST_S * each, end=min(_END_S * each, _MAX_INTEGER), count=partial(_count, per_second=each)
            )
            for each in _PER_SECOND.values()
        ]
    return []


def day_sign(time_format: str) -> str | None:
    """What stands between year, month and day of a text that begins with them, so that its order is that of days.

    None if texts of this `time_format` do not.
    """
    found = _DAY_FIRST.match("%Y-%m-%d" if time_format == AUTO else time_format)
    return found[1] if found else None


def _count(at: datetime, per_second: int) -> int:
    return (at - _EPOCH) // timedelta(seconds=1) * per_second


def time_reader(time_format: str, zone: tzinfo) -> TimeReader:
    """The reader of a `time_format`: auto, s, ms, us, ns, julian, or a pattern of `strptime`.

    `zone` is the zone of times without an offset.
    """
    if time_format == AUTO:
        return partial(parse_timestamp, zone=zone)
    if time_format == JULIAN:
        return _from_julian
    if time_format in _PER_SECOND:
        return partial(_from_unit, per_second=_PER_SECOND[time_format])
    return partial(_from_pattern, pattern=time_format, zone=zone)


def parse_timestamp(value: object, zone: tzinfo) -> datetime | None:
    """Parses ISO 8601 and similar text, a native date or timestamp, or Unix seconds, ms, µs or ns as number or text.

    `zone` is the zone of times without an offset. Returns None for all other values, and numbers below 10⁹.
    """
    try:
        if isinstance(value, str):
            return _from_text(value, zone)
        if isinstance(value, datetime):
            return _in_utc(value, zone)
        if isinstance(value, date):
            return _in_utc(datetime.combine(value, time()), zone)
        number = _number(value)
        return None if number is None else _from_unix(number)
    except (OverflowError, ValueError):  # beyond the calendar
        return None


def is_empty(value: object) -> bool:
    """Whether a value says nothing, so that it is no unreadable time."""
    return value is None or (isinstance(value, str | bytes) and not value.strip())


def unreadable_sample(value: object) -> str | None:
    """A value that is no time, as one line of at most 60 characters; None for an empty one, which says nothing."""
    if is_empty(value):
        return None
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return to_single_line(text, MAX_SAMPLE_LENGTH) or None


def _in_utc(at: datetime, zone: tzinfo) -> datetime:
    return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)


def _number(value: object) -> Decimal | None:
    if isinstance(value, str):
        text = value.strip()
        return Decimal(text) if _NUMBER.fullmatch(text) else None
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        number = Decimal(value)
        return number if number.is_finite() else None
    return None


def _from_unix(number: Decimal) -> datetime | None:
    units = (per_second for per_second in _PER_SECOND.values() if _FIRST_S <= number / per_second < _END_S)
    per_second = next(units, None)
    return None if per_second is None else _since_epoch(number / per_second)


def _since_epoch(seconds: Decimal) -> datetime:
    return _EPOCH + timedelta(microseconds=round(seconds * 10**6))


def _from_unit(value: object, per_second: int) -> datetime | None:
    number = _number(value)
    try:
        # 0 stands for no time
        return None if not number or number < 0 else _since_epoch(number / per_second)
    except OverflowError:
        return None


def _from_julian(value: object) -> datetime | None:
    number, (first, last) = _number(value), _JULIAN_DAYS
    if number is None or not first <= number < last:
        return None
    # a floating-point number has it to 0.04 ms
    return _since_epoch(round((number - _EPOCH_JULIAN_DAY) * 86_400, 3))


def _from_pattern(value: object, pattern: str, zone: tzinfo) -> datetime | None:
    try:
        if isinstance(value, float | Decimal) and value == value // 1:  # NaN is not
            value = int(value)
        return _in_utc(datetime.strptime(str(value).strip(), pattern), zone)  # noqa: DTZ007  # `_in_utc` adds the zone
    except (ValueError, ArithmeticError):  # Decimal divides 28 digits
        return None


def _from_text(text: str, zone: tzinfo) -> datetime | None:
    if len(text) >= _ISO_DATE_LENGTH and text[4] == "-":
        try:  # what nearly all logs hold
            return _in_utc(datetime.fromisoformat(text), zone)
        except ValueError:
            pass
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return _from_unix(Decimal(text))
    text, zone = _without_zone_name(_MONOTONIC.sub("", text), zone)
    for form in _WORDED:
        if found := form.fullmatch(text):
            return _from_words(found, zone)
    text, days = _MIDNIGHT.subn("00", text)
    return _in_utc(datetime.fromisoformat(text) + timedelta(days=days), zone)


def _without_zone_name(text: str, zone: tzinfo) -> tuple[str, tzinfo]:
    """The text with an offset as ISO 8601 has it; and the zone that the text names, else `zone`."""
    tags = _TAGS.search(text)
    name = tags[1] if tags else None
    text = text[: tags.start()].rstrip() if tags else text
    end = _END.search(text)
    if end:
        name = name or end["zone"]
        suffix = end["offset"] or ("+00:00" if end["utc"] else "")
        text = text[: end.start()] + suffix
        if suffix:
            return text, zone
    return text, _zone(name) if name else zone


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (KeyError, OSError) as error:
        raise ValueError("no such zone") from error


def _from_words(found: re.Match[str], zone: tzinfo) -> datetime:
    named = (found["zone"] or "").upper().removeprefix("GMT").removeprefix("UTC")
    offset = "+00:00" if found["zone"] and named in {"", "UT", "Z"} else named
    month = _MONTHS[found["month"].lower()]
    return _in_utc(
        datetime.fromisoformat(f"{found['year']}-{month:02}-{int(found['day']):02}T{found['clock']}{offset}"), zone
    )
