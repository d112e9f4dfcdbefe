"""The sandbox's server: uvicorn on a socket that is bound here, because a failure inside uvicorn ends the process."""

import asyncio
import socket
import threading

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from monitor.errors import MonitorError
from monitor.sandbox.app import build_app
from monitor.sandbox.state import ClientConnection, SandboxState


def open_listener(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; port 0 picks a free one. Raises MonitorError if it can't."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio disables Nagle's algorithm only if the protocol is named: else each answer waits 40 ms for an ACK
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
    """The base URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class SandboxServer(uvicorn.Server):
    """Serves a state. It stops at once: requests in flight lose their connection, as when a service goes down."""

    def __init__(self, state: SandboxState) -> None:
        super().__init__(
            uvicorn.Config(
                build_app(state),
                loop="asyncio",  # faults reach for its sockets
                http=_tracking_protocol(state),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # connections are tracked by their real address
                server_header=False,
                date_header=False,  # a fault may set its own
                timeout_keep_alive=75,
                timeout_graceful_shutdown=1,
            )
        )
        self.ready = threading.Event()

    def serve_on(self, listener: socket.socket) -> None:
        """Serves until `should_exit`, in a thread: there uvicorn leaves signals to the main thread."""
        try:
            self.run(sockets=[listener])
        finally:
            listener.close()
            self.ready.set()  # also if it could not start: `start` waits for it

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accepts connections, then sets `ready`."""
        await super().startup(sockets=sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drops every connection first: uvicorn would wait for them. Then those that were accepted meanwhile."""
        self._drop_connections()
        await super().shutdown(sockets=sockets)
        self._drop_connections()
        await asyncio.sleep(0)  # the loop closes what was dropped in its next round

    def _drop_connections(self) -> None:
        for protocol in list(self.server_state.connections):
            protocol.transport.abort()


def _tracking_protocol(state: SandboxState) -> type[asyncio.Protocol]:
    class TrackingProtocol(H11Protocol):
        """Tracks open connections, so that they can be dropped."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
            super().connection_made(transport)
            self._connection = ClientConnection(transport=transport)
            if self.client is not None:
                state.connections[self.client] = self._connection

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._connection.closed.set()
            # another connection may come from the same port already
            if self.client is not None and state.connections.get(self.client) is self._connection:
                del state.connections[self.client]

    return TrackingProtocol
