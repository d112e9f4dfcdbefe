"""The sandbox as a server: in a thread of its own for tests and the demo, or in the foreground for the command.

The socket is bound here: a bind failure inside uvicorn would end the process.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from monitor.errors import MonitorError
from monitor.sandbox.app import build
from monitor.sandbox.control import stats
from monitor.sandbox.faults import read_fault
from monitor.sandbox.settings import SandboxSettings
from monitor.sandbox.state import Connection, State

__all__ = ["Sandbox", "serve"]


def _listening(host: str, port: int) -> socket.socket:
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
        why = getattr(error, "strerror", None) or error
        raise MonitorError(
            f"the sandbox can't listen on {host} port {port}: {why}; choose another with --port"
        ) from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Ends at once: calls in flight lose their connection, as when a service goes down."""

    def __init__(self, state: State) -> None:
        super().__init__(
            uvicorn.Config(
                build(state),
                http=_remembering(state),
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
        self.up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self._connections.values()):
            connection.transport.abort()
        await super().shutdown(sockets=sockets)


def _remembering(state: State) -> type[asyncio.Protocol]:
    class Remembering(H11Protocol):
        """Remembers open connections, so that they can be dropped."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
            super().connection_made(transport)
            if self.client is not None:
                state.connections[self.client] = Connection(transport=transport)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            connection = state.connections.pop(self.client, None) if self.client is not None else None
            if connection is not None:
                connection.gone.set()

    return Remembering


def serve(settings: SandboxSettings, *, on_ready: Callable[[str], None]) -> None:
    """Serves until SIGINT, after which it returns, or SIGTERM, whose own handler then has its turn.

    Args:
        settings: how it behaves; port 0 takes a free one.
        on_ready: called with the base URL once connections are accepted.

    Raises:
        MonitorError: the address can't be listened on.
    """
    listener = _listening(settings.host, settings.port)
    try:
        on_ready(_url(listener))
        _Server(State(settings)).run(sockets=[listener])
    except KeyboardInterrupt:
        return  # uvicorn has ended cleanly and raises the signal again
    finally:
        listener.close()


class Sandbox:
    """A sandbox that serves from a thread; a context manager. Its methods may be called from any thread.

    Args:
        settings: how it behaves.
        clock: seconds on a steady clock, for tests that move time.
    """

    def __init__(self, settings: SandboxSettings | None = None, clock: Callable[[], float] | None = None) -> None:
        self.settings = settings or SandboxSettings()
        self._state = State(self.settings, clock) if clock else State(self.settings)
        self._port = self.settings.port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """Where it listens; the same after `stop` and `start`."""
        return self._port

    def start(self) -> None:
        """Starts to serve; what it knew before is still there. Safe to call twice.

        Raises:
            MonitorError: the address can't be listened on.
        """
        if self._thread is not None:
            return
        listener = _listening(self.settings.host, self._port)
        self._port, self.url = listener.getsockname()[1], _url(listener)
        self._server = server = _Server(self._state)
        self._thread = threading.Thread(target=_run, args=(server, listener), name="sandbox", daemon=True)
        self._thread.start()
        server.up.wait()

    def stop(self) -> None:
        """Stops for real: connections are dropped and new ones refused. Safe to call twice."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join()
        self._server = self._thread = None

    def create_items(
        self, count: int, *, status: str | None = None, filename: str = "made.txt", publisher_id: str | None = None
    ) -> list[str]:
        """Makes items, in a status that they keep, or walking from now to the end that the filename says.

        A filename with `fail` in it ends in FAILED, one with `stuck` stays in CHUNKING.
        """
        state = self._state
        with state.lock:
            return state.engine.make(
                count, now_s=state.clock(), status=status, filename=filename, publisher_id=publisher_id
            )

    def set_status(self, item_id: str, status: str | None) -> None:
        """Puts an item in a status that it keeps; None puts it back where its walk has come to.

        Raises:
            KeyError: there is no such item.
        """
        with self._state.lock:
            item = self._state.engine.items[item_id]
            item.status, item.changed_s = status, self._state.clock()

    def give_away(self, item_id: str, publisher_id: str | None = None) -> None:
        """Makes an item another publisher's: it answers 403.

        Raises:
            KeyError: there is no such item.
        """
        with self._state.lock:
            self._state.engine.items[item_id].publisher_id = publisher_id or self.settings.foreign_publisher_id

    def remove(self, item_id: str) -> None:
        """Makes an item vanish: it answers 404.

        Raises:
            KeyError: there is no such item.
        """
        with self._state.lock:
            del self._state.engine.items[item_id]

    def revoke_client(self) -> None:
        """The token endpoint answers 401 `invalid_client`, tokens already issued 401."""
        with self._state.lock:
            self._state.engine.revoke(self.settings.client_id)

    def restore_client(self) -> None:
        """Undoes `revoke_client`."""
        with self._state.lock:
            self._state.engine.restore(self.settings.client_id)

    def revoke_key(self) -> None:
        """The API key answers 403."""
        with self._state.lock:
            self._state.engine.revoke(self.settings.api_key)

    def restore_key(self) -> None:
        """Undoes `revoke_key`."""
        with self._state.lock:
            self._state.engine.restore(self.settings.api_key)

    def expire_tokens(self) -> None:
        """Every issued token answers 401 from now on."""
        with self._state.lock:
            self._state.engine.expire_tokens()

    def add_fault(self, **fault: object) -> None:
        """Puts a fault in force (see `faults.Fault`).

        Raises:
            ValueError: it is no fault; the text says why.
        """
        with self._state.lock:
            self._state.faults.add(read_fault(fault))

    def clear_faults(self) -> None:
        """Ends all faults."""
        with self._state.lock:
            self._state.faults.clear()

    def stats(self) -> Mapping[str, Any]:
        """`requests` by method, path template and ending, `items`, `most_in_flight`.

        An ending is a status, `closed` by a fault, or `gone`: the client left while a fault kept it waiting.
        """
        return stats(self._state)

    def requests(self, containing: str = "") -> int:
        """How many requests have come to an end, of those whose `METHOD template ending` holds a text."""
        counted: Mapping[str, int] = self.stats()["requests"]
        return sum(count for what, count in counted.items() if containing in what)

    def reset(self) -> None:
        """Forgets items, tokens, revocations, faults and counts."""
        self._state.reset()


def _run(server: _Server, listener: socket.socket) -> None:
    """Serves in a thread; signals stay with the main thread, as uvicorn heeds them only there."""
    try:
        server.run(sockets=[listener])
    finally:
        listener.close()
        server.up.set()  # if it could not start, nobody shall wait for it
