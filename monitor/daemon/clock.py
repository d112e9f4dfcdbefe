"""The clock that the daemon goes by: the time of day, and waiting that notices when the time of day jumps."""

import asyncio
from collections.abc import Awaitable, Callable
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
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    async def nap(self, until: datetime | None) -> None:
        """Sleeps until a moment, or for `LOOK_S` if that is sooner; None: for as long as that."""
        left_s = LOOK_S if until is None else (until - self.utcnow()).total_seconds()
        await self.sleep(max(0.0, min(left_s, LOOK_S)))
