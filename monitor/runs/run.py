"""One run over one target: begin, sync, check, close.

1. Begin: one transaction acquires the lease and inserts the run.
2. Sync: ids are copied from the sync log into the work list, and the sync log is closed.
3. Check: due items are asked about; outcomes are stored in batches, each under the lease's epoch.
4. Close: one transaction writes the snapshot, the evidence, the incident changes and their notifications.
If the process is killed in between, the lease expires and the next run continues from the stored outcomes.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import msgspec
import structlog
from sqlalchemy import Connection, Engine

from monitor.database import leases
from monitor.database.engine import limit_idle_transaction, reading, writing
from monitor.database.retry import run_with_retry, with_retry
from monitor.database.urls import location_of
from monitor.errors import (
    LeaseLostError,
    MonitorError,
    RunAlreadyExecutedError,
    RunGivenBackError,
    StoreError,
    SyncLogError,
)
from monitor.incidents import store as incident_store
from monitor.incidents.backoff import order_probe_candidates, probe_for
from monitor.incidents.evaluate import IncidentEvaluator
from monitor.model import Cause, Reason, RunStatus, SyncReport
from monitor.model.durations import format_duration
from monitor.model.items import ItemChange
from monitor.providers import Provider
from monitor.runs import outcomes, worklist
from monitor.runs import store as run_store
from monitor.runs.check import TargetCheck
from monitor.runs.close import RunCloser
from monitor.runs.first_items import choose_first_items
from monitor.runs.heartbeat import Heartbeat
from monitor.runs.item_check import ItemCheck
from monitor.runs.lease_keeper import keep_lease
from monitor.runs.partial_report import PartialReport
from monitor.runs.progress import ApiClient, CheckReport, DueItems, Progress
from monitor.runs.report import RunContext, RunReport
from monitor.runs.stop_rules import FIRST_ITEMS
from monitor.runs.strategy import Approach, Strategy
from monitor.runs.sync import Sync, retry_unavailable_log
from monitor.runs.time_limit import DEADLINE_GRACE_S, TimeLimit
from monitor.synclog import Known, LogPage, LogStart, Watermark
from monitor.threads import StillRunningError, run_in_database_pool, run_in_sync_log_pool

LEASE_TTL = timedelta(seconds=30)
"""How long a lease lives without renewal, and so how long a dead run blocks its target."""

GIVEN_BACK = "a signal ended its worker, and another one begins the run again"
"""Why such a run has no snapshot."""

MAX_LOG_ROWS = 10_000_000
"""Rows of one sync log that are read: a table without end would fill the disk with its copy."""
MEMBERS_FLOOR = 200
"""Members of open incidents are asked about first: this many, or half as many as the last run had answered. So runs
that are always cut short still reach the other items."""

FIRST_WITH_MEMBERS = 2
"""Healthy items that come before members: enough to show that the API answers."""

RECHECK_FLOOR = 200
RECHECK_SHARE = 0.004
"""Completed items are rechecked, those unasked for longest first: this many or this share, whichever is more."""


class SharedPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run knows when it leaves its items to be shared: what is needed to ask about them and to close it."""

    context: RunContext
    sync: SyncReport
    due: DueItems
    found: PartialReport
    """By the first items."""
    approach: Approach
    probed_for: Cause | None
    deadline_s: float
    """On the monotonic clock."""


class Sharing(Protocol):
    """Where a run leaves its items if there are many: see `monitor.fleet`."""

    @property
    def share_above(self) -> int:
        """Up to so many due items the run asks itself."""
        ...

    def hand_over(self, plan: SharedPlan) -> None:
        """Takes over the run, in one transaction under its lease, which is kept from then on. Safe to repeat.

        Raises LeaseLostError or StoreError, and then took over nothing.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything that the runs of one target need; built in `app`."""

    target: str
    environment: str
    engine: Engine
    read_pages: Callable[[float, Known | None, Watermark | None], Iterator[LogPage | LogStart]]
    """Opens the sync log, yields it in pages, and closes it at the end.

    From the instant on, on the monotonic clock, a statement that still runs is interrupted. The known pages need no
    entries; nor need those be read that did not change since the watermark.
    """
    provider: Provider
    open_client: Callable[[], AbstractAsyncContextManager[ApiClient]]
    evaluator: IncidentEvaluator
    strategy: Strategy
    concurrency: int
    deadline: timedelta
    holder: str
    utcnow: Callable[[], datetime]
    lease_now: Callable[[Connection], datetime]
    """The clock of leases: see `leases.lease_now`."""
    log_fields: Mapping[str, str]
    """Further fields of every log event, such as `publisher_id` and `endpoint`."""
    read_file_state: Callable[[], str | None] = lambda: None
    """What stays the same only while nothing is written to the sync log's file. Raises SyncLogError."""
    keep_if_empty: bool = False
    """Whether an empty sync log removes nothing: the user's may be hidden from us, or emptied for a moment."""
    recheck_completed: bool = True
    """Whether completed items are asked about again; False: the API forgets them."""
    log_hides_rows: Callable[[], bool] = lambda: False
    """Whether row-level security may hide rows of the sync log; asked if it is empty. Raises SyncLogError."""
    earliest: bool = False
    """Whether, of several rows of the sync log with one id, the one with the earliest upload time counts."""
    heartbeat: Heartbeat | None = None
    lease_ttl: timedelta = LEASE_TTL
    max_attempts: int = 5
    sharing: Sharing | None = None
    """None: the run asks about all items itself."""


class Run:
    """One run of a job. `interrupt` is set by a signal: the run stores finished outcomes and ends as `partial`.

    A `run_key` is executed at most once.
    """

    def __init__(self, job: Job, *, interrupt: asyncio.Event, progress: Progress, run_key: str | None = None) -> None:
        self._job, self._interrupt, self._progress, self._run_key = job, interrupt, progress, run_key
        self._limit = TimeLimit(target=job.target, deadline=job.deadline, interrupt=interrupt)
        # a short database outage loses no outcome
        self._engine = with_retry(job.engine, should_stop=self._limit.should_stop)
        self._closer = RunCloser(self._engine, job.evaluator, utcnow=job.utcnow)
        self._any_event = self._is_handed_over = False
        self._found, self._abandoned_as = PartialReport(), run_store.PROCESS_DIED

    async def __call__(self) -> RunReport:
        """Executes the run, from begin to close. A run that was left to be shared goes on: its status is `running`.

        Raises:
            RunAlreadyExecutedError: a run with this run key was executed already.
            LeaseHeldError: another run of the target is in progress.
            LeaseLostError: another run took over; what was stored before remains.
            RunGivenBackError: a signal ended it, and it has a `sharing`, by which others may begin it again.
            StoreError: our database can't be used, or the run did not end in time.
            RunCrashedError: an error that nobody foresaw ended the run; it is stored and counted.
        """
        heartbeat = self._job.heartbeat
        return await (self._in_time(lambda: None) if heartbeat is None else heartbeat.send_around_run(self._in_time))

    async def _in_time(self, on_start: Callable[[], None]) -> RunReport:
        return await self._limit.enforce(self._run(on_start))

    async def _run(self, on_start: Callable[[], None]) -> RunReport:
        context = await run_in_database_pool(self._begin)
        on_start()
        with structlog.contextvars.bound_contextvars(
            run_id=context.run_id,
            integration=self._job.target,
            environment=self._job.environment,
            **self._job.log_fields,
        ):
            try:
                return await keep_lease(
                    self._execute(context), renew=lambda: self._renew(context), ttl=self._job.lease_ttl
                )
            except MonitorError:
                raise
            except Exception as error:
                crash = error
                raise await run_in_database_pool(lambda: self._closer.close_crashed(context, crash)) from error
            finally:
                if not (self._closer.has_ended or self._is_handed_over):
                    await run_in_database_pool(lambda: self._release(context))

    def _begin(self) -> RunContext:
        job, now = self._job, self._job.utcnow()
        with writing(job.engine) as conn:
            epoch = leases.acquire(
                conn, target=job.target, holder=job.holder, now=job.lease_now(conn), ttl=job.lease_ttl
            )
            # only under the lease: its previous holder may have been executing this run key
            if self._run_key is not None and run_store.already_executed(conn, target=job.target, run_key=self._run_key):
                raise RunAlreadyExecutedError(
                    f"target {job.target}: run key {self._run_key} was executed already; nothing to do"
                )
            past = run_store.past_runs(conn, target=job.target)
            if past.left_open:
                run_store.abandon(conn, target=job.target, before_epoch=epoch, at=now)
            run_id = run_store.start(
                conn,
                target=job.target,
                environment=job.environment,
                run_key=self._run_key,
                epoch=epoch,
                started_at=now,
                throttle_factor=past.throttle_factor,
            )
            return RunContext(target=job.target, run_id=run_id, epoch=epoch, at=now, past=past)

    async def _execute(self, context: RunContext) -> RunReport:
        try:
            sync = await self._sync_in_time(context)
        except SyncLogError as error:
            failed = error
            return await run_in_database_pool(lambda: self._closer.close_failed(context, failed))
        due = await run_in_database_pool(lambda: run_with_retry(self._engine, lambda: self._plan(context)))
        self._limit.step = "the API"
        due, checked = await self._check(context, due)
        self._limit.step = "the database"
        if checked.shared and self._job.sharing is not None:
            return await self._hand_over(self._job.sharing, context, sync, due, checked)
        if checked.cut_short_by is Reason.INTERRUPTED and self._job.sharing is not None:
            self._abandoned_as = GIVEN_BACK
            raise RunGivenBackError(f"target {context.target}: {GIVEN_BACK}")
        return await run_in_database_pool(
            lambda: self._closer.close(context, sync, due, checked, any_event=self._any_event)
        )

    async def _hand_over(
        self, sharing: Sharing, context: RunContext, sync: SyncReport, due: DueItems, checked: CheckReport
    ) -> RunReport:
        plan = SharedPlan(
            context=context,
            sync=sync,
            due=due,
            found=replace(
                self._found.resumed(), limits=checked.limits, attempts=checked.attempts, any_event=self._any_event
            ),
            approach=checked.approach,
            probed_for=checked.probed_for,
            deadline_s=self._limit.deadline_s,
        )
        await run_in_database_pool(lambda: run_with_retry(self._engine, lambda: sharing.hand_over(plan)))
        self._is_handed_over = True
        return RunReport(
            target=context.target,
            run_id=context.run_id,
            status=RunStatus.RUNNING,
            previous=context.past.snapshot,
            sync=sync,
            approach=checked.approach,
            probed_for=checked.probed_for,
            throttle_factor=context.past.throttle_factor,
        )

    async def _sync_in_time(self, context: RunContext) -> SyncReport:
        """Copies the sync log, until the deadline. Raises SyncLogError if it can't be read to its end by then."""
        self._limit.step = "the sync log"
        key = (location_of(self._job.engine.url), self._job.target)
        try:
            async with asyncio.timeout(self._limit.deadline_s + DEADLINE_GRACE_S - time.monotonic()):
                return await run_in_sync_log_pool(lambda: self._sync(context), key=key)
        except TimeoutError:
            raise self._overdue_log() from None
        except SyncLogError:
            if time.monotonic() >= self._limit.deadline_s:
                raise self._overdue_log() from None
            raise
        except StillRunningError:
            raise SyncLogError(
                "an earlier run still waits for its sync log, which does not answer; check its disk, or its server"
            ) from None
        finally:
            self._limit.step = "the database"

    def _overdue_log(self) -> SyncLogError:
        return SyncLogError(
            "the sync log was not read to its end within the deadline of the run "
            f"({format_duration(self._job.deadline)}); check its size, its load and the query of its view, or allow a "
            "longer deadline"
        )

    def _read_pages(self, known: Known | None, since: Watermark | None) -> Generator[LogPage | LogStart, None, None]:
        """The sync log, but neither without end nor after the deadline."""
        rows = 0
        for page in self._job.read_pages(self._limit.deadline_s, known, since):
            rows += page.rows if isinstance(page, LogPage) else 0
            if rows > MAX_LOG_ROWS:
                raise SyncLogError(
                    f"the sync log has more than {MAX_LOG_ROWS:,} rows; name a table or a view with fewer, such as "
                    "one per collection, or leave out what is no longer watched"
                )
            if time.monotonic() >= self._limit.deadline_s:
                raise self._overdue_log()
            yield page

    def _sync(self, context: RunContext) -> SyncReport:
        report = retry_unavailable_log(
            lambda: self._sync_once(context),
            started_s=self._limit.deadline_s - self._job.deadline.total_seconds(),
            deadline_s=self._limit.deadline_s,
            should_stop=self._limit.should_stop,
        )
        return report if report.read else replace(report, hidden=self._job.log_hides_rows())

    def _sync_once(self, context: RunContext) -> SyncReport:
        job = self._job
        sync = Sync(
            engine=self._engine,
            target=job.target,
            epoch=context.epoch,
            run_id=context.run_id,
            read_pages=self._read_pages,
            read_file_state=job.read_file_state,
            now=job.utcnow(),
            keep_if_empty=job.keep_if_empty,
            earliest=job.earliest,
        )
        # safe to repeat: rows that match the log are not changed again
        return run_with_retry(self._engine, sync)

    def _plan(self, context: RunContext) -> DueItems:
        target = self._job.target
        with reading(self._job.engine) as conn:
            known = worklist.count_work(conn, target=target)
            recheck = max(RECHECK_FLOOR, int(known.tracked * RECHECK_SHARE)) if self._job.recheck_completed else 0
            again = worklist.longest_unasked(conn, target=target, run_id=context.run_id, limit=recheck)
            item_ids = tuple(each.item_id for each in again)
            first = FIRST_WITH_MEMBERS if known.has_members else FIRST_ITEMS
            due = DueItems(
                count=known.due + len(again),
                tracked=known.tracked,
                rows=known.rows,
                first_ids=choose_first_items(again, count=first),
                recheck_ids=item_ids,
                members_first=_members_first(context) if known.has_members else 0,
                has_unverified=known.has_unverified,
                only_rechecks=known.due == 0,
            )
            open_incidents = (
                incident_store.unresolved(conn, targets=[target]).get(target, ()) if known.in_incident else ()
            )
            last_abort = context.past.last.aborted_by if context.past.last else None
            cause = probe_for({each.cause for each in open_incidents}, last_abort=last_abort)
            if cause is None:
                return due
            candidates = worklist.probe_candidates(conn, target=target, run_id=context.run_id, item_ids=item_ids)
            return replace(due, probe_for=cause, probe_ids=order_probe_candidates(candidates))

    async def _check(self, context: RunContext, due: DueItems) -> tuple[DueItems, CheckReport]:
        job, deadline_s = self._job, self._limit.deadline_s
        async with self._limit.closing(job.open_client()) as client:
            check = ItemCheck(
                provider=job.provider,
                client=client,
                record=lambda changes: self._record(context, changes),
                concurrency=job.concurrency,
                deadline_s=deadline_s,
                interrupt=self._interrupt,
                progress=self._progress,
                utcnow=job.utcnow,
                shuffle=random.shuffle,
                max_attempts=job.max_attempts,
                missing_after=job.evaluator.age_limits.missing_after,
                is_handed_on=lambda: job.sharing is not None,
            )
            target_check = TargetCheck(
                engine=self._engine,
                target=job.target,
                run_id=context.run_id,
                epoch=context.epoch,
                due=due,
                strategy=job.strategy,
                provider=job.provider,
                client=client,
                check=check,
                deadline_s=deadline_s,
                interrupt=self._interrupt,
                progress=self._progress,
                utcnow=job.utcnow,
                recheck_completed=job.recheck_completed,
                share_above=job.sharing.share_above if job.sharing else None,
            )
            result = await target_check.run()
            self._found = check.partial()
            return result

    def _record(self, context: RunContext, changes: Sequence[ItemChange]) -> None:
        target, run_id = context.target, context.run_id
        self._any_event = self._any_event or any(change.event for change in changes)
        attempts = itertools.count()

        def store() -> None:
            again = next(attempts) > 0
            with writing(self._engine) as conn:
                leases.verify(conn, target=target, epoch=context.epoch)
                # the previous attempt may have committed before its connection broke
                if not (again and outcomes.is_recorded(conn, target=target, run_id=run_id, change=changes[0])):
                    outcomes.record(conn, target=target, run_id=run_id, changes=changes, watch=context.past.watch)
                    # again: after many rows in one call the server does not restart its idle timer
                    limit_idle_transaction(conn)

        run_with_retry(self._engine, store)

    def _renew(self, context: RunContext) -> None:
        job = self._job
        with writing(job.engine, urgent=True) as conn:
            try:
                leases.renew(conn, target=job.target, epoch=context.epoch, now=job.lease_now(conn), ttl=job.lease_ttl)
            except LeaseLostError:
                # the run itself may have ended while this waited for the lock
                if not run_store.closed_by_owner(conn, run_id=context.run_id):
                    raise

    def _release(self, context: RunContext) -> None:
        job = self._job
        try:
            with writing(job.engine) as conn:
                # first: this waits for a thread that is still closing the run
                leases.release(conn, target=job.target, epoch=context.epoch)
                # if the run was cancelled or failed, it is still open
                run_store.abandon(
                    conn, target=job.target, before_epoch=context.epoch + 1, at=job.utcnow(), error=self._abandoned_as
                )
        except StoreError as error:
            # it expires by itself; the error that ended the run matters more
            structlog.get_logger().warning("lease_not_released", reason=str(error))


def _members_first(context: RunContext) -> int:
    return max(MEMBERS_FLOOR, (context.past.snapshot.checked if context.past.snapshot else 0) // 2)
