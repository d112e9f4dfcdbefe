"""The daemon's hold on our own database: opened however long that takes, watched, and given up for a while on faults.

While it can't be used, ticks and deliveries wait here; one look at a time finds out whether it is back. What is wrong
is logged when it is news, and once a minute.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Engine

from monitor.app import open_database
from monitor.config import Config
from monitor.daemon.tasks import Clock
from monitor.database import leases
from monitor.database.engine import writing
from monitor.database.schema import verify
from monitor.database.urls import parse
from monitor.errors import SchemaError, StoreError
from monitor.web.state import Standing

RETRY_S = 5.0
"""So often, in seconds, a database that can't be used is tried."""
_LOOK_S = 30.0
"""So often one that can be is looked at: somebody may have upgraded it for a newer program."""
_REMIND = timedelta(minutes=1)


class Database:
    """Our own database, as the daemon uses it.

    Args:
        standing: where it is told how the database is.
        clock: what it waits by.
        on_wait: told, before each wait at the start, what for.
        on_well: told when it can be used again.
    """

    def __init__(
        self, standing: Standing, clock: Clock, *, on_wait: Callable[[str], None], on_well: Callable[[], None]
    ) -> None:
        self._standing, self._clock, self._on_wait, self._on_well = standing, clock, on_wait, on_well
        self._usable, self._faulty = asyncio.Event(), asyncio.Event()
        self._failing_since: datetime | None = None
        self._told: tuple[str, datetime] | None = None

    async def open(self) -> Engine:
        """Opens the database of the configuration in force, however long that takes.

        Raises:
            SchemaError: the schema is newer than this program, or the tables are somebody else's: no wait mends that.
        """
        while True:
            config = self._standing.config
            try:
                engine = await asyncio.to_thread(open_database, config)
            except SchemaError as error:
                if not error.awaits_upgrade:
                    raise
                self.failed(error)
            except StoreError as error:
                self.failed(error)
            else:
                if leads_to(engine, self._standing.config):
                    self.take(engine)
                    return engine
                await asyncio.to_thread(engine.dispose)  # meanwhile another was configured
                continue
            self._on_wait(self._standing.store_error or "")
            await self._clock.sleep(RETRY_S)

    def take(self, engine: Engine) -> None:
        """From now on this one is used."""
        self._standing.engine = engine
        self._well()

    @property
    def usable(self) -> bool:
        """Whether the database can be used, as far as is known."""
        return self._usable.is_set()

    def failed(self, error: StoreError) -> None:
        """Somebody met a fault: all wait until a look finds the database well."""
        reason, now = str(error), self._clock.utcnow()
        self._usable.clear()
        self._faulty.set()
        self._failing_since = self._failing_since or now
        self._standing.store_error = reason
        if self._told is None or self._told[0] != reason or not now - self._told[1] < _REMIND:
            structlog.get_logger().error("database_not_ready", reason=reason, retry_in_s=RETRY_S)
            self._told = reason, now

    async def watch(self) -> None:
        """Looks at it now and then, and every few seconds while it can't be used, without end."""
        while True:
            if self._usable.is_set():
                await self._clock.sleep_unless(self._faulty, _LOOK_S)
            if not self._usable.is_set():
                await self._clock.sleep(RETRY_S)
            engine = self._standing.engine
            if engine is not None:
                await self._look(engine)

    async def _look(self, engine: Engine) -> None:
        """Looks whether it can be used, and has this program's schema still."""
        try:
            await asyncio.to_thread(self._proven, engine)
        except StoreError as error:
            if engine is self._standing.engine:
                self.failed(error)
            # what is pooled may lead to a file or a server that is there no more
            await asyncio.to_thread(engine.dispose)
        else:
            if engine is self._standing.engine:
                self._well()

    def _proven(self, engine: Engine) -> None:
        verify(engine)
        if not self._usable.is_set():  # only then is it worth a write
            with writing(engine) as conn:
                leases.prove_writable(conn)

    def _well(self) -> None:
        if self._failing_since is not None and self._told is not None and self._told[1] >= self._failing_since:
            since = self._clock.utcnow() - self._failing_since
            structlog.get_logger().info("database_ready", unusable_for_s=round(since.total_seconds(), 1))
        again = not self._usable.is_set()
        self._failing_since = None
        self._standing.store_error = None
        self._faulty.clear()
        self._usable.set()
        if again:
            self._on_well()


def leads_to(engine: Engine, config: Config) -> bool:
    """Whether an engine is on the database that a configuration names, with the same credentials."""
    return parse(config.database.reveal()) == engine.url
