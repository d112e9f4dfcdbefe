"""The daemon's work under way: tasks that outlive the loops that began them, and what becomes of them at the end."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from datetime import datetime

import structlog

from monitor.app import utcnow


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The time, and how to let it pass."""

    utcnow: Callable[[], datetime] = utcnow
    sleep: Callable[[float], Coroutine[None, None, None]] = asyncio.sleep

    async def sleep_unless(self, event: asyncio.Event, seconds: float) -> None:
        """Sleeps for so long, or until the event is set."""
        both = asyncio.ensure_future(self.sleep(seconds)), asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in both:
                each.cancel()


_AGAIN_S = 5.0


class Work:
    """Pieces of work under way, by name: that of one name is never done twice at a time."""

    def __init__(self) -> None:
        self._busy: dict[str, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._busy)

    def under_way(self) -> Collection[asyncio.Task[None]]:
        """Those of this moment."""
        return tuple(self._busy.values())

    async def do(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Does a piece of work, after the one of its name that is still under way. Whoever waits may be cancelled.

        What it raises is logged, and ends nothing but it.
        """
        while (before := self._busy.get(name)) is not None:
            await asyncio.wait((before,))
        task = asyncio.ensure_future(_logged(name, work))
        self._busy[name] = task
        task.add_done_callback(lambda _: self._busy.pop(name))
        # neither cancels it nor raises what ended it
        await asyncio.wait((task,))

    async def drain(self, *, within_s: float, hurry: asyncio.Event) -> None:
        """Waits for work under way; what does not end in time, or when somebody hurries, is cancelled.

        Args:
            within_s: seconds (> 0).
            hurry: set by a second signal.
        """
        hurrying = asyncio.ensure_future(hurry.wait())
        everything = asyncio.gather(*self._busy.values(), return_exceptions=True)
        await asyncio.wait((everything, hurrying), timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        late = self.under_way()
        for task in late:
            task.cancel()
        if late:
            structlog.get_logger().warning("work_cancelled", pieces=sorted(self._busy))
        await asyncio.gather(everything, hurrying, return_exceptions=True)


async def endless(name: str, loop: Callable[[], Awaitable[None]]) -> None:
    """Keeps a loop of the daemon's going: a defect in it is logged, and it begins anew."""
    while True:
        try:
            await loop()
        except Exception:  # noqa: BLE001  # one target's schedule must not stand still unseen; logged with its traceback
            structlog.get_logger().exception("loop_crashed", loop=name)
            await asyncio.sleep(_AGAIN_S)
        else:
            return


async def _logged(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Work that crashes is logged; the next comes all the same."""
    try:
        await work()
    except Exception:  # noqa: BLE001  # a defect in one piece must not end the daemon; it is logged with its traceback
        structlog.get_logger().exception("work_crashed", work=name)
