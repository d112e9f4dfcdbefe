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
from monitor.sandbox.app import State, build
from monitor.sandbox.control import stats
from monitor.sandbox.engine import SandboxSettings
from monitor.sandbox.faults import read_fault

__all__ = ["Sandbox", "serve"]

START_S = 10.0


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise MonitorError(
            f"the sandbox can't listen on {host} port {port}: {error.strerror}; choose another with --port"
        ) from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _server(state: State) -> uvicorn.Server:
    class Tracked(H11Protocol):
        """Remembers open connections, so that a fault can drop one."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
            super().connection_made(transport)
            if self.client is not None:
                state.connections[self.client] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self.client is not None:
                state.connections.pop(self.client, None)

    config = uvicorn.Config(
        build(state),
        http=Tracked,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


def serve(settings: SandboxSettings, *, on_ready: Callable[[str], None]) -> None:
    """Serves until SIGINT or SIGTERM.

    Args:
        settings: how it behaves; port 0 takes a free one.
        on_ready: called with the base URL once connections are accepted.

    Raises:
        MonitorError: the address can't be listened on.
    """
    listener = _bound(settings.host, settings.port)
    listener.listen()
    on_ready(_url(listener))
    try:
        _server(State(settings)).run(sockets=[listener])
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
        self._server: uvicorn.Server | None = None
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
        """Starts to serve; what it knew before is still there.

        Raises:
            MonitorError: the address can't be listened on.
        """
        listener = _bound(self.settings.host, self._port)
        listener.listen(1024)
        self._port, self.url = listener.getsockname()[1], _url(listener)
        self._server = server = _server(self._state)
        self._thread = threading.Thread(target=_run, args=(server, listener), name="sandbox", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops for real: connections are closed and new ones refused. Safe to call twice."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(START_S)
        self._server = self._thread = None

    def create_items(self, count: int, *, status: str | None = None, publisher_id: str | None = None) -> list[str]:
        """Makes items, in a status that they keep, or walking through their stages from now."""
        state = self._state
        with state.lock:
            add = state.engine.add
            return [
                add("made.txt", now_s=state.clock(), status=status, publisher_id=publisher_id) for _ in range(count)
            ]

    def set_status(self, item_id: str, status: str | None) -> None:
        """Puts an item in a status that it keeps; None lets it walk again."""
        with self._state.lock:
            self._state.engine.items[item_id].status = status

    def give_away(self, item_id: str, publisher_id: str = "22222222-2222-4222-8222-222222222222") -> None:
        """Makes an item another publisher's: it answers 403."""
        with self._state.lock:
            self._state.engine.items[item_id].publisher_id = publisher_id

    def remove(self, item_id: str) -> None:
        """Makes an item vanish: it answers 404."""
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
        """Requests by method, path template and status, and the most in flight at once."""
        return stats(self._state)

    def requests(self, containing: str = "") -> int:
        """How many requests were answered whose `METHOD template status` holds a text."""
        counted: Mapping[str, int] = self.stats()["requests"]
        return sum(count for what, count in counted.items() if containing in what)


def _run(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serves in a thread; signals stay with the main thread, as uvicorn heeds them only there."""
    try:
        server.run(sockets=[listener])
    finally:
        listener.close()
