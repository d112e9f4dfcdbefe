"""What every route of the page and of the API needs: the configuration, the clock, the database and the viewer."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection, Engine
from starlette.requests import Request

from monitor.config import Config
from monitor.database.engine import connect_read_only, reading, writing
from monitor.errors import MonitorError, StoreError
from monitor.reports.html import Frame
from monitor.threads import run_in_thread
from monitor.web.state import StateTracker

_T = TypeVar("_T")

QUERY_TIMEOUT_S = 5.0


class UnavailableError(MonitorError):
    """The database did not answer in time, or can't be used. The text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Who sends a request, and what they may do."""

    name: str | None = None
    """The name that they logged in with; None: no login was needed, or a token was sent."""
    logged_in: bool = False
    """By a cookie."""
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
        return await self._run(lambda: self._read(query))

    def _read(self, query: Callable[[Connection], _T]) -> _T:
        with reading(self._connect()) as conn:
            return query(conn)

    async def write(self, action: Callable[[Connection], _T]) -> _T:
        """Runs an action in one write transaction, in a thread. Raises UnavailableError.

        After a timeout the action may still be carried out.
        """
        engine = self._tracker.engine
        if engine is None:
            reason = "the database is not open yet; try again in a moment"
            raise UnavailableError(reason)
        return await self._run(lambda: _write(engine, action))

    async def _run(self, work: Callable[[], _T]) -> _T:
        try:
            return await run_in_thread(work, timeout_s=QUERY_TIMEOUT_S)
        except TimeoutError as error:
            reason = "the database did not answer in time"
            raise UnavailableError(reason) from error
        except StoreError as error:
            raise UnavailableError(str(error)) from error

    def _connect(self) -> Engine:
        url = self.config.database.reveal()
        if self._engine is None or url != self._url:
            self.close()
            self._engine, self._url = connect_read_only(url, busy_timeout_s=QUERY_TIMEOUT_S), url
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
        )


def _write(engine: Engine, action: Callable[[Connection], _T]) -> _T:
    with writing(engine) as conn:
        return action(conn)


def viewer_of(request: Request) -> Viewer:
    """The viewer, as the access check found it."""
    viewer: Viewer = request.scope.get("viewer", Viewer())
    return viewer
