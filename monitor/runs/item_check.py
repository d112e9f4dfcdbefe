"""Asks the API about every due item, with bounded concurrency, and stores the outcomes in batches.

Memory is bounded: two batches of due items and two of outcomes. Items with a transient failure are asked about once
more at the end, within the retry budget. If the target must stop, the deadline passes or a signal arrives, finished
outcomes are stored, and the caller handles the remaining items.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from monitor.client.retry import is_transient
from monitor.incidents.evidence import EvidenceCollector
from monitor.model import Cause, Outcome, Reason
from monitor.model.http import DEADLINE_EXCEEDED, ApiError, CallResult
from monitor.model.items import ItemChange, TrackedItem, transition
from monitor.providers import Provider
from monitor.runs.admission import Admission
from monitor.runs.item_questions import ItemQuestions, NoOutcome
from monitor.runs.latencies import LatencyHistogram
from monitor.runs.outcomes import malformed_id_outcome
from monitor.runs.partial_report import PartialReport
from monitor.runs.progress import ApiClient, CheckReport, Progress
from monitor.runs.time_limit import DEADLINE_GRACE_S, settle
from monitor.runs.uniform_refusals import UniformRefusals
from monitor.threads import run_in_database_pool

BATCH_SIZE = 4000
"""Outcomes that start a write: as many as are shuffled together, so that each page of the table is written once."""
LAST_SIZE = 500
"""Outcomes that are worth a write of their own while the last answers are awaited."""
FLUSH_INTERVAL_S = 1.0
"""The first outcome after this many seconds starts a write, even if the batch is not full; none is then in progress."""
GRACE_S = 5.0
"""How long, in seconds, requests in flight may take once the run must end."""
MAX_DEFERRED = 2000
"""The most items that are kept for the second pass; it bounds the memory."""
MAX_FAILED_RETRIES = 5
"""Consecutive failures in the second pass that end it: the fault persists, and requests would only add load."""

_NO_TIME, _ONE_TIME = timedelta(0), timedelta(seconds=1)
_ASKED_RUN_ID = attrgetter("asked_run_id")

Record = Callable[[Sequence[ItemChange]], None]
"""Stores outcomes; it blocks, and is called in a worker thread."""

KnownOutcome = Callable[[TrackedItem], Outcome | None]
"""The outcome of an item that needs no request; None: ask the API."""


def _no_known_outcome(_: TrackedItem) -> None:
    """Every item needs a request."""


def _keep_order(_: list[TrackedItem]) -> None:
    """No shuffling."""


def _retrieve(write: asyncio.Future[Any]) -> None:
    """Its error is raised where it is awaited; a check that was cancelled meanwhile must not be logged for it."""
    if not write.cancelled():
        write.exception()


def _record_nothing(_: Sequence[ItemChange]) -> None:
    """Outcomes are only counted."""


class OutcomeBuffer:
    """Collects outcomes and stores them in batches, in a worker thread."""

    def __init__(self, prepare: Callable[[], Record], tally: EvidenceCollector) -> None:
        self._prepare = prepare
        self.tally = tally
        self.outcome_count = 0
        self._changes: list[ItemChange] = []
        self._at: datetime | None = None
        self._flush_lock, self._flushed_at = asyncio.Lock(), time.monotonic()
        self._pending_write: asyncio.Future[Any] | None = None

    def add(self, item: TrackedItem, outcome: Outcome) -> bool:
        """Adds an outcome; True if it is time to `flush_due`."""
        self.tally.add(item, outcome)
        self.outcome_count += 1
        self._changes.append(transition(item, outcome, at=self._time(outcome.at)))
        # while a batch is written, the next one is collected: only a full one waits, which bounds the memory
        return len(self._changes) >= BATCH_SIZE or (self._is_late() and not self._flush_lock.locked())

    def _is_late(self) -> bool:
        return time.monotonic() - self._flushed_at >= FLUSH_INTERVAL_S

    def _time(self, at: datetime) -> datetime:
        """The time to store for an outcome, up to a second early: outcomes with one time are one statement."""
        if self._at is None or not _NO_TIME <= at - self._at < _ONE_TIME:
            self._at = at
        return self._at

    async def flush(self) -> None:
        """Stores the collected outcomes, after the previous batch. Raises StoreError or LeaseLostError."""
        async with self._flush_lock:
            await self._store()

    async def flush_due(self) -> None:
        """The same, unless another worker has done so meanwhile: else each that waited would store a few."""
        async with self._flush_lock:
            if len(self._changes) >= BATCH_SIZE or self._is_late():
                await self._store()

    async def flush_before_last(self) -> None:
        """The same once no more items follow, if many outcomes are there: the end need not wait for these, too."""
        if len(self._changes) >= LAST_SIZE:
            async with self._flush_lock:
                if len(self._changes) >= LAST_SIZE:
                    await self._store()

    async def _store(self) -> None:
        if self._pending_write is not None:
            await asyncio.shield(self._pending_write)
        changes, self._changes = self._changes, []
        self._flushed_at = time.monotonic()
        if changes:
            record = self._prepare()
            # a worker may be cancelled here, but its thread continues: the next flush waits for it
            self._pending_write = asyncio.ensure_future(run_in_database_pool(lambda: record(changes)))
            self._pending_write.add_done_callback(_retrieve)
            await asyncio.shield(self._pending_write)

    async def store_next(self, batches: Iterator[Sequence[ItemChange]]) -> int | None:
        """Stores the next batch that a thread works out, after the previous one; returns its size, None at the end.

        The outcomes are counted, but not in the tally. Raises like `flush`.
        """
        await self.flush()
        record = self._prepare()

        def store() -> int | None:
            changes = next(batches, None)
            if changes:
                record(changes)
            return None if changes is None else len(changes)

        writing = asyncio.ensure_future(run_in_database_pool(store))
        self._pending_write = writing
        stored = await asyncio.shield(writing)
        self.outcome_count += stored or 0
        return stored

    async def join(self) -> None:
        """Waits until the thread has finished writing; ignores its errors."""
        if self._pending_write is not None:
            await asyncio.gather(self._pending_write, return_exceptions=True)


class WorkQueue:
    """Gives items to the workers one by one; a thread reads the next batch in advance.

    Of a batch, those not asked about for longest come first. `shuffle` reorders those that one run asked about.
    """

    def __init__(self, batches: Iterator[list[TrackedItem]], shuffle: Callable[[list[TrackedItem]], object]) -> None:
        self._batches, self._shuffle, self._items = batches, shuffle, deque[TrackedItem]()
        self._lock = asyncio.Lock()
        self._prefetched: asyncio.Future[list[TrackedItem] | None] | None = None
        self._ended = False

    @property
    def exhausted(self) -> bool:
        """Whether all items were given out."""
        return self._ended and not self._items

    def get_nowait(self) -> TrackedItem | None:
        """The next item of the current batch; None if it is empty."""
        return self._items.popleft() if self._items else None

    def get_alike(self, item: TrackedItem, limit: int) -> list[TrackedItem]:
        """The next items of the current batch, at most `limit`, that one request may ask about together with `item`.

        An item with a trouble of its own, or with path parameters of its row, is asked about alone.
        """
        alike: list[TrackedItem] = []
        while self._items and len(alike) < limit and _are_alike(item, self._items[0]):
            alike.append(self._items.popleft())
        return alike

    async def get(self) -> TrackedItem | None:
        """The next item; None at the end. Raises StoreError if the items can't be read."""
        while not self._items:
            async with self._lock:
                if self._ended and not self._items:
                    return None
                if not self._items:
                    self._prefetched = self._prefetched or self._prefetch()
                    batch = await asyncio.shield(self._prefetched)
                    self._ended = batch is None
                    if batch:
                        self._shuffle(batch)
                        batch.sort(key=_ASKED_RUN_ID)  # keeps the order of equal ones
                        self._items.extend(batch)
                    self._prefetched = None if self._ended else self._prefetch()
        return self._items.popleft()

    async def join(self) -> None:
        """Waits until the thread has finished reading; its result is discarded."""
        if self._prefetched is not None:
            await asyncio.gather(self._prefetched, return_exceptions=True)

    def _prefetch(self) -> asyncio.Future[list[TrackedItem] | None]:
        return asyncio.ensure_future(run_in_database_pool(lambda: next(self._batches, None)))


def _are_alike(one: TrackedItem, other: TrackedItem) -> bool:
    return not (one.unverified_runs or other.unverified_runs or one.params or other.params)


class ItemCheck:
    """One pass over the due items of a target.

    It begins with five items, and the rest follow once one of them is answered or all five have failed without stopping
    the target: a service that is down or refuses us gets five requests. `shuffle` reorders a batch in place: items with
    neighbouring ids often fail together, which must not look like an outage of the whole service. Of each batch, items
    not asked about for longest still come first, so that runs that are cut short reach every item. `record` is called
    in a worker thread, one call at a time. Times are in seconds, `deadline_s` on the monotonic clock.
    With `record_with`, what it returns is called in place of `record`: it is given the report as of these outcomes,
    which changes as soon as it has returned. `is_handed_on`: whether another process goes on with what a signal leaves.
    """

    def __init__(  # noqa: PLR0913  # keyword arguments, named where they are wired
        self,
        *,
        provider: Provider,
        client: ApiClient,
        record: Record | None = None,
        concurrency: int,
        deadline_s: float,
        interrupt: asyncio.Event,
        progress: Progress,
        utcnow: Callable[[], datetime],
        shuffle: Callable[[list[TrackedItem]], object] = _keep_order,
        grace_s: float = GRACE_S,
        max_attempts: int = 5,
        missing_after: timedelta = timedelta(0),
        record_with: Callable[[PartialReport], Record] | None = None,
        is_handed_on: Callable[[], bool] = lambda: False,
    ) -> None:
        self._provider, self._client = provider, client
        self._buffer = OutcomeBuffer(
            (lambda: record or _record_nothing) if record_with is None else (lambda: record_with(self.partial())),
            EvidenceCollector(missing_after=missing_after),
        )
        self._concurrency, self._deadline_s, self._interrupt = concurrency, deadline_s, interrupt
        self._progress, self._utcnow, self._shuffle, self._grace_s = progress, utcnow, shuffle, grace_s
        self._latencies, self._admission = LatencyHistogram(), Admission(deadline_s)
        self._started = self._requests = self._retries = 0
        self._incomplete = self._more_follow = False
        self._is_handed_on = is_handed_on
        self._deferred: deque[tuple[TrackedItem, Outcome]] = deque()
        self._failed_retries = 0
        self._refusals = UniformRefusals()
        self._questions = ItemQuestions(
            provider=provider,
            client=client,
            deadline_s=deadline_s,
            max_attempts=max_attempts,
            utcnow=utcnow,
            on_result=self._count,
        )

    async def run(
        self,
        due: Iterator[list[TrackedItem]],
        *,
        known_outcome: KnownOutcome = _no_known_outcome,
        more_follow: bool = False,
    ) -> CheckReport:
        """Checks every item that `due` yields, or stops early if the run must end. May be called again.

        `due` is advanced in a worker thread. The report includes earlier calls. `more_follow`: the second pass is left
        to the next call, which must come, and so is what the same refusal of all items means.

        Raises:
            LeaseLostError: another run took over.
            StoreError: the work list can't be read or written.
        """
        queue, self._more_follow = WorkQueue(due, self._shuffle), more_follow
        run_worker = self._run_worker if self._questions.batch_size == 1 else self._run_batch_worker
        workers = [asyncio.create_task(run_worker(queue, known_outcome)) for _ in range(self._concurrency)]
        watchers = [
            asyncio.create_task(self._admission.watch(self._interrupt)),
            asyncio.create_task(self._cancel_after_grace(workers)),
        ]
        try:
            await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            await settle(*workers, *watchers)
            # threads can't be cancelled: wait until they have finished reading and writing
            await queue.join()
            await self._buffer.join()
        for worker in workers:
            if worker.done() and not worker.cancelled():
                worker.result()
        if not more_follow:
            self._end_second_pass()
            for refused in self._refusals.drain():
                self._buffer.add(*refused)
        await self._buffer.flush()
        self._incomplete = self._incomplete or not queue.exhausted
        return self.report()

    async def settle(self, batches: Iterator[Sequence[ItemChange]], *, accepted: bool) -> None:
        """Stores outcomes that say completed and need no request, until the run must end. Raises like `run`.

        `batches` is advanced in a worker thread. `accepted`: they did not come out of a cache.
        """
        try:
            while not self._interrupt.is_set() and time.monotonic() < self._deadline_s:
                count = await self._buffer.store_next(batches)
                if count is None:
                    return
                self._started += count
                self.add_confirmed(count, accepted=accepted)
                for _ in range(count):
                    self._progress.advance()
        finally:
            await self._buffer.join()

    async def probe(self, item: TrackedItem) -> None:
        """Asks about one item first; a refusal, even a 403, stops the target. Raises like `run`."""
        with self._admission.probing():
            report = await self.run(iter([[item]]))
        if report.tally.accepted:
            self.confirm_access()

    @property
    def must_stop(self) -> bool:
        """Whether no further request may start."""
        return self._admission.must_stop()

    @property
    def may_be_shared(self) -> bool:
        """Whether the API answers: then several processes may ask about the items that are left."""
        return self._is_answered and not self.must_stop

    @property
    def may_be_handed_on(self) -> bool:
        """Whether a signal alone ended it, and the API answers: another process may ask about the rest."""
        return self._is_answered and self.report().cut_short_by is Reason.INTERRUPTED

    @property
    def _is_left_to_others(self) -> bool:
        """Whether a signal alone ended it, and another process asks about what has no outcome."""
        is_interrupted = self._admission.cut_short_by is Reason.INTERRUPTED and self.stopped_by is None
        return is_interrupted and self._is_handed_on()

    @property
    def _is_answered(self) -> bool:
        return self._refusals.settled and self._buffer.tally.answered > 0

    @property
    def stopped_by(self) -> Cause | None:
        """The cause that stopped the target, so far."""
        return self._admission.stopped_by

    def add_requests(self, *, requests: int, retries: int, latencies_ms: Iterable[float]) -> None:
        """Counts other requests of this run, such as those for the list."""
        self._requests += requests
        self._retries += retries
        for latency_ms in latencies_ms:
            self._latencies.add(latency_ms)

    def add_confirmed(self, items: int, *, accepted: bool) -> None:
        """Counts items that the list confirms as completed; `accepted`: it did not come out of a cache."""
        self._buffer.tally.confirm(items, accepted=accepted)
        if items:
            self._refusals.settle()

    def confirm_access(self) -> None:
        """Notes that the API returned one of our items; from now on a 403 concerns only its own item."""
        self._admission.confirm_access()
        self._refusals.settle()

    def stop(self, cause: Cause, error: ApiError, *, items: int) -> None:
        """Stops the target because of an error that leaves this many items unknown."""
        self._admission.stop(cause)
        self._buffer.tally.block(cause, error, items)

    def cut_short(self, reason: Reason) -> None:
        """Ends the run before all items were checked."""
        self._admission.cut_short(reason)
        self._incomplete = True

    async def _cancel_after_grace(self, workers: Sequence[asyncio.Task[None]]) -> None:
        """Cancels the workers once no further request may start, after a grace that ends soon after the deadline."""
        await self._admission.wait_until_stopping()
        left_s = self._deadline_s + DEADLINE_GRACE_S - time.monotonic()
        await asyncio.sleep(max(0.0, min(self._grace_s, left_s)))
        for worker in workers:
            worker.cancel()

    async def _run_worker(self, queue: WorkQueue, known_outcome: KnownOutcome) -> None:
        while (item := queue.get_nowait() or await queue.get()) is not None:
            self._started += 1
            if self._admission.is_stopping:
                return
            outcome = known_outcome(item)
            if outcome is None and not self._provider.valid_id(item.item_id):
                outcome = malformed_id_outcome(item.item_id, self._utcnow())
            elif outcome is None and (self._admission.is_open or await self._admission.admit()):
                outcome = self._observe(await self._questions.ask(item))
            if outcome is not None and self._take(item, outcome):
                await self._buffer.flush_due()
        await self._retry_deferred()
        await self._buffer.flush_before_last()

    async def _run_batch_worker(self, queue: WorkQueue, known_outcome: KnownOutcome) -> None:
        """The same with several items in one request."""
        while (first := queue.get_nowait() or await queue.get()) is not None:
            batch = [first, *queue.get_alike(first, self._questions.batch_size - 1)]
            self._started += len(batch)
            if self._admission.is_stopping:
                return
            unanswered: list[TrackedItem] = []
            for item in batch:
                outcome = known_outcome(item)
                if outcome is None and not self._provider.valid_id(item.item_id):
                    outcome = malformed_id_outcome(item.item_id, self._utcnow())
                if outcome is None:
                    unanswered.append(item)
                elif self._take(item, outcome):
                    await self._buffer.flush_due()
            if unanswered and await self._admission.admit():
                found = await self._questions.ask_together(unanswered)
                for item, outcome in zip(unanswered, map(self._observe, found), strict=True):
                    if outcome is not None and self._take(item, outcome):
                        await self._buffer.flush_due()
        await self._retry_deferred()
        await self._buffer.flush_before_last()

    def _take(self, item: TrackedItem, outcome: Outcome) -> bool:
        """Keeps an outcome, for the second pass or to be stored; True if it is time to `flush_due`."""
        if outcome.error is not None and not item.unverified_runs and self._is_worth_retrying(outcome):
            self._deferred.append((item, outcome))
            return False
        return self._add_outcome(item, outcome)

    def _is_worth_retrying(self, outcome: Outcome) -> bool:
        """Whether to ask again in the second pass."""
        error = outcome.error
        if error is None or error.from_backoff or len(self._deferred) >= MAX_DEFERRED:
            return False
        if self._admission.must_stop() and not self._is_left_to_others:
            return False
        return not outcome.answered and is_transient(error)

    async def _retry_deferred(self) -> None:
        """The second pass. An item that fails again keeps its first outcome; consecutive failures end the pass."""
        if self._more_follow:
            return
        while self._deferred and self._failed_retries < MAX_FAILED_RETRIES and not self._admission.must_stop():
            item, failed = self._deferred.popleft()
            outcome = failed
            try:
                outcome = self._observe(await self._questions.ask(item, is_repeat=True)) or failed
            except asyncio.CancelledError:
                self._deferred.append((item, failed))
                raise
            due = self._add_outcome(item, outcome)
            if outcome.answered:
                self._buffer.tally.recover(failed)
            self._failed_retries = 0 if outcome.answered else self._failed_retries + 1
            if due:
                await self._buffer.flush_due()

    def _end_second_pass(self) -> None:
        """Keeps the failures that it did not come to, unless another process will ask again about these items."""
        if self._is_left_to_others:
            self._deferred.clear()
        while self._deferred:
            self._add_outcome(*self._deferred.popleft())

    def _observe(self, found: Outcome | NoOutcome) -> Outcome | None:
        """Tells the admission what came. Returns the outcome; None if the deadline or the retry budget prevented one.

        After the deadline the item counts as not asked, and the next run asks about it first.
        """
        if isinstance(found, Outcome):
            self._admission.observe(found, tripped=self._client.tripped)
            return found
        if found == DEADLINE_EXCEEDED:
            self._admission.cut_short(Reason.DEADLINE)
        else:
            self._admission.give_up()
        return None

    def _count(self, result: CallResult, is_repeat: bool) -> None:  # noqa: FBT001  # a callback
        self._requests += result.attempts
        self._retries += result.attempts - (not is_repeat)
        self._latencies.add(result.latency_ms)

    def _add_outcome(self, item: TrackedItem, outcome: Outcome) -> bool:
        """Adds an outcome; True if it is time to `flush_due`."""
        self._progress.advance()
        if self._refusals.settled:  # the rule, and this runs for every item
            return self._buffer.add(item, outcome)
        is_due = False
        for certain in self._refusals.add(item, outcome):
            is_due = self._buffer.add(*certain) or is_due
        return is_due

    def report(self) -> CheckReport:
        """The result so far."""
        return self.partial().check_report()

    def partial(self) -> PartialReport:
        """The same, to be merged with other parts of the run."""
        return PartialReport(
            tally=self._buffer.tally,
            histogram=self._latencies,
            asked=self._buffer.outcome_count,
            requests=self._requests,
            retries=self._retries,
            left=self._started > self._buffer.outcome_count or self._incomplete,
            stopped_by=self._admission.stopped_by,
            tripped=self._admission.tripped,
            cut_short_by=self._admission.cut_short_by,
        )
