"""When runs are due, and how many of them did not happen. Pure: it reads no clock and waits for nothing.

Cron follows cronsim (Debian's semantics).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import count, islice, pairwise

from cronsim import CronSim

__all__ = ["COUNTED", "SOON", "DueTimes", "cron_times"]

COUNTED = 1000
"""So many missed runs of a cron expression are counted at the most: a year's worth of minutes is not walked through."""

SOON = timedelta(seconds=10)
"""Runs that start so soon after each other miss nothing, however short the interval: a process takes time to start."""


def cron_times(expression: str, *, after: datetime, zone: tzinfo) -> Iterator[datetime]:
    """The times (UTC, each later than the one before) of a crontab expression in a time zone, after a moment.

    Args:
        expression: of five fields, known to be well formed.
        after: aware.
        zone: what the expression's hours are in.
    """
    latest = after
    for time in CronSim(expression, after.astimezone(zone)):
        # In the hour that the autumn clock change repeats, cronsim begins with the hour's first pass, which is over.
        if (due := time.astimezone(UTC)) > latest:
            yield due
            latest = due


@dataclass(frozen=True, slots=True, kw_only=True)
class DueTimes:
    """When a target's runs are due: by `cron` in `zone` if given, else `every` so often (> 0)."""

    every: timedelta | None = None
    cron: str | None = None
    zone: tzinfo = UTC

    def missed(self, previous: datetime, now: datetime) -> int:
        """How many runs should have started between two that did.

        The later of the two stands for the due time that it is nearest to, so that a run which is less than half an
        interval late misses nothing. So does the earlier: one that began shortly before its time was that time's.

        Args:
            previous: when the earlier run started (aware).
            now: when the later one did; within `SOON`, or before (a clock was set back), nothing is missed.

        Returns:
            0 or more; at most `COUNTED` by cron.
        """
        if now - previous < SOON:
            return 0
        if self.cron is not None:
            return self._missed_by_cron(self.cron, previous, now)
        if self.every is None:
            raise ValueError("due times have an interval or a cron expression")
        return max(0, (2 * (now - previous) + self.every) // (2 * self.every) - 1)

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The coming due times (UTC), without end unless a cron expression has one.

        Args:
            moment: what they come after (aware); with an interval, the first is one interval later.
        """
        if self.cron is not None:
            yield from cron_times(self.cron, after=moment, zone=self.zone)
        elif self.every is None:
            raise ValueError("due times have an interval or a cron expression")
        else:
            yield from (moment + self.every * n for n in count(1))

    def overdue_at(self, last: datetime) -> datetime | None:
        """From when on two intervals have gone by without a run.

        Args:
            last: when the last run ended (aware).

        Returns:
            Two intervals later, or the second time of the cron expression after it; None when there is none for years.
        """
        return next(islice(self.after(last), 1, None), None)

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
