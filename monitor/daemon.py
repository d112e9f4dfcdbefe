"""The daemon: runs every target when it is due and delivers what is in the outbox, in one process, until a signal.

All state is in the database, so that a daemon behaves like cron: a tick is one run. Errors of a tick are logged and the
next tick comes; a database that is down delays the daemon and never ends it.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from monitor.check import NoProgress
from monitor.config import Config, Target
from monitor.errors import LeaseHeldError, MonitorError, SchemaError, StoreError
from monitor.run import Run
from monitor.timetable import scheduler, trigger
from monitor.wiring import App, open_store

__all__ = ["DRAIN_S", "Daemon"]

DRAIN_S = 8.0
"""Leaves time to cancel and release within the ten seconds that supervisors grant."""

DELIVER_EVERY = timedelta(seconds=10)
"""Messages wait for others like them for `group_wait`: looking more often keeps it from being much longer."""
RETRY_STORE_S = 5.0


class Daemon:
    """Runs the targets of a configuration on their schedules.

    Args:
        config: what to run; it stays as it is until the daemon ends.
        on_stop: told about each signal that ends the daemon.
        drain_s: after a signal, work under way may finish and store for so long, in seconds (> 0).
    """

    def __init__(self, config: Config, *, on_stop: Callable[[signal.Signals], None], drain_s: float = DRAIN_S) -> None:
        self._config, self._on_stop, self._drain_s = config, on_stop, drain_s
        self._interrupt = asyncio.Event()
        self._signal: signal.Signals | None = None
        self._met: set[str] = set()
        """Targets that had a tick."""
        self._busy: set[asyncio.Task[None]] = set()

    async def serve(self) -> int:
        """Serves until SIGTERM or SIGINT; gives back the exit code, 128 plus the signal's number.

        Raises:
            SchemaError: the database's schema is not this program's.
        """
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, self._stop, sign)
        app = await self._open()
        if app is not None:
            await self._schedule(app)
            await asyncio.to_thread(app.engine.dispose)
        return 128 + (self._signal or signal.SIGTERM)

    def _stop(self, sign: signal.Signals) -> None:
        self._signal = sign
        structlog.get_logger().info("daemon_stopping", signal=sign.name, work_under_way=len(self._busy))
        self._on_stop(sign)
        self._interrupt.set()

    async def _open(self) -> App | None:
        """Opens the database, however long that takes; None when a signal came first."""
        while not self._interrupt.is_set():
            try:
                engine = await asyncio.to_thread(open_store, self._config)
                return App(config=self._config, engine=engine)
            except SchemaError:
                raise
            except StoreError as error:
                structlog.get_logger().error("database_not_ready", reason=str(error), retry_in_s=RETRY_STORE_S)
                await self._pause(RETRY_STORE_S)
        return None

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._interrupt.wait()
        except TimeoutError:
            return

    async def _schedule(self, app: App) -> None:
        jobs = scheduler()
        for target in self._config.targets:
            self._add(jobs, app, target)
        every = trigger(every=DELIVER_EVERY, cron=None, timezone="UTC")
        jobs.add_job(self._tracked, every, args=[lambda: self._deliver(app)], id="deliver")
        jobs.start()
        structlog.get_logger().info("daemon_started", targets=[target.name for target in self._config.targets])
        await self._interrupt.wait()
        # shutdown(wait=True) would cancel coroutines: nothing new starts, then ours end by themselves.
        jobs.pause()
        await self._drain()
        jobs.shutdown(wait=False)

    def _add(self, jobs: AsyncIOScheduler, app: App, target: Target) -> None:
        schedule = self._config.schedule_of(target)
        when = trigger(every=schedule.every, cron=schedule.cron, timezone=schedule.timezone)
        first = {} if schedule.cron else {"next_run_time": datetime.now(UTC)}
        jobs.add_job(self._tracked, when, args=[lambda: self._tick(app, target)], id=f"run {target.name}", **first)

    async def _tracked(self, work: Callable[[], Awaitable[None]]) -> None:
        """Does one piece of work as a task of our own, which the scheduler can't cancel."""
        task = asyncio.ensure_future(_logged(work))
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)
        # neither cancels it nor raises what ended it
        await asyncio.wait((task,))

    async def _tick(self, app: App, target: Target) -> None:
        try:
            await Run(app.job(target, scheduled=True), interrupt=self._interrupt, progress=NoProgress())()
        except LeaseHeldError as error:
            structlog.get_logger().info("run_skipped", integration=target.name, reason=str(error))
            if target.name not in self._met:
                # At the start it may be a dead process's lease: that is over soon, the next tick may not come for long.
                self._met.add(target.name)
                await self._pause(error.ends_in.total_seconds() + 1)
                if not self._interrupt.is_set():
                    await self._tick(app, target)
                return
        self._met.add(target.name)
        await self._deliver(app)

    async def _deliver(self, app: App) -> None:
        if not self._interrupt.is_set():
            await app.sender().deliver()

    async def _drain(self) -> None:
        """Waits for work under way; what does not end in time is cancelled, and its lease and claims expire."""
        if self._busy:
            _, late = await asyncio.wait(self._busy, timeout=self._drain_s)
            for task in late:
                structlog.get_logger().warning("work_cancelled", after_s=self._drain_s)
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


async def _logged(work: Callable[[], Awaitable[None]]) -> None:
    """A tick that fails is logged; the next one comes all the same."""
    try:
        await work()
    except MonitorError as error:
        structlog.get_logger().error("tick_failed", reason=str(error), error_type=type(error).__name__)
    except Exception:  # noqa: BLE001  # a defect in one tick must not end the daemon; it is logged with its traceback
        structlog.get_logger().exception("tick_crashed")
