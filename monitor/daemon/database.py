"""The daemon's connection to our own database: opens it, checks it, and pauses all work while it can't be used.

One check at a time finds out whether it has recovered. A fault is logged when it is new, and then once a minute.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Engine

from monitor.app import open_database, verify_queue
from monitor.config import Config
from monitor.daemon.tasks import Clock
from monitor.database import leases
from monitor.database.engine import writing
from monitor.database.schema import verify
from monitor.database.urls import parse
from monitor.errors import SchemaError, StoreError
from monitor.web.state import DaemonState

RETRY_S = 5.0
"""Seconds between attempts to use a database that failed."""
_CHECK_INTERVAL_S = 30.0
"""Seconds between checks of a usable database: a newer program may have upgraded it."""
_LOG_INTERVAL = timedelta(minutes=1)


class DatabaseMonitor:
    """Opens and checks the database, and records its condition in the state.

    `on_wait` gets the reason of each wait during the start; `on_recovery` is called when the database has recovered.
    """

    def __init__(
        self, state: DaemonState, clock: Clock, *, on_wait: Callable[[str], None], on_recovery: Callable[[], None]
    ) -> None:
        self._state, self._clock, self._on_wait, self._on_recovery = state, clock, on_wait, on_recovery
        self._usable, self._failure = asyncio.Event(), asyncio.Event()
        self._failing_since: datetime | None = None
        self._last_logged: tuple[str, datetime] | None = None

    async def open(self) -> Engine:
        """Opens the configured database, and retries until it can.

        Raises SchemaError for a newer schema or tables that are not ours: waiting does not help.
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
                await asyncio.to_thread(engine.dispose)  # a reload configured another one in the meantime
                continue
            self._on_wait(self._state.store_error or "")
            await self._clock.sleep(RETRY_S)

    def use(self, engine: Engine) -> None:
        """Uses this engine from now on."""
        self._state.engine = engine
        self._mark_usable()

    @property
    def usable(self) -> bool:
        """Whether the database can be used, as far as is known."""
        return self._usable.is_set()

    @property
    def fault(self) -> str | None:
        """Why the database can't be used, as far as is known; None: it can."""
        return None if self.usable else self._state.store_error or "the database is not open yet"

    def report_failure(self, error: StoreError) -> None:
        """Pauses all work until a check succeeds."""
        reason, now = str(error), self._clock.utcnow()
        self._usable.clear()
        self._failure.set()
        self._failing_since = self._failing_since or now
        self._state.store_error = reason
        logged = self._last_logged
        if logged is None or logged[0] != reason or now - logged[1] >= _LOG_INTERVAL:
            structlog.get_logger().error("database_not_ready", reason=reason, retry_in_s=RETRY_S)
            self._last_logged = reason, now

    async def watch(self) -> None:
        """Checks the database forever: rarely while it works, every `RETRY_S` while it does not."""
        while True:
            if self._usable.is_set():
                await self._clock.sleep_until_set(self._failure, _CHECK_INTERVAL_S)
            if not self._usable.is_set():
                await self._clock.sleep(RETRY_S)
            engine = self._state.engine
            if engine is not None:
                await self._check(engine)

    async def _check(self, engine: Engine) -> None:
        try:
            await asyncio.to_thread(self._verify, engine)
        except StoreError as error:
            if engine is self._state.engine:
                self.report_failure(error)
            # pooled connections may lead to a file or a server that no longer exists
            await asyncio.to_thread(engine.dispose)
        else:
            if engine is self._state.engine:
                self._mark_usable()

    def _verify(self, engine: Engine) -> None:
        verify(engine)
        verify_queue(self._state.config, engine)
        if not self._usable.is_set():  # only a recovery is worth a write
            with writing(engine) as conn:
                leases.check_writable(conn)

    def _mark_usable(self) -> None:
        since, logged = self._failing_since, self._last_logged
        if since is not None and logged is not None and logged[1] >= since:
            down_s = (self._clock.utcnow() - since).total_seconds()
            structlog.get_logger().info("database_ready", down_s=round(down_s, 1))
        recovered = not self._usable.is_set()
        self._failing_since = None
        self._state.store_error = None
        self._failure.clear()
        self._usable.set()
        if recovered:
            self._on_recovery()


def is_configured_database(engine: Engine, config: Config) -> bool:
    """Whether an engine uses the URL of a configuration, credentials included."""
    return parse(config.database.reveal()) == engine.url
