"""A clock for tests of daemons: when all tasks sleep, it jumps to the time at which the first one wakes."""

import asyncio
import itertools
import os
import signal
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, tzinfo

from monitor.daemon import Daemon
from monitor.daemon.scheduler import JOB_DEFAULTS
from monitor.daemon.tasks import Clock

SLEEPERS = 3
"""Per daemon: APScheduler's timer, the periodic check of all jobs, and the check of the database."""
FLEET_SLEEPERS = 2
"""With workers, also: the supervision, and the look for due messages."""


class FastClock:
    """The time of day, and a sleep that ends when the test lets that time pass."""

    def __init__(self, now):
        self.now, self._sleepers, self._order = now, [], itertools.count()

    def __call__(self):
        return self.now

    def clock(self):
        return Clock(utcnow=self, sleep=self.sleep)

    def jump(self, span):
        """Changes the time of day, as a suspend does: sleeps keep their remaining time."""
        self.now += span
        self._sleepers = [[at + span, *rest] for at, *rest in self._sleepers]

    async def sleep(self, seconds):
        woken = asyncio.get_running_loop().create_future()
        self._sleepers.append([self.now + timedelta(seconds=seconds), next(self._order), woken])
        try:
            await woken
        finally:
            self._sleepers = [each for each in self._sleepers if each[-1] is not woken]

    async def all_asleep(self, daemons):
        """Waits until all of these daemons sleep and have nothing left to do."""
        calm = 0
        async with asyncio.timeout(60):
            while calm < 10:
                asleep = sum(1 for *_, future in self._sleepers if not future.done())
                calm = calm + 1 if asleep == sum(map(_sleepers, daemons)) and all(map(_idle, daemons)) else 0
                await asyncio.sleep(0 if calm else 0.001)

    async def until(self, at, *daemons):
        """Lets time pass until a moment, with all the work that is due by then."""
        while True:
            await self.all_asleep(daemons)
            first = min(self._sleepers)
            if first[0] > at:
                break
            self.now = max(self.now, first[0])
            first[-1].set_result(None)
            await asyncio.sleep(0)
        self.now = max(self.now, at)

    def daemon(self, config, **options):
        """A daemon on this clock, its scheduler included."""
        daemon = Daemon(config, on_stop=lambda _: None, clock=self.clock(), **options)
        loop = FastLoop(asyncio.get_running_loop(), self)
        daemon._scheduler._jobs.configure(timezone=FastZone(self), event_loop=loop, job_defaults=JOB_DEFAULTS)
        return daemon


class FastLoop:
    """The event loop that APScheduler gets: its timers wait on the fast clock."""

    def __init__(self, loop, fast):
        self._loop, self._fast = loop, fast

    def __getattr__(self, name):
        return getattr(self._loop, name)

    def call_later(self, seconds, callback):
        async def wait():
            await self._fast.sleep(seconds)
            callback()

        return self._loop.create_task(wait())


class FastZone(tzinfo):
    """The time zone that APScheduler gets: UTC, and `datetime.now(zone)` is the time of the fast clock."""

    def __init__(self, fast):
        self._fast = fast

    def fromutc(self, at):
        # also called by `astimezone`, for times on the fast clock, which are months away from the present
        at = at.replace(tzinfo=UTC)
        return self._fast.now if abs(at - datetime.now(UTC)) < timedelta(minutes=1) else at

    def utcoffset(self, _):
        return timedelta(0)

    def dst(self, _):
        return timedelta(0)

    def tzname(self, _):
        return "UTC"


def _sleepers(daemon):
    return SLEEPERS + FLEET_SLEEPERS * daemon.state.config.fleet.workers


def _idle(daemon):
    return daemon._scheduler.idle and not len(daemon._tasks)


class Driven:
    """A daemon in this process, on a fast clock."""

    def __init__(self, daemon, fast):
        self.daemon, self.fast = daemon, fast

    async def until(self, at):
        await self.fast.until(at, self.daemon)

    async def pass_time(self, **span):
        await self.until(self.fast.now + timedelta(**span))


@asynccontextmanager
async def driven(config, fast, **options):
    """A daemon that serves until the end of the block and then gets SIGTERM."""
    daemon = fast.daemon(config, **options)
    serving = asyncio.create_task(daemon.serve())
    try:
        yield Driven(daemon, fast)
    finally:
        if not serving.done():
            os.kill(os.getpid(), signal.SIGTERM)
        assert await serving == 143
