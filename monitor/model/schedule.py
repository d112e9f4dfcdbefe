"""When runs are due, what each due time's slot is called, and how many of them did not happen.

Pure: it reads no clock and waits for nothing. All machines that are told the same come to the same times and slots.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from itertools import count, islice, pairwise, takewhile

from cronsim import CronSim

SEARCH_YEARS = 50
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
    for n in range(SEARCH_YEARS * 366):
        for due in _times_of(expression, zone, day + n * _DAY):
            if due > latest:
                yield due
                latest = due


def last_cron_time(expression: str, *, until: datetime, zone: tzinfo) -> datetime | None:
    """The newest time (UTC) of a crontab expression up to a moment, itself included; None without one for years."""
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
    local_time = [midnight + each for each in times]
    found = {
        due for each in local_time for due in (_all_occurrences(each) if by_real_time else [_first_occurrence(each)])
    }
    return tuple(sorted(found))


def _all_occurrences(local_time: datetime) -> list[datetime]:
    """All moments at which clocks show a time: not at all where they skip it, twice where they repeat it."""
    return [local_time.replace(fold=fold).astimezone(UTC) for fold in (0, 1) if _exists(local_time.replace(fold=fold))]


def _first_occurrence(local_time: datetime) -> datetime:
    """When clocks show a time first; of one that they skip, the moment at which they have skipped it."""
    while not _exists(local_time):
        local_time += _MINUTE
    return local_time.astimezone(UTC)


def _exists(local_time: datetime) -> bool:
    """Whether the zone's clocks ever show this time."""
    return local_time.astimezone(UTC).astimezone(local_time.tzinfo).replace(tzinfo=None) == local_time.replace(
        tzinfo=None
    )


MAX_MISSED = 1000
"""So many missed runs of a cron expression are counted at the most: a year's worth of minutes is not walked through."""

MIN_RUN_GAP = timedelta(seconds=10)
"""Runs that start so soon after each other miss nothing, however short the interval: a process takes time to start."""

_RUN_KEY = re.compile(r"(every|cron) .+ \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_SCHEDULE = "due times have an interval or a cron expression"


@dataclass(frozen=True, slots=True, kw_only=True)
class DueTimes:
    """When a target's runs are due: by `cron` in `zone` if given, else `every` so often (> 0).

    The *nominal* times of an interval are its multiples since 1970, so that all who keep the schedule agree on them;
    those of a cron expression are what it names. `offset` later the run is due.
    """

    every: timedelta | None = None
    cron: str | None = None
    zone: tzinfo = UTC
    offset: timedelta = timedelta(0)
    """This target's share of the jitter (≥ 0, less than any time between two runs)."""
    name: str = ""
    """What the schedule is called at the front of its slots."""
    daemon_managed: bool = False
    """Whether a daemon keeps it, so that runs belong to nominal times; else somebody's cron, at hours of its own."""

    def run_key(self, nominal: datetime) -> str:
        """The slot of a nominal time, the same on every machine; at most 25 characters longer than the name."""
        digits = "milliseconds" if nominal.microsecond else "seconds"
        at = nominal.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=digits)
        return f"{self.name} {at}Z"

    def owns_key(self, run_key: str) -> bool:
        """Whether a slot is one of this schedule's, as it is now."""
        return run_key.rpartition(" ")[0] == self.name

    def is_from_other_schedule(self, run_key: str | None) -> bool:
        """Whether a run of that slot was made by a daemon under another schedule: then none of this one's is missed."""
        return run_key is not None and _RUN_KEY.fullmatch(run_key) is not None and not self.owns_key(run_key)

    def latest_nominal(self, now: datetime) -> datetime | None:
        """The nominal time of the newest run that is due (UTC); None when there was none for years."""
        moment = now - self.offset
        if self.cron is not None:
            return last_cron_time(self.cron, until=moment, zone=self.zone)
        return _EPOCH + _interval_number(moment, self._interval()) * self._interval()

    def next_due(self, now: datetime) -> datetime | None:
        """When the next run is due (UTC, after now, `offset` included); None when there is none for years."""
        if self.cron is not None:
            return next(self.times_after(now), None)
        return _EPOCH + (_interval_number(now - self.offset, self._interval()) + 1) * self._interval() + self.offset

    def count_missed(self, previous: datetime, now: datetime) -> int:
        """How many runs should have started between two that did.

        Of a schedule that a daemon keeps: the due times between the two, but for the one that the later run was for,
        however late it began. Otherwise the later of the two stands for the due time that it is nearest to, so that a
        run which is less than half an interval late misses nothing. So does the earlier: one that began shortly before
        its time was that time's.

        Args:
            previous: when the earlier run started (aware).
            now: when the later one did; within `MIN_RUN_GAP`, or before (a clock was set back), nothing is missed.

        Returns:
            0 or more; at most `MAX_MISSED` by cron.
        """
        if now - previous < MIN_RUN_GAP:
            return 0
        if self.daemon_managed:
            return self._missed_nominal(previous, now)
        if self.cron is not None:
            return self._missed_by_cron(self.cron, previous, now)
        return max(0, (2 * (now - previous) + self._interval()) // (2 * self._interval()) - 1)

    def times_after(self, moment: datetime) -> Iterator[datetime]:
        """The coming due times (UTC), without end unless a cron expression has one.

        Args:
            moment: what they come after (aware); with an interval, the first is one interval later.
        """
        if self.cron is not None:
            nominal = cron_times(self.cron, after=moment - self.offset, zone=self.zone)
            yield from (each + self.offset for each in nominal)
        else:
            every = self._interval()
            yield from (moment + every * n for n in count(1))

    def overdue_at(self, last: datetime) -> datetime | None:
        """From when on two intervals have gone by without a run.

        Args:
            last: when the last run ended (aware).

        Returns:
            Two intervals later, or the second time of the cron expression after it; None when there is none for years.
        """
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
    """Which of the interval's multiples since 1970 came last."""
    return (moment - _EPOCH) // every
