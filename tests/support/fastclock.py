"""A clock on which hours pass in no time: whenever everybody sleeps, it is set to the moment when the first wakes."""

import asyncio
import itertools
import os
import signal
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from monitor.daemon import Daemon
from monitor.daemon.tasks import Clock

SLEEPERS = 3
"""In each daemon: the scheduler, the look at everything, and the look at the database."""


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

    async def all_asleep(self, daemons):
        """Waits until all of these daemons sleep, and none has anything left to do."""
        calm = 0
        async with asyncio.timeout(60):
            while calm < 10:
                asleep = sum(1 for *_, future in self._sleepers if not future.done())
                calm = calm + 1 if asleep == SLEEPERS * len(daemons) and all(map(_idle, daemons)) else 0
                await asyncio.sleep(0 if calm else 0.001)

    async def until(self, moment, *daemons):
        """Lets time pass up to a moment, with everything that is done by then."""
        while True:
            await self.all_asleep(daemons)
            first = min(self._sleepers)
            if first[0] > moment:
                break
            self.now = max(self.now, first[0])
            first[-1].set_result(None)
            await asyncio.sleep(0)
        self.now = max(self.now, moment)

    @asynccontextmanager
    async def of_scheduler(self):
        """APScheduler goes by this clock."""
        fast = self

        class Datetime(datetime):
            @classmethod
            def now(cls, tz=None):
                return fast.now.astimezone(tz or UTC)

        async def wake(scheduler, seconds):
            await fast.sleep(seconds)
            scheduler._timeout = None
            scheduler.wakeup()

        def start_timer(scheduler, seconds):
            scheduler._stop_timer()
            if seconds is not None:
                scheduler._timeout = asyncio.ensure_future(wake(scheduler, seconds))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("apscheduler.schedulers.base.datetime", Datetime)
            patch.setattr(AsyncIOScheduler, "_start_timer", start_timer)
            yield


def _idle(daemon):
    return daemon._timetable.idle and not len(daemon._work)


class Driven:
    """A daemon in this process, on a fast clock."""

    def __init__(self, daemon, fast):
        self.daemon, self.fast = daemon, fast

    async def until(self, moment):
        await self.fast.until(moment, self.daemon)

    async def pass_time(self, **span):
        await self.until(self.fast.now + timedelta(**span))


@asynccontextmanager
async def driven(config, fast, **options):
    """A daemon that serves until the end of the block, and then ends by SIGTERM."""
    daemon = Daemon(config, on_stop=lambda _: None, clock=fast.clock(), **options)
    async with fast.of_scheduler():
        serving = asyncio.create_task(daemon.serve())
        try:
            yield Driven(daemon, fast)
        finally:
            if not serving.done():
                os.kill(os.getpid(), signal.SIGTERM)
            assert await serving == 143
