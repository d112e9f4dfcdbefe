"""The times of a crontab expression in a time zone, forwards and backwards. Pure.

cronsim reads the fields and matches days; the times within a day are worked out here, so that the same ones come up
wherever one begins to look (cronsim's own steps lose some where clocks change by half an hour).
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache

from cronsim import CronSim

__all__ = ["cron_times", "last_cron_time"]

YEARS = 50
"""So far ahead a date is looked for: a 29 February that is a Monday comes every 28 years, or 40."""
_DAY, _MINUTE = timedelta(days=1), timedelta(minutes=1)


def cron_times(expression: str, *, after: datetime, zone: tzinfo) -> Iterator[datetime]:
    """The times (UTC, each later than the one before) of a crontab expression in a time zone, after a moment.

    As Debian's cron has it, where clocks change: an expression whose minutes and hours do not begin with `*` is due
    once for each time that it names, what clocks skip at the moment after, what they repeat the first time only. Any
    other is due by real time.

    Args:
        expression: of five fields, known to be well formed.
        after: aware.
        zone: what the expression's hours are in.
    """
    latest = after
    # a day's last times may lie after the next midnight, where clocks skip midnight
    day = _day(after, zone) - _DAY
    for n in range(YEARS * 366):
        for due in _times_of(expression, zone, day + n * _DAY):
            if due > latest:
                yield due
                latest = due


def last_cron_time(expression: str, *, until: datetime, zone: tzinfo) -> datetime | None:
    """The newest time (UTC) of a crontab expression up to a moment, itself included; None without one for years."""
    day = _day(until, zone) + _DAY
    for n in range(YEARS * 366):
        for due in reversed(_times_of(expression, zone, day - n * _DAY)):
            if due <= until:
                return due
    return None


def _day(moment: datetime, zone: tzinfo) -> date:
    return moment.astimezone(zone).date()


@lru_cache(maxsize=64)
def _fields(expression: str) -> CronSim:
    return CronSim(expression, datetime(2024, 1, 1, tzinfo=UTC))


@lru_cache(maxsize=256)
def _times_of(expression: str, zone: tzinfo, day: date) -> tuple[datetime, ...]:
    """The times (UTC, rising) that belong to one day of the zone's calendar."""
    fields = _fields(expression)
    if day.month not in fields.months or not fields.match_day(day):
        return ()
    times = [timedelta(hours=hour, minutes=minute) for hour in fields.hours for minute in fields.minutes]
    midnight = datetime.combine(day, time(), tzinfo=zone)
    if midnight.utcoffset() == (midnight + _DAY).utcoffset():  # by the calendar: the next midnight
        start = midnight.astimezone(UTC)
        return tuple(sorted(start + each for each in times))
    minutes, hours = expression.split()[:2]
    by_real_time = minutes.startswith("*") or hours.startswith("*")
    named = [midnight + each for each in times]
    found = {due for each in named for due in (_each_pass(each) if by_real_time else [_once(each)])}
    return tuple(sorted(found))


def _each_pass(named: datetime) -> list[datetime]:
    """All moments at which clocks show a time: not at all where they skip it, twice where they repeat it."""
    return [named.replace(fold=fold).astimezone(UTC) for fold in (0, 1) if _shown(named.replace(fold=fold))]


def _once(named: datetime) -> datetime:
    """When clocks show a time first; of one that they skip, the moment at which they have skipped it."""
    while not _shown(named):
        named += _MINUTE
    return named.astimezone(UTC)


def _shown(named: datetime) -> bool:
    """Whether the zone's clocks ever show this time."""
    return named.astimezone(UTC).astimezone(named.tzinfo).replace(tzinfo=None) == named.replace(tzinfo=None)
