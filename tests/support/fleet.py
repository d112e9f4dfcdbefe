"""Runs that workers share, for tests: handlers as of several processes in one event loop, and a queue in memory."""

import asyncio
import contextlib
import itertools
import json
import math
from dataclasses import replace
from datetime import timedelta

from monitor.app.throttles import ThrottleRegistry
from monitor.errors import LeaseHeldError, LeaseLostError
from monitor.fleet.handlers import RunHandlers, SharingOptions
from monitor.fleet.supervise import supervise_once

STALLED_AFTER = timedelta(seconds=30)
BEAT = timedelta(milliseconds=40)


class MemoryQueue:
    """A queue whose jobs are executed by `work`. A job that waits is not queued again."""

    def __init__(self):
        self.waiting, self.lost = {}, False
        self._turns = itertools.count()
        self.deferred = []

    async def defer_plan(self, target, run_key):
        return self._add(("plan", target, run_key), 1000)

    async def defer_share(self, run_id, number, priority=0):
        return self._add(("share", run_id, number), priority)

    async def defer_close(self, run_id):
        return self._add(("close", run_id), 2000)

    async def retry_stalled(self):
        return 0

    def _add(self, job, priority):
        if self.lost:  # the process died before it could queue this
            return True
        if job in self.waiting:
            return False
        self.deferred.append(job)
        self.waiting[job] = (-priority, next(self._turns))
        return True

    def first(self):
        """The next job; None if none waits."""
        return min(self.waiting, key=self.waiting.get, default=None)

    def take(self, job):
        """A worker begins it."""
        del self.waiting[job]


class Fleet:
    """Workers over a World on PostgreSQL. Each has handlers, and throttles of its own, as a process has."""

    def __init__(self, world, *, share=10, workers=2, heartbeat=None, **options):
        self.world, self.queue, self.heartbeat = world, MemoryQueue(), heartbeat
        self.options = SharingOptions(share=share, stalled_after=STALLED_AFTER, **{"beat": BEAT, **options})
        self.workers = [self.worker() for _ in range(workers)]

    def worker(self, queue=None):
        """Handlers as of one more process."""
        registry = ThrottleRegistry()

        def job_of(name):
            app, clock = replace(self.world.app, limits=registry), self.world.clock
            for target in app.config.targets:
                if target.name == name:
                    changes = {"utcnow": clock, "lease_now": lambda _conn: clock(), "heartbeat": self.heartbeat}
                    return replace(app.job(target), **changes)
            return None

        return RunHandlers(
            engine=self.world.app.engine,
            job_of=job_of,
            queue=queue or self.queue,
            options=self.options,
            interrupt=asyncio.Event(),
        )

    async def plan(self, run_key=None):
        """Plans a run of the target in the first worker."""
        await self.workers[0].plan("gloo", run_key)

    async def work(self, *, shares=math.inf):
        """All workers execute jobs until none waits, or, of shares, only so many."""
        left = shares

        async def serve(number, handlers):
            nonlocal left
            while (job := self.queue.first()) is not None and not (job[0] == "share" and left <= 0):
                left -= job[0] == "share"
                self.queue.take(job)
                with contextlib.suppress(LeaseLostError, LeaseHeldError):
                    await execute(handlers, job, f"host:{number}")

        await asyncio.gather(*(serve(number, each) for number, each in enumerate(self.workers)))

    async def supervise(self):
        await supervise_once(
            self.world.app.engine, self.queue, stalled_after=STALLED_AFTER, lease_now=lambda _conn: self.world.clock()
        )

    def run(self, *, run_key=None):
        """One run, planned and shared, at the clock's time; then the clock moves by a minute, as in `World.run`."""

        async def once():
            await self.plan(run_key)
            await self.work()

        try:
            asyncio.run(once())
        finally:
            self.world.clock.advance(minutes=1)


async def execute(handlers, job, worker):
    match job:
        case ("plan", target, run_key):
            await handlers.plan(target, run_key)
        case ("share", run_id, number):
            await handlers.share(run_id, number, worker)
        case ("close", run_id):
            await handlers.close(run_id)


COLUMNS = {
    "items": "item_id, state, known_state, reason, stage, recognised, since, pending_since, seen_at, checked_at, "
    "asked_run_id, http_status, code, incident_id, regressed_at, page, unverified_runs, failure_reason, indexed_at",
    "item_events": "item_id, run_id, at, kind, old, new",
    "history": "run_id, started_at, finished_at, status, abort_reason, total, checked, completed, pending, failed, "
    "not_found, invalid, unknown, stuck, requests, retries",
    "runs": "id, status, abort_reason, owner_cause, due, answered, accepted, throttle_factor",
    "evidence": "run_id, cause, group_name, count, sample_ids::text, breakdown, code, api_message, inhibited_by, page",
    "incidents": "id, cause, state, severity, opened_at, resolved_at, member_count, peak_count, group_name",
    "incident_events": "incident_id, id, run_id, at, kind, reason",
    "notifications": "incident_id, id, channel, kind, status, cause, message",
    "history_hourly": "starts_at, run_id, completed, unknown_max, total_sum, requests_sum",
    "time_to_indexed": "slot_s, starts_at, group_name, buckets, indexed, sum_s",
    "slowest_uploads": "starts_at, item_id, took_s",
    "run_totals": "name, label, total",
}
"""What a run writes, but request ids, and durations of requests."""


def written(world):
    """By table, what all runs wrote."""
    found = {name: world.rows(f"SELECT {columns} FROM {name} ORDER BY 1, 2, 3") for name, columns in COLUMNS.items()}
    for row in found["time_to_indexed"]:  # as JSON: what was added twice has other spaces
        row["buckets"] = json.loads(row["buckets"])
    return found
