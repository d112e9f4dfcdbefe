"""Signs of life: how long ago the event loop turned, and a watchdog that is fed only while work can be done."""

import asyncio
from time import monotonic

import structlog

from monitor.daemon.standing import Standing
from monitor.daemon.supervisor import Supervisor

__all__ = ["feed", "pulse"]

PULSE_S = 1.0


async def pulse(standing: Standing) -> None:
    """Notes that the loop turns, without end."""
    while True:
        standing.beat_s = monotonic()
        await asyncio.sleep(PULSE_S)


async def feed(supervisor: Supervisor) -> None:
    """Gives signs of life while the loop turns and a thread for our own database can be had, without end."""
    if supervisor.watchdog_s is None:
        return
    half_s = supervisor.watchdog_s / 2
    while True:
        until_s = monotonic() + half_s
        try:
            async with asyncio.timeout(half_s):
                await asyncio.to_thread(monotonic)
        except TimeoutError:
            structlog.get_logger().error("work_stands_still", for_s=half_s)
            continue
        supervisor.alive()
        await asyncio.sleep(max(0.0, until_s - monotonic()))
