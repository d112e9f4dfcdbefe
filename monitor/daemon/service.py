"""The daemon's life: its start, its signals, what it does meanwhile, and its end.

All state is in the database, so that a daemon behaves like cron: a tick is one run, and several daemons on one database
share the slots. A database that is down delays the daemon and never ends it; another configuration comes by SIGHUP.
"""

import asyncio
import itertools
import os
import signal
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial

import structlog
from sqlalchemy import Engine

from monitor.app import App
from monitor.config import Config
from monitor.daemon.database import DatabaseMonitor
from monitor.daemon.periodic import PeriodicTask, prune
from monitor.daemon.reload import ConfigReloader, LoadedConfig, due_times_of, log_reloaded, target_changes
from monitor.daemon.scheduler import Scheduler
from monitor.daemon.systemd import SystemdNotifier, record_heartbeat, run_watchdog
from monitor.daemon.target_schedule import TargetSchedule
from monitor.daemon.tasks import Clock, RunningTasks, run_forever
from monitor.database.engine import reading
from monitor.runs import store as run_store
from monitor.runs.progress import NoProgress
from monitor.runs.report import RunReport
from monitor.runs.run import LEASE_TTL, Run
from monitor.web.endpoints import Endpoints
from monitor.web.state import DaemonState, StateTracker

DRAIN_S = 8.0
"""Leaves time to cancel and release within the ten seconds that supervisors grant."""

PRUNE_OFFSET = timedelta(hours=3, minutes=17)
"""After midnight (UTC), and not at a full hour, when everything else is done; of many daemons the first does it."""
DELIVERY_INTERVAL = timedelta(seconds=10)
"""Messages wait for others like them for `group_wait`: looking more often keeps it from being much longer."""
WORKER_THREADS = 16
"""For our own database; every use of it is short."""
_START_EXTENSION_S = 60.0
"""While it waits for its database at the start, a supervisor is asked for so many more seconds each time."""


class Daemon:
    """Runs the targets of a configuration on their schedules.

    Args:
        config: what to run, until another comes into force.
        on_stop: told about the first signal that ends the daemon.
        read_config: reads the configuration anew, for SIGHUP; it raises `ConfigError` for one that can't come into force,
            and what is secret in it is known to the log when it returns.
        drain_s: after a signal, work under way may finish and store for so long, in seconds (> 0).
        lease: how long the lease of a run lives without being renewed.
        clock: what it goes by.
        notifier: who is told how it is; None takes what the environment names.
    """

    def __init__(
        self,
        config: Config,
        *,
        on_stop: Callable[[signal.Signals], None],
        read_config: Callable[[], Config] | None = None,
        drain_s: float = DRAIN_S,
        lease: timedelta = LEASE_TTL,
        clock: Clock | None = None,
        notifier: SystemdNotifier | None = None,
    ) -> None:
        self.state = DaemonState(config=config)
        self._on_stop, self._drain_s, self._lease = on_stop, drain_s, lease
        self._reloader = ConfigReloader(self.state, read_config)
        self._clock = clock or Clock()
        self._notifier = notifier or SystemdNotifier.from_environ(os.environ)
        self._scheduler = Scheduler(self._clock)
        self._database = DatabaseMonitor(
            self.state, self._clock, on_wait=self._report_waiting, on_recovery=self._scheduler.check_now
        )
        self._tracker = StateTracker(self.state, utcnow=self._clock.utcnow)
        self._tasks = RunningTasks()
        self._delivery = PeriodicTask("deliver", every=DELIVERY_INTERVAL, action=self._deliver, at_start=True)
        self._interrupt, self._force, self._sighup = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._endpoints = Endpoints(self._tracker)
        self._signal: signal.Signals | None = None
        self._current_app: App | None = None
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._retire_numbers = itertools.count(1)
        self._ready = False

    # what is done beside the runs: a line each
    def _periodic_tasks(self) -> tuple[PeriodicTask, ...]:
        pruning = PeriodicTask("prune", every=timedelta(days=1), offset=PRUNE_OFFSET, action=self._prune, at_start=True)
        return (self._delivery, pruning)

    async def serve(self) -> int:
        """Serves until SIGTERM or SIGINT; gives back the exit code, 128 plus the signal's number.

        Raises:
            SchemaError: the database's schema is newer than this program, at the start.
        """
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(max_workers=WORKER_THREADS, thread_name_prefix="store"))
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._on_signal, signum)
        loop.add_signal_handler(signal.SIGHUP, self._sighup.set)
        try:
            self._start_loop("heartbeat", lambda: record_heartbeat(self.state))
            self._start_loop("watchdog", lambda: run_watchdog(self._notifier))
            self._start_loop("reload", self._reload_on_sighup)
            self._endpoints.open()
            if await self._open_database():
                self._schedule()
                await self._interrupt.wait()
        finally:
            await self._shut_down()
        exit_code = 128 + (self._signal or signal.SIGTERM)
        # whoever looks later can tell it from one that was killed
        structlog.get_logger().info("daemon_ended", exit_code=exit_code)
        return exit_code

    def _on_signal(self, signum: signal.Signals) -> None:
        if self._interrupt.is_set():
            structlog.get_logger().warning("forced_shutdown", signal=signum.name, running_tasks=len(self._tasks))
            self._force.set()
            return
        self._signal, self.state.stopping = signum, True
        structlog.get_logger().info("daemon_stopping", signal=signum.name, running_tasks=len(self._tasks))
        self._notifier.stopping("ending: finishing what is under way")
        self._on_stop(signum)
        self._interrupt.set()

    async def _open_database(self) -> bool:
        """Whether the database could be opened before a signal came."""
        opening, stopping = (asyncio.ensure_future(each) for each in (self._database.open(), self._interrupt.wait()))
        await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not opening.done():
            opening.cancel()
            return False
        opening.result()
        return not self._interrupt.is_set()

    def _report_waiting(self, reason: str) -> None:
        self._notifier.starting(f"waiting: {reason}", extend_s=_START_EXTENSION_S)

    def _schedule(self) -> None:
        self._start_loop("database", self._database.watch)
        self._start_loop("scheduler", self._scheduler.check_periodically)
        for task in self._periodic_tasks():
            run_due = partial(task.run_due, self._tasks, self._database, self._clock)
            self._scheduler.add(task.name, task.next_due, run_due)
        for name in due_times_of(self.state.config):
            self._add_target(name)
        self._scheduler.start()
        structlog.get_logger().info("daemon_started", targets=self._target_names())
        self._ready = True
        self._notifier.ready(self._status())

    def _start_loop(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        self._loops[name] = task = asyncio.ensure_future(run_forever(name, loop))
        task.add_done_callback(lambda _: self._loops.pop(name))

    def _add_target(self, name: str) -> None:
        schedule = TargetSchedule(
            name,
            due_times_of(self.state.config)[name],
            run=lambda run_key: self._run(name, run_key),
            last_run_key=lambda: asyncio.to_thread(self._last_run_key, name),
            database=self._database,
            clock=self._clock,
        )
        self._scheduler.add(f"run {name}", schedule.next_due, partial(schedule.run_due, self._tasks))

    async def _prune(self) -> None:
        await prune(self._app(), stop=self._interrupt.is_set)

    async def _deliver(self) -> None:
        await self._app().sender().deliver()

    def _last_run_key(self, name: str) -> str | None:
        with reading(self._app().engine) as conn:
            return run_store.last_run_key(conn, target=name)

    def _app(self) -> App:
        """The live parts of the configuration in force, on the database in use; the same ones as long as both are."""
        engine = self.state.engine
        if engine is None:
            raise RuntimeError("nothing is scheduled before the database is open")
        if (
            self._current_app is None
            or self._current_app.config is not self.state.config
            or self._current_app.engine is not engine
        ):
            self._current_app = App(config=self.state.config, engine=engine, clock=self._clock.utcnow)
        return self._current_app

    async def _run(self, name: str, run_key: str) -> None:
        app = self._app()
        target = next((each for each in app.config.targets if each.name == name), None)
        if target is None or self._interrupt.is_set():
            return
        job = replace(app.job(target, scheduled=True), lease_ttl=self._lease)
        with self._tracker.count_failure(name):
            report = await Run(job, interrupt=self._interrupt, progress=NoProgress(), run_key=run_key)()
        self._run_finished(report, app)

    def _run_finished(self, report: RunReport, app: App) -> None:
        self._tracker.observe(report, throttle_keys=app.throttles.key_by_target)
        self._delivery.request()
        self._scheduler.check_soon(self._delivery.name)
        self._notifier.status(f"{self._status()}; last run: {report.target}, {report.status.value}")

    async def _reload_on_sighup(self) -> None:
        while True:
            await self._sighup.wait()
            self._sighup.clear()
            self._notifier.reloading()
            loaded = await self._reloader.read()
            if loaded is not None:
                self._apply_config(loaded)
            if self._ready:
                self._notifier.ready(self._status())

    def _apply_config(self, loaded: LoadedConfig) -> None:
        """Targets that came or whose times changed begin anew, those that went end; runs under way are left to end."""
        changes = target_changes(self.state.config, loaded.config)
        self.state.config, self.state.reload_error = loaded.config, None
        if loaded.engine is not None:
            if self.state.engine is not None:
                self._start_loop(
                    f"retire {next(self._retire_numbers)}", partial(self._dispose_when_unused, self.state.engine)
                )
            self._database.use(loaded.engine)
        if self._ready:
            for name in (*changes.removed, *changes.rescheduled):
                self._scheduler.remove(f"run {name}")
            for name in (*changes.added, *changes.rescheduled):
                self._add_target(name)
        log_reloaded(changes, loaded)

    async def _dispose_when_unused(self, engine: Engine) -> None:
        """Ends the connections of a database that is used no more, when what began on it has ended."""
        if running := self._tasks.running():
            await asyncio.wait(running)
        await asyncio.to_thread(engine.dispose)

    def _target_names(self) -> list[str]:
        return [target.name for target in self.state.config.targets]

    def _status(self) -> str:
        if self.state.store_error is not None:
            return f"waiting: {self.state.store_error}"
        refused = "; the last configuration was refused" if self.state.reload_error else ""
        return f"targets: {len(self._target_names())}{refused}"

    async def _shut_down(self) -> None:
        """Nothing new begins; what is under way ends, or is cancelled, and gives back what it holds."""
        for loop in self._loops.values():
            loop.cancel()
        await self._scheduler.stop()
        await self._tasks.drain(timeout_s=self._drain_s, force=self._force)
        await asyncio.gather(*self._loops.values(), return_exceptions=True)
        await self._endpoints.close()
        if self.state.engine is not None:
            await asyncio.to_thread(self.state.engine.dispose)
