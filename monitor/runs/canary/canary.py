"""One canary of a target, from begin to end.

1. **Begin.** One transaction takes the lease of the target's canaries, ends those whose process died, and stores the
   document's unique name: whatever happens from here on, the document can be found again.
2. What earlier canaries left is removed.
3. **Upload.** Each id that an answer gives is stored at once.
4. **Index.** The provider's own question about an item is asked until the document is indexed.
5. **Retrieve.** The marker must come back.
6. **Clean up**, whatever happened before; then the row is closed.

No request is sent inside a transaction, and each write checks the epoch of the lease.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection, Engine

from monitor.database import leases
from monitor.database.engine import reading, writing
from monitor.database.retry import run_with_retry, with_retry
from monitor.errors import MonitorError, RunAlreadyExecutedError, RunCrashedError, StoreError
from monitor.logs import log_crash
from monitor.providers import Provider, is_list_only
from monitor.providers.canary import CanaryRequests
from monitor.providers.templates import ITEM_ID
from monitor.runs.canary import store
from monitor.runs.canary.clean_up import Remover, still_there
from monitor.runs.canary.model import SETTLE_TIME, CanaryReport, CanaryStatus, CleanUp, Document, Step, StepFailure
from monitor.runs.canary.requests import (
    LIST_WAIT_S,
    MIN_WAIT_S,
    InterruptedCanaryError,
    Pause,
    StepSender,
    item_asker,
    lacking_failure,
)
from monitor.runs.canary.steps import retrieve, seconds_since, wait_until_indexed
from monitor.runs.lease_keeper import keep_lease
from monitor.runs.progress import ApiClient
from monitor.runs.run import LEASE_TTL
from monitor.threads import run_in_database_pool

UPLOAD_S, RETRIEVE_S, CLEAN_UP_S = 120.0, 60.0, 60.0
"""Seconds that a step may take; indexing has `timeout`."""
HURRY_S = 4.0
"""Seconds for the clean-up after a signal: a supervisor's SIGKILL comes ten seconds after it."""
MAX_LEFTOVERS = 20
"""Documents of earlier canaries that one canary looks after, the oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryJob:
    """Everything that a canary of one target needs; built in `app`."""

    target: str
    environment: str
    engine: Engine
    provider: Provider
    requests: CanaryRequests
    open_client: Callable[[], AbstractAsyncContextManager[ApiClient]]
    slow_after: timedelta
    timeout: timedelta
    holder: str
    utcnow: Callable[[], datetime]
    lease_now: Callable[[Connection], datetime]
    new_token: Callable[[], str]
    """A random token of lower-case letters and digits for the document's name and marker."""
    log_fields: Mapping[str, str] = field(default_factory=dict)
    lease_ttl: timedelta = LEASE_TTL
    step_s: Mapping[Step, float] = field(
        default_factory=lambda: {Step.UPLOAD: UPLOAD_S, Step.RETRIEVE: RETRIEVE_S, Step.CLEAN_UP: CLEAN_UP_S}
    )


@dataclass(slots=True, kw_only=True)
class _Progress:
    """What one canary has found out so far."""

    id: int
    epoch: int
    document: Document
    started_at: datetime
    durations_s: dict[Step, float] = field(default_factory=dict)
    failure: StepFailure | None = None
    interrupted: bool = False
    stage: str | None = None
    seen: bool = False
    """The API had the document at some time."""
    uploads: int = 0
    """How often the upload's first request was sent."""
    nothing_uploaded: bool = True
    """No upload was sent that may have been executed."""
    leftovers_removed: int = 0
    leftover_failure: StepFailure | None = None


class Canary:
    """One canary of a job. `interrupt` is set by a signal; `on_step` is told of each step that begins.

    A `run_key` is executed at most once.
    """

    def __init__(
        self,
        job: CanaryJob,
        *,
        interrupt: asyncio.Event,
        run_key: str | None = None,
        on_step: Callable[[Step], None] = lambda _: None,
    ) -> None:
        self._job, self._interrupt, self._run_key, self._on_step = job, interrupt, run_key, on_step
        self._engine = with_retry(job.engine, should_stop=interrupt.is_set)

    async def __call__(self) -> CanaryReport:
        """Executes the canary.

        Raises:
            RunAlreadyExecutedError: a canary with this run key was begun already.
            LeaseHeldError: another canary of the target is in progress.
            LeaseLostError: another canary took over, and cleans up what this one left.
            StoreError: our database can't be used.
            ConfigError: a file with credentials or certificates can't be read.
            RunCrashedError: an error that nobody foresaw ended it; the next canary removes what it left.
        """
        progress = await run_in_database_pool(self._begin)
        with structlog.contextvars.bound_contextvars(
            integration=self._job.target, environment=self._job.environment, canary_id=progress.id,
            **self._job.log_fields,
        ):  # fmt: skip
            try:
                return await keep_lease(
                    self._execute(progress), renew=lambda: self._renew(progress), ttl=self._job.lease_ttl
                )
            except MonitorError:
                raise
            except Exception as error:
                raise RunCrashedError(
                    f"target {self._job.target}: the canary ended by an error that nobody foresaw "
                    f"({log_crash(error, canary_id=progress.id)}); see run_crashed in the log, and report it"
                ) from error
            finally:
                await run_in_database_pool(lambda: self._release(progress))

    def _begin(self) -> _Progress:
        job, now = self._job, self._job.utcnow()
        lease, document = store.lease_of(job.target), Document.from_token(job.new_token())
        with writing(job.engine) as conn:
            epoch = leases.acquire(conn, target=lease, holder=job.holder, now=job.lease_now(conn), ttl=job.lease_ttl)
            if self._run_key is not None and store.already_run(conn, target=job.target, run_key=self._run_key):
                raise RunAlreadyExecutedError(f"target {job.target}: the canary {self._run_key} was executed already")
            store.interrupt_open(conn, target=job.target, before_epoch=epoch, at=now)
            canary_id = store.start(
                conn,
                target=job.target,
                environment=job.environment,
                run_key=self._run_key,
                epoch=epoch,
                document=document,
                slow_after_s=job.slow_after.total_seconds(),
                started_at=now,
            )
        return _Progress(id=canary_id, epoch=epoch, document=document, started_at=now)

    async def _execute(self, progress: _Progress) -> CanaryReport:
        job = self._job
        async with job.open_client() as client:
            sender = StepSender(client=client)
            remover = Remover(
                provider=job.provider,
                requests=job.requests,
                sender=sender,
                utcnow=job.utcnow,
                on_found=lambda document: self._store_found(progress, document),
            )
            try:
                await self._remove_leftovers(progress, remover)
                await self._walk(progress, sender)
            except InterruptedCanaryError:
                progress.interrupted = True
            clean_up = await self._clean_up(progress, remover)
        return await run_in_database_pool(lambda: self._close(progress, clean_up))

    async def _remove_leftovers(self, progress: _Progress, remover: Remover) -> None:
        found = await run_in_database_pool(self._read_leftovers)
        pause = self._pause(Step.CLEAN_UP)
        for leftover in found:
            settled = progress.started_at - leftover.started_at >= SETTLE_TIME
            # by its name too: its upload may have been sent more than once
            removal = await remover.remove(leftover.document, pause, settled=settled, search=True)
            failure = removal.failure
            if removal.clean_up is CleanUp.PENDING and failure is None and settled and leftover.document.item_id:
                failure = still_there()
            progress.leftover_failure = progress.leftover_failure or failure
            if removal.clean_up is CleanUp.PENDING:
                continue
            progress.leftovers_removed += removal.clean_up is CleanUp.DONE
            await self._store(progress, _clean_up_writer(leftover.id, removal.clean_up, at=self._job.utcnow()))

    async def _walk(self, progress: _Progress, sender: StepSender) -> None:
        """Upload, index, retrieve; the first failure ends it."""
        for step, work in ((Step.UPLOAD, self._upload), (Step.INDEX, self._index), (Step.RETRIEVE, self._retrieve)):
            if self._interrupt.is_set():
                raise InterruptedCanaryError
            self._on_step(step)
            began_s = time.monotonic()
            progress.failure = await work(progress, sender)
            if progress.failure is not None:
                return
            progress.durations_s[step] = seconds_since(began_s)

    async def _upload(self, progress: _Progress, sender: StepSender) -> StepFailure | None:
        # a process that was stopped since the beginning uploads nothing more: its document was looked for already
        await self._store(progress, lambda _: None)
        deadline_s = self._pause(Step.UPLOAD).deadline_s
        for step in self._job.requests.upload:
            progress.nothing_uploaded, before = False, progress.nothing_uploaded
            sent = await sender.send(Step.UPLOAD, step, progress.document, deadline_s=deadline_s)
            if sent.failure is not None:
                progress.nothing_uploaded = before and sent.refused
                progress.uploads = max(progress.uploads, sent.attempts)
                return sent.failure
            progress.uploads = max(progress.uploads, sent.attempts)
            await self._keep(progress, sent.answer.kept)
            if sent.answer.lacking is not None:
                return lacking_failure(Step.UPLOAD, step, sent.answer)
        return None

    async def _keep(self, progress: _Progress, given: Mapping[str, str]) -> None:
        """Stores what an answer to the upload gave, before the next request is sent."""
        if not given:
            return
        document, kept = progress.document, {**progress.document.kept, **given}
        item_id = kept.pop(ITEM_ID, document.item_id)
        if item_id is not None:
            item_id = self._job.provider.canonical(item_id)
        progress.document = known = replace(document, item_id=item_id, kept=kept)
        await self._store(progress, lambda conn: store.record_upload(conn, canary_id=progress.id, document=known))

    async def _store_found(self, progress: _Progress, document: Document) -> None:
        """Stores the id of a document that was found by its name: so it is no item, even if the sync log has it."""
        item_id = self._job.provider.canonical(document.item_id or "")
        known = replace(document, item_id=item_id)
        await self._store(progress, lambda conn: store.record_found(conn, target=self._job.target, document=known))

    async def _index(self, progress: _Progress, sender: StepSender) -> StepFailure | None:
        job = self._job
        ask = item_asker(job.provider, sender.client, progress.document.item_id or "", utcnow=job.utcnow)
        pause = self._pause_until(time.monotonic() + job.timeout.total_seconds())
        indexing = await wait_until_indexed(ask, pause, budget=job.timeout)
        progress.stage, progress.seen = indexing.stage, indexing.seen
        return indexing.failure

    async def _retrieve(self, progress: _Progress, sender: StepSender) -> StepFailure | None:
        return await retrieve(self._job.requests, sender, progress.document, self._pause(Step.RETRIEVE))

    async def _clean_up(self, progress: _Progress, remover: Remover) -> CleanUp:
        """Removes the own document, within a few seconds if a signal came."""
        if progress.nothing_uploaded:
            progress.failure = progress.failure or progress.leftover_failure
            return CleanUp.NOTHING_LEFT
        self._on_step(Step.CLEAN_UP)
        began_s = time.monotonic()
        budget_s = HURRY_S if self._interrupt.is_set() else self._job.step_s[Step.CLEAN_UP]
        # a signal does not end it: else a document would be left for every stop
        pause = self._pause_until(began_s + budget_s, interrupt=asyncio.Event())
        settled = progress.seen or self._job.utcnow() - progress.started_at >= SETTLE_TIME
        removal = await remover.remove(progress.document, pause, settled=settled, search=progress.uploads > 1)
        if removal.clean_up is CleanUp.DONE:
            progress.durations_s[Step.CLEAN_UP] = seconds_since(began_s)
        progress.failure = progress.failure or removal.failure or progress.leftover_failure
        return removal.clean_up

    def _pause(self, step: Step) -> Pause:
        return self._pause_until(time.monotonic() + self._job.step_s[step])

    def _pause_until(self, deadline_s: float, *, interrupt: asyncio.Event | None = None) -> Pause:
        # a question that fetches a whole list is asked less often
        shortest_s = LIST_WAIT_S if is_list_only(self._job.provider) else MIN_WAIT_S
        return Pause(deadline_s=deadline_s, interrupt=interrupt or self._interrupt, min_wait_s=shortest_s)

    def _read_leftovers(self) -> list[store.Leftover]:
        with reading(self._job.engine) as conn:
            return store.leftovers(conn, target=self._job.target, limit=MAX_LEFTOVERS)

    def _close(self, progress: _Progress, clean_up: CleanUp) -> CanaryReport:
        job, failure = self._job, progress.failure
        status = CanaryStatus.SUCCEEDED if failure is None else CanaryStatus.FAILED
        if progress.interrupted and Step.RETRIEVE not in progress.durations_s:
            status, failure = CanaryStatus.INTERRUPTED, None
        report = CanaryReport(
            id=progress.id,
            target=job.target,
            document=progress.document,
            status=status,
            slow=progress.durations_s.get(Step.INDEX, 0.0) > job.slow_after.total_seconds(),
            slow_after=job.slow_after,
            failure=failure,
            durations_s=progress.durations_s,
            stage=progress.stage,
            clean_up=clean_up,
            started_at=progress.started_at,
            finished_at=job.utcnow(),
            leftovers_removed=progress.leftovers_removed,
        )

        def write() -> int:
            with writing(self._engine) as conn:
                self._verify(conn, progress)
                store.finish(conn, report)
                return store.count_leftovers(conn, target=job.target)

        left = run_with_retry(self._engine, write)
        return replace(report, leftovers=left - (clean_up is CleanUp.PENDING))

    async def _store(self, progress: _Progress, write: Callable[[Connection], None]) -> None:
        """Writes in one transaction that checks the epoch; it is safe to repeat."""

        def once() -> None:
            with writing(self._engine) as conn:
                self._verify(conn, progress)
                write(conn)

        await run_in_database_pool(lambda: run_with_retry(self._engine, once))

    def _verify(self, conn: Connection, progress: _Progress) -> None:
        leases.verify(conn, target=store.lease_of(self._job.target), epoch=progress.epoch)

    def _renew(self, progress: _Progress) -> None:
        job = self._job
        with writing(job.engine) as conn:
            now = job.lease_now(conn)
            leases.renew(conn, target=store.lease_of(job.target), epoch=progress.epoch, now=now, ttl=job.lease_ttl)

    def _release(self, progress: _Progress) -> None:
        job = self._job
        try:
            with writing(job.engine) as conn:
                leases.release(conn, target=store.lease_of(job.target), epoch=progress.epoch)
                # one that was cancelled, or ended by an error, is still open
                store.interrupt_open(conn, target=job.target, before_epoch=progress.epoch + 1, at=job.utcnow())
        except StoreError as error:
            # it expires by itself; the error that ended the canary matters more
            structlog.get_logger().warning("lease_not_released", reason=str(error))


def _clean_up_writer(canary_id: int, clean_up: CleanUp, *, at: datetime) -> Callable[[Connection], None]:
    return lambda conn: store.record_clean_up(conn, canary_id=canary_id, clean_up=clean_up, at=at)
