"""Executes the jobs of the queue, some at a time, until it is stopped; a fault of the database only delays it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Protocol

import structlog
from procrastinate import App, BaseRetryStrategy, JobContext, RetryDecision, exceptions
from procrastinate.jobs import Job

from monitor.errors import (
    LeaseHeldError,
    LeaseLostError,
    MonitorError,
    RunAlreadyExecutedError,
    RunGivenBackError,
    StoreError,
    TargetNotHereError,
)
from monitor.fleet.connector import queue_fault
from monitor.fleet.handlers import JobEnd
from monitor.fleet.jobs import WorkerJobs
from monitor.fleet.queue import Queue, Task
from monitor.logs import log_crash

POLL_S, LISTENING_POLL_S = 1.0, 2.0
"""Seconds between looks for jobs, without and with notifications, which say nothing of jobs that come again."""
GRACE_S = 8.0
"""Seconds that jobs may take after a stop before they are cancelled."""
HEARTBEATS = 4
"""In the time after which a worker counts as dead."""
_NEVER_S = 3600.0
_STORE_RETRY, _LOST_RETRY = timedelta(seconds=5), timedelta(seconds=0.2)
_HELD_RETRY = timedelta(seconds=10)
"""At most: the run that holds the lease may end long before its lease would."""
_ELSEWHERE_RETRY, _ELSEWHERE_ATTEMPTS = timedelta(seconds=2), 30
"""A target that is not configured here is left to other workers: for a minute, since perhaps it is nowhere."""


class Handlers(Protocol):
    """What the jobs do. A `MonitorError` ends a job, as it ends a run; some mean that it must come again later."""

    async def plan(self, target: str, run_key: str) -> JobEnd:
        """Executes a run, or cuts it into shares."""
        ...

    async def share(self, run_id: int, number: int, worker: str) -> JobEnd:
        """Checks a share of a run."""
        ...

    async def close(self, run_id: int) -> JobEnd:
        """Closes a run whose shares have ended."""
        ...


class QueueWorker:
    """Executes up to `concurrency` (≥ 1) jobs at a time by `handlers`. `name` (`host:pid`) is that of this process.

    While `usable` says no, no job is begun; `on_fault` gets each fault of the database.
    """

    def __init__(
        self,
        queue: Queue,
        handlers: Handlers,
        *,
        name: str,
        concurrency: int = 1,
        usable: Callable[[], bool] = lambda: True,
        on_fault: Callable[[StoreError], None],
    ) -> None:
        self._queue, self._handlers, self._name, self._concurrency = queue, handlers, name, concurrency
        self._jobs = WorkerJobs(queue.connector, queue.name, name, usable=usable, on_fault=on_fault)
        self._app = App(connector=queue.connector)
        self._app.job_manager = self._jobs
        self._in_progress: set[asyncio.Task[Any]] = set()
        self._add_tasks()

    async def work(self, *, stop: asyncio.Event) -> None:
        """Executes jobs until `stop` is set; then none is begun, and those in progress have `GRACE_S` to end.

        Raises StoreError if the database can't be used at the start.
        """
        while not stop.is_set():
            self._jobs.lost.clear()
            await self._work_under_a_number(stop)
            if not (stop.is_set() or self._jobs.lost.is_set()):
                await asyncio.sleep(POLL_S)  # Procrastinate ended by itself

    async def _work_under_a_number(self, stop: asyncio.Event) -> None:
        listening = await self._can_listen()
        working = asyncio.create_task(
            self._app.run_worker_async(
                queues=[self._queue.name],
                name=self._name,
                concurrency=self._concurrency,
                fetch_job_polling_interval=LISTENING_POLL_S if listening else POLL_S,
                abort_job_polling_interval=_NEVER_S,  # nobody aborts jobs
                listen_notify=listening,
                delete_jobs="successful",
                install_signal_handlers=False,
                update_heartbeat_interval=self._queue.stalled_s / HEARTBEATS,
                stalled_worker_timeout=self._queue.stalled_s,
            )
        )
        stopping, lost = (asyncio.create_task(each.wait()) for each in (stop, self._jobs.lost))
        try:
            await asyncio.wait((working, stopping, lost), return_when=asyncio.FIRST_COMPLETED)
            if self._jobs.lost.is_set():
                structlog.get_logger().warning("worker_taken_for_dead", reason="it was not heard of for too long")
            working.cancel()  # it takes this as the wish to begin no job, and waits for those in progress
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((working,), timeout=GRACE_S)
            for each in tuple(self._in_progress):
                each.cancel()
            await asyncio.wait((working,))
        finally:
            for task in (working, stopping, lost):
                task.cancel()
            ended, *_ = await asyncio.gather(working, stopping, lost, return_exceptions=True)
        if isinstance(ended, exceptions.ConnectorException):
            raise queue_fault(ended, self._queue.connector.url) from ended
        if isinstance(ended, Exception):
            raise ended

    async def _can_listen(self) -> bool:
        log = structlog.get_logger()
        try:
            listening = await self._queue.connector.can_listen()
        except StoreError as error:
            log.warning("queue_polled", every_s=POLL_S, reason=str(error))
            return False
        if not listening:
            log.info("queue_polled", every_s=POLL_S, reason="the database is behind a pooler; fleet.listen_url helps")
        return listening

    def _add_tasks(self) -> None:
        options: dict[str, Any] = {"queue": self._queue.name, "retry": _Retries(), "pass_context": True}

        @self._app.task(name=Task.PLAN.value, **options)
        async def plan(context: JobContext, target: str, run_key: str) -> None:
            await self._execute(context, self._handlers.plan(target, run_key))

        @self._app.task(name=Task.SHARE.value, **options)
        async def share(context: JobContext, run_id: int, number: int) -> None:
            await self._execute(context, self._handlers.share(run_id, number, self._name))

        @self._app.task(name=Task.CLOSE.value, **options)
        async def close(context: JobContext, run_id: int) -> None:
            await self._execute(context, self._handlers.close(run_id))

    async def _execute(self, context: JobContext, action: Awaitable[JobEnd]) -> None:
        task = asyncio.ensure_future(_execute_logged(context.job, action))
        self._in_progress.add(task)
        try:
            await task
        finally:
            self._in_progress.discard(task)


async def _execute_logged(job: Job, action: Awaitable[JobEnd]) -> None:
    """Executes a job, and logs a line about its end."""
    began_s = time.monotonic()
    log = structlog.get_logger().bind(task=job.task_name, job=job.id, attempt=job.attempts + 1, **job.task_kwargs)

    def ended(outcome: JobEnd, **more: object) -> None:
        log.info("job_ended", outcome=outcome.value, duration_s=round(time.monotonic() - began_s, 3), **more)

    try:
        end = await action
    except asyncio.CancelledError:
        ended(JobEnd.CANCELLED)
        raise
    except MonitorError as error:
        after = _retry_after(error, attempts=job.attempts)
        if after is None:  # as in a daemon without workers: what the run found out is stored
            ended(_end_by(error, comes_again=False), reason=str(error))
            return
        ended(_end_by(error, comes_again=True), reason=str(error), retry_in_s=round(after.total_seconds(), 1))
        raise _AgainLaterError(after) from error
    except Exception as error:
        log_crash(error, task=job.task_name, job=job.id)
        ended(JobEnd.FAILED, error_type=type(error).__name__)
        raise
    ended(end)


def _end_by(error: MonitorError, *, comes_again: bool) -> JobEnd:
    """How an error ended a job."""
    match error:
        case RunGivenBackError():
            return JobEnd.GIVEN_BACK
        case LeaseLostError():
            return JobEnd.LOST
        case RunAlreadyExecutedError():
            return JobEnd.NOTHING_TO_DO
        case _:
            return JobEnd.AGAIN if comes_again else JobEnd.FAILED


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


def _retry_after(error: MonitorError, *, attempts: int) -> timedelta | None:
    """When a job must come again after this error; None if it need not."""
    if isinstance(error, LeaseHeldError):
        return min(max(error.expires_in, timedelta(0)), _HELD_RETRY) + _LOST_RETRY
    if isinstance(error, LeaseLostError):
        return _LOST_RETRY
    if isinstance(error, RunGivenBackError):
        return timedelta(0)
    if isinstance(error, TargetNotHereError):
        return _ELSEWHERE_RETRY if attempts < _ELSEWHERE_ATTEMPTS else None
    return _STORE_RETRY if isinstance(error, StoreError) else None
