"""Work that the daemon does beside its runs, again and again: delivery, and whatever is done once a day."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from monitor.app import App, holder
from monitor.daemon.database import Database
from monitor.daemon.tasks import Clock, Work
from monitor.database.retention import Ending, Pruned, Pruner
from monitor.errors import MonitorError, StoreError
from monitor.model.schedule import DueTimes
from monitor.reports.pruning import refused


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
            self._done, self._settled = self._due.latest_nominal(clock.utcnow()), True
        while database.usable and (self._wanted or self._due.latest_nominal(clock.utcnow()) != self._done):
            due, self._wanted = self._due.latest_nominal(clock.utcnow()), False
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


async def prune(app: App, *, stop: Callable[[], bool]) -> None:
    """Prunes what is older than the configuration says, unless that was done today.

    Args:
        app: the configuration in force, and the database in use.
        stop: asked between transactions whether to end.

    Raises:
        StoreError: the database can't be used.
    """
    pruner = Pruner(app.engine, app.config.retention.ages(), holder=holder(), utcnow=app.clock, stop=stop)
    _tell(await asyncio.to_thread(pruner, daily=True))


def _tell(pruned: Pruned) -> None:
    log = structlog.get_logger()
    if pruned.ending is Ending.REFUSED and pruned.refusal is not None:
        log.warning("pruning_refused", reason=refused(pruned.refusal))
    elif pruned.ending in {Ending.DONE, Ending.INTERRUPTED}:
        rows = {past.value: count for past, count in pruned.rows.items()}
        longest_ms = round(pruned.longest_s * 1000)
        log.info("pruned", ending=pruned.ending.value, **rows, bytes_freed=pruned.freed, longest_ms=longest_ms)
