"""Checks periodically whether work is due: APScheduler, with one job, and at most one check, for each kind of work."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from monitor.daemon.tasks import Clock

CHECK_INTERVAL_S = 10.0
"""Every job is checked at least this often: a suspend or a clock that is set can make due times wrong."""
JOB_DEFAULTS = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}

ScheduleCheck = Callable[[], Awaitable[float | None]]
"""Does what is due; returns the seconds until the next check, if that is before the next due time."""


class _DueTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler ships no types
    """Fires at the next due time."""

    def __init__(self, next_due: Callable[[datetime], datetime | None]) -> None:
        self._next_due = next_due

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:  # noqa: ARG002  # APScheduler's signature
        """The next due time after now. Never None, since APScheduler would remove the job."""
        return self._next_due(now) or now + timedelta(days=1)


class Scheduler:
    """Runs named checks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._jobs = AsyncIOScheduler(timezone=UTC, job_defaults=JOB_DEFAULTS)
        self._checks: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Starts the checks that were added."""
        self._jobs.start()

    def add(self, name: str, next_due: Callable[[datetime], datetime | None], check: ScheduleCheck) -> None:
        """Runs a check now, and then at each time that `next_due` (a moment → the next due time after it) returns."""

        async def start() -> None:  # APScheduler would call a plain function in a thread
            self._start_check(name, check)

        self._jobs.add_job(start, _DueTrigger(next_due), id=name, next_run_time=self._clock.utcnow())

    def remove(self, name: str) -> None:
        """Ends a check. Work that it started continues."""
        self._jobs.remove_job(name)
        if (check := self._checks.pop(name, None)) is not None:
            check.cancel()

    def check_soon(self, name: str, after_s: float = 0.0) -> None:
        """Runs a check after so many seconds, unless it is due earlier."""
        job, at = self._jobs.get_job(name), self._clock.utcnow() + timedelta(seconds=after_s)
        if job is not None and job.next_run_time > at:
            job.modify(next_run_time=at)

    def check_now(self) -> None:
        """Runs all checks."""
        for job in self._jobs.get_jobs():
            job.modify(next_run_time=self._clock.utcnow())

    async def check_periodically(self) -> None:
        """Runs all checks every `CHECK_INTERVAL_S`, forever, in case due times were computed with a wrong clock."""
        while True:
            await self._clock.sleep(CHECK_INTERVAL_S)
            self.check_now()

    @property
    def idle(self) -> bool:
        """Whether no check is running."""
        return not self._checks

    async def stop(self) -> None:
        """Ends all checks."""
        if self._jobs.running:
            self._jobs.shutdown(wait=False)
        checks = tuple(self._checks.values())
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)

    def _start_check(self, name: str, check: ScheduleCheck) -> None:
        # in a task of our own, which APScheduler neither cancels nor counts
        if name not in self._checks:
            self._checks[name] = asyncio.ensure_future(self._run_check(name, check))

    async def _run_check(self, name: str, check: ScheduleCheck) -> None:
        retry_s = None
        try:
            retry_s = await check()
        except Exception:  # noqa: BLE001  # a defect in one check must not end later ones; logged with its traceback
            structlog.get_logger().exception("schedule_check_crashed", check=name)
        finally:
            if self._checks.get(name) is asyncio.current_task():
                del self._checks[name]
        if retry_s is not None:
            self.check_soon(name, retry_s)
