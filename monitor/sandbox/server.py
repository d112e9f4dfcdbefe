"""The server under the sandbox: a socket, uvicorn on it, and connections that can be dropped.

The socket is bound here: a bind failure inside uvicorn would end the process.
"""

import asyncio
import socket
import threading

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from monitor.errors import MonitorError
from monitor.sandbox.app import build_app
from monitor.sandbox.state import ClientConnection, SandboxState


def open_listener(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; port 0 takes a free one.

    Raises:
        MonitorError: the address can't be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named: each answer would wait 40 ms for an ACK
    listener = None
    try:
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except (OSError, OverflowError, TypeError) as error:  # TypeError: a host with a NUL in it
        if listener is not None:
            listener.close()
        reason = getattr(error, "strerror", None) or error
        raise MonitorError(
            f"the sandbox can't listen on {host} port {port}: {reason}; choose another with --port"
        ) from error
    return listener


def base_url_of(listener: socket.socket) -> str:
    """The base URL of what listens there."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class SandboxServer(uvicorn.Server):
    """Serves a state. It ends at once: calls in flight lose their connection, as when a service goes down.

    Args:
        state: what it serves.
    """

    def __init__(self, state: SandboxState) -> None:
        super().__init__(
            uvicorn.Config(
                build_app(state),
                http=_tracking_protocol(state),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # a connection is found by its real address, whatever X-Forwarded-For says
                server_header=False,
                date_header=False,  # a fault may bring its own
                timeout_keep_alive=75,
                timeout_graceful_shutdown=1,
            )
        )
        self._connections = state.connections
        self.ready = threading.Event()

    def serve_on(self, listener: socket.socket) -> None:
        """Serves until told to exit, in a thread: uvicorn leaves signals alone there, they stay with the main one."""
        try:
            self.run(sockets=[listener])
        finally:
            listener.close()
            self.ready.set()  # if it could not start, nobody shall wait for it

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accepts connections, and says so."""
        await super().startup(sockets=sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drops every connection first: uvicorn would wait for them."""
        for connection in list(self._connections.values()):
            connection.transport.abort()
        await super().shutdown(sockets=sockets)


def _tracking_protocol(state: SandboxState) -> type[asyncio.Protocol]:
    class TrackingProtocol(H11Protocol):
        """Remembers open connections, so that they can be dropped."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
            super().connection_made(transport)
            if self.client is not None:
                state.connections[self.client] = ClientConnection(transport=transport)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            connection = state.connections.pop(self.client, None) if self.client is not None else None
            if connection is not None:
                connection.closed.set()

    return TrackingProtocol
