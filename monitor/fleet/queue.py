"""The queue of workers: defers jobs, and finds those of dead workers. It knows nothing of runs.

A job is executed at least once, and rarely twice at a time: by a worker that was taken for dead. What must happen once
is guarded by the database of runs (lease, epoch, attempt of a share).
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any, Self

from procrastinate import exceptions, tasks

from monitor.config import Config
from monitor.database.urls import parse
from monitor.fleet.connector import QueueConnector, translate_queue_errors
from monitor.fleet.jobs import Jobs

_KEEP_FAILED_HOURS = 7 * 24


class Task(StrEnum):
    """The kinds of jobs."""

    PLAN = "plan"
    SHARE = "share"
    CLOSE = "close"


_PRIORITIES = {Task.PLAN: 1000, Task.CLOSE: 2000}
"""A share has its own, which is lower: a large run must not delay the small ones of other targets."""


class Queue:
    """The queue of a configuration. `name` is its name in the database, `connector` its connections."""

    def __init__(self, config: Config, *, connections: int) -> None:
        fleet = config.fleet
        listen_url = parse(fleet.listen_url.reveal()) if fleet.listen_url else None
        self.connector = QueueConnector(parse(config.database.reveal()), listen_url=listen_url, connections=connections)
        self.name, self.stalled_s = fleet.queue, fleet.stalled_after.total_seconds()
        self._jobs = Jobs(self.connector, self.name)

    @classmethod
    @asynccontextmanager
    async def open(cls, config: Config, *, connections: int = 4) -> AsyncIterator[Self]:
        """An open queue with at most so many connections (≥ 1). It connects when it is used."""
        for library in ("procrastinate", "psycopg.pool"):  # their faults come as errors, which we log once
            logging.getLogger(library).setLevel(logging.CRITICAL + 1)
        queue = cls(config, connections=connections)
        await queue.connector.open_async()
        try:
            yield queue
        finally:
            await queue.connector.close_async()

    async def defer_plan(self, target: str, run_key: str) -> bool:
        """Queues a run. One that waits with an older run key gets this one: of missed runs the newest is executed. It
        has waited since the first of them was queued, so that a queue without workers does not look young.

        Returns False if this one or a newer one waits already. Raises StoreError if the database can't be used.
        """
        lock = self._lock(f"plan {target}")
        arguments = {"target": target, "run_key": run_key}
        while not await self._defer(Task.PLAN, lock, _PRIORITIES[Task.PLAN], arguments):
            with translate_queue_errors(self.connector.url):
                waiting = await self._jobs.list_jobs_async(queueing_lock=lock, status="todo")
                for job in waiting:
                    waiting_key = str(job.task_kwargs["run_key"])
                    if waiting_key == run_key or _time_of(waiting_key) > _time_of(run_key):
                        return False
                    if await self._jobs.replace_waiting(job, arguments):
                        return True
        return True

    async def defer_share(self, run_id: int, number: int, priority: int = 0) -> bool:
        """Queues a share (priority below 1000, higher comes first); returns False if it waits already.

        Raises StoreError if the database can't be used.
        """
        arguments: dict[str, Any] = {"run_id": run_id, "number": number}
        return await self._defer(Task.SHARE, self._lock(f"share {run_id}/{number}"), priority, arguments)

    async def defer_close(self, run_id: int) -> bool:
        """Queues the close of a run; returns False if it waits already. Raises StoreError as the others."""
        lock = self._lock(f"close {run_id}")
        return await self._defer(Task.CLOSE, lock, _PRIORITIES[Task.CLOSE], {"run_id": run_id})

    async def retry_stalled(self) -> int:
        """Makes the jobs of dead workers wait again, and removes these workers; returns how many jobs.

        Many processes may call it at once. Raises StoreError if the database can't be used.
        """
        with translate_queue_errors(self.connector.url):
            stalled = await self._jobs.get_stalled_jobs(queue=self.name, seconds_since_heartbeat=self.stalled_s)
            retried = 0
            for job in stalled:
                retried += await self._jobs.retry_stalled(job.id or 0, job.worker_id)
            await self._jobs.prune_stalled_workers(self.stalled_s)
        return retried

    async def delete_old_failures(self) -> None:
        """Deletes failed jobs of last week. Raises StoreError if the database can't be used."""
        with translate_queue_errors(self.connector.url):
            await self._jobs.delete_old_jobs(
                nb_hours=_KEEP_FAILED_HOURS, queue=self.name, include_failed=True, include_aborted=True
            )

    def _lock(self, job: str) -> str:
        """The name that only one waiting job has: other queues of the database have their own targets and runs."""
        return f"{self.name}: {job}"

    async def _defer(self, task: Task, lock: str, priority: int, arguments: dict[str, Any]) -> bool:
        deferrer = tasks.configure_task(
            name=task.value, job_manager=self._jobs, queue=self.name, queueing_lock=lock, priority=priority
        )
        with translate_queue_errors(self.connector.url):
            try:
                await deferrer.defer_async(**arguments)
            except exceptions.AlreadyEnqueued:
                return False
        return True


def _time_of(run_key: str) -> str:
    """The nominal time at the end of a run key, in a form that sorts."""
    return run_key.rpartition(" ")[2].removesuffix("Z")
