"""uvicorn as the daemon needs it: on a socket of ours, deaf to signals, silent in the log, and bounded.

Clients that dawdle are cut off, and when there are too many, those that wait longest without a request under way give
way to the next: idle connections, however many, keep no probe from being answered.
"""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

__all__ = ["MOST_CONNECTIONS", "PATIENCE_S", "Server"]

MOST_CONNECTIONS = 64
PATIENCE_S = 10.0
"""Seconds that a client has to send a request and to take its answer, and that an idle connection is kept."""
_KEEP_ALIVE_S = 5
_LONGEST_HEAD = 16 * 1024
"""Bytes of a request line with its headers."""

_TURNS = 5
"""Of the loop, more than it takes from an accepted connection to its first callback."""

_silent = logging.getLogger(f"{__name__}.silent")
_silent.disabled = True
"""What clients send must not be able to fill the log."""


class Server(uvicorn.Server):
    """Serves an app in the running loop until told to end, then drops all connections at once.

    Args:
        app: what it serves.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._ended = asyncio.Event()
        self.servers: list[asyncio.Server] = []
        super().__init__(
            uvicorn.Config(
                app,
                http=_Bounded,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=1,
                h11_max_incomplete_event_size=_LONGEST_HEAD,
                reset_contextvars=True,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the daemon."""
        yield

    async def main_loop(self) -> None:
        """Keeps the Date header fresh until told to end; uvicorn itself would wake up ten times a second."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._ended.wait()

    def end(self) -> None:
        """Lets it end."""
        self.should_exit = True
        self._ended.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drops all connections: whoever keeps one open, or reads slowly, holds nobody up."""
        await self.drop(*(sockets or ()))

    async def drop(self, *listeners: socket.socket) -> None:
        """Closes everything at once; may be called again.

        1. Nobody further is let in. 2. Whoever was let in a moment ago arrives: asyncio would leave them open for ever.
        3. All are closed.
        """
        for listener in listeners:
            if listener.fileno() >= 0:
                asyncio.get_running_loop().remove_reader(listener)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        for listener in listeners:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in list(self.server_state.tasks):
            task.cancel()
        await asyncio.gather(*self.server_state.tasks, return_exceptions=True)


class _Bounded(H11Protocol):
    """One connection, of a limited number and for a limited time."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
        self.logger = self.access_logger = _silent
        self.access_log = False
        if len(self.connections) >= MOST_CONNECTIONS:
            self._make_room()
        super().connection_made(transport)
        self._begin_patience()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._begin_patience()
        super().on_response_complete()

    def _begin_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self.began_s = self.loop.time()
        self._patience = self.loop.call_later(PATIENCE_S, self.transport.abort)

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        cycle: RequestResponseCycle | None = self.cycle  # typed as if there always were one
        return cycle is None or cycle.response_complete

    def _make_room(self) -> None:
        """The one that waits longest gives way: one without a request under way, if there is any."""
        others = [each for each in self.connections if isinstance(each, _Bounded)]
        victim = min(others, key=lambda each: (not each.idle, each.began_s))
        self.connections.discard(victim)
        victim.transport.abort()
