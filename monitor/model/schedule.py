"""When runs are due, their run keys, and how many were missed. Pure, so that all machines compute the same."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from itertools import count, islice, pairwise, takewhile

from cronsim import CronSim

SEARCH_YEARS = 50
"""How far to search for a date: a 29 February that is a Monday comes every 28 or 40 years."""
_DAY, _MINUTE = timedelta(days=1), timedelta(minutes=1)


def cron_times(expression: str, *, after: datetime, zone: tzinfo) -> Iterator[datetime]:
    """The due times (UTC, ascending) of a validated expression of five fields, after an aware time.

    Clock changes follow Debian's cron. If neither the minute nor the hour field begins with `*`, each named time is due
    once: a skipped time right after the change, a repeated time only the first time. Others follow real time.
    """
    latest = after
    # where clocks skip midnight, the last times of a day may be after the next midnight
    day = _day(after, zone) - _DAY
    for n in range(SEARCH_YEARS * 366):
        for due in _times_of(expression, zone, day + n * _DAY):
            if due > latest:
                yield due
                latest = due


def last_cron_time(expression: str, *, until: datetime, zone: tzinfo) -> datetime | None:
    """The latest due time (UTC) at or before `until`; None if there was none in `SEARCH_YEARS`."""
    day = _day(until, zone) + _DAY
    for n in range(SEARCH_YEARS * 366):
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
    """The due times (UTC, ascending) of one calendar day of the zone."""
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
    local_time = [midnight + each for each in times]
    found = {
        due for each in local_time for due in (_all_occurrences(each) if by_real_time else [_first_occurrence(each)])
    }
    return tuple(sorted(found))


def _all_occurrences(local_time: datetime) -> list[datetime]:
    """All moments at which clocks show a local time: none if they skip it, two if they repeat it."""
    return [local_time.replace(fold=fold).astimezone(UTC) for fold in (0, 1) if _exists(local_time.replace(fold=fold))]


def _first_occurrence(local_time: datetime) -> datetime:
    """The first moment at which clocks show a local time; the moment of the change if they skip it."""
    while not _exists(local_time):
        local_time += _MINUTE
    return local_time.astimezone(UTC)


def _exists(local_time: datetime) -> bool:
    """Whether the zone's clocks show this local time at all."""
    return local_time.astimezone(UTC).astimezone(local_time.tzinfo).replace(tzinfo=None) == local_time.replace(
        tzinfo=None
    )


MAX_MISSED = 1000
"""The most missed runs of a cron expression that are counted, to bound the search."""

MIN_RUN_GAP = timedelta(seconds=10)
"""Between two runs this close together none is missed, even if the interval is shorter."""

_RUN_KEY = re.compile(r"(every|cron) .+ \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_SCHEDULE = "due times have an interval or a cron expression"


@dataclass(frozen=True, slots=True, kw_only=True)
class DueTimes:
    """When the runs of a target are due: by `cron` in `zone` if given, else by the interval `every` (> 0).

    The *nominal* times of an interval are its multiples since 1970, the same on all machines; those of a cron
    expression are the times that it names. A run is due `offset` after its nominal time.
    """

    every: timedelta | None = None
    cron: str | None = None
    zone: tzinfo = UTC
    offset: timedelta = timedelta(0)
    """The jitter of this target (≥ 0, less than the time between two runs)."""
    name: str = ""
    """The first part of its run keys."""
    daemon_managed: bool = False
    """True if a daemon starts the runs at nominal times; False if an external cron starts them at any time."""

    def run_key(self, nominal: datetime) -> str:
        """The run key of a nominal time, the same on all machines; at most 25 characters longer than the name."""
        digits = "milliseconds" if nominal.microsecond else "seconds"
        at = nominal.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=digits)
        return f"{self.name} {at}Z"

    def owns_key(self, run_key: str) -> bool:
        """Whether a run key belongs to this schedule as it is now."""
        return run_key.rpartition(" ")[0] == self.name

    def is_from_other_schedule(self, run_key: str | None) -> bool:
        """Whether a daemon with another schedule made the run with this key; then none of this schedule is missed."""
        return run_key is not None and _RUN_KEY.fullmatch(run_key) is not None and not self.owns_key(run_key)

    def latest_nominal(self, now: datetime) -> datetime | None:
        """The nominal time (UTC) of the latest due run; None if there was none in `SEARCH_YEARS`."""
        moment = now - self.offset
        if self.cron is not None:
            return last_cron_time(self.cron, until=moment, zone=self.zone)
        return _EPOCH + _interval_number(moment, self._interval()) * self._interval()

    def next_due(self, now: datetime) -> datetime | None:
        """When the next run is due (UTC, after `now`, `offset` included); None if there is none in `SEARCH_YEARS`."""
        if self.cron is not None:
            return next(self.times_after(now), None)
        return _EPOCH + (_interval_number(now - self.offset, self._interval()) + 1) * self._interval() + self.offset

    def count_missed(self, previous: datetime, now: datetime) -> int:
        """How many runs are missing between two that started at `previous` and `now` (aware); with cron ≤ `MAX_MISSED`.

        With a daemon, these are the due times between the two, without the last: the later run was for it. Otherwise
        each of the two counts for the nearest due time, so a run that is less than half an interval late misses none.
        0 within `MIN_RUN_GAP` or if the clock was set back.
        """
        if now - previous < MIN_RUN_GAP:
            return 0
        if self.daemon_managed:
            return self._missed_nominal(previous, now)
        if self.cron is not None:
            return self._missed_by_cron(self.cron, previous, now)
        return max(0, (2 * (now - previous) + self._interval()) // (2 * self._interval()) - 1)

    def times_after(self, moment: datetime) -> Iterator[datetime]:
        """The due times (UTC) after `moment`; with an interval the first is `moment` plus one interval.

        Infinite, unless a cron expression has no further time.
        """
        if self.cron is not None:
            nominal = cron_times(self.cron, after=moment - self.offset, zone=self.zone)
            yield from (each + self.offset for each in nominal)
        else:
            every = self._interval()
            yield from (moment + every * n for n in count(1))

    def overdue_at(self, last: datetime) -> datetime | None:
        """When a target is overdue: two intervals after its `last` run, or at the second cron time; or None."""
        return next(islice(self.times_after(last), 1, None), None)

    def _interval(self) -> timedelta:
        if self.every is None:
            raise ValueError(_NO_SCHEDULE)
        return self.every

    def _missed_nominal(self, previous: datetime, now: datetime) -> int:
        if self.cron is not None:
            due = cron_times(self.cron, after=previous - self.offset, zone=self.zone)
            times = sum(1 for _ in takewhile(lambda each: each <= now - self.offset, islice(due, MAX_MISSED + 1)))
        else:
            times = _interval_number(now - self.offset, self._interval()) - _interval_number(
                previous - self.offset, self._interval()
            )
        return max(0, times - 1)

    def _missed_by_cron(self, cron: str, previous: datetime, now: datetime) -> int:
        times = list(islice(cron_times(cron, after=previous, zone=self.zone), 2))
        if len(times) < 2:
            return 0
        first, second = times
        began_early = 2 * (first - previous) < second - first
        following = cron_times(cron, after=first if began_early else previous, zone=self.zone)
        count_missed = 0
        for due, after_it in pairwise(islice(following, MAX_MISSED + 1)):
            if now < due + (after_it - due) / 2:
                break
            count_missed += 1
        return count_missed


def _interval_number(moment: datetime, every: timedelta) -> int:
    """The number of whole intervals since 1970."""
    return (moment - _EPOCH) // every
