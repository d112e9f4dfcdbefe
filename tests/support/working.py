"""A queue of workers in a test's own process."""

import asyncio
import contextlib

import psycopg
from support import observed

from monitor.fleet.handlers import JobEnd
from monitor.fleet.queue_worker import QueueWorker


class Recorder:
    """Handlers that note their calls; `raises` are thrown, first ones first."""

    def __init__(self, *raises):
        self.calls, self.raises = [], list(raises)
        self.called = asyncio.Event()
        self.hold = None

    async def _note(self, *call):
        self.calls.append(call)
        self.called.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.raises and (error := self.raises.pop(0)) is not None:
            raise error
        return JobEnd.DONE

    async def plan(self, target, run_key):
        return await self._note("plan", target, run_key)

    async def share(self, run_id, number, worker):
        return await self._note("share", run_id, number, worker)

    async def close(self, run_id):
        return await self._note("close", run_id)


def jobs(url, columns="task_name, status::text"):
    with psycopg.connect(url) as conn:
        return conn.execute(f"SELECT {columns} FROM procrastinate.procrastinate_jobs ORDER BY id").fetchall()


async def until(holds, what, *, timeout_s=60):
    await asyncio.to_thread(observed.until, holds, what, timeout_s=timeout_s)


class Faults(list):
    """The faults that a worker reported, as text."""

    def __call__(self, error):
        self.append(str(error))


@contextlib.asynccontextmanager
async def working(queue, handlers, **options):
    """Works until the end of the block, and then returns."""
    stop, faults = asyncio.Event(), options.pop("on_fault", Faults())
    worker = QueueWorker(queue, handlers, name="host:1", on_fault=faults, **options)
    task = asyncio.create_task(worker.work(stop=stop))
    try:
        yield stop
    finally:
        stop.set()
        await task
