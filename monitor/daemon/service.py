"""The daemon's life cycle: start, signals, scheduled work, shutdown.

All state is in the database, so the daemon behaves like cron, and several daemons on one database share the run keys. A
database that is down delays the daemon but never ends it. SIGHUP reloads the configuration.
"""

import asyncio
import itertools
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Engine

from monitor.app import App
from monitor.config import Config, TargetConfig
from monitor.daemon.canaries import canary_changes, canary_times_of, no_run_key, run_canary
from monitor.daemon.database import DatabaseMonitor
from monitor.daemon.periodic import PeriodicTask, enqueue_report, prune
from monitor.daemon.reload import ConfigReloader, LoadedConfig, due_times_of, target_changes
from monitor.daemon.scheduler import Scheduler
from monitor.daemon.systemd import SystemdNotifier, record_heartbeat, run_watchdog
from monitor.daemon.target_schedule import TargetSchedule
from monitor.daemon.tasks import Clock, RunningTasks, run_forever
from monitor.database.engine import reading
from monitor.model.schedule import DueTimes
from monitor.runs import store as run_store
from monitor.runs.parallel import ParallelRuns
from monitor.runs.progress import NoProgress
from monitor.runs.run import LEASE_TTL, Run
from monitor.web.endpoints import Endpoints
from monitor.web.readiness import LogLoss
from monitor.web.state import DaemonState, StateTracker

if TYPE_CHECKING:
    from monitor.daemon.fleet import FleetQueue

DRAIN_S = 8.0
"""Leaves time to cancel tasks and release leases within the ten seconds before a supervisor's SIGKILL."""

PRUNE_OFFSET = timedelta(hours=3, minutes=17)
"""After midnight (UTC), off the full hour; of several daemons, only the first prunes."""
DELIVERY_INTERVAL = timedelta(seconds=10)
"""Short, so that `group_wait` is not exceeded by much."""
WORKER_THREADS = 16
"""For our own database; each use is short."""
_REPORT = "report"
_START_EXTENSION_S = 60.0
"""Requested from systemd at each wait for the database during the start."""


class Daemon:
    """Runs the targets of a configuration on their schedules.

    `on_stop` gets the first signal. `read_config` reads the configuration again for SIGHUP: it raises `ConfigError` if
    that is invalid, and registers its secrets with the log. After a signal, `drain_s` seconds (> 0) remain to finish.
    `read_log_loss`: what the log could not write.
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
        read_log_loss: Callable[[], LogLoss | None] = lambda: None,
    ) -> None:
        self.state = DaemonState(config=config, read_log_loss=read_log_loss)
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
        self._delivery = PeriodicTask("deliver", due=DueTimes(every=DELIVERY_INTERVAL), action=self._deliver)
        self._interrupt, self._force, self._sighup = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._endpoints = Endpoints(self._tracker)
        self._signal: signal.Signals | None = None
        self._current_app: App | None = None
        self._parallel: tuple[tuple[int | None, bool], ParallelRuns] | None = None
        self._queue: FleetQueue | None = None
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._retire_numbers = itertools.count(1)
        self._ready = False

    async def serve(self) -> int:
        """Serves until SIGTERM or SIGINT; returns 128 plus its number. Raises SchemaError if the schema is newer."""
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
        # a log without this event belongs to a daemon that was killed
        loss = self.state.read_log_loss()
        structlog.get_logger().info(
            "daemon_ended", exit_code=exit_code, **({"log_lines_lost": loss.lines} if loss else {})
        )
        return exit_code

    def _on_signal(self, signum: signal.Signals) -> None:
        if self._interrupt.is_set():
            structlog.get_logger().warning("forced_shutdown", signal=signum.name, running_tasks=len(self._tasks))
            self._force.set()
            return
        self._signal, self.state.stopping = signum, True
        structlog.get_logger().info("daemon_stopping", signal=signum.name, running_tasks=len(self._tasks))
        self._notifier.stopping("stopping: finishing running work")
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
        # before threads ask for it: two at a time would each build one, and the loop would wait for their imports
        self._app()
        self._start_loop("database", self._database.watch)
        self._start_loop("scheduler", self._scheduler.check_periodically)
        pruning = PeriodicTask("prune", due=DueTimes(every=timedelta(days=1), offset=PRUNE_OFFSET), action=self._prune)
        for task in (self._delivery, pruning):
            self._add_task(task)
        self._add_report()
        self._add_targets(due_times_of(self.state.config))
        self._add_canaries(canary_times_of(self.state.config))
        if self.state.config.fleet.workers:
            self._fleet_queue()
        self._scheduler.start()
        structlog.get_logger().info("daemon_started", targets=self._target_names())
        self._ready = True
        self._notifier.ready(self._status())

    def _start_loop(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        self._loops[name] = task = asyncio.ensure_future(run_forever(name, loop))
        task.add_done_callback(lambda _: self._loops.pop(name))

    def _add_task(self, task: PeriodicTask) -> None:
        run_due = partial(task.run_due, self._tasks, self._database, self._clock)
        self._scheduler.add(task.name, task.due.next_due, run_due)

    def _add_report(self) -> None:
        report = self.state.config.report
        if report is not None:
            self._add_task(PeriodicTask(_REPORT, due=report.due_times(), action=self._enqueue_report))

    def _add_targets(self, due_times: Mapping[str, DueTimes]) -> None:
        for name, due in due_times.items():
            schedule = TargetSchedule(
                name,
                due,
                run=partial(self._run, name),
                last_run_key=partial(asyncio.to_thread, self._last_run_key, name),
                database=self._database,
                clock=self._clock,
            )
            self._scheduler.add(schedule.name, schedule.due.next_due, partial(schedule.run_due, self._tasks))

    def _add_canaries(self, due_times: Mapping[str, DueTimes]) -> None:
        for name, due in due_times.items():
            schedule = TargetSchedule(
                name,
                due,
                run=partial(self._run_canary, name),
                last_run_key=no_run_key,
                database=self._database,
                clock=self._clock,
                work="canary",
            )
            self._scheduler.add(schedule.name, schedule.due.next_due, partial(schedule.run_due, self._tasks))

    async def _prune(self) -> None:
        await prune(self._app(), stop=self._interrupt.is_set)

    async def _deliver(self) -> None:
        await self._app().sender().deliver()

    async def _enqueue_report(self) -> None:
        if await enqueue_report(self._app()):
            self._deliver_soon()

    def _deliver_soon(self) -> None:
        self._delivery.request()
        self._scheduler.check_soon(self._delivery.name)

    def _last_run_key(self, name: str) -> str | None:
        with reading(self._app().engine) as conn:
            return run_store.last_run_key(conn, target=name)

    def _app(self) -> App:
        """The objects of the current configuration and database; built again only when one of them changes."""
        engine = self.state.engine
        if engine is None:
            raise RuntimeError("work was scheduled before the database was open")
        app, config = self._current_app, self.state.config
        if app is None or app.config is not config or app.engine is not engine:
            app = self._current_app = App(config=config, engine=engine, clock=self._clock.utcnow)
        return app

    async def _run(self, name: str, run_key: str) -> None:
        app = self._app()
        target = next((each for each in app.config.targets if each.name == name), None)
        if target is None or self._interrupt.is_set():
            return
        if app.config.fleet.workers:
            await self._queue_run(app.config, target, run_key)
            return
        async with self._parallel_runs(app).one():
            if self._interrupt.is_set():
                return
            job = replace(app.job(target, scheduled=True), lease_ttl=self._lease)
            with self._tracker.count_failure(name):
                report = await Run(job, interrupt=self._interrupt, progress=NoProgress(), run_key=run_key)()
        self._tracker.remember_keys(app.throttles.key_by_target)
        self._deliver_soon()
        self._notifier.status(f"{self._status()}; last run: {report.target}, {report.status.value}")

    async def _queue_run(self, config: Config, target: TargetConfig, run_key: str) -> None:
        """Leaves a run to the workers."""
        from monitor.daemon.fleet import limits_key

        name = target.name
        with self._tracker.count_failure(name):
            queued = await self._fleet_queue().defer_plan(config, name, run_key)
        if not queued:
            self._tracker.skip(name)
        structlog.get_logger().info("run_queued" if queued else "run_already_queued", integration=name, run_key=run_key)
        self._tracker.remember_keys({name: await limits_key(target)})

    def _fleet_queue(self) -> "FleetQueue":
        """The queue of workers; from its first use on it is supervised, and so is the outbox, which workers fill."""
        if self._queue is None:
            from monitor.daemon.fleet import DueMessages, FleetQueue, Supervision

            self._queue = queue = FleetQueue(self._database)
            parts = self.state, self._database, self._clock
            supervision, due_messages = Supervision(*parts), DueMessages(*parts)
            self._start_loop("supervision", lambda: supervision.run(queue.of))
            self._start_loop("due messages", lambda: due_messages.watch(self._deliver_soon))
        return self._queue

    def _parallel_runs(self, app: App) -> ParallelRuns:
        """How many runs may be in progress; a reload with another number does not count those in progress."""
        limits = app.config.daemon.parallel_runs, app.engine.dialect.name == "sqlite"
        if self._parallel is None or self._parallel[0] != limits:
            self._parallel = limits, ParallelRuns(limits[0], on_sqlite=limits[1])
        return self._parallel[1]

    async def _run_canary(self, name: str, run_key: str) -> None:
        target = next((each for each in self.state.config.targets if each.name == name), None)
        if target is not None and target.canary is not None and not self._interrupt.is_set():
            await run_canary(self._app(), target, run_key=run_key, interrupt=self._interrupt, lease=self._lease)

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
        """Schedules new and changed targets, and removes others; running runs finish."""
        changes = target_changes(self.state.config, loaded.config)
        canaries = canary_changes(self.state.config, loaded.config)
        report_before = self.state.config.report
        self.state.config, self.state.reload_error = loaded.config, None
        if loaded.engine is not None:
            if self.state.engine is not None:
                name = f"retire {next(self._retire_numbers)}"
                self._start_loop(name, partial(self._dispose_when_unused, self.state.engine))
            self._database.use(loaded.engine)
        if self._ready:
            for name in (*changes.removed, *changes.rescheduled):
                self._scheduler.remove(f"run {name}")
            due_times, canary_times = due_times_of(loaded.config), canary_times_of(loaded.config)
            self._add_targets({name: due_times[name] for name in (*changes.added, *changes.rescheduled)})
            for name in canaries.removed:
                self._scheduler.remove(f"canary {name}")
            self._add_canaries({name: canary_times[name] for name in canaries.added})
            if report_before != loaded.config.report:
                if report_before is not None:
                    self._scheduler.remove(_REPORT)
                self._add_report()
        structlog.get_logger().info(
            "configuration_reloaded",
            **asdict(changes),
            database_changed=loaded.engine is not None,
            ignored=loaded.config.warnings,
        )

    async def _dispose_when_unused(self, engine: Engine) -> None:
        """Closes the connections to a previous database when the tasks that may use it have ended."""
        if running := self._tasks.running():
            await asyncio.wait(running)
        await asyncio.to_thread(engine.dispose)

    def _target_names(self) -> list[str]:
        return [target.name for target in self.state.config.targets]

    def _status(self) -> str:
        if self.state.store_error is not None:
            return f"waiting: {self.state.store_error}"
        refused = "; the last reload was refused" if self.state.reload_error else ""
        return f"targets: {len(self._target_names())}{refused}"

    async def _shut_down(self) -> None:
        """Starts nothing new; drains running tasks, which release their leases, and then closes connections."""
        for loop in self._loops.values():
            loop.cancel()
        await self._scheduler.stop()
        await self._tasks.drain(timeout_s=self._drain_s, force=self._force)
        await asyncio.gather(*self._loops.values(), return_exceptions=True)
        await self._endpoints.close()
        if self._queue is not None:
            await self._queue.close()
        if self.state.engine is not None:
            await asyncio.to_thread(self.state.engine.dispose)
