"""The HTTP server of the page and the health endpoints: uvicorn on a socket of ours, with limits on clients.

It leaves signals to the daemon and logs nothing. Slow clients are disconnected. When there are too many connections,
the one that has been idle longest is closed, so that idle connections cannot block a probe.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitor.errors import MonitorError

_BACKLOG = 128

_REMEDIES: Mapping[int, str] = {
    errno.EADDRINUSE: "is used by another program, perhaps by another daemon on this machine; stop that program, or "
    "set web.listen to another port, or to port 0 for any free port",
    errno.EADDRNOTAVAIL: "is not an address of this machine; set web.listen to one that is, such as 127.0.0.1:8990",
    errno.EACCES: "is not allowed for this user; set web.listen to a port above 1023",
}
_DEFAULT_REMEDY = "can't be listened on; set web.listen to an address of this machine, such as 127.0.0.1:8990"


class ListenError(MonitorError):
    """An address that can't be listened on. The text says what to do; `errno` is the system's, or None."""

    def __init__(self, text: str, number: int | None) -> None:
        super().__init__(text)
        self.errno = number

    @property
    def in_use(self) -> bool:
        """Whether another program listens there."""
        return self.errno == errno.EADDRINUSE


def bind_socket(address: tuple[str, int]) -> socket.socket:
    """Binds a socket without listening (port 0: a free one). Blocks on a lookup. Raises ListenError if it can't."""
    host, port = address
    # asyncio disables Nagle's algorithm only if the protocol is named; otherwise each response waits 40 ms for an ACK
    listener = None
    try:
        listener = socket.socket(_family(host), socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        if listener is not None:
            listener.close()
        raise _listen_error(address, error) from error
    return listener


def open_listener(address: tuple[str, int]) -> socket.socket:
    """Opens a listening socket on a host and port. Raises ListenError if the address can't be used."""
    listener = bind_socket(address)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)  # connections inherit it
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _listen_error(address, error) from error
    return listener


async def resolve(address: tuple[str, int]) -> tuple[str, int]:
    """The IP address and port of a host, without blocking the loop. Raises ListenError if it can't be resolved."""
    host, port = address
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, family=_family(host), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise _listen_error(address, error) from error
    return str(found[0][4][0]), port


def address_of(listener: socket.socket) -> str:
    """Where it listens, with the actual port, such as `127.0.0.1:8990`."""
    host, port = listener.getsockname()[:2]
    return _format_address(host, port)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _listen_error(address: tuple[str, int], error: OSError) -> ListenError:
    return ListenError(f"{_format_address(*address)} {_REMEDIES.get(error.errno or 0, _DEFAULT_REMEDY)}", error.errno)


def _format_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


MAX_CONNECTIONS = 64
REQUEST_TIMEOUT_S = 10.0
"""Time to send a request's headers; then the same again for its body, and until the response begins."""
READ_TIMEOUT_S = 30.0
MIN_READ_BYTES = 16 * 1024
"""What a client has to read of a long response in that time. A slow phone needs minutes for a script of a megabyte."""
_SEND_BUFFER_BYTES = 128 * 1024
"""In the kernel, for each connection: what is read is noticed only as this buffer empties."""
_KEEP_ALIVE_S = 5
_MAX_HEADER_BYTES = 16 * 1024

_LOOP_TURNS = 5
"""More iterations of the loop than an accepted connection needs until its first callback."""

_NO_LOG = logging.CRITICAL + 1
"""Clients must not be able to fill the log."""


class Server(uvicorn.Server):
    """Serves an app in the running loop until `stop`, then closes all connections at once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._stop_requested = asyncio.Event()
        self._requests: set[asyncio.Task[Any]] = set()
        self.servers: list[asyncio.Server] = []
        self.connections: dict[tuple[str, int], _LimitedConnection] = {}
        """By the client's address and port."""
        config = uvicorn.Config(
            self._respond,
            interface="asgi3",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=_NO_LOG,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
            reset_contextvars=True,
        )
        config.load()
        # limit_concurrency would answer a probe with 503 while idle connections use up the limit
        protocol_class = config.http_protocol_class
        config.http_protocol_class = lambda **options: _LimitedConnection(  # type: ignore[assignment]  # a factory
            self.connections, protocol_class(**options)
        )
        super().__init__(config)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection, task = self.connections.get(scope["client"]), asyncio.current_task()
        if connection is None or task is None:
            return  # disconnected before its request began
        self._requests.add(task)
        connection.request_began()

        async def count_and_send(message: Message) -> None:
            connection.sent_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, count_and_send)
        finally:
            self._requests.discard(task)
            connection.request_ended()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the daemon."""
        yield

    async def main_loop(self) -> None:
        """Keeps the Date header current until `stop`; uvicorn's own loop wakes up ten times a second."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._stop_requested.wait()

    def stop(self) -> None:
        """Ends `serve`."""
        self.should_exit = True
        self._stop_requested.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Closes all connections without waiting for clients."""
        await self.drop_connections(*(sockets or ()))

    async def drop_connections(self, *listeners: socket.socket) -> None:
        """Closes everything at once; may be called again.

        1. Stop accepting.
        2. Let connections that were just accepted arrive; asyncio would leave them open forever.
        3. Close all.
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
        for connection in list(self.connections.values()):
            connection.abort()
        requests = list(self._requests)
        for task in requests:
            task.cancel()
        await asyncio.gather(*requests, return_exceptions=True)


class _LimitedConnection(asyncio.Protocol):
    """One connection: it counts towards the limit and times out, and uvicorn's protocol does the rest."""

    def __init__(self, connections: "dict[tuple[str, int], _LimitedConnection]", protocol: asyncio.Protocol) -> None:
        self._connections, self._protocol = connections, protocol
        self.idle = True
        self.sent_bytes = 0
        """Of all responses, given to the transport."""
        self._read_bytes = 0
        self._timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            min(self._connections.values(), key=lambda each: (each.is_busy(), each.active_since_s)).abort()
        # of TCP, so it reads and writes; uvloop's is no subclass of asyncio.Transport
        self._transport = cast("asyncio.Transport", transport)
        self._client = transport.get_extra_info("peername")[:2]
        self._connections[self._client] = self
        self._restart_timeout()
        self._protocol.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
        self._forget()
        self._protocol.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def request_began(self) -> None:
        """Starts the timeout of the request's body and of the response."""
        self.idle = False
        self._restart_timeout()

    def request_ended(self) -> None:
        """Restarts the timeout for the next request."""
        self.idle = True
        self._restart_timeout()

    def is_busy(self) -> bool:
        """Whether a request is in progress, or a response not read yet."""
        return not self.idle or self._transport.get_write_buffer_size() > 0

    def abort(self) -> None:
        self._forget()
        self._transport.abort()

    def _restart_timeout(self) -> None:
        if self._connections.get(self._client) is not self:
            return
        if self._timeout is not None:
            self._timeout.cancel()
        loop = asyncio.get_running_loop()
        self.active_since_s = loop.time()
        self._timeout = loop.call_later(REQUEST_TIMEOUT_S, self._time_out)

    def _time_out(self) -> None:
        """Aborts the connection, unless its client is reading a long response fast enough."""
        unread = self._transport.get_write_buffer_size()
        read_before, self._read_bytes = self._read_bytes, self.sent_bytes - unread
        if unread == 0 or self._read_bytes - read_before < MIN_READ_BYTES:
            self.abort()
        else:
            self._timeout = asyncio.get_running_loop().call_later(READ_TIMEOUT_S, self._time_out)

    def _forget(self) -> None:
        if self._connections.get(self._client) is self:
            del self._connections[self._client]
