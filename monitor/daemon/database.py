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
from monitor.web.state import DaemonState

RETRY_S = 5.0
"""So often, in seconds, a database that can't be used is tried."""
_CHECK_INTERVAL_S = 30.0
"""So often one that can be is looked at: somebody may have upgraded it for a newer program."""
_LOG_INTERVAL = timedelta(minutes=1)


class DatabaseMonitor:
    """Our own database, as the daemon uses it.

    Args:
        state: where it is told how the database is.
        clock: what it waits by.
        on_wait: told, before each wait at the start, what for.
        on_recovery: told when it can be used again.
    """

    def __init__(
        self, state: DaemonState, clock: Clock, *, on_wait: Callable[[str], None], on_recovery: Callable[[], None]
    ) -> None:
        self._state, self._clock, self._on_wait, self._on_recovery = state, clock, on_wait, on_recovery
        self._usable, self._failure = asyncio.Event(), asyncio.Event()
        self._failing_since: datetime | None = None
        self._last_logged: tuple[str, datetime] | None = None

    async def open(self) -> Engine:
        """Opens the database of the configuration in force, however long that takes.

        Raises:
            SchemaError: the schema is newer than this program, or the tables are somebody else's: no wait mends that.
        """
        while True:
            config = self._state.config
            try:
                engine = await asyncio.to_thread(open_database, config)
            except SchemaError as error:
                if not error.needs_upgrade:
                    raise
                self.report_failure(error)
            except StoreError as error:
                self.report_failure(error)
            else:
                if is_configured_database(engine, self._state.config):
                    self.use(engine)
                    return engine
                await asyncio.to_thread(engine.dispose)  # meanwhile another was configured
                continue
            self._on_wait(self._state.store_error or "")
            await self._clock.sleep(RETRY_S)

    def use(self, engine: Engine) -> None:
        """From now on this one is used."""
        self._state.engine = engine
        self._mark_usable()

    @property
    def usable(self) -> bool:
        """Whether the database can be used, as far as is known."""
        return self._usable.is_set()

    def report_failure(self, error: StoreError) -> None:
        """Somebody met a fault: all wait until a look finds the database well."""
        reason, now = str(error), self._clock.utcnow()
        self._usable.clear()
        self._failure.set()
        self._failing_since = self._failing_since or now
        self._state.store_error = reason
        if (
            self._last_logged is None
            or self._last_logged[0] != reason
            or not now - self._last_logged[1] < _LOG_INTERVAL
        ):
            structlog.get_logger().error("database_not_ready", reason=reason, retry_in_s=RETRY_S)
            self._last_logged = reason, now

    async def watch(self) -> None:
        """Looks at it now and then, and every few seconds while it can't be used, without end."""
        while True:
            if self._usable.is_set():
                await self._clock.sleep_until_set(self._failure, _CHECK_INTERVAL_S)
            if not self._usable.is_set():
                await self._clock.sleep(RETRY_S)
            engine = self._state.engine
            if engine is not None:
                await self._check(engine)

    async def _check(self, engine: Engine) -> None:
        """Looks whether it can be used, and has this program's schema still."""
        try:
            await asyncio.to_thread(self._verify, engine)
        except StoreError as error:
            if engine is self._state.engine:
                self.report_failure(error)
            # what is pooled may lead to a file or a server that is there no more
            await asyncio.to_thread(engine.dispose)
        else:
            if engine is self._state.engine:
                self._mark_usable()

    def _verify(self, engine: Engine) -> None:
        verify(engine)
        if not self._usable.is_set():  # only then is it worth a write
            with writing(engine) as conn:
                leases.check_writable(conn)

    def _mark_usable(self) -> None:
        if (
            self._failing_since is not None
            and self._last_logged is not None
            and self._last_logged[1] >= self._failing_since
        ):
            since = self._clock.utcnow() - self._failing_since
            structlog.get_logger().info("database_ready", down_s=round(since.total_seconds(), 1))
        recovered = not self._usable.is_set()
        self._failing_since = None
        self._state.store_error = None
        self._failure.clear()
        self._usable.set()
        if recovered:
            self._on_recovery()


def is_configured_database(engine: Engine, config: Config) -> bool:
    """Whether an engine is on the database that a configuration names, with the same credentials."""
    return parse(config.database.reveal()) == engine.url
