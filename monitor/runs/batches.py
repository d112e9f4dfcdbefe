"""Outcomes as they come in: counted, turned into changes, and stored in batches by a thread."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from monitor.incidents.evidence import Tally
from monitor.model import Outcome
from monitor.model.items import ItemChange, TrackedItem, transition

BATCH = 1000
"""Outcomes per writing transaction."""

FLUSH_S = 1.0
"""After so long, in seconds, the next outcome takes those before it along."""


class Ledger:
    """What came of the items so far.

    Args:
        record: stores a batch of changes; called in a worker thread, one call at a time.
    """

    def __init__(self, record: Callable[[Sequence[ItemChange]], None]) -> None:
        self._record = record
        self.tally = Tally()
        self.noted = 0
        """Items that have an outcome."""
        self._changes: list[ItemChange] = []
        self._flushing, self._flushed_at = asyncio.Lock(), time.monotonic()
        self._writing: asyncio.Future[None] | None = None

    def note(self, item: TrackedItem, outcome: Outcome) -> bool:
        """Takes one outcome in; True when it is time to `flush`."""
        self.tally.add(item, outcome)
        self.noted += 1
        self._changes.append(transition(item, outcome))
        return len(self._changes) >= BATCH or time.monotonic() - self._flushed_at >= FLUSH_S

    async def flush(self) -> None:
        """Stores what was noted, once the batch before it is stored.

        Raises:
            StoreError: the database can't be written.
            LeaseLostError: another run took over.
        """
        async with self._flushing:
            if self._writing is not None:
                await asyncio.shield(self._writing)
            changes, self._changes = self._changes, []
            self._flushed_at = time.monotonic()
            if changes:
                # A worker may be cancelled here, the thread can't be: whoever comes next waits for it.
                self._writing = asyncio.ensure_future(asyncio.to_thread(self._record, changes))
                await asyncio.shield(self._writing)

    async def settle(self) -> None:
        """Waits for a thread that still writes, however that ends."""
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)


class Source:
    """Hands out items one by one to many workers; a thread reads the next batch while they work on one."""

    def __init__(self, batches: Iterator[list[TrackedItem]], mix: Callable[[list[TrackedItem]], object]) -> None:
        self._batches, self._mix, self._items = batches, mix, deque[TrackedItem]()
        self._taking = asyncio.Lock()
        self._ahead: asyncio.Future[list[TrackedItem] | None] | None = None
        self._ended = False

    @property
    def drained(self) -> bool:
        """Whether every item was handed out."""
        return self._ended and not self._items

    def at_hand(self) -> TrackedItem | None:
        """The next item, if none has to be waited for."""
        return self._items.popleft() if self._items else None

    async def take(self) -> TrackedItem | None:
        """The next item, or None when there is none left.

        Raises:
            StoreError: the items can't be read.
        """
        while not self._items:
            async with self._taking:
                if self._ended and not self._items:
                    return None
                if not self._items:
                    self._ahead = self._ahead or self._read()
                    batch = await asyncio.shield(self._ahead)
                    self._ended = batch is None
                    if batch:
                        self._mix(batch)
                        self._items.extend(batch)
                    self._ahead = None if self._ended else self._read()
        return self._items.popleft()

    async def settle(self) -> None:
        """Waits for a thread that still reads, however that ends: what it reads is no longer wanted."""
        if self._ahead is not None:
            await asyncio.gather(self._ahead, return_exceptions=True)

    def _read(self) -> asyncio.Future[list[TrackedItem] | None]:
        return asyncio.ensure_future(asyncio.to_thread(next, self._batches, None))
