"""When the daemon runs a target: the scheduler, and triggers for a fixed interval and for cron expressions.

Cron follows cronsim (Debian's semantics): APScheduler's own parser numbers weekdays from Monday and fires twice at the
autumn clock change.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from monitor.health.punctuality import cron_times

__all__ = ["CronTrigger", "scheduler", "trigger"]


class CronTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler ships no types
    """Fires at the times of a crontab expression in a time zone."""

    def __init__(self, expression: str, timezone: str) -> None:
        self._expression, self._zone = expression, ZoneInfo(timezone)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The first time of the expression after the previous one, or after now; None when there is none for years."""
        return next(cron_times(self._expression, after=previous_fire_time or now, zone=self._zone), None)


def scheduler() -> AsyncIOScheduler:
    """A scheduler that never drops a late run, catches up on many missed ones by one, and overlaps none with itself."""
    defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
    return AsyncIOScheduler(timezone=UTC, job_defaults=defaults)


def trigger(*, every: timedelta | None, cron: str | None, timezone: str) -> BaseTrigger:
    """The trigger of a schedule: of `cron` in its time zone if given, else of `every` (> 0)."""
    if cron is not None:
        return CronTrigger(cron, timezone)
    if every is None:
        raise ValueError("a schedule has an interval or a cron expression")
    return IntervalTrigger(seconds=every.total_seconds(), timezone=UTC)
