"""The queue of workers: defers jobs, executes them, and finds those of dead workers. It knows nothing of runs.

A job is executed at least once, and rarely twice at a time: by a worker that was taken for dead. What must happen once
is guarded by the database of runs (lease, epoch, attempt of a share).
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, Self

import structlog
from procrastinate import App, BaseRetryStrategy, JobContext, RetryDecision, exceptions
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager

from monitor.config import Config
from monitor.database.urls import parse
from monitor.errors import LeaseHeldError, LeaseLostError, MonitorError, StoreError
from monitor.fleet.connector import QueueConnector, queue_fault, translate_queue_errors
from monitor.logs import log_crash

POLL_S, LISTENING_POLL_S = 1.0, 2.0
"""Seconds between looks for jobs, without and with notifications, which say nothing of jobs that come again."""
GRACE_S = 8.0
"""Seconds that jobs may take after a stop before they are cancelled."""
_HEARTBEATS = 4
"""In the time after which a worker counts as dead."""
_STORE_RETRY, _LOST_RETRY = timedelta(seconds=5), timedelta(seconds=0.2)
_KEEP_FAILED_HOURS = 7 * 24


class Task(StrEnum):
    """The kinds of jobs."""

    PLAN = "plan"
    SHARE = "share"
    CLOSE = "close"


_PRIORITIES = {Task.PLAN: 1000, Task.CLOSE: 2000}
"""A share has its own, which is lower: a large run must not delay the small ones of other targets."""


class Handlers(Protocol):
    """What the jobs do. A `MonitorError` ends a job, as it ends a run; some mean that it must come again later."""

    async def plan(self, target: str, run_key: str) -> None:
        """Executes a run, or cuts it into shares."""

    async def share(self, run_id: int, number: int, worker: str) -> None:
        """Checks a share of a run."""

    async def close(self, run_id: int) -> None:
        """Closes a run whose shares have ended."""


class Queue:
    """The queue of a configuration. `name` (`host:pid`) is that of this process."""

    def __init__(self, config: Config, *, name: str, concurrency: int = 1) -> None:
        fleet = config.fleet
        self._connector = QueueConnector(
            parse(config.database.reveal()),
            listen_url=parse(fleet.listen_url.reveal()) if fleet.listen_url else None,
            connections=concurrency + 3,
        )
        self._queue, self._stalled_s = fleet.queue, fleet.stalled_after.total_seconds()
        self._name, self._concurrency = name, concurrency
        self._app = App(connector=self._connector)
        self._app.job_manager = self._manager = _Jobs(self._connector, name)
        self._handlers: Handlers | None = None
        self._add_tasks()

    @classmethod
    @asynccontextmanager
    async def open(cls, config: Config, *, name: str, concurrency: int = 1) -> AsyncIterator[Self]:
        """An open queue; it connects when it is used. `concurrency` (≥ 1): how many jobs `work` has at a time."""
        for library in ("procrastinate", "psycopg.pool"):  # their faults come as errors, which we log once
            logging.getLogger(library).setLevel(logging.CRITICAL + 1)
        queue = cls(config, name=name, concurrency=concurrency)
        await queue._connector.open_async()
        try:
            yield queue
        finally:
            await queue._connector.close_async()

    async def defer_plan(self, target: str, run_key: str) -> bool:
        """Queues a run. One that waits with an older run key is replaced: of missed runs the newest is executed.

        Returns False if this one or a newer one waits already. Raises StoreError if the database can't be used.
        """
        lock = f"plan {target}"
        arguments = {"target": target, "run_key": run_key}
        while not await self._defer(Task.PLAN, lock, _PRIORITIES[Task.PLAN], arguments):
            with translate_queue_errors(self._connector.url):
                waiting = await self._manager.list_jobs_async(queueing_lock=lock, status=Status.TODO.value)
                for job in waiting:
                    waiting_key = str(job.task_kwargs["run_key"])
                    if waiting_key == run_key or _time_of(waiting_key) > _time_of(run_key):
                        return False
                    await self._manager.cancel_job_by_id_async(job.id or 0, delete_job=True)
        return True

    async def defer_share(self, run_id: int, number: int, priority: int = 0) -> bool:
        """Queues a share (priority below 1000, higher comes first); returns False if it waits already.

        Raises StoreError if the database can't be used.
        """
        arguments: dict[str, Any] = {"run_id": run_id, "number": number}
        return await self._defer(Task.SHARE, f"share {run_id}/{number}", priority, arguments)

    async def defer_close(self, run_id: int) -> bool:
        """Queues the close of a run; returns False if it waits already. Raises StoreError as the others."""
        return await self._defer(Task.CLOSE, f"close {run_id}", _PRIORITIES[Task.CLOSE], {"run_id": run_id})

    async def retry_stalled(self) -> int:
        """Makes the jobs of dead workers wait again, and removes these workers; returns how many jobs.

        Many processes may call it at once. Raises StoreError if the database can't be used.
        """
        with translate_queue_errors(self._connector.url):
            stalled = await self._manager.get_stalled_jobs(queue=self._queue, seconds_since_heartbeat=self._stalled_s)
            retried = 0
            for job in stalled:
                retried += await self._manager.retry_stalled(job)
            await self._manager.prune_stalled_workers(self._stalled_s)
        return retried

    async def delete_old_failures(self) -> None:
        """Deletes failed jobs of last week. Raises StoreError if the database can't be used."""
        with translate_queue_errors(self._connector.url):
            await self._manager.delete_old_jobs(
                nb_hours=_KEEP_FAILED_HOURS, queue=self._queue, include_failed=True, include_aborted=True
            )

    async def work(self, handlers: Handlers, *, stop: asyncio.Event) -> None:
        """Executes jobs until `stop` is set; then none is begun, and those in progress have `GRACE_S` to end.

        Raises StoreError if the database can't be used; call it again when it can. Jobs whose end could not be stored
        come again, since this worker counts as dead.
        """
        listening = await self._can_listen()
        self._handlers = handlers
        self._manager.lost.clear()
        working = asyncio.create_task(
            self._app.run_worker_async(
                queues=[self._queue],
                name=self._name,
                concurrency=self._concurrency,
                fetch_job_polling_interval=LISTENING_POLL_S if listening else POLL_S,
                abort_job_polling_interval=3600.0,  # nobody aborts jobs
                shutdown_graceful_timeout=GRACE_S,
                listen_notify=listening,
                delete_jobs="successful",
                install_signal_handlers=False,
                update_heartbeat_interval=self._stalled_s / _HEARTBEATS,
                stalled_worker_timeout=self._stalled_s,
            )
        )
        waits = [asyncio.create_task(each.wait()) for each in (stop, self._manager.lost)]
        try:
            await asyncio.wait((working, *waits), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (working, *waits):
                each.cancel()  # the worker takes this as the wish to stop
            (ended, *_) = await asyncio.gather(working, *waits, return_exceptions=True)
        if isinstance(ended, exceptions.ConnectorException):
            raise queue_fault(ended, self._connector.url) from ended
        if isinstance(ended, Exception):
            raise ended
        if self._manager.fault is not None and not stop.is_set():
            raise self._manager.fault

    async def _can_listen(self) -> bool:
        log = structlog.get_logger()
        try:
            listening = await self._connector.can_listen()
        except StoreError as error:
            log.warning("queue_polled", every_s=POLL_S, reason=str(error))
            return False
        if not listening:
            log.info("queue_polled", every_s=POLL_S, reason="the database is behind a pooler; fleet.listen_url helps")
        return listening

    async def _defer(self, task: Task, lock: str, priority: int, arguments: dict[str, Any]) -> bool:
        deferrer = self._app.configure_task(task.value, queue=self._queue, queueing_lock=lock, priority=priority)
        with translate_queue_errors(self._connector.url):
            try:
                await deferrer.defer_async(**arguments)
            except exceptions.AlreadyEnqueued:
                return False
        return True

    def _add_tasks(self) -> None:
        options: dict[str, Any] = {"queue": self._queue, "retry": _Retries(), "pass_context": True}

        @self._app.task(name=Task.PLAN.value, **options)
        async def plan(context: JobContext, target: str, run_key: str) -> None:
            await _execute(context, lambda: self._handler.plan(target, run_key))

        @self._app.task(name=Task.SHARE.value, **options)
        async def share(context: JobContext, run_id: int, number: int) -> None:
            await _execute(context, lambda: self._handler.share(run_id, number, self._name))

        @self._app.task(name=Task.CLOSE.value, **options)
        async def close(context: JobContext, run_id: int) -> None:
            await _execute(context, lambda: self._handler.close(run_id))

    @property
    def _handler(self) -> Handlers:
        if self._handlers is None:
            raise RuntimeError("a queue that only defers executed a job")
        return self._handlers


def _time_of(run_key: str) -> str:
    """The nominal time at the end of a run key, in a form that sorts."""
    return run_key.rpartition(" ")[2].removesuffix("Z")


class _AgainLaterError(Exception):
    """The job must come again after a while."""

    def __init__(self, after: timedelta) -> None:
        self.after = after
        super().__init__(f"again in {after}")


class _Retries(BaseRetryStrategy):
    """What waits, and what was cancelled, comes again; any other error is a defect, and its job is kept as failed."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:  # noqa: ARG002  # Procrastinate's signature
        """Procrastinate's question."""
        if isinstance(exception, _AgainLaterError):
            return RetryDecision(retry_in={"milliseconds": round(exception.after.total_seconds() * 1000)})
        return RetryDecision() if isinstance(exception, asyncio.CancelledError) else None


async def _execute(context: JobContext, action: Callable[[], Awaitable[None]]) -> None:
    """Executes a job, and logs a line about its end."""
    job, began_s = context.job, time.monotonic()
    log = structlog.get_logger().bind(task=job.task_name, job=job.id, attempt=job.attempts + 1, **job.task_kwargs)

    def ended(outcome: str, **more: object) -> None:
        log.info("job_ended", outcome=outcome, duration_s=round(time.monotonic() - began_s, 3), **more)

    try:
        await action()
    except asyncio.CancelledError:
        ended("cancelled")
        raise
    except MonitorError as error:
        after = _retry_after(error)
        if after is None:  # as in a daemon without workers: what the run found out is stored
            ended("refused", reason=str(error))
            return
        ended("again", reason=str(error), retry_in_s=round(after.total_seconds(), 1))
        raise _AgainLaterError(after) from error
    except Exception as error:
        log_crash(error, task=job.task_name, job=job.id)
        ended("failed", error_type=type(error).__name__)
        raise
    ended("done")


def _retry_after(error: MonitorError) -> timedelta | None:
    """When a job must come again after this error; None if it need not."""
    if isinstance(error, LeaseHeldError):
        return max(error.expires_in, timedelta(0)) + _LOST_RETRY
    if isinstance(error, LeaseLostError):
        return _LOST_RETRY
    return _STORE_RETRY if isinstance(error, StoreError) else None


class _Jobs(JobManager):
    """Procrastinate's manager of jobs, for a worker that outlives faults of its database.

    `lost` is set, with the `fault`, when this worker can't store the end of a job, or is taken for dead. It must begin
    anew under another number then: its jobs would never be found while its heartbeat goes on.
    """

    def __init__(self, connector: QueueConnector, name: str) -> None:
        super().__init__(connector)
        self._queue_connector, self._name = connector, name
        self.lost = asyncio.Event()
        self.fault: StoreError | None = None

    async def register_worker(self) -> int:
        """A new number, with the name of this process."""
        worker_id = await super().register_worker()
        await self._queue_connector.execute_query_async(_NAME_WORKER, worker_id=worker_id, name=self._name)
        self.fault = None
        return worker_id

    async def update_heartbeat(self, worker_id: int) -> None:
        """A heartbeat that failed is made up for by the next one; Procrastinate would send no more."""
        try:
            alive = await self._queue_connector.execute_query_all_async(_HEARTBEAT, worker_id=worker_id)
        except exceptions.ConnectorException as error:
            structlog.get_logger().warning(
                "heartbeat_failed", reason=str(queue_fault(error, self._queue_connector.url))
            )
            return
        if not alive:
            self._lose(StoreError("this worker was not heard of for too long, and others took over its jobs"))

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:  # noqa: FBT001  # Procrastinate's signature
        """Stores the end of a job."""
        try:
            await super().finish_job(job, status, delete_job)
        except exceptions.ConnectorException as error:
            self._lose(queue_fault(error, self._queue_connector.url))

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        """Makes a job wait again, unless an equal one waits already."""
        try:
            await super().retry_job(job, retry_at, priority, queue, lock)
        except exceptions.UniqueViolation:
            await self.finish_job(job, Status.SUCCEEDED, delete_job=True)
        except exceptions.ConnectorException as error:
            self._lose(queue_fault(error, self._queue_connector.url))

    async def retry_stalled(self, job: Job) -> int:
        """Makes a job of a dead worker wait again; returns 0 if another process did."""
        arguments = {"job_id": job.id, "worker_id": job.worker_id}
        try:
            retried = await self._queue_connector.execute_query_all_async(_RETRY_STALLED, **arguments)
        except exceptions.UniqueViolation:  # an equal one waits
            await self._queue_connector.execute_query_async(_DROP_STALLED, **arguments)
            return 0
        return len(retried)

    def _lose(self, fault: StoreError) -> None:
        self.fault = fault
        self.lost.set()


_NAME_WORKER = "INSERT INTO monitor_workers (worker_id, name) VALUES (%(worker_id)s, %(name)s)"
_HEARTBEAT = "UPDATE procrastinate_workers SET last_heartbeat = now() WHERE id = %(worker_id)s RETURNING id"
_OF_STALLED = "WHERE id = %(job_id)s AND status = 'doing' AND worker_id IS NOT DISTINCT FROM %(worker_id)s"
_RETRY_STALLED = f"""
UPDATE procrastinate_jobs
SET status = 'todo', attempts = attempts + 1, scheduled_at = now(), worker_id = NULL, abort_requested = false
{_OF_STALLED}
RETURNING id, pg_notify(
    'procrastinate_queue_v1#' || queue_name, json_build_object('type', 'job_inserted', 'job_id', id)::text
)
"""  # noqa: S608  # no values in it
"""Procrastinate's own function would also take a job away that another process has retried and begun meanwhile."""
_DROP_STALLED = f"DELETE FROM procrastinate_jobs {_OF_STALLED}"  # noqa: S608  # the same
