"""What the jobs of a shared run do: plan it, check a share of it, close it. Any worker may execute any of them.

A job may come twice, or again after its worker died, so each looks first at what is stored.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol
from uuid import uuid4

import msgspec
import structlog
from sqlalchemy import Engine

from monitor.database import leases
from monitor.database.engine import reading, writing
from monitor.errors import LeaseLostError, TargetNotHereError
from monitor.fleet import share_store
from monitor.fleet.closing import close_shared_run, run_is_to_close
from monitor.fleet.share_check import BEAT, ShareCheck, ShareEnd, lease_ttl
from monitor.fleet.share_store import QueuedShare, SharedRun
from monitor.fleet.shares import ShareClaim, lay_out
from monitor.fleet.waiting import FLEET_HOLDER
from monitor.model import RunStatus
from monitor.runs import store as run_store
from monitor.runs.progress import NoProgress
from monitor.runs.run import Job, Run, SharedPlan
from monitor.threads import run_in_database_pool


class JobEnd(StrEnum):
    """How a job ended: the `outcome` of its log event."""

    DONE = "done"
    GIVEN_BACK = "given_back"
    """A signal ended the worker: what is left waits for another one."""
    NOTHING_TO_DO = "nothing_to_do"
    """Another worker does it, or did it."""
    LOST = "lost"
    """Another worker took it over, or its run was closed: what was not stored by then is dropped."""
    AGAIN = "again"
    """It comes again later: the database can't be used, another run holds the lease, or the target is not here."""
    CANCELLED = "cancelled"
    """It did not end in time after a signal, and comes again."""
    FAILED = "failed"


class ShareQueue(Protocol):
    """The part of the queue that shared runs need."""

    async def defer_share(self, run_id: int, number: int, priority: int = 0) -> bool:
        """Queues a share; False if it waits already."""
        ...

    async def defer_close(self, run_id: int) -> bool:
        """Queues the close of a run; False if it waits already."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingOptions:
    """How runs are shared."""

    share: int = 20_000
    """Items of one share; a run with fewer is not shared."""
    share_concurrency: int = 64
    stalled_after: timedelta = timedelta(seconds=30)
    """A share whose worker was silent for so long is taken over; a lease that nobody renewed for so long is free."""
    beat: timedelta = BEAT


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSharing:
    """Takes over one run from its planner."""

    job: Job
    options: SharingOptions
    heartbeat_rid: str

    @property
    def share_above(self) -> int:
        """Up to so many due items the planner asks itself."""
        return self.options.share

    def hand_over(self, plan: SharedPlan) -> None:
        """Stores the run with its shares, and passes the lease on, in one transaction."""
        job, context = self.job, plan.context
        # before the transaction that keeps the lease from being renewed: a million due items take seconds
        ranges = share_store.due_ranges(
            job.engine,
            target=context.target,
            run_id=context.run_id,
            recheck_ids=plan.due.recheck_ids,
            size=self.options.share,
            expected=plan.due.count,
        )
        with writing(job.engine) as conn:
            leases.verify(conn, target=context.target, epoch=context.epoch)
            if share_store.is_shared(conn, run_id=context.run_id):
                return  # the commit of an earlier attempt succeeded, and its reply was lost
            now = job.lease_now(conn)
            run = self._shared_run(plan, shares=len(ranges), now=now)
            share_store.add_run(conn, run=run, shares=lay_out(ranges), planned_at=now)
            leases.pass_on(
                conn,
                target=context.target,
                epoch=context.epoch,
                holder=FLEET_HOLDER,
                now=now,
                ttl=self.options.stalled_after,
            )

    def _shared_run(self, plan: SharedPlan, *, shares: int, now: datetime) -> SharedRun:
        context = plan.context
        return SharedRun(
            run_id=context.run_id,
            target=context.target,
            epoch=context.epoch,
            is_open=True,
            deadline_at=now + timedelta(seconds=max(0.0, plan.deadline_s - time.monotonic())),
            sync=msgspec.to_builtins(plan.sync),
            plan=self._facts(plan) | {"shares": shares},
            checked=plan.found.to_json(),
            stopped_by=None,
            started_at=context.at,
        )

    def _facts(self, plan: SharedPlan) -> dict[str, Any]:
        return {
            "due": plan.due.count,
            "tracked": plan.due.tracked,
            "first_ids": list(plan.due.first_ids),
            "approach": msgspec.to_builtins(plan.approach),
            "probed_for": plan.probed_for and plan.probed_for.value,
            "heartbeat_rid": self.heartbeat_rid,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHandlers:
    """The jobs of runs. `job_of` gives the job of a configured target, None for another."""

    engine: Engine
    job_of: Callable[[str], Job | None]
    queue: ShareQueue
    options: SharingOptions
    interrupt: asyncio.Event
    """Set by a signal: shares are given back, and so is what is left of a run that is not shared."""

    async def plan(self, target: str, run_key: str | None) -> JobEnd:
        """Executes a run, or as much of it as must come before it is shared. Raises MonitorError as `Run` does."""
        job = self._job_of(target)
        planned = await run_in_database_pool(lambda: self._resume(job, run_key))
        if planned is not None:
            await self._defer_shares(planned)
            return JobEnd.DONE
        rid = str(uuid4())
        sharing = PlannedSharing(job=job, options=self.options, heartbeat_rid=rid)
        heartbeat = replace(job.heartbeat, new_rid=lambda: rid) if job.heartbeat else None
        planning = replace(job, sharing=sharing, heartbeat=heartbeat, lease_ttl=self.options.stalled_after)
        report = await Run(planning, interrupt=self.interrupt, progress=NoProgress(), run_key=run_key)()
        if report.status is RunStatus.RUNNING:
            await self._defer_shares(report.run_id)
            return JobEnd.GIVEN_BACK if self.interrupt.is_set() else JobEnd.DONE
        return JobEnd.DONE

    def _resume(self, job: Job, run_key: str | None) -> int | None:
        """The run that a planner with this run key stored, and died before it had queued all shares; None: none."""
        if run_key is None:
            return None
        with writing(job.engine) as conn:
            run = share_store.open_run_of(conn, target=job.target, run_key=run_key)
            if run is None or not run.holds_lease:
                return None
            now = job.lease_now(conn)
            leases.renew(conn, target=run.target, epoch=run.epoch, now=now, ttl=lease_ttl(self.options.stalled_after))
        return run.run_id

    async def _defer_shares(self, run_id: int) -> None:
        waiting = await run_in_database_pool(lambda: self._waiting(run_id))
        for each in waiting:
            await self.queue.defer_share(run_id, each.number, each.priority)
        if not waiting:
            await self.queue.defer_close(run_id)

    def _waiting(self, run_id: int) -> list[QueuedShare]:
        with reading(self.engine) as conn:
            return share_store.waiting(conn, run_id=run_id)

    async def share(self, run_id: int, number: int, worker: str) -> JobEnd:
        """Checks a share, if it may be begun, and queues what is to be done next.

        Raises LeaseLostError or StoreError as `ShareCheck`.
        """
        run = await run_in_database_pool(lambda: self._load(run_id))
        if run is None or not run.is_open:
            return JobEnd.NOTHING_TO_DO
        job, end = self._job_of(run.target), JobEnd.DONE
        with structlog.contextvars.bound_contextvars(share=number, **_log_fields(job, run)):
            begun = await run_in_database_pool(lambda: self._begin(job, run, number, worker))
            if isinstance(begun, ShareClaim):
                structlog.get_logger().debug("share_not_begun", reason=begun.value)
                end = JobEnd.NOTHING_TO_DO
            elif await begun.execute() is ShareEnd.GIVEN_BACK:
                await self.queue.defer_share(run_id, number, begun.share.priority)
                end = JobEnd.GIVEN_BACK
        if await run_in_database_pool(lambda: self._is_to_close(job, run)):
            await self.queue.defer_close(run_id)
        return end

    async def close(self, run_id: int) -> JobEnd:
        """Closes a run, if it is time and nobody did. Raises MonitorError as `Run` does."""
        run = await run_in_database_pool(lambda: self._load(run_id))
        if run is None or not run.is_open:
            return JobEnd.NOTHING_TO_DO
        job = self._job_of(run.target)
        if not await run_in_database_pool(lambda: self._is_to_close(job, run)):
            return JobEnd.NOTHING_TO_DO
        with structlog.contextvars.bound_contextvars(**_log_fields(job, run)):
            report = await run_in_database_pool(lambda: close_shared_run(job, run, should_stop=self.interrupt.is_set))
        if report is None:
            return JobEnd.LOST
        if job.heartbeat is not None:
            await job.heartbeat.send_end(run.plan["heartbeat_rid"], report)
        return JobEnd.DONE

    def _job_of(self, target: str) -> Job:
        """The job of a target. Raises TargetNotHereError."""
        job = self.job_of(target)
        if job is None:
            raise TargetNotHereError(target)
        return job

    def _load(self, run_id: int) -> SharedRun | None:
        with reading(self.engine) as conn:
            return share_store.load_run(conn, run_id=run_id)

    def _begin(self, job: Job, run: SharedRun, number: int, worker: str) -> ShareCheck | ShareClaim:
        """An attempt at a share, or why there is none."""
        stalled_after = self.options.stalled_after
        try:
            with writing(job.engine) as conn:
                leases.verify_shared(conn, target=run.target, epoch=run.epoch)
                now = job.lease_now(conn)
                begun = share_store.begin(
                    conn, run=run, number=number, worker=worker, now=now, stalled_after=stalled_after
                )
                past = run_store.past_runs(conn, target=run.target)
                leases.renew(conn, target=run.target, epoch=run.epoch, now=now, ttl=lease_ttl(stalled_after))
        except LeaseLostError:
            return ShareClaim.OVER
        if isinstance(begun, ShareClaim):
            return begun
        return ShareCheck(
            job=job,
            run=run,
            share=begun,
            watch=past.watch,
            concurrency=self.options.share_concurrency,
            deadline_s=time.monotonic() + (run.deadline_at - now).total_seconds(),
            lease_ttl=lease_ttl(stalled_after),
            interrupt=self.interrupt,
            beat=self.options.beat,
        )

    def _is_to_close(self, job: Job, run: SharedRun) -> bool:
        with reading(job.engine) as conn:
            return run_is_to_close(
                conn, run_id=run.run_id, now=job.lease_now(conn), stalled_after=self.options.stalled_after
            )


def _log_fields(job: Job, run: SharedRun) -> dict[str, Any]:
    return {"run_id": run.run_id, "integration": run.target, "environment": job.environment, **job.log_fields}
