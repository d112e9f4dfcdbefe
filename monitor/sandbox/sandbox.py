"""The sandbox as an object: it serves from a thread of its own, and its methods do what the control endpoint does."""

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec

from monitor.sandbox.control import stats
from monitor.sandbox.faults import Fault, parse_fault, read_fault
from monitor.sandbox.rate_limits import Rate
from monitor.sandbox.requests import ItemBatch, ItemSelection, StatusChange
from monitor.sandbox.server import SandboxServer, base_url_of, open_listener
from monitor.sandbox.settings import SandboxSettings
from monitor.sandbox.state import SandboxState


class Sandbox:
    """A sandbox that serves from a thread; a context manager. Its methods may be called from any thread.

    Args:
        settings: how it behaves.
        clock: seconds on a steady clock, for tests that move time.
    """

    def __init__(self, settings: SandboxSettings | None = None, clock: Callable[[], float] | None = None) -> None:
        self.settings = settings or SandboxSettings()
        self._state = SandboxState(self.settings, clock) if clock else SandboxState(self.settings)
        self._port = self.settings.port
        self._server: SandboxServer | None = None
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
        listener = open_listener(self.settings.host, self._port)
        self._port, self.url = listener.getsockname()[1], base_url_of(listener)
        self._server = server = SandboxServer(self._state)
        self._thread = threading.Thread(target=server.serve_on, args=(listener,), name="sandbox", daemon=True)
        self._thread.start()
        server.ready.wait()

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
            return state.engine.create_items(
                count, now_s=state.clock(), status=status, filename=filename, publisher_id=publisher_id
            )

    def create_batch(self, batch: ItemBatch) -> list[str]:
        """Does what `create_items` does for a batch that was read from somewhere."""
        return self.create_items(**msgspec.structs.asdict(batch))

    def set_status(self, item_id: str, status: str | None) -> None:
        """Puts an item in a status that it keeps; None puts it back where its walk has come to.

        Raises:
            KeyError: there is no such item.
        """
        with self._state.lock:
            item = self._state.engine.items[item_id]
            item.status, item.changed_s = status, self._state.clock()

    def set_statuses(self, change: StatusChange) -> None:
        """Does what `set_status` does for every item that a change names."""
        with self._state.lock:
            for item in self._state.engine.select_items(filename=change.filename, count=change.count):
                item.status, item.changed_s = change.status, self._state.clock()

    def remove_selected(self, selection: ItemSelection) -> None:
        """Does what `remove` does for every item that is chosen."""
        with self._state.lock:
            for item in self._state.engine.select_items(filename=selection.filename, count=selection.count):
                del self._state.engine.items[item.item_id]

    def assign_to_other_publisher(self, item_id: str, publisher_id: str | None = None) -> None:
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
            self._state.engine.credentials.revoke(self.settings.client_id)

    def restore_client(self) -> None:
        """Undoes `revoke_client`."""
        with self._state.lock:
            self._state.engine.credentials.restore(self.settings.client_id)

    def revoke_key(self) -> None:
        """The API key answers 403."""
        with self._state.lock:
            self._state.engine.credentials.revoke(self.settings.api_key)

    def restore_key(self) -> None:
        """Undoes `revoke_key`."""
        with self._state.lock:
            self._state.engine.credentials.restore(self.settings.api_key)

    def expire_tokens(self) -> None:
        """Every issued token answers 401 from now on."""
        with self._state.lock:
            self._state.engine.credentials.expire_tokens()

    def add_fault(self, name: str | None = None, /, **fields: object) -> None:
        """Puts a fault in force, by its name (see `presets.parse_fault`) or by its fields (see `faults.Fault`).

        Raises:
            ValueError: it is no fault; the text says why.
        """
        self.inject_fault(read_fault(fields) if name is None else parse_fault(name))

    def inject_fault(self, fault: Fault) -> None:
        """Puts a fault in force from now on."""
        with self._state.lock:
            self._state.faults.add(fault, self._state.clock())

    def clear_faults(self) -> None:
        """Ends all faults."""
        with self._state.lock:
            self._state.faults.clear()

    def limit_rate(self, rate: Rate | None) -> None:
        """Sets a rate limit for each credential, of which nothing is used yet, or ends it."""
        self._state.limit(rate)

    def stats(self) -> Mapping[str, Any]:
        """`requests` by method, path template and ending, `items`, `max_in_flight`.

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
