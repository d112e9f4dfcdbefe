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
from monitor.daemon.database import Database
from monitor.daemon.periodic import Beat, prune
from monitor.daemon.reload import Found, Reloader, difference, due_times_of, tell
from monitor.daemon.scheduler import Timetable
from monitor.daemon.systemd import Supervisor, feed, pulse
from monitor.daemon.target_schedule import Rounds
from monitor.daemon.tasks import Clock, Work, endless
from monitor.database.engine import reading
from monitor.runs import store as runs
from monitor.runs.progress import NoProgress
from monitor.runs.report import RunReport
from monitor.runs.run import LEASE_TTL, Run
from monitor.web.endpoints import Endpoints
from monitor.web.state import Standing, Vitals

DRAIN_S = 8.0
"""Leaves time to cancel and release within the ten seconds that supervisors grant."""

PRUNE_AT = timedelta(hours=3, minutes=17)
"""After midnight (UTC), and not at a full hour, when everything else is done; of many daemons the first does it."""
DELIVER_EVERY = timedelta(seconds=10)
"""Messages wait for others like them for `group_wait`: looking more often keeps it from being much longer."""
THREADS = 16
"""For our own database; every use of it is short."""
_MORE_S = 60.0
"""While it waits for its database at the start, a supervisor is asked for so many more seconds each time."""


class Daemon:
    """Runs the targets of a configuration on their schedules.

    Args:
        config: what to run, until another comes into force.
        on_stop: told about the first signal that ends the daemon.
        reread: reads the configuration anew, for SIGHUP; it raises `ConfigError` for one that can't come into force,
            and what is secret in it is known to the log when it returns.
        drain_s: after a signal, work under way may finish and store for so long, in seconds (> 0).
        lease: how long the lease of a run lives without being renewed.
        clock: what it goes by.
        supervisor: who is told how it is; None takes what the environment names.
    """

    def __init__(
        self,
        config: Config,
        *,
        on_stop: Callable[[signal.Signals], None],
        reread: Callable[[], Config] | None = None,
        drain_s: float = DRAIN_S,
        lease: timedelta = LEASE_TTL,
        clock: Clock | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        self.standing = Standing(config=config)
        self._on_stop, self._drain_s, self._lease = on_stop, drain_s, lease
        self._reloader = Reloader(self.standing, reread)
        self._clock = clock or Clock()
        self._supervisor = supervisor or Supervisor.of(os.environ)
        self._timetable = Timetable(self._clock)
        self._database = Database(self.standing, self._clock, on_wait=self._waits, on_well=self._timetable.look_now)
        self._vitals = Vitals(self.standing, utcnow=self._clock.utcnow)
        self._work = Work()
        self._delivery = Beat("deliver", every=DELIVER_EVERY, work=self._deliver, at_start=True)
        self._interrupt, self._hurry, self._hangup = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._endpoints = Endpoints(self._vitals)
        self._signal: signal.Signals | None = None
        self._made: App | None = None
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._retired = itertools.count(1)
        self._ready = False

    # what is done beside the runs: a line each
    def _beats(self) -> tuple[Beat, ...]:
        pruning = Beat("prune", every=timedelta(days=1), offset=PRUNE_AT, work=self._prune, at_start=True)
        return (self._delivery, pruning)

    async def serve(self) -> int:
        """Serves until SIGTERM or SIGINT; gives back the exit code, 128 plus the signal's number.

        Raises:
            SchemaError: the database's schema is newer than this program, at the start.
        """
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="store"))
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, self._stop, sign)
        loop.add_signal_handler(signal.SIGHUP, self._hangup.set)
        try:
            self._begin("pulse", lambda: pulse(self.standing))
            self._begin("watchdog", lambda: feed(self._supervisor))
            self._begin("reload", self._reload_on_hangup)
            self._endpoints.open()
            if await self._opened():
                self._schedule()
                await self._interrupt.wait()
        finally:
            await self._end()
        exit_code = 128 + (self._signal or signal.SIGTERM)
        # whoever looks later can tell it from one that was killed
        structlog.get_logger().info("daemon_ended", exit_code=exit_code)
        return exit_code

    def _stop(self, sign: signal.Signals) -> None:
        if self._interrupt.is_set():
            structlog.get_logger().warning("daemon_hurries", signal=sign.name, work_under_way=len(self._work))
            self._hurry.set()
            return
        self._signal, self.standing.stopping = sign, True
        structlog.get_logger().info("daemon_stopping", signal=sign.name, work_under_way=len(self._work))
        self._supervisor.stopping("ending: finishing what is under way")
        self._on_stop(sign)
        self._interrupt.set()

    async def _opened(self) -> bool:
        """Whether the database could be opened before a signal came."""
        opening, stopping = (asyncio.ensure_future(each) for each in (self._database.open(), self._interrupt.wait()))
        await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not opening.done():
            opening.cancel()
            return False
        opening.result()
        return not self._interrupt.is_set()

    def _waits(self, reason: str) -> None:
        self._supervisor.starting(f"waiting: {reason}", more_s=_MORE_S)

    def _schedule(self) -> None:
        self._begin("database", self._database.watch)
        self._begin("timetable", self._timetable.look_often)
        for beat in self._beats():
            look = partial(beat.look, self._work, self._database, self._clock)
            self._timetable.keep(beat.name, beat.next_due, look)
        for name in due_times_of(self.standing.config):
            self._watch(name)
        self._timetable.start()
        structlog.get_logger().info("daemon_started", targets=self._names())
        self._ready = True
        self._supervisor.ready(self._status())

    def _begin(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        self._loops[name] = task = asyncio.ensure_future(endless(name, loop))
        task.add_done_callback(lambda _: self._loops.pop(name))

    def _watch(self, name: str) -> None:
        rounds = Rounds(
            name,
            due_times_of(self.standing.config)[name],
            run=lambda slot: self._run(name, slot),
            last_slot=lambda: asyncio.to_thread(self._last_slot, name),
            database=self._database,
            clock=self._clock,
        )
        self._timetable.keep(f"run {name}", rounds.next_due, partial(rounds.look, self._work))

    async def _prune(self) -> None:
        await prune(self._app(), stop=self._interrupt.is_set)

    async def _deliver(self) -> None:
        await self._app().sender().deliver()

    def _last_slot(self, name: str) -> str | None:
        with reading(self._app().engine) as conn:
            return runs.last_slot(conn, target=name)

    def _app(self) -> App:
        """The live parts of the configuration in force, on the database in use; the same ones as long as both are."""
        engine = self.standing.engine
        if engine is None:
            raise RuntimeError("nothing is scheduled before the database is open")
        if self._made is None or self._made.config is not self.standing.config or self._made.engine is not engine:
            self._made = App(config=self.standing.config, engine=engine, clock=self._clock.utcnow)
        return self._made

    async def _run(self, name: str, slot: str) -> None:
        app = self._app()
        target = next((each for each in app.config.targets if each.name == name), None)
        if target is None or self._interrupt.is_set():
            return
        job = replace(app.job(target, scheduled=True), lease_ttl=self._lease)
        with self._vitals.told_of(name):
            report = await Run(job, interrupt=self._interrupt, progress=NoProgress(), slot=slot)()
        self._finished(report, app)

    def _finished(self, report: RunReport, app: App) -> None:
        self._vitals.observe(report, keys=app.throttles.key_by_target)
        self._delivery.want()
        self._timetable.soon(self._delivery.name)
        self._supervisor.status(f"{self._status()}; last run: {report.target}, {report.status.value}")

    async def _reload_on_hangup(self) -> None:
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            self._supervisor.reloading()
            found = await self._reloader.read()
            if found is not None:
                self._put_in_force(found)
            if self._ready:
                self._supervisor.ready(self._status())

    def _put_in_force(self, found: Found) -> None:
        """Targets that came or whose times changed begin anew, those that went end; runs under way are left to end."""
        changes = difference(self.standing.config, found.config)
        self.standing.config, self.standing.reload_error = found.config, None
        if found.engine is not None:
            if self.standing.engine is not None:
                self._begin(f"retire {next(self._retired)}", partial(self._retire, self.standing.engine))
            self._database.take(found.engine)
        if self._ready:
            for name in (*changes.removed, *changes.rescheduled):
                self._timetable.drop(f"run {name}")
            for name in (*changes.added, *changes.rescheduled):
                self._watch(name)
        tell(changes, found)

    async def _retire(self, engine: Engine) -> None:
        """Ends the connections of a database that is used no more, when what began on it has ended."""
        if under_way := self._work.under_way():
            await asyncio.wait(under_way)
        await asyncio.to_thread(engine.dispose)

    def _names(self) -> list[str]:
        return [target.name for target in self.standing.config.targets]

    def _status(self) -> str:
        if self.standing.store_error is not None:
            return f"waiting: {self.standing.store_error}"
        refused = "; the last configuration was refused" if self.standing.reload_error else ""
        return f"targets: {len(self._names())}{refused}"

    async def _end(self) -> None:
        """Nothing new begins; what is under way ends, or is cancelled, and gives back what it holds."""
        for loop in self._loops.values():
            loop.cancel()
        await self._timetable.end()
        await self._work.drain(within_s=self._drain_s, hurry=self._hurry)
        await asyncio.gather(*self._loops.values(), return_exceptions=True)
        await self._endpoints.close()
        if self.standing.engine is not None:
            await asyncio.to_thread(self.standing.engine.dispose)
