"""Hands due items out to many workers, one by one, from batches that a thread reads."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from monitor.health.transition import TrackedItem

__all__ = ["Source"]


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
