"""Signs of life: how long ago the event loop turned, and a watchdog that is fed only while work can be done."""

import asyncio
from time import monotonic

import structlog

from monitor.daemon.standing import Standing
from monitor.daemon.supervisor import Supervisor

__all__ = ["STUCK_S", "feed", "pulse"]

PULSE_S = 1.0
STUCK_S = 600.0
"""Threads for our own database wait for one that is away, up to half a minute each, and others queue for them: that
passes. Whoever gets no thread for so long never gets one."""


async def pulse(standing: Standing) -> None:
    """Notes that the loop turns, without end."""
    while True:
        standing.beat_s = monotonic()
        await asyncio.sleep(PULSE_S)


async def feed(supervisor: Supervisor, *, stuck_s: float = STUCK_S) -> None:
    """Gives signs of life while the loop turns and threads for our own database come free, without end.

    Args:
        supervisor: who is told.
        stuck_s: a thread that could not be had for so many seconds (> 0) will not be had at all.
    """
    if supervisor.watchdog_s is None:
        return
    half_s = supervisor.watchdog_s / 2
    loop = asyncio.get_running_loop()
    asked_s, probe = monotonic(), loop.run_in_executor(None, monotonic)
    while True:
        next_s = monotonic() + half_s
        if (waits_s := monotonic() - asked_s) < stuck_s:
            supervisor.alive()
        else:
            structlog.get_logger().error("work_stands_still", for_s=round(waits_s, 1))
        await asyncio.wait((probe,), timeout=half_s)
        if probe.done():
            probe.result()
            await asyncio.sleep(max(0.0, next_s - monotonic()))
            asked_s, probe = monotonic(), loop.run_in_executor(None, monotonic)
