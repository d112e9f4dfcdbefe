"""A clock on which hours pass in no time: whenever everybody sleeps, it is set to the moment when the first wakes."""

import asyncio
import itertools
import os
import signal
from contextlib import asynccontextmanager
from datetime import timedelta

from monitor.daemon import Daemon
from monitor.daemon.clock import Clock

BESIDE = 3
"""Loops that sleep beside those of the targets: delivery, the daily pruning, and the look at the database."""


class FastClock:
    """The time of day, and sleep that lasts until the test lets time pass."""

    def __init__(self, now):
        self.now, self._sleepers, self._order = now, [], itertools.count()

    def __call__(self):
        return self.now

    def clock(self):
        return Clock(utcnow=self, sleep=self.sleep)

    def jump(self, span):
        """The time of day is suddenly another, as after a suspend: whoever sleeps sleeps as long as before."""
        self.now += span
        self._sleepers = [[moment + span, *rest] for moment, *rest in self._sleepers]

    async def sleep(self, seconds):
        woken = asyncio.get_running_loop().create_future()
        self._sleepers.append([self.now + timedelta(seconds=seconds), next(self._order), woken])
        try:
            await woken
        finally:
            self._sleepers = [each for each in self._sleepers if each[-1] is not woken]

    async def all_asleep(self, count):
        """Waits until so many sleep, and nobody has anything left to do."""
        calm = 0
        async with asyncio.timeout(60):
            while calm < 10:
                asleep = sum(1 for *_, future in self._sleepers if not future.done())
                calm = calm + 1 if asleep == count else 0
                await asyncio.sleep(0 if calm else 0.001)

    async def until(self, moment, *, loops):
        """Lets time pass up to a moment, with everything that is done by then."""
        while True:
            await self.all_asleep(loops)
            first = min(self._sleepers)
            if first[0] > moment:
                break
            self.now = max(self.now, first[0])
            first[-1].set_result(None)
            await asyncio.sleep(0)
        self.now = max(self.now, moment)


class Driven:
    """A daemon in this process, on a fast clock."""

    def __init__(self, daemon, fast):
        self.daemon, self.fast = daemon, fast

    async def until(self, moment):
        loops = len(self.daemon.standing.config.targets) + BESIDE
        await self.fast.until(moment, loops=loops)

    async def pass_time(self, **span):
        await self.until(self.fast.now + timedelta(**span))


@asynccontextmanager
async def driven(config, fast, **options):
    """A daemon that serves until the end of the block, and then ends by SIGTERM."""
    daemon = Daemon(config, on_stop=lambda _: None, clock=fast.clock(), **options)
    serving = asyncio.create_task(daemon.serve())
    try:
        yield Driven(daemon, fast)
    finally:
        if not serving.done():
            os.kill(os.getpid(), signal.SIGTERM)
        assert await serving == 143
