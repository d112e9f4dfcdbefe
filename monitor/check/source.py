"""Hands due items out to many workers, one by one, from batches that a thread reads."""

import asyncio
from collections import deque
from collections.abc import Iterator

from monitor.health.transition import TrackedItem

__all__ = ["Source"]


class Source:
    """Hands out items one by one to many workers; reads the next batch in a thread when one is used up."""

    def __init__(self, batches: Iterator[list[TrackedItem]]) -> None:
        self._batches, self._items = batches, deque[TrackedItem]()
        self._reading = asyncio.Lock()
        self._ended = False

    @property
    def drained(self) -> bool:
        """Whether every item was handed out."""
        return self._ended and not self._items

    def at_hand(self) -> TrackedItem | None:
        """The next item, if none has to be waited for."""
        return self._items.popleft() if self._items else None

    async def take(self) -> TrackedItem | None:
        """The next item, or None when there is none left."""
        while not self._items:
            async with self._reading:
                if self._ended and not self._items:
                    return None
                if not self._items:
                    batch = await asyncio.to_thread(next, self._batches, None)
                    self._ended = batch is None
                    self._items.extend(batch or ())
        return self._items.popleft()
