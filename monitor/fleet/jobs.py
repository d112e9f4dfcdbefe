"""Procrastinate's manager of jobs, made to outlive faults of its database: a worker goes on, and loses no job.

Procrastinate's own worker ends at a fault, or its heartbeat does, for good and without a word; and it ends a job that
another worker has taken over. Here a fault is reported, what it left in doubt is settled when the database answers
again, and each worker ends its own jobs alone.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

import psycopg
from procrastinate import exceptions
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager

from monitor.errors import StoreError
from monitor.fleet.connector import QueueConnector, queue_fault


class Jobs(JobManager):
    """The jobs of a queue, for processes that defer them."""

    def __init__(self, connector: QueueConnector, queue: str) -> None:
        super().__init__(connector)
        self._database, self._queue = connector, queue

    async def retry_stalled(self, job_id: int, worker_id: int | None) -> int:
        """Makes a job of a dead worker wait again; returns 0 if another process did."""
        return await self._put_back(job_id, worker_id, None)

    async def replace_waiting(self, job: Job, arguments: Mapping[str, object]) -> bool:
        """Gives a job that waits other arguments, as if it were new; False if it waits no more, or has others now."""
        before, after = json.dumps(job.task_kwargs), json.dumps(arguments)
        return bool(await self._database.execute_query_all_async(_REPLACE, job_id=job.id, before=before, after=after))

    async def prune_stalled_workers(self, seconds_since_heartbeat: float) -> list[int]:
        """Deletes the dead workers of this queue: those of another one may have a longer stall time."""
        arguments = {"queue": self._queue, "seconds": seconds_since_heartbeat}
        rows = await self._database.execute_query_all_async(_PRUNE, **arguments)
        return [row["id"] for row in rows]

    async def _put_back(self, job_id: int, worker_id: int | None, retry_at: datetime | None) -> int:
        """Makes a job wait until that time, if this worker still has it; returns 0 if not, or if an equal one waits."""
        arguments = {"job_id": job_id, "worker_id": worker_id}
        try:
            return len(await self._database.execute_query_all_async(_PUT_BACK, retry_at=retry_at, **arguments))
        except exceptions.UniqueViolation:
            await self._database.execute_query_async(_DELETE, **arguments)
            return 0


class WorkerJobs(Jobs):
    """The jobs of a worker with this `name` (`host:pid`).

    While `usable` says no, no job is begun; `on_fault` gets each fault of the database. `lost` is set when others have
    taken this worker for dead: it must begin anew under another number, since its heartbeat has no row any more.

    1. A job that was fetched while the connection broke, or whose end could not be stored, is in progress for the
       database and not for us. Nobody else would ever find it, because this worker lives.
    2. So after a fault, and before the next job is fetched, such jobs are made to wait again.
    """

    def __init__(
        self,
        connector: QueueConnector,
        queue: str,
        name: str,
        *,
        usable: Callable[[], bool],
        on_fault: Callable[[StoreError], None],
    ) -> None:
        super().__init__(connector, queue)
        self._name, self._usable, self._on_fault = name, usable, on_fault
        self.lost = asyncio.Event()
        self._held: set[int] = set()
        """The jobs in progress here."""
        self._in_doubt = False

    async def register_worker(self) -> int:
        """A new number, with the name of this process."""
        worker_id = await super().register_worker()
        arguments = {"worker_id": worker_id, "name": self._name, "queue": self._queue}
        await self._database.execute_query_async(_NAME_WORKER, **arguments)
        return worker_id

    async def unregister_worker(self, worker_id: int) -> None:
        """If this fails, others remove the number after the stall time."""
        try:
            await super().unregister_worker(worker_id)
        except exceptions.ConnectorException as error:
            self._report(error)

    async def update_heartbeat(self, worker_id: int) -> None:
        """A heartbeat that failed is made up for by the next one."""
        try:
            alive = await self._database.execute_query_all_async(_HEARTBEAT, worker_id=worker_id)
        except exceptions.ConnectorException as error:
            self._report(error)
        else:
            if not alive:
                self.lost.set()

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """The next job; None if there is none, or if the database can't be used."""
        if not self._usable():
            return None
        try:
            if self._in_doubt:
                await self._settle(worker_id)
            job = await super().fetch_job(queues, worker_id)
        except exceptions.ConnectorException as error:
            if isinstance(error.__cause__, psycopg.errors.ForeignKeyViolation):  # our number was removed
                self.lost.set()
            else:
                self._report(error)
            return None
        if job is not None and job.id is not None:
            self._held.add(job.id)
        return job

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:  # noqa: FBT001  # Procrastinate's signature
        """Stores the end of a job, if this worker still has it."""
        query = _DELETE if delete_job else _END
        arguments: dict[str, object] = {"job_id": job.id, "worker_id": job.worker_id}
        if not delete_job:
            arguments["status"] = status.value
        try:
            await self._database.execute_query_async(query, **arguments)
        except exceptions.ConnectorException as error:
            self._report(error)
        finally:
            self._held.discard(job.id or 0)

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime | None = None,
        priority: int | None = None,  # noqa: ARG002  # Procrastinate's signature; jobs keep theirs
        queue: str | None = None,  # noqa: ARG002  # the same
        lock: str | None = None,  # noqa: ARG002  # the same
    ) -> None:
        """Makes a job wait again, if this worker still has it, and unless an equal one waits already."""
        try:
            await self._put_back(job.id or 0, job.worker_id, retry_at)
        except exceptions.ConnectorException as error:
            self._report(error)
        finally:
            self._held.discard(job.id or 0)

    async def _settle(self, worker_id: int) -> None:
        rows = await self._database.execute_query_all_async(_IN_PROGRESS, worker_id=worker_id)
        for row in rows:
            if row["id"] not in self._held:
                await self.retry_stalled(row["id"], worker_id)
        self._in_doubt = False

    def _report(self, error: exceptions.ConnectorException) -> None:
        self._in_doubt = True
        self._on_fault(queue_fault(error, self._database.url))


_NAME_WORKER = "INSERT INTO monitor_workers (worker_id, name, queue) VALUES (%(worker_id)s, %(name)s, %(queue)s)"
_PRUNE = """
DELETE FROM procrastinate_workers AS w
WHERE w.last_heartbeat < now() - make_interval(secs => %(seconds)s)
  AND coalesce((SELECT m.queue = %(queue)s FROM monitor_workers AS m WHERE m.worker_id = w.id), true)
RETURNING w.id
"""
_HEARTBEAT = "UPDATE procrastinate_workers SET last_heartbeat = now() WHERE id = %(worker_id)s RETURNING id"
_IN_PROGRESS = "SELECT id FROM procrastinate_jobs WHERE worker_id = %(worker_id)s AND status = 'doing'"
_OF_WORKER = "WHERE id = %(job_id)s AND status = 'doing' AND (worker_id = %(worker_id)s::bigint OR worker_id IS NULL)"
"""It is NULL when the worker's number was removed."""
_ANNOUNCED = """
RETURNING id, pg_notify(
    'procrastinate_queue_v1#' || queue_name, json_build_object('type', 'job_inserted', 'job_id', id)::text
)
"""
_PUT_BACK = f"""
UPDATE procrastinate_jobs
SET status = 'todo', attempts = attempts + 1, scheduled_at = %(retry_at)s, worker_id = NULL, abort_requested = false
{_OF_WORKER}
{_ANNOUNCED}
"""  # noqa: S608  # no values in it
_REPLACE = f"""
UPDATE procrastinate_jobs SET args = %(after)s::jsonb, attempts = 0, scheduled_at = NULL
WHERE id = %(job_id)s AND status = 'todo' AND args = %(before)s::jsonb
{_ANNOUNCED}
"""  # noqa: S608  # the same
_END = f"""
UPDATE procrastinate_jobs SET status = %(status)s, attempts = attempts + 1, abort_requested = false {_OF_WORKER}
"""  # noqa: S608  # the same
_DELETE = f"DELETE FROM procrastinate_jobs {_OF_WORKER}"  # noqa: S608  # the same
