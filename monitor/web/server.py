"""uvicorn as the daemon needs it: on a socket of ours, deaf to signals, silent in the log, and bounded.

Clients that dawdle are cut off, and when there are too many, those that wait longest without a request under way give
way to the next: idle connections, however many, keep no probe from being answered.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from monitor.errors import MonitorError

_BACKLOG = 128

_REMEDIES: Mapping[int, str] = {
    errno.EADDRINUSE: "is taken by another program, perhaps by another daemon of this machine; end that, or set "
    "web.listen to another port, or to port 0 for any that is free",
    errno.EADDRNOTAVAIL: "is no address of this machine; set web.listen to one that is, such as 127.0.0.1:8990",
    errno.EACCES: "may not be taken by this user; set web.listen to a port above 1023",
}
_DEFAULT_REMEDY = "can't be listened on; set web.listen to an address of this machine, such as 127.0.0.1:8990"


class ListenError(MonitorError):
    """An address that can't be listened on; the text says what to do.

    Args:
        text: one sentence.
        number: of the system's error; None when it named none.
    """

    def __init__(self, text: str, number: int | None) -> None:
        super().__init__(text)
        self.errno = number

    @property
    def in_use(self) -> bool:
        """Whether somebody else listens there."""
        return self.errno == errno.EADDRINUSE


def bind_socket(address: tuple[str, int]) -> socket.socket:
    """A socket on an address that does not listen yet. Blocks while a host's name is looked up.

    Args:
        address: host and port; port 0 takes a free one.

    Raises:
        ListenError: the address can't be had.
    """
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named: each answer would wait 40 ms for an ACK
    listener = None
    try:
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        if listener is not None:
            listener.close()
        raise _listen_error(address, error) from error
    return listener


def open_listener(address: tuple[str, int]) -> socket.socket:
    """A socket that listens on an address.

    Raises:
        ListenError: the address can't be had.
    """
    listener = bind_socket(address)
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _listen_error(address, error) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """What it listens on, with the port that was chosen, such as `127.0.0.1:8990`."""
    host, port = listener.getsockname()[:2]
    return _format_address(host, port)


def _listen_error(address: tuple[str, int], error: OSError) -> ListenError:
    return ListenError(f"{_format_address(*address)} {_REMEDIES.get(error.errno or 0, _DEFAULT_REMEDY)}", error.errno)


def _format_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


MAX_CONNECTIONS = 64
REQUEST_TIMEOUT_S = 10.0
"""Seconds that a client has to send a request and to take its answer, and that an idle connection is kept."""
_KEEP_ALIVE_S = 5
_MAX_HEADER_BYTES = 16 * 1024
"""Bytes of a request line with its headers."""

_LOOP_TURNS = 5
"""Of the loop, more than it takes from an accepted connection to its first callback."""

_disabled_logger = logging.getLogger(f"{__name__}.silent")
_disabled_logger.disabled = True
"""What clients send must not be able to fill the log."""


class Server(uvicorn.Server):
    """Serves an app in the running loop until told to end, then drops all connections at once.

    Args:
        app: what it serves.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._stop_requested = asyncio.Event()
        self.servers: list[asyncio.Server] = []
        super().__init__(
            uvicorn.Config(
                app,
                http=_LimitedProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=1,
                h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
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
                    await self._stop_requested.wait()

    def stop(self) -> None:
        """Lets it end."""
        self.should_exit = True
        self._stop_requested.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drops all connections: whoever keeps one open, or reads slowly, holds nobody up."""
        await self.drop_connections(*(sockets or ()))

    async def drop_connections(self, *listeners: socket.socket) -> None:
        """Closes everything at once; may be called again.

        1. Nobody further is let in. 2. Whoever was let in a moment ago arrives: asyncio would leave them open for ever.
        3. All are closed.
        """
        for listener in listeners:
            if listener.fileno() >= 0:
                asyncio.get_running_loop().remove_reader(listener)
        for _ in range(_LOOP_TURNS):
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


class _LimitedProtocol(H11Protocol):
    """One connection, of a limited number and for a limited time."""

    _timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
        self.logger = self.access_logger = _disabled_logger
        self.access_log = False
        if len(self.connections) >= MAX_CONNECTIONS:
            self._evict_connection()
        super().connection_made(transport)
        self._restart_timeout()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._restart_timeout()
        super().on_response_complete()

    def _restart_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
        self.active_since_s = self.loop.time()
        self._timeout = self.loop.call_later(REQUEST_TIMEOUT_S, self.transport.abort)

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        cycle: RequestResponseCycle | None = self.cycle  # typed as if there always were one
        return cycle is None or cycle.response_complete

    def _evict_connection(self) -> None:
        """The one that waits longest gives way: one without a request under way, if there is any."""
        others = [each for each in self.connections if isinstance(each, _LimitedProtocol)]
        victim = min(others, key=lambda each: (not each.idle, each.active_since_s))
        self.connections.discard(victim)
        victim.transport.abort()
