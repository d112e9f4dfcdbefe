"""A worker: executes the jobs of the queue until a signal. A database that is down delays it but never ends it.

SIGHUP reads the configuration again: later jobs use it. Another database or other settings of `[fleet]` need a restart.
"""

import asyncio
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog
from sqlalchemy import Engine

from monitor.app import App, holder
from monitor.app.throttles import limits_of
from monitor.config import Config
from monitor.daemon.database import DatabaseMonitor
from monitor.daemon.fleet import Supervision
from monitor.daemon.reload import ConfigReloader
from monitor.daemon.tasks import Clock, run_forever
from monitor.errors import ConfigError, StoreError
from monitor.fleet.handlers import JobEnd, RunHandlers, SharingOptions
from monitor.fleet.queue import Queue
from monitor.fleet.queue_worker import Handlers, QueueWorker
from monitor.runs.run import Job
from monitor.web.state import DaemonState

_THREADS_PER_JOB, _THREADS = 4, 16
"""For our own database; each use is short."""
_MORE_CONNECTIONS = 3
"""For heartbeats, looks for jobs, and the supervision."""
_PAUSE_S = 0.5
_NO_WORKERS = (
    "fleet.workers is false: workers need [fleet] workers = true, and PostgreSQL as the monitor's database; without "
    "them `ingestion-monitor daemon` does all the work"
)

BuildHandlers = Callable[[App, Queue, asyncio.Event], Handlers]
"""Makes the handlers of a configuration; the event is set when jobs must be given back."""


def build_run_handlers(app: App, queue: Queue, interrupt: asyncio.Event) -> Handlers:
    """The handlers that execute the runs of the configured targets."""
    fleet, targets = app.config.fleet, {each.name: each for each in app.config.targets}
    options = SharingOptions(
        share=fleet.share, share_concurrency=fleet.share_concurrency, stalled_after=fleet.stalled_after
    )

    def job_of(name: str) -> Job | None:
        target = targets.get(name)
        return None if target is None else app.job(target, scheduled=True)

    return RunHandlers(engine=app.engine, job_of=job_of, queue=queue, options=options, interrupt=interrupt)


class Worker:
    """Executes up to `concurrency` (≥ 1) jobs at a time until `interrupt` is set.

    `build_handlers`: what jobs do instead of runs. `read_config` reads the configuration again, as a daemon's.
    Raises ConfigError without `fleet.workers`.
    """

    def __init__(
        self,
        config: Config,
        *,
        concurrency: int,
        interrupt: asyncio.Event,
        build_handlers: BuildHandlers | None = None,
        read_config: Callable[[], Config] | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not config.fleet.workers:
            raise ConfigError([_NO_WORKERS])
        self._state = DaemonState(config=config)
        self._concurrency, self._interrupt = concurrency, interrupt
        self._build_handlers = build_handlers or build_run_handlers
        self._clock = clock or Clock()
        self._reloader = ConfigReloader(self._state, read_config)
        self._sighup = asyncio.Event()
        self._database = DatabaseMonitor(self._state, self._clock, on_wait=lambda _: None, on_recovery=lambda: None)
        self._supervision = Supervision(self._state, self._database, self._clock)

    async def serve(self) -> None:
        """Works until the interrupt. Raises SchemaError if the schema or the queue is newer than this program."""
        loop = asyncio.get_running_loop()
        threads = max(_THREADS, _THREADS_PER_JOB * self._concurrency)
        loop.set_default_executor(ThreadPoolExecutor(max_workers=threads, thread_name_prefix="store"))
        loop.add_signal_handler(signal.SIGHUP, self._sighup.set)
        engine = await self._open_database()
        try:
            if engine is not None:
                async with Queue.open(self._state.config, connections=self._concurrency + _MORE_CONNECTIONS) as queue:
                    await self._work(engine, queue)
        finally:
            if engine is not None:
                await asyncio.to_thread(engine.dispose)
            structlog.get_logger().info("worker_ended")

    async def _open_database(self) -> Engine | None:
        """The database, or None if a signal came before it could be opened."""
        opening = asyncio.ensure_future(self._database.open())
        stopping = asyncio.ensure_future(self._interrupt.wait())
        await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if opening.done():
            return opening.result()
        opening.cancel()
        return None

    async def _work(self, engine: Engine, queue: Queue) -> None:
        handlers = _CurrentHandlers(lambda config: self._new_handlers(config, engine, queue), self._state)

        async def the_queue(_config: Config) -> Queue:
            return queue

        loops = {
            "database": self._database.watch,
            "supervision": lambda: self._supervision.run(the_queue),
            "reload": self._reload_on_sighup,
        }
        tasks = [asyncio.ensure_future(run_forever(name, loop)) for name, loop in loops.items()]
        structlog.get_logger().info(
            "worker_started", worker=holder(), queue=self._state.config.fleet.queue, concurrency=self._concurrency
        )
        worker = QueueWorker(
            queue,
            handlers,
            name=holder(),
            concurrency=self._concurrency,
            usable=lambda: self._database.usable,
            on_fault=self._database.report_failure,
        )
        try:
            while not self._interrupt.is_set():
                await self._work_until_fault(worker)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work_until_fault(self, worker: QueueWorker) -> None:
        """Works until the interrupt. If the database can't be used at the start, it waits until it can."""
        try:
            await worker.work(stop=self._interrupt)
        except StoreError as error:
            self._database.report_failure(error)
            while not (self._database.usable or self._interrupt.is_set()):
                await self._clock.sleep_until_set(self._interrupt, _PAUSE_S)

    def _new_handlers(self, config: Config, engine: Engine, queue: Queue) -> Handlers:
        # jobs in progress go on with the limits of the configuration before: each has a claim of its own
        app = App(config=config, engine=engine, limits=limits_of(config, is_worker=True), clock=self._clock.utcnow)
        return self._build_handlers(app, queue, self._interrupt)

    async def _reload_on_sighup(self) -> None:
        while True:
            await self._sighup.wait()
            self._sighup.clear()
            loaded = await self._reloader.read()
            if loaded is None:
                continue
            before, log = self._state.config, structlog.get_logger()
            if loaded.engine is not None:
                await asyncio.to_thread(loaded.engine.dispose)
            if loaded.engine is not None or loaded.config.fleet != before.fleet:
                log.error(
                    "configuration_refused", problems=("the database or [fleet] has changed: restart the worker",)
                )
                continue
            self._state.config, self._state.reload_error = loaded.config, None
            log.info("configuration_reloaded", ignored=loaded.config.warnings)


class _CurrentHandlers:
    """The handlers of the configuration in force, made again when it changes; jobs in progress keep theirs."""

    def __init__(self, build: Callable[[Config], Handlers], state: DaemonState) -> None:
        self._build, self._state = build, state
        self._built: tuple[Config, Handlers] | None = None

    def _current(self) -> Handlers:
        config = self._state.config
        if self._built is None or self._built[0] is not config:
            self._built = config, self._build(config)
        return self._built[1]

    async def plan(self, target: str, run_key: str) -> JobEnd:
        return await self._current().plan(target, run_key)

    async def share(self, run_id: int, number: int, worker: str) -> JobEnd:
        return await self._current().share(run_id, number, worker)

    async def close(self, run_id: int) -> JobEnd:
        return await self._current().close(run_id)
