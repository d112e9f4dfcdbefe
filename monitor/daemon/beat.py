"""Work that the daemon does beside its runs, again and again: delivery, and whatever is done once a day."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from monitor.daemon.clock import Clock
from monitor.daemon.database import Database
from monitor.daemon.work import Work
from monitor.errors import MonitorError, StoreError
from monitor.health.punctuality import DueTimes

__all__ = ["Beat"]


class Beat:
    """One kind of work, done so often: at times that all daemons agree on.

    Args:
        name: of the work, for the log.
        every: how often (> 0).
        work: does it once.
        at_start: whether it is done at the start too, not only when it is due next.
        offset: how long after the times of that interval, such as after midnight (UTC).
    """

    def __init__(
        self,
        name: str,
        *,
        every: timedelta,
        work: Callable[[], Awaitable[object]],
        at_start: bool = False,
        offset: timedelta = timedelta(0),
    ) -> None:
        self.name, self._work, self._at_start = name, work, at_start
        self._due = DueTimes(every=every, offset=offset)
        self._nudged = asyncio.Event()
        self._failed = False

    def nudge(self) -> None:
        """There is something to do: it is done at once, and not only when it is due."""
        self._nudged.set()

    async def keep(self, work: Work, database: Database, clock: Clock) -> None:
        """Does it when it is due, while the database can be used, without end."""
        done = None if self._at_start else self._due.latest(clock.utcnow())
        while True:
            due = await self._wait(done, clock)
            await database.usable()
            self._nudged.clear()
            self._failed = False
            await work.do(self.name, lambda: self._once(database))
            # what our own database failed is done again once it is well
            done = done if self._failed else due

    async def _wait(self, done: datetime | None, clock: Clock) -> datetime | None:
        """Waits until it is due anew, or somebody nudges; gives back the due time that this is for."""
        while (latest := self._due.latest(clock.utcnow())) == done and not self._nudged.is_set():
            next_due = self._due.next_due(clock.utcnow())
            await clock.sleep_unless(self._nudged, clock.until_s(next_due))
        return latest

    async def _once(self, database: Database) -> None:
        try:
            await self._work()
        except StoreError as error:
            self._failed = True
            database.failed(error)
        except MonitorError as error:
            structlog.get_logger().error("work_failed", work=self.name, reason=str(error))
