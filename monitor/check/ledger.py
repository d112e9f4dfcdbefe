"""Outcomes as they come in: counted, turned into changes, and stored in batches by a thread."""

import asyncio
import time
from collections.abc import Callable, Sequence

from monitor.health.evidence import Tally
from monitor.health.transition import ItemChange, TrackedItem, transition
from monitor.model import Outcome

__all__ = ["BATCH", "FLUSH_S", "Ledger"]

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
