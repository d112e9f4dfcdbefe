"""The queue of workers in a daemon and in a worker: opened again when the settings change, and supervised.

It is loaded only with `fleet.workers`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Engine

from monitor.app.throttles import throttle_key
from monitor.config import Config, TargetConfig
from monitor.daemon.database import DatabaseMonitor
from monitor.daemon.tasks import Clock
from monitor.database import leases
from monitor.database.engine import reading
from monitor.errors import StoreError, StoreUnavailableError
from monitor.fleet.queue import Queue
from monitor.fleet.supervise import supervise_once
from monitor.notifications import outbox
from monitor.threads import run_in_database_pool
from monitor.web.state import DaemonState

SUPERVISE_S = 5.0
LOOK_S = 1.0
"""Seconds between looks for messages that are due."""
_PLANS_AT_A_TIME = 3
"""Fewer than the connections of a queue: the supervision needs one, too."""
_DELETE_FAILURES_EVERY = timedelta(hours=1)


async def limits_key(target: TargetConfig) -> str:
    """The key of the limits that workers learn of a target's API; it is slow to compute, once per process."""
    return await run_in_database_pool(lambda: throttle_key(target))


class FleetQueue:
    """The queue of the current configuration, for a process that defers jobs. Close it at the end."""

    def __init__(self, database: DatabaseMonitor) -> None:
        self._database = database
        self._opened: tuple[object, Queue] | None = None
        self._stack, self._lock = AsyncExitStack(), asyncio.Lock()
        self._turns = asyncio.Semaphore(_PLANS_AT_A_TIME)

    async def defer_plan(self, config: Config, target: str, run_key: str) -> bool:
        """Queues a run, as `Queue.defer_plan`.

        Of a thousand that are due at once each waits here for its turn: a long wait for a connection counts as a fault
        of the database. After a fault those that still wait give up, and come again when it has recovered.
        """
        async with self._turns:
            if (fault := self._database.fault) is not None:
                raise StoreUnavailableError(fault)
            queue = await self.of(config)
            return await queue.defer_plan(target, run_key)

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


class DueMessages:
    """Has messages delivered as soon as they are due: with workers, runs that write them end in other processes.

    The daemon looks for them each second. A worker neither sends them, since a machine that checks need not reach the
    channels, nor notifies the daemon of them: that would need LISTEN, which a pooler does not have.
    """

    def __init__(self, state: DaemonState, database: DatabaseMonitor, clock: Clock) -> None:
        self._state, self._database, self._clock = state, database, clock

    async def watch(self, deliver_soon: Callable[[], None]) -> None:
        """Looks forever, while there are workers and the database can be used."""
        while True:
            await self._clock.sleep(LOOK_S)
            engine = self._state.engine
            if not self._state.config.fleet.workers or engine is None or not self._database.usable:
                continue
            try:
                if await asyncio.to_thread(self._look, engine):
                    deliver_soon()
            except StoreError as error:
                self._database.report_failure(error)

    def _look(self, engine: Engine) -> bool:
        with reading(engine) as conn:
            return outbox.has_due(conn, now=self._clock.utcnow())


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
