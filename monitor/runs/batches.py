"""Outcomes as they come in: counted, turned into changes, and stored in batches by a thread."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from monitor.incidents.evidence import EvidenceCollector
from monitor.model import Outcome
from monitor.model.items import ItemChange, TrackedItem, transition

BATCH_SIZE = 1000
"""Outcomes per writing transaction."""

FLUSH_INTERVAL_S = 1.0
"""After so long, in seconds, the next outcome takes those before it along."""


class OutcomeBuffer:
    """What came of the items so far.

    Args:
        record: stores a batch of changes; called in a worker thread, one call at a time.
    """

    def __init__(self, record: Callable[[Sequence[ItemChange]], None]) -> None:
        self._record = record
        self.tally = EvidenceCollector()
        self.outcome_count = 0
        """Items that have an outcome."""
        self._changes: list[ItemChange] = []
        self._flush_lock, self._flushed_at = asyncio.Lock(), time.monotonic()
        self._pending_write: asyncio.Future[None] | None = None

    def add(self, item: TrackedItem, outcome: Outcome) -> bool:
        """Takes one outcome in; True when it is time to `flush`."""
        self.tally.add(item, outcome)
        self.outcome_count += 1
        self._changes.append(transition(item, outcome))
        return len(self._changes) >= BATCH_SIZE or time.monotonic() - self._flushed_at >= FLUSH_INTERVAL_S

    async def flush(self) -> None:
        """Stores what was noted, once the batch before it is stored.

        Raises:
            StoreError: the database can't be written.
            LeaseLostError: another run took over.
        """
        async with self._flush_lock:
            if self._pending_write is not None:
                await asyncio.shield(self._pending_write)
            changes, self._changes = self._changes, []
            self._flushed_at = time.monotonic()
            if changes:
                # A worker may be cancelled here, the thread can't be: whoever comes next waits for it.
                self._pending_write = asyncio.ensure_future(asyncio.to_thread(self._record, changes))
                await asyncio.shield(self._pending_write)

    async def join(self) -> None:
        """Waits for a thread that still writes, however that ends."""
        if self._pending_write is not None:
            await asyncio.gather(self._pending_write, return_exceptions=True)


class WorkQueue:
    """Hands out items one by one to many workers; a thread reads the next batch while they work on one."""

    def __init__(self, batches: Iterator[list[TrackedItem]], shuffle: Callable[[list[TrackedItem]], object]) -> None:
        self._batches, self._shuffle, self._items = batches, shuffle, deque[TrackedItem]()
        self._lock = asyncio.Lock()
        self._prefetched: asyncio.Future[list[TrackedItem] | None] | None = None
        self._ended = False

    @property
    def exhausted(self) -> bool:
        """Whether every item was handed out."""
        return self._ended and not self._items

    def get_nowait(self) -> TrackedItem | None:
        """The next item, if none has to be waited for."""
        return self._items.popleft() if self._items else None

    async def get(self) -> TrackedItem | None:
        """The next item, or None when there is none left.

        Raises:
            StoreError: the items can't be read.
        """
        while not self._items:
            async with self._lock:
                if self._ended and not self._items:
                    return None
                if not self._items:
                    self._prefetched = self._prefetched or self._prefetch()
                    batch = await asyncio.shield(self._prefetched)
                    self._ended = batch is None
                    if batch:
                        self._shuffle(batch)
                        self._items.extend(batch)
                    self._prefetched = None if self._ended else self._prefetch()
        return self._items.popleft()

    async def join(self) -> None:
        """Waits for a thread that still reads, however that ends: what it reads is no longer wanted."""
        if self._prefetched is not None:
            await asyncio.gather(self._prefetched, return_exceptions=True)

    def _prefetch(self) -> asyncio.Future[list[TrackedItem] | None]:
        return asyncio.ensure_future(asyncio.to_thread(next, self._batches, None))
