"""What every route of the page and of the API needs: the configuration, the clock, the database and the viewer."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import TypeVar

from sqlalchemy import Connection, Engine
from starlette.requests import Request

from monitor.config import Config, Secret
from monitor.database.engine import reading, writing
from monitor.database.postgres import shorten_timeouts
from monitor.database.schema import current
from monitor.errors import ConfigError, MonitorError, StoreError, StoreUnavailableError
from monitor.reports.html import Frame
from monitor.threads import run_in_thread
from monitor.web.database_probe import read_only_engine
from monitor.web.readiness import SchemaState, schema_problem
from monitor.web.state import StateTracker

_T = TypeVar("_T")

QUERY_TIMEOUT_S = 5.0
"""From the request on, with the time that it waits for its turn."""
MAX_QUERIES = 2
"""Queries, actions and drawings of all viewers at a time: runs need the processor and the database, too."""
MAX_HUNG = 4
"""Abandoned ones that have not ended; no new one begins before one of them ends."""
_GRACE_S = 0.5
_AT_ONCE_S = 1.0
"""A query that fails as soon as this is tried once more."""
_SQLITE_STEPS = 100_000
"""Instructions of SQLite between two looks at the clock: about a millisecond."""
_LEAST_SHARE = 0.02
"""Of the timeout: with less of it left, a query is not begun."""
_TOO_MANY = "too many pages are asked for at the same time; try again in a moment"
_NO_ANSWER = "the database did not answer in time; try again in a moment"


class UnavailableError(MonitorError):
    """The database did not answer in time, or can't be used. The text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Who sends a request, and what they may do."""

    name: str | None = None
    """The name that they logged in with; None: no login was needed, or a token was sent."""
    logged_in: bool = False
    """By a cookie."""
    can_see_all: bool = False
    """Whether they may see all pages, not only the public ones."""
    source: str = ""
    """Who acts if no name is known, such as `API token at 192.0.2.7`."""
    can_act: bool = False
    """Whether actions are enabled and this viewer may use them."""
    csrf_token: str = ""
    """What a form of this viewer has to send."""


class Site:
    """One daemon's page. Routes read by `read` and write by `write`; no route opens a connection of its own."""

    def __init__(self, tracker: StateTracker) -> None:
        self._tracker = tracker
        self._engine: Engine | None = None
        self._url = ""
        self._connecting = Lock()
        self._turns = asyncio.Semaphore(MAX_QUERIES)
        self._running: set[object] = set()
        """Calls whose thread has not ended, abandoned ones included."""

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._tracker.config

    def now(self) -> datetime:
        """The daemon's clock, in UTC."""
        return self._tracker.utcnow()

    def throttle_key(self, target: str) -> str | None:
        """The key of the limits that were learned about a target's API; None before its first run in this process."""
        return self._tracker.throttle_keys.get(target)

    async def read(self, query: Callable[[Connection], _T]) -> _T:
        """Runs a query in a read transaction, in a thread. Raises UnavailableError."""
        database = self.config.database
        return await self._run(lambda: self._read(database, query))

    def _read(self, database: Secret, query: Callable[[Connection], _T]) -> _T:
        try:
            url = database.reveal()
        except ConfigError as error:
            raise StoreError(str(error)) from error
        engine, began_s = self._connect(url), time.monotonic()
        try:
            return _read(engine, query)
        except StoreUnavailableError:
            if time.monotonic() - began_s > _AT_ONCE_S:
                raise
            # by a connection that the server had ended, as at a restart: the pool has dropped it now
            return _read(engine, query)
        except StoreError as error:
            _read(engine, _ask_nothing)  # fails if the file was deleted, which would look like an empty database
            state = SchemaState(current(engine).fit.value)
            if state is SchemaState.CURRENT:
                raise
            raise StoreError(schema_problem(state)) from error

    async def write(self, action: Callable[[Connection], _T]) -> _T:
        """Runs an action in one write transaction, in a thread. Raises UnavailableError.

        After a timeout the action may still be carried out.
        """
        engine = self._tracker.engine
        if engine is None:
            reason = "the database is not open yet; try again in a moment"
            raise UnavailableError(reason)
        return await self._run(lambda: _write(engine, action))

    async def draw(self, work: Callable[[], _T]) -> _T:
        """Runs work that needs the processor alone in a thread, in the same turns. Raises UnavailableError."""
        return await self._run(work, late=_TOO_MANY)

    async def _run(self, work: Callable[[], _T], *, late: str = _NO_ANSWER) -> _T:
        """Waits for one of a few turns, and runs the work in a thread of its own, both within the timeout.

        A call that hangs is abandoned: its turn is free again, but only so many may hang at a time.
        """
        ends_s = asyncio.get_running_loop().time() + QUERY_TIMEOUT_S
        await self._take_turn(ends_s)
        try:
            left_s = ends_s - asyncio.get_running_loop().time()
            if left_s < QUERY_TIMEOUT_S * _LEAST_SHARE:
                raise UnavailableError(_TOO_MANY)
            if len(self._running) >= MAX_QUERIES + MAX_HUNG:
                raise UnavailableError(late)
            return await run_in_thread(self._counted(work), timeout_s=left_s)
        except TimeoutError as error:
            raise UnavailableError(late) from error
        except StoreError as error:
            raise UnavailableError(str(error)) from error
        finally:
            self._turns.release()

    async def _take_turn(self, ends_s: float) -> None:
        try:
            async with asyncio.timeout_at(ends_s):
                await self._turns.acquire()
        except TimeoutError as error:
            raise UnavailableError(_TOO_MANY) from error

    def _counted(self, work: Callable[[], _T]) -> Callable[[], _T]:
        """The work, known as running until its thread ends, even if nobody waits for it."""
        identity = object()
        self._running.add(identity)

        def run() -> _T:
            try:
                return work()
            finally:
                self._running.discard(identity)

        return run

    def _connect(self, url: str) -> Engine:
        with self._connecting:
            if self._engine is None or url != self._url:
                self.close()
                self._engine, self._url = read_only_engine(url, timeout_s=QUERY_TIMEOUT_S), url
            return self._engine

    def close(self) -> None:
        """Closes the connections."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def frame(self, request: Request, title: str) -> Frame:
        """What surrounds the content of a page."""
        viewer = viewer_of(request)
        return Frame(
            title=title,
            generated_at=self.now(),
            environment=self.config.environment,
            path=request.url.path,
            viewer=viewer.name,
            can_log_out=viewer.logged_in,
            can_act=viewer.can_act,
            csrf_token=viewer.csrf_token,
            has_workers=self.config.fleet.workers,
        )


def _read(engine: Engine, query: Callable[[Connection], _T]) -> _T:
    with reading(engine) as conn:
        _limit_query(conn)
        return query(conn)


def _ask_nothing(conn: Connection) -> None:
    """Opens the database, and no more."""
    conn.exec_driver_sql("SELECT 1")


def _limit_query(conn: Connection) -> None:
    """Ends a query that nobody waits for any more; it would use a processor for as long as it takes."""
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql(shorten_timeouts({"statement_timeout": f"{int(QUERY_TIMEOUT_S * 1000)}ms"}))
        return
    ends_s = time.monotonic() + QUERY_TIMEOUT_S + _GRACE_S  # the timeout of the call comes first
    driver = conn.connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        driver.set_progress_handler(lambda: time.monotonic() > ends_s, _SQLITE_STEPS)


def _write(engine: Engine, action: Callable[[Connection], _T]) -> _T:
    with writing(engine) as conn:
        return action(conn)


def viewer_of(request: Request) -> Viewer:
    """The viewer, as the access check found it."""
    viewer: Viewer = request.scope.get("viewer", Viewer())
    return viewer
