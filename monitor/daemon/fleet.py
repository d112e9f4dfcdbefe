"""The queue of workers in a daemon and in a worker: opened again when the settings change, and supervised.

It is loaded only with `fleet.workers`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Engine

from monitor.app import holder
from monitor.config import Config
from monitor.daemon.database import DatabaseMonitor
from monitor.daemon.tasks import Clock
from monitor.errors import StoreError
from monitor.fleet.queue import Queue
from monitor.web.state import DaemonState

SUPERVISE_S = 5.0
_DELETE_FAILURES_EVERY = timedelta(hours=1)

Supervise = Callable[[Engine, Queue, datetime], Awaitable[None]]
"""What is done every `SUPERVISE_S` seconds besides the queue's own care, by each process; idempotent."""


class FleetQueue:
    """The queue of the current configuration, for a process that defers jobs. Close it at the end."""

    def __init__(self) -> None:
        self._opened: tuple[object, Queue] | None = None
        self._stack, self._lock = AsyncExitStack(), asyncio.Lock()

    async def of(self, config: Config) -> Queue:
        """The open queue of a configuration; that of a previous one is closed."""
        settings = config.database.reveal(), config.fleet
        async with self._lock:
            if self._opened is None or self._opened[0] != settings:
                await self._stack.aclose()
                queue = await self._stack.enter_async_context(Queue.open(config, name=holder()))
                self._opened = settings, queue
            return self._opened[1]

    async def close(self) -> None:
        """Closes the queue's connections."""
        async with self._lock:
            self._opened = None
            await self._stack.aclose()


class Supervision:
    """Makes jobs of dead workers wait again, and calls `supervise`; at most one such round at a time."""

    def __init__(
        self, state: DaemonState, database: DatabaseMonitor, clock: Clock, supervise: Supervise | None
    ) -> None:
        self._state, self._database, self._clock, self._supervise = state, database, clock, supervise
        self._failures_deleted: datetime | None = None

    async def run(self, queue_of: Callable[[Config], Awaitable[Queue]]) -> None:
        """Supervises forever, while there are workers and the database can be used."""
        while True:
            await self._clock.sleep(SUPERVISE_S)
            config, engine = self._state.config, self._state.engine
            if not config.fleet.workers or engine is None or not self._database.usable:
                continue
            try:
                await self.once(await queue_of(config), engine)
            except StoreError as error:
                self._database.report_failure(error)

    async def once(self, queue: Queue, engine: Engine) -> None:
        """One round. Raises StoreError if the database can't be used."""
        now = self._clock.utcnow()
        if retried := await queue.retry_stalled():
            structlog.get_logger().warning("stalled_jobs_retried", jobs=retried)
        if self._failures_deleted is None or now - self._failures_deleted >= _DELETE_FAILURES_EVERY:
            await queue.delete_old_failures()
            self._failures_deleted = now
        if self._supervise is not None:
            await self._supervise(engine, queue, now)
