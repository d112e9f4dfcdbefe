"""Work that the daemon does beside its runs, again and again: delivery, and whatever is done once a day."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from monitor.app import App, holder
from monitor.daemon.database import DatabaseMonitor
from monitor.daemon.tasks import Clock, RunningTasks
from monitor.database.retention import PruneOutcome, Pruner, PruneResult
from monitor.errors import MonitorError, StoreError
from monitor.model.schedule import DueTimes
from monitor.reports.pruning import refusal_text


class PeriodicTask:
    """One kind of work, done so often: at times that all daemons agree on.

    Args:
        name: of the work, for the log.
        every: how often (> 0).
        action: does it once.
        at_start: whether it is done at the start too, not only when it is due next.
        offset: how long after the times of that interval, such as after midnight (UTC).
    """

    def __init__(
        self,
        name: str,
        *,
        every: timedelta,
        action: Callable[[], Awaitable[object]],
        at_start: bool = False,
        offset: timedelta = timedelta(0),
    ) -> None:
        self.name, self._due, self._action = name, DueTimes(every=every, offset=offset), action
        self._last_done: datetime | None = None
        self._initialised, self._requested = False, at_start

    def request(self) -> None:
        """There is something to do: the next look does it, and not only when it is due."""
        self._requested = True

    def next_due(self, now: datetime) -> datetime | None:
        """When it is due after a moment."""
        return self._due.next_due(now)

    async def run_due(self, tasks: RunningTasks, database: DatabaseMonitor, clock: Clock) -> None:
        """Does it if it is due, or wanted, and the database can be used."""
        if not self._initialised:
            self._last_done, self._initialised = self._due.latest_nominal(clock.utcnow()), True
        while database.usable and (self._requested or self._due.latest_nominal(clock.utcnow()) != self._last_done):
            due, self._requested = self._due.latest_nominal(clock.utcnow()), False
            await tasks.run(self.name, lambda: self._run_once(database))
            # what our own database failed is done once it is well
            if not self._requested:
                self._last_done = due

    async def _run_once(self, database: DatabaseMonitor) -> None:
        try:
            await self._action()
        except StoreError as error:
            self._requested = True
            database.report_failure(error)
        except MonitorError as error:
            structlog.get_logger().error("task_failed", task=self.name, reason=str(error))


async def prune(app: App, *, stop: Callable[[], bool]) -> None:
    """Prunes what is older than the configuration says, unless that was done today.

    Args:
        app: the configuration in force, and the database in use.
        stop: asked between transactions whether to end.

    Raises:
        StoreError: the database can't be used.
    """
    pruner = Pruner(app.engine, app.config.retention.ages(), holder=holder(), utcnow=app.clock, stop=stop)
    _log_result(await asyncio.to_thread(pruner, daily=True))


def _log_result(result: PruneResult) -> None:
    log = structlog.get_logger()
    if result.outcome is PruneOutcome.REFUSED and result.refusal is not None:
        log.warning("pruning_refused", reason=refusal_text(result.refusal))
    elif result.outcome in {PruneOutcome.DONE, PruneOutcome.INTERRUPTED}:
        rows = {kind.value: count for kind, count in result.rows.items()}
        longest_ms = round(result.longest_transaction_s * 1000)
        log.info("pruned", outcome=result.outcome.value, **rows, bytes_freed=result.bytes_freed, longest_ms=longest_ms)
