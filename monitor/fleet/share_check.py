"""One attempt at a share: begins where earlier attempts ended, asks about its items, and stores the outcomes.

1. The share was begun: this attempt has a number, by which whatever an earlier one still writes is fenced off.
2. Each batch of outcomes is one transaction: it verifies the run's epoch and the attempt, and stores the report so far.
3. Each second the attempt shows that it goes on, renews the run's lease if it is due, and learns whether another share
   stopped the target.
4. At the end the share is done; or it waits for another worker, if a signal ended this one.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import structlog
from sqlalchemy import Connection, Engine

from monitor.database import leases
from monitor.database.engine import limit_idle_transaction, writing
from monitor.database.retry import run_with_retry, with_retry
from monitor.fleet import share_store
from monitor.fleet.share_store import BegunShare, SharedRun
from monitor.model import Cause
from monitor.model.items import ItemChange, TrackedItem
from monitor.rollups.indexing import Watch
from monitor.runs import outcomes
from monitor.runs.check import BATCH_SIZE
from monitor.runs.item_check import ItemCheck, Record
from monitor.runs.lease_keeper import RENEWALS_PER_TTL, keep_lease
from monitor.runs.partial_report import PartialReport
from monitor.runs.progress import ApiClient, NoProgress
from monitor.runs.run import Job
from monitor.runs.time_limit import settle
from monitor.runs.worklist import KeyRange, iter_due_items, iter_unverified
from monitor.threads import run_in_database_pool

BEAT = timedelta(seconds=1)
"""How often an attempt shows that it goes on, and so how soon all shares learn that one stopped the target."""


class ShareEnd(StrEnum):
    """How an attempt ended."""

    DONE = "done"
    STOPPED = "stopped"
    """The target was stopped, here or by another share."""
    CUT_SHORT = "cut_short"
    """The deadline of the run came."""
    GIVEN_BACK = "given_back"
    """A signal ended the worker."""


@dataclass(slots=True, kw_only=True)
class ShareCheck:
    """One attempt at a share of a run."""

    job: Job
    run: SharedRun
    share: BegunShare
    watch: Watch
    """Of the runs before."""
    concurrency: int
    deadline_s: float
    """On the monotonic clock."""
    lease_ttl: timedelta
    interrupt: asyncio.Event
    """Set by a signal."""
    beat: timedelta = BEAT
    _stopped: Cause | None = None
    """What stopped the target in another share."""
    _any_event: bool = False
    _ending: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether no further item may be asked about."""
    _engine: Engine = field(init=False)
    _base: PartialReport = field(init=False)

    def __post_init__(self) -> None:
        """What earlier attempts found out counts on."""
        self._engine = with_retry(self.job.engine, should_stop=self._must_not_wait)
        stored = self.share.checked
        self._base = PartialReport() if stored is None else PartialReport.from_json(stored).resumed()

    async def execute(self) -> ShareEnd:
        """Asks about the items that are left, and ends the attempt.

        Raises:
            LeaseLostError: another worker took the share over, or the run was closed; nothing more was stored.
            StoreError: our database can't be used; what was stored before remains.
        """
        interrupted = asyncio.create_task(self._end_by_signal())
        try:
            return await self._execute()
        finally:
            await settle(interrupted)

    async def _execute(self) -> ShareEnd:
        job, log, began_s = self.job, structlog.get_logger(), time.monotonic()
        log.info("share_began", items=self.share.items, attempt=self.share.attempt)
        async with job.open_client() as client:
            client.share_retries(1 / self.run.plan["shares"])
            check = self._new_check(client)
            check.confirm_access()  # the planner's first items were answered
            beat_ttl = self.beat * RENEWALS_PER_TTL
            loop = asyncio.get_running_loop()
            await keep_lease(check.run(self._due_items()), renew=lambda: self._show_life(check, loop), ttl=beat_ttl)
            found = self._report(check.partial(), client)
        how = self._how(found)
        await run_in_database_pool(lambda: self._end(found, how))
        log.info(
            "share_ended",
            outcome=how.value,
            asked=found.asked - self._base.asked,
            requests=found.requests - self._base.requests,
            duration_s=round(time.monotonic() - began_s, 3),
            **({"stopped_by": cause.value} if (cause := found.stopped_by or self._stopped) else {}),
        )
        return how

    def _new_check(self, client: ApiClient) -> ItemCheck:
        job = self.job

        def record_with(found: PartialReport) -> Record:
            checked = self._report(found, client).to_json()
            return lambda changes: self._record(changes, checked)

        return ItemCheck(
            provider=job.provider,
            client=client,
            record_with=record_with,
            concurrency=min(job.concurrency, self.concurrency),
            deadline_s=self.deadline_s,
            interrupt=self._ending,
            progress=NoProgress(),
            utcnow=job.utcnow,
            shuffle=random.shuffle,
            max_attempts=job.max_attempts,
            missing_after=job.evaluator.age_limits.missing_after,
            is_handed_on=lambda: self.interrupt.is_set() and self._stopped is None,
        )

    def _report(self, found: PartialReport, client: ApiClient) -> PartialReport:
        """The report of this attempt and those before."""
        attempts, limits = client.attempts(found.requests), client.limits()
        return self._base.merged(replace(found, attempts=attempts, limits=limits, any_event=self._any_event))

    def _how(self, found: PartialReport) -> ShareEnd:
        if found.stopped_by is not None or self._stopped is not None:
            return ShareEnd.STOPPED
        if self.interrupt.is_set() and found.left:
            return ShareEnd.GIVEN_BACK
        return ShareEnd.CUT_SHORT if found.left and found.cut_short_by is not None else ShareEnd.DONE

    def _due_items(self) -> Iterator[list[TrackedItem]]:
        share, within = self.share, KeyRange(first_id=self.share.first_id, before_id=self.share.before_id)
        target, run_id = self.run.target, self.run.run_id
        yield from iter_due_items(
            self._engine,
            target=target,
            run_id=run_id,
            recheck=share.recheck_ids,
            members=BATCH_SIZE,
            batch=BATCH_SIZE,
            within=within,
        )
        yield from iter_unverified(self._engine, target=target, run_id=run_id, batch=BATCH_SIZE, within=within)

    def _record(self, changes: Sequence[ItemChange], checked: dict[str, Any]) -> None:
        run, attempts = self.run, itertools.count()
        self._any_event = self._any_event or any(change.event for change in changes)
        checked["any_event"] = checked["any_event"] or self._any_event

        def store() -> None:
            again = next(attempts) > 0
            with self._holding() as conn:
                share_store.keep_report(conn, share=self.share, checked=checked)
                # the previous attempt may have committed before its connection broke
                if not (again and outcomes.is_recorded(conn, target=run.target, run_id=run.run_id, change=changes[0])):
                    outcomes.record(conn, target=run.target, run_id=run.run_id, changes=changes, watch=self.watch)
                    limit_idle_transaction(conn)

        run_with_retry(self._engine, store)

    def _end(self, found: PartialReport, how: ShareEnd) -> None:
        checked, cause = found.to_json(), found.stopped_by

        def store() -> None:
            with self._holding() as conn:
                now = self.job.lease_now(conn)
                given_back = how is ShareEnd.GIVEN_BACK
                share_store.end(conn, share=self.share, checked=checked, given_back=given_back, now=now)
                if cause is not None:
                    share_store.stop(conn, run_id=self.run.run_id, cause=cause)

        run_with_retry(self._engine, store)

    @contextmanager
    def _holding(self) -> Iterator[Connection]:
        """A transaction under the epoch of the run."""
        with writing(self._engine) as conn:
            leases.verify_shared(conn, target=self.run.target, epoch=self.run.epoch)
            yield conn

    def _show_life(self, check: ItemCheck, loop: asyncio.AbstractEventLoop) -> None:
        """Called in a thread."""
        run, cause = self.run, check.stopped_by
        with writing(self.job.engine, urgent=True) as conn:
            limit_idle_transaction(conn)
            now = self.job.lease_now(conn)
            seen = share_store.touch(conn, share=self.share, target=run.target, now=now)
            if cause is not None and seen.stopped_by is None:
                share_store.stop(conn, run_id=run.run_id, cause=cause)
            if lease_is_due(seen.lease_ends_at, now=now, ttl=self.lease_ttl):
                leases.renew(conn, target=run.target, epoch=run.epoch, now=now, ttl=self.lease_ttl)
        if seen.stopped_by is not None and cause is None:
            self._stopped = seen.stopped_by
            loop.call_soon_threadsafe(self._ending.set)

    async def _end_by_signal(self) -> None:
        await self.interrupt.wait()
        self._ending.set()

    def _must_not_wait(self) -> bool:
        """Whether an unavailable database is not waited for; called in any thread."""
        return self.interrupt.is_set() or time.monotonic() >= self.deadline_s + _STORE_GRACE_S


_STORE_GRACE_S = 4.0
"""After the deadline: then the run is closed, whatever was stored."""


def lease_ttl(stalled_after: timedelta) -> timedelta:
    """How long the lease of a shared run lives without renewal: it outlives two looks of the supervisors."""
    return stalled_after + _SUPERVISORS


_SUPERVISORS = timedelta(seconds=10)


def lease_is_due(ends_at: datetime | None, *, now: datetime, ttl: timedelta) -> bool:
    """Whether a lease is to be renewed: half of it is over. None: it was released, which renewing shows."""
    return ends_at is None or ends_at - now < ttl / 2
