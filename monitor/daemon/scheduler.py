"""When the daemon looks whether something is due: APScheduler, with one job for each kind of work.

It decides nothing: a look finds out by itself what is due and does it, and is never made twice at a time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from monitor.daemon.tasks import Clock

CHECK_INTERVAL_S = 10.0
"""Nothing is left for longer without a look: after a suspend, or when a clock is set, the time of day is another."""

ScheduleCheck = Callable[[], Awaitable[float | None]]
"""Does what is due; gives back after how many seconds to look again, if that is sooner than anything is due."""


class _DueTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler ships no types
    """Fires when something is due next."""

    def __init__(self, next_due: Callable[[datetime], datetime | None]) -> None:
        self._next_due = next_due

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:  # noqa: ARG002  # APScheduler's signature
        """The next time after now, whatever the one before was; a job without one would be taken off."""
        return self._next_due(now) or now + timedelta(days=1)


class Scheduler:
    """Looks, by name.

    Args:
        clock: what they go by.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._jobs = AsyncIOScheduler(
            timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        )
        self._checks: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """From now on what is kept is looked at."""
        self._jobs.start()

    def add(self, name: str, next_due: Callable[[datetime], datetime | None], check: ScheduleCheck) -> None:
        """Looks at once, and from then on when `next_due` (of a moment: the first time after it) says so."""
        start = partial(self._start_check, name, check)
        self._jobs.add_job(_coroutine(start), _DueTrigger(next_due), id=name, next_run_time=self._clock.utcnow())

    def remove(self, name: str) -> None:
        """Looks no more. Work that a look began goes on."""
        self._jobs.remove_job(name)
        if (check := self._checks.pop(name, None)) is not None:
            check.cancel()

    def check_soon(self, name: str, after_s: float = 0.0) -> None:
        """Looks after so many seconds, unless that was about to happen sooner."""
        job, at = self._jobs.get_job(name), self._clock.utcnow() + timedelta(seconds=after_s)
        if job is not None and job.next_run_time > at:
            job.modify(next_run_time=at)

    def check_now(self) -> None:
        """Looks at all of it: something changed that all of it waits for."""
        for job in self._jobs.get_jobs():
            job.modify(next_run_time=self._clock.utcnow())

    async def check_periodically(self) -> None:
        """Looks at all of it every `CHECK_INTERVAL_S`, without end: what was worked out by a wrong clock holds nothing up."""
        while True:
            await self._clock.sleep(CHECK_INTERVAL_S)
            self.check_now()

    @property
    def idle(self) -> bool:
        """Whether no look is being made."""
        return not self._checks

    async def stop(self) -> None:
        """No look is made any more."""
        if self._jobs.running:
            self._jobs.shutdown(wait=False)
        checks = tuple(self._checks.values())
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)

    def _start_check(self, name: str, check: ScheduleCheck) -> None:
        """Looks in a task of our own, which APScheduler neither cancels nor counts: one is enough at a time."""
        if name not in self._checks:
            self._checks[name] = asyncio.ensure_future(self._run_check(name, check))

    async def _run_check(self, name: str, check: ScheduleCheck) -> None:
        retry_s = None
        try:
            retry_s = await check()
        except Exception:  # noqa: BLE001  # a defect in one look must not end the next; logged with its traceback
            structlog.get_logger().exception("schedule_check_crashed", check=name)
        finally:
            if self._checks.get(name) is asyncio.current_task():
                del self._checks[name]
        if retry_s is not None:
            self.check_soon(name, retry_s)


def _coroutine(function: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    """As APScheduler wants it: a plain function it would call in a thread."""

    async def call() -> None:
        function()

    return call
