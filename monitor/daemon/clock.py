"""The clock that the daemon goes by: the time of day, and waiting."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime

from monitor.wiring import utcnow

__all__ = ["Clock"]


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
