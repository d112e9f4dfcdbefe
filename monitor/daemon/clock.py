"""The clock that the daemon goes by: the time of day, and waiting that notices when the time of day jumps."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime

from monitor.wiring import utcnow

__all__ = ["LOOK_S", "Clock"]

LOOK_S = 10.0
"""Nobody sleeps longer without a look at the time of day: after a suspend, or when a clock is set, it is another."""


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

    def until_s(self, moment: datetime | None) -> float:
        """Seconds until a moment, at the most `LOOK_S`; None: so many."""
        left_s = LOOK_S if moment is None else (moment - self.utcnow()).total_seconds()
        return max(0.0, min(left_s, LOOK_S))

    async def nap(self, until: datetime | None) -> None:
        """Sleeps until a moment, or for `LOOK_S` if that is sooner; None: for as long as that."""
        await self.sleep(self.until_s(until))
