"""The sandbox as an object: it serves from a thread, and its methods do what the control endpoint does."""

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from monitor.sandbox.control import stats
from monitor.sandbox.faults import Fault, parse_fault, read_fault
from monitor.sandbox.rate_limits import Rate
from monitor.sandbox.requests import ItemBatch, ItemSelection, StatusChange
from monitor.sandbox.server import SandboxServer, base_url_of, open_listener
from monitor.sandbox.settings import SandboxSettings
from monitor.sandbox.state import SandboxState


class Sandbox:
    """A sandbox that serves from a thread; thread-safe. `clock` (seconds, monotonic) lets a test move time."""

    def __init__(self, settings: SandboxSettings | None = None, clock: Callable[[], float] | None = None) -> None:
        self.settings = settings or SandboxSettings()
        self._state = SandboxState(self.settings, clock or time.monotonic)
        self.port = self.settings.port  # from the first `start` on where it listens
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

    def start(self) -> None:
        """Starts to serve, with the state from before; once. Raises MonitorError if it can't listen on the address."""
        if self._thread is not None:
            return
        listener = open_listener(self.settings.host, self.port)
        self.port, self.url = listener.getsockname()[1], base_url_of(listener)
        self._server = server = SandboxServer(self._state)
        self._thread = threading.Thread(target=server.serve_on, args=(listener,), name="sandbox", daemon=True)
        self._thread.start()
        server.ready.wait()

    def stop(self) -> None:
        """Stops: connections are dropped and new ones refused. Safe to call twice."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join()
        self._server = self._thread = None

    def create_items(
        self, count: int, *, status: str | None = None, filename: str = "made.txt", publisher_id: str | None = None
    ) -> list[str]:
        """Creates items with a fixed status, or that walk from now to the end that the filename says.

        A filename with `fail` in it ends in FAILED, one with `stuck` stays in CHUNKING.
        """
        return self.create_batch(ItemBatch(count=count, status=status, filename=filename, publisher_id=publisher_id))

    def create_batch(self, batch: ItemBatch) -> list[str]:
        """`create_items` for a batch."""
        with self._state.lock:
            return self._state.engine.create_items(batch, self._state.clock())

    def set_status(self, item_id: str, status: str | None) -> None:
        """Gives an item a fixed status; with None it continues its walk. Raises KeyError if there is no such item."""
        with self._state.lock:
            item = self._state.engine.items[item_id]
            item.status, item.changed_s = status, self._state.clock()

    def set_statuses(self, change: StatusChange) -> None:
        """`set_status` for all items that a change selects."""
        with self._state.lock:
            for item in self._state.engine.select_items(change):
                item.status, item.changed_s = change.status, self._state.clock()

    def remove_selected(self, selection: ItemSelection) -> None:
        """`remove` for all selected items."""
        with self._state.lock:
            for item in self._state.engine.select_items(selection):
                del self._state.engine.items[item.item_id]

    def assign_to_other_publisher(self, item_id: str, publisher_id: str | None = None) -> None:
        """Gives an item to another publisher, so that it answers 403. Raises KeyError if there is no such item."""
        with self._state.lock:
            self._state.engine.items[item_id].publisher_id = publisher_id or self.settings.foreign_publisher_id

    def remove(self, item_id: str) -> None:
        """Removes an item, so that it answers 404. Raises KeyError if there is no such item."""
        with self._state.lock:
            del self._state.engine.items[item_id]

    def revoke_client(self) -> None:
        """The token endpoint answers 401 `invalid_client`; issued tokens get 401."""
        with self._state.lock:
            self._state.engine.credentials.revoke(self.settings.client_id)

    def restore_client(self) -> None:
        """Undoes `revoke_client`."""
        with self._state.lock:
            self._state.engine.credentials.restore(self.settings.client_id)

    def revoke_key(self) -> None:
        """The API key gets 403."""
        with self._state.lock:
            self._state.engine.credentials.revoke(self.settings.api_key)

    def restore_key(self) -> None:
        """Undoes `revoke_key`."""
        with self._state.lock:
            self._state.engine.credentials.restore(self.settings.api_key)

    def expire_tokens(self) -> None:
        """Every issued token gets 401 from now on."""
        with self._state.lock:
            self._state.engine.credentials.expire_tokens()

    def add_fault(self, name: str | None = None, /, **fields: object) -> None:
        """Activates a fault, by name (`faults.parse_fault`) or by fields (`faults.Fault`). ValueError says why not."""
        self.inject_fault(read_fault(fields) if name is None else parse_fault(name))

    def inject_fault(self, fault: Fault) -> None:
        """Activates a fault."""
        with self._state.lock:
            self._state.faults.add(fault, self._state.clock())

    def clear_faults(self) -> None:
        """Ends all faults."""
        with self._state.lock:
            self._state.faults.clear()

    def limit_rate(self, rate: Rate | None) -> None:
        """Sets an unused rate limit for each credential, or ends it."""
        self._state.limit(rate)

    def stats(self) -> Mapping[str, Any]:
        """`requests` by method, path template and result, `items`, `max_in_flight`.

        A result is a status, `closed` by a fault, or `gone`: the client left while a fault delayed it.
        """
        return stats(self._state)

    def requests(self, containing: str = "") -> int:
        """How many requests ended whose `METHOD template result` contains a text."""
        counted: Mapping[str, int] = self.stats()["requests"]
        return sum(count for what, count in counted.items() if containing in what)

    def reset(self) -> None:
        """Resets items, tokens, revocations, faults and counts."""
        self._state.reset()
