"""How many runs of one process are in progress at a time. It decides nothing about a run.

Runs side by side share one interpreter, and on SQLite one write lock: more of them than keep these busy only wait, hold
memory, and let leases run out.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PATIENCE_S = 2.0
"""A run that lasts longer waits for its API, and no longer counts: targets that hang do not delay the others."""
_PER_PROCESSOR, _LEAST, _MOST_BY_DEFAULT = 8, 16, 64


def default_parallel(*, on_sqlite: bool, processors: int | None = None) -> int:
    """Runs at a time: 8 per processor, from 16 to 64; 16 on SQLite, where one run writes at a time."""
    if on_sqlite:
        return _LEAST
    return min(_MOST_BY_DEFAULT, max(_LEAST, _PER_PROCESSOR * (processors or os.cpu_count() or 1)))


class ParallelRuns:
    """The runs that are in progress, begun first come, first served.

    `parallel` (≥ 1) runs at a time, however long they last; None: the default, in which only the first `patience_s`
    seconds of a run count.
    """

    def __init__(self, parallel: int | None = None, *, on_sqlite: bool, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s if parallel is None else None
        self._free = asyncio.Semaphore(parallel or default_parallel(on_sqlite=on_sqlite))

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Waits until one more run may begin. It counts until its end, or until its first seconds are over."""
        await self._free.acquire()
        held = True

        def give_back() -> None:
            nonlocal held
            if held:
                held = False
                self._free.release()

        timer = None
        if self._patience_s is not None:
            timer = asyncio.get_running_loop().call_later(self._patience_s, give_back)
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            give_back()
