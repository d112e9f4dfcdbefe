"""Runs the page and the health endpoints beside the daemon's work.

If their address can't be used, the daemon works without them.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import structlog

from monitor.web.database_probe import DatabaseProbe
from monitor.web.server import ListenError, address_of, open_listener, resolve
from monitor.web.state import StateTracker

if TYPE_CHECKING:
    from monitor.web.app import WebApp
    from monitor.web.server import Server


RETRY_S = 30.0
_POLL_S = 1.0
"""Interval at which a changed `web.listen` is noticed."""


class Endpoints:
    """Serves the endpoints of one daemon, at the address of the current configuration, until closed.

    An address that can't be used is tried again after `retry_s` seconds (> 0).
    """

    def __init__(self, tracker: StateTracker, *, retry_s: float = RETRY_S) -> None:
        self._tracker, self._retry_s = tracker, retry_s
        self._database_probe = DatabaseProbe(tracker)
        self._last_error: str | None = None
        self._server: Server | None = None
        self._serving: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Starts serving in the running loop."""
        self._serving = asyncio.create_task(self._serve())

    async def close(self) -> None:
        """Stops at once and closes all connections."""
        if self._serving is None:
            return
        self._serving.cancel()
        (ended,) = await asyncio.gather(self._serving, return_exceptions=True)
        if isinstance(ended, Exception):
            structlog.get_logger().error("web_failed", exc_info=ended)
        await self._database_probe.close()

    async def _serve(self) -> None:
        while True:
            address = self._tracker.config.web.address
            listener = None if address is None else await self._open_listener(address)
            if listener is None:
                await self._wait_for_new_address(address, self._retry_s if address else None)
            else:
                await self._serve_on(listener, address)

    async def _open_listener(self, address: tuple[str, int]) -> socket.socket | None:
        """Opens the socket; None if that fails now, which is logged once per reason."""
        log = structlog.get_logger()
        try:
            # only the name lookup runs in a thread: a socket opened there would leak if this task were cancelled
            listener = open_listener(await resolve(address))
        except ListenError as error:
            if self._last_error != str(error):
                self._last_error = str(error)
                log.warning("web_not_listening", reason=self._last_error, retry_in_s=self._retry_s)
            return None
        self._last_error = None
        log.info("web_listening", address=address_of(listener))
        return listener

    async def _serve_on(self, listener: socket.socket, address: tuple[str, int] | None) -> None:
        """Serves until the configuration names another address."""
        with closing(listener):
            # loading FastAPI and the templates takes a second: only if there are endpoints, and not in the loop
            build_app, server_class = await asyncio.to_thread(_load_web_app)
            app = build_app(self._tracker, self._database_probe)
            server = self._server = server_class(app.asgi)
            warming = asyncio.create_task(self._warm_up(app))
            address_changed = asyncio.create_task(self._wait_for_new_address(address, None))
            address_changed.add_done_callback(lambda _: server.stop())
            try:
                await server.serve(sockets=[listener])
            finally:
                address_changed.cancel()
                warming.cancel()
                await server.drop_connections(listener)
                # an error was logged, as that of any answer
                await asyncio.gather(warming, return_exceptions=True)
                app.close()

    async def _warm_up(self, app: "WebApp") -> None:
        """Prepares the first pages once the database is open, while probes are answered already."""
        while self._tracker.engine is None:  # noqa: ASYNC110  # the state is set by the daemon, which knows no pages
            await asyncio.sleep(_POLL_S / 4)
        await app.warm_up()

    async def _wait_for_new_address(self, address: tuple[str, int] | None, timeout_s: float | None) -> None:
        """Waits until the configuration names another address, or until the timeout."""
        ends_s = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        while self._tracker.config.web.address == address:
            self._tracker.refresh_config()
            if ends_s is not None and asyncio.get_running_loop().time() >= ends_s:
                return
            await asyncio.sleep(_POLL_S if ends_s is None else min(_POLL_S, self._retry_s))


_BuildApp = Callable[[StateTracker, DatabaseProbe], "WebApp"]


def _load_web_app() -> tuple[_BuildApp, type["Server"]]:
    from monitor.reports.html import compile_templates
    from monitor.web.app import build_app
    from monitor.web.server import Server

    compile_templates()
    return build_app, Server
