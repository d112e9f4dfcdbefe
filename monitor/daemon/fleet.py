"""The queue of workers in a daemon and in a worker: opened again when the settings change, and supervised.

It is loaded only with `fleet.workers`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Engine

from monitor.config import Config
from monitor.daemon.database import DatabaseMonitor
from monitor.daemon.tasks import Clock
from monitor.database import leases
from monitor.errors import StoreError
from monitor.fleet.queue import Queue
from monitor.fleet.supervise import supervise_once
from monitor.web.state import DaemonState

SUPERVISE_S = 5.0
_DELETE_FAILURES_EVERY = timedelta(hours=1)


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
                queue = await self._stack.enter_async_context(Queue.open(config))
                self._opened = settings, queue
            return self._opened[1]

    async def close(self) -> None:
        """Closes the queue's connections."""
        async with self._lock:
            self._opened = None
            await self._stack.aclose()


class Supervision:
    """Repairs every few seconds what deaths left behind; every process with the queue does so."""

    def __init__(self, state: DaemonState, database: DatabaseMonitor, clock: Clock) -> None:
        self._state, self._database, self._clock = state, database, clock
        self._failures_deleted: datetime | None = None

    async def run(self, queue_of: Callable[[Config], Awaitable[Queue]]) -> None:
        """Supervises forever, while there are workers and the database can be used."""
        while True:
            await self._clock.sleep(SUPERVISE_S)
            config, engine = self._state.config, self._state.engine
            if not config.fleet.workers or engine is None or not self._database.usable:
                continue
            try:
                await self._once(await queue_of(config), engine, config.fleet.stalled_after)
            except StoreError as error:
                self._database.report_failure(error)

    async def _once(self, queue: Queue, engine: Engine, stalled_after: timedelta) -> None:
        now = self._clock.utcnow()
        lease_now = partial(leases.lease_now, utcnow=self._clock.utcnow)
        await supervise_once(engine, queue, stalled_after=stalled_after, lease_now=lease_now)
        if self._failures_deleted is None or now - self._failures_deleted >= _DELETE_FAILURES_EVERY:
            await queue.delete_old_failures()
            self._failures_deleted = now
