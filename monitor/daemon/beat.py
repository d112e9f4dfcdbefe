"""Work that the daemon does beside its runs, again and again: delivery, and whatever is done once a day."""

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
        self.name, self._due, self._work = name, DueTimes(every=every, offset=offset), work
        self._done: datetime | None = None
        self._settled, self._wanted = False, at_start

    def want(self) -> None:
        """There is something to do: the next look does it, and not only when it is due."""
        self._wanted = True

    def next_due(self, now: datetime) -> datetime | None:
        """When it is due after a moment."""
        return self._due.next_due(now)

    async def look(self, work: Work, database: Database, clock: Clock) -> None:
        """Does it if it is due, or wanted, and the database can be used."""
        if not self._settled:
            self._done, self._settled = self._due.latest(clock.utcnow()), True
        while database.usable and (self._wanted or self._due.latest(clock.utcnow()) != self._done):
            due, self._wanted = self._due.latest(clock.utcnow()), False
            await work.do(self.name, lambda: self._once(database))
            # what our own database failed is done once it is well
            if not self._wanted:
                self._done = due

    async def _once(self, database: Database) -> None:
        try:
            await self._work()
        except StoreError as error:
            self._wanted = True
            database.failed(error)
        except MonitorError as error:
            structlog.get_logger().error("work_failed", work=self.name, reason=str(error))
