"""Periodic work besides runs: delivery, the daily pruning, and the scheduled report."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from monitor.app import App, holder
from monitor.daemon.database import DatabaseMonitor
from monitor.daemon.tasks import Clock, RunningTasks
from monitor.database.retention import PruneOutcome, Pruner
from monitor.errors import MonitorError, StoreError
from monitor.model.schedule import DueTimes
from monitor.reports.pruning import refusal_text


class PeriodicTask:
    """Runs an action at the start, and at each due time."""

    def __init__(self, name: str, *, due: DueTimes, action: Callable[[], Awaitable[object]]) -> None:
        self.name, self.due, self._action = name, due, action
        self._last_done: datetime | None = None
        self._initialised, self._requested = False, True

    def request(self) -> None:
        """Makes the next check run it, even if it is not due."""
        self._requested = True

    async def run_due(self, tasks: RunningTasks, database: DatabaseMonitor, clock: Clock) -> None:
        """Runs it if it is due or requested, and the database is usable."""
        if not self._initialised:
            self._last_done, self._initialised = self.due.latest_nominal(clock.utcnow()), True
        while database.usable and (self._requested or self.due.latest_nominal(clock.utcnow()) != self._last_done):
            due, self._requested = self.due.latest_nominal(clock.utcnow()), False
            await tasks.run(self.name, lambda: self._run_once(database))
            # after a database fault it stays requested, and runs when the database has recovered
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
    """Deletes what is older than `[retention]` allows, once a day; checks `stop` between transactions."""
    pruner = Pruner(app.engine, app.config.retention.ages(), holder=holder(), utcnow=app.clock, stop=stop)
    result = await asyncio.to_thread(pruner, daily=True)
    log = structlog.get_logger()
    if result.outcome is PruneOutcome.REFUSED and result.refusal is not None:
        log.warning("pruning_refused", reason=refusal_text(result.refusal))
    elif result.outcome in {PruneOutcome.DONE, PruneOutcome.INTERRUPTED}:
        rows = {kind.value: count for kind, count in result.rows.items()}
        longest_ms = round(result.longest_transaction_s * 1000)
        log.info("pruned", outcome=result.outcome.value, **rows, bytes_freed=result.bytes_freed, longest_ms=longest_ms)


async def enqueue_report(app: App) -> bool:
    """Puts the scheduled report into the outbox if it is due; whether it did."""
    from monitor.reports.digest import enqueue_digest

    channels = await asyncio.to_thread(enqueue_digest, app.engine, app.config, now=app.clock())
    if channels:
        structlog.get_logger().info("report_enqueued", environment=app.config.environment, channels=list(channels))
    return bool(channels)
