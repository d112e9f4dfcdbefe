"""When runs are due, what each due time's slot is called, and how many of them did not happen.

Pure: it reads no clock and waits for nothing. All machines that are told the same come to the same times and slots.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import count, islice, pairwise, takewhile

from monitor.health.crontab import cron_times, last_cron_time

__all__ = ["COUNTED", "SOON", "DueTimes"]

COUNTED = 1000
"""So many missed runs of a cron expression are counted at the most: a year's worth of minutes is not walked through."""

SOON = timedelta(seconds=10)
"""Runs that start so soon after each other miss nothing, however short the interval: a process takes time to start."""

_SLOT = re.compile(r"(every|cron) .+ \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEITHER = "due times have an interval or a cron expression"


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
    kept: bool = False
    """Whether a daemon keeps it, so that runs belong to nominal times; else somebody's cron, at hours of its own."""

    def slot(self, nominal: datetime) -> str:
        """The slot of a nominal time, the same on every machine; at most 25 characters longer than the name."""
        digits = "milliseconds" if nominal.microsecond else "seconds"
        at = nominal.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=digits)
        return f"{self.name} {at}Z"

    def made(self, slot: str) -> bool:
        """Whether a slot is one of this schedule's, as it is now."""
        return slot.rpartition(" ")[0] == self.name

    def is_news_to(self, slot: str | None) -> bool:
        """Whether a run of that slot was made by a daemon under another schedule: then none of this one's is missed."""
        return slot is not None and _SLOT.fullmatch(slot) is not None and not self.made(slot)

    def latest(self, now: datetime) -> datetime | None:
        """The nominal time of the newest run that is due (UTC); None when there was none for years."""
        moment = now - self.offset
        if self.cron is not None:
            return last_cron_time(self.cron, until=moment, zone=self.zone)
        return _EPOCH + _number(moment, self._interval()) * self._interval()

    def next_due(self, now: datetime) -> datetime | None:
        """When the next run is due (UTC, after now, `offset` included); None when there is none for years."""
        if self.cron is not None:
            return next(self.after(now), None)
        return _EPOCH + (_number(now - self.offset, self._interval()) + 1) * self._interval() + self.offset

    def missed(self, previous: datetime, now: datetime) -> int:
        """How many runs should have started between two that did.

        Of a schedule that a daemon keeps: the due times between the two, but for the one that the later run was for,
        however late it began. Otherwise the later of the two stands for the due time that it is nearest to, so that a
        run which is less than half an interval late misses nothing. So does the earlier: one that began shortly before
        its time was that time's.

        Args:
            previous: when the earlier run started (aware).
            now: when the later one did; within `SOON`, or before (a clock was set back), nothing is missed.

        Returns:
            0 or more; at most `COUNTED` by cron.
        """
        if now - previous < SOON:
            return 0
        if self.kept:
            return self._left_out(previous, now)
        if self.cron is not None:
            return self._missed_by_cron(self.cron, previous, now)
        return max(0, (2 * (now - previous) + self._interval()) // (2 * self._interval()) - 1)

    def after(self, moment: datetime) -> Iterator[datetime]:
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
        return next(islice(self.after(last), 1, None), None)

    def _interval(self) -> timedelta:
        if self.every is None:
            raise ValueError(_NEITHER)
        return self.every

    def _left_out(self, previous: datetime, now: datetime) -> int:
        if self.cron is not None:
            due = cron_times(self.cron, after=previous - self.offset, zone=self.zone)
            times = sum(1 for _ in takewhile(lambda each: each <= now - self.offset, islice(due, COUNTED + 1)))
        else:
            times = _number(now - self.offset, self._interval()) - _number(previous - self.offset, self._interval())
        return max(0, times - 1)

    def _missed_by_cron(self, cron: str, previous: datetime, now: datetime) -> int:
        times = list(islice(cron_times(cron, after=previous, zone=self.zone), 2))
        if len(times) < 2:
            return 0
        first, second = times
        began_early = 2 * (first - previous) < second - first
        following = cron_times(cron, after=first if began_early else previous, zone=self.zone)
        missed = 0
        for due, after_it in pairwise(islice(following, COUNTED + 1)):
            if now < due + (after_it - due) / 2:
                break
            missed += 1
        return missed


def _number(moment: datetime, every: timedelta) -> int:
    """Which of the interval's multiples since 1970 came last."""
    return (moment - _EPOCH) // every
