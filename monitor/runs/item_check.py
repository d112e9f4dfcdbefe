"""Ids to outcomes: asks the API about every due item, concurrently and bounded, and hands the outcomes on in batches.

It holds two batches of due items and one of outcomes, never the whole log. Items that met a failure which may pass are
asked about once more when all others are done, as far as the retry budget allows. When the target must stop, the
deadline passes or a signal comes, what was finished has been handed on and the rest is left to the caller.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Protocol

from monitor.client.retry import is_transient
from monitor.model import Cause, Outcome, Reason
from monitor.model.http import DEADLINE_EXCEEDED, RETRY_BUDGET_EXHAUSTED, ApiError, CallResult, Request
from monitor.model.items import ItemChange, TrackedItem
from monitor.providers import Provider
from monitor.runs.batches import OutcomeBuffer, WorkQueue
from monitor.runs.outcomes import malformed_id_outcome, outcome_from_result
from monitor.runs.progress import CheckReport, Progress
from monitor.runs.stop_rules import StopConditions

_GROWTH = 1.05
_FLOOR_MS = 0.01


class LatencyHistogram:
    """Counts latencies in buckets that grow by 5%, so that a quantile is off by at most 2.5%.

    A million requests cost a few hundred counters, where a list would cost 8 MB.
    """

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._total = 0

    def add(self, latency_ms: float) -> None:
        """Counts one latency in milliseconds (≥ 0)."""
        bucket = round(math.log(max(latency_ms, _FLOOR_MS) / _FLOOR_MS, _GROWTH))
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self._total += 1

    def quantile(self, share: float) -> float | None:
        """The latency in milliseconds below which `share` (0 to 1) of them lie; None when none was counted."""
        if not self._total:
            return None
        buckets = sorted(self._counts)
        counted = accumulate(self._counts[bucket] for bucket in buckets)
        position = sum(seen < share * self._total for seen in counted)
        return round(_FLOOR_MS * _GROWTH ** buckets[position], 2)


KnownOutcome = Callable[[TrackedItem], Outcome | None]
"""What is known of an item without asking about it alone; None: it has to be asked about."""


def _no_known_outcome(_: TrackedItem) -> None:
    """Every item has to be asked about."""


def _keep_order(_: list[TrackedItem]) -> None:
    """Keeps the order."""


GRACE_S = 5.0
"""Once a run must end, requests in flight may finish for so long, in seconds."""

MAX_DEFERRED = 2000
"""Items that are kept for a second question, at the most: memory is bounded, whatever fails."""

MAX_FAILED_RETRIES = 5
"""Second questions in a row that bring nothing: what failed has not passed, and more of them would only be a burden."""


class ItemClient(Protocol):
    """What the check needs of the resilient client."""

    @property
    def tripped(self) -> bool:
        """Whether the breaker has stopped the target."""
        ...

    async def send(self, request: Request, *, deadline_s: float, is_repeat: bool = False) -> CallResult:
        """Sends a request, with retries, until `deadline_s` on the monotonic clock; `is_repeat`: not for the first time."""
        ...


class ItemCheck:
    """One pass over the due items of one target, item by item.

    Args:
        provider: how to ask for an item and read the answer.
        client: the resilient client.
        record: stores a batch of changes; called in a worker thread, one call at a time.
        concurrency: requests in flight at the most. Until an answer is accepted no more than five items are asked
            about, or until all five have failed without stopping the target: a service that is down or refuses us is
            met by five requests and not by all.
        deadline_s: when to stop, on the monotonic clock.
        interrupt: set by a signal.
        progress: told about every finished item.
        utcnow: the clock.
        shuffle: puts a batch of due items into another order: what has neighbouring ids often fails together, and must not
            look like all of the service.
        grace_s: once the run must end, requests in flight may finish for so long, in seconds.
    """

    def __init__(  # noqa: PLR0913  # each part of a check is named where it is wired
        self,
        *,
        provider: Provider,
        client: ItemClient,
        record: Callable[[Sequence[ItemChange]], None],
        concurrency: int,
        deadline_s: float,
        interrupt: asyncio.Event,
        progress: Progress,
        utcnow: Callable[[], datetime],
        shuffle: Callable[[list[TrackedItem]], object] = _keep_order,
        grace_s: float = GRACE_S,
    ) -> None:
        self._provider, self._client, self._buffer = provider, client, OutcomeBuffer(record)
        self._concurrency, self._deadline_s, self._interrupt = concurrency, deadline_s, interrupt
        self._progress, self._utcnow, self._shuffle, self._grace_s = progress, utcnow, shuffle, grace_s
        self._latencies, self._conditions = LatencyHistogram(), StopConditions(deadline_s)
        self._started = self._requests = self._retries = 0
        self._incomplete = False
        self._deferred: deque[tuple[TrackedItem, Outcome]] = deque()
        self._failed_retries = 0

    async def run(
        self, due: Iterator[list[TrackedItem]], *, known_outcome: KnownOutcome = _no_known_outcome
    ) -> CheckReport:
        """Asks about every item that `due` yields, until it ends or the run must. May be called again with more.

        Args:
            due: batches of due items; advanced in a worker thread.
            known_outcome: what is known of an item already, without asking about it.

        Returns:
            How it ended so far, earlier calls included.

        Raises:
            StoreError: when the work list can't be read or written.
            LeaseLostError: when another run took over.
        """
        queue = WorkQueue(due, self._shuffle)
        workers = [asyncio.create_task(self._run_worker(queue, known_outcome)) for _ in range(self._concurrency)]
        watchers = [
            asyncio.create_task(self._watch_interrupt()),
            asyncio.create_task(self._cancel_after_grace(workers)),
        ]
        try:
            await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in (*workers, *watchers):
                task.cancel()
            await asyncio.gather(*workers, *watchers, return_exceptions=True)
            # Threads that read and write can't be cancelled: they end before the check does.
            await queue.join()
            await self._buffer.join()
        for worker in workers:
            if not worker.cancelled():
                worker.result()
        while self._deferred:
            self._add_outcome(*self._deferred.popleft())
        await self._buffer.flush()
        self._incomplete = self._incomplete or not queue.exhausted
        return self.report()

    async def probe(self, item: TrackedItem) -> None:
        """Asks about one item before any other: what refuses it, a 403 included, stops the target.

        Raises:
            StoreError: when the outcome can't be written.
            LeaseLostError: when another run took over.
        """
        with self._conditions.probing():
            report = await self.run(iter([[item]]))
        if report.tally.answered:
            self.confirm_access()

    @property
    def must_stop(self) -> bool:
        """Whether no further request may start."""
        return self._conditions.must_stop()

    def add_requests(self, *, requests: int, retries: int, latencies_ms: Iterable[float]) -> None:
        """Counts requests that somebody else made for this run, such as those for the list."""
        self._requests += requests
        self._retries += retries
        for latency_ms in latencies_ms:
            self._latencies.add(latency_ms)

    def add_confirmed(self, items: int) -> None:
        """Counts items that the API said to be completed still, all at once: nothing about them changes."""
        self._buffer.tally.confirm(items)

    def confirm_access(self) -> None:
        """Heeds that the API showed an item of ours: a 403 on another is that item's own, on however many."""
        self._conditions.confirm_access()

    def stop(self, cause: Cause, error: ApiError, *, items: int) -> None:
        """Stops the target because of an error that leaves so many items unknown."""
        self._conditions.stop(cause)
        self._buffer.tally.block(cause, error, items)

    def cut_short(self, reason: Reason) -> None:
        """Ends the run before its items were asked about."""
        self._conditions.cut_short(reason)
        self._incomplete = True

    async def _watch_interrupt(self) -> None:
        await self._interrupt.wait()
        self._conditions.cut_short(Reason.INTERRUPTED)
        self._conditions.must_stop()

    async def _cancel_after_grace(self, workers: Sequence[asyncio.Task[None]]) -> None:
        """Once nothing further may start, gives requests in flight a grace period and then ends them."""
        await self._conditions.stopping.wait()
        await asyncio.sleep(self._grace_s)
        for worker in workers:
            worker.cancel()

    async def _run_worker(self, queue: WorkQueue, known_outcome: KnownOutcome) -> None:
        while (item := queue.get_nowait() or await queue.get()) is not None:
            self._started += 1
            if self._conditions.must_stop():
                return
            outcome = known_outcome(item)
            if outcome is None and not self._provider.valid_id(item.item_id):
                outcome = malformed_id_outcome(item.item_id, self._utcnow())
            elif outcome is None and (self._conditions.all_admitted.is_set() or await self._conditions.admit()):
                outcome = await self._check_item(item)
            if outcome is None:
                continue
            if self._is_worth_retrying(outcome):
                self._deferred.append((item, outcome))
            elif self._add_outcome(item, outcome):
                await self._buffer.flush()
        await self._retry_deferred()

    def _is_worth_retrying(self, outcome: Outcome) -> bool:
        """Whether a second question at the end may be worth it."""
        error = outcome.error
        if error is None or error.from_backoff or len(self._deferred) >= MAX_DEFERRED or self._conditions.must_stop():
            return False
        return not outcome.answered and is_transient(error)

    async def _retry_deferred(self) -> None:
        """The second pass; what it can't improve keeps its first outcome. A few in a row in vain end it."""
        while self._deferred and self._failed_retries < MAX_FAILED_RETRIES and not self._conditions.must_stop():
            item, failed = self._deferred.popleft()
            outcome = failed
            try:
                outcome = await self._check_item(item, is_repeat=True) or failed
            finally:
                due = self._add_outcome(item, outcome)
            if outcome.answered:
                self._buffer.tally.recover(failed)
            self._failed_retries = 0 if outcome.answered else self._failed_retries + 1
            if due:
                await self._buffer.flush()

    async def _check_item(self, item: TrackedItem, *, is_repeat: bool = False) -> Outcome | None:
        """The outcome; None when our deadline came first: the item counts as not asked, and is due first next time.

        None too for a second question that the budget does not allow.
        """
        request = self._provider.item_request(item.item_id)
        result = await self._client.send(request, deadline_s=self._deadline_s, is_repeat=is_repeat)
        if result.attempts:
            self._requests += result.attempts
            self._retries += result.attempts - (not is_repeat)
            self._latencies.add(result.latency_ms)
        error = result.error
        if error is not None and error.is_local(DEADLINE_EXCEEDED):
            self._conditions.cut_short_by = Reason.DEADLINE
            return None
        if error is not None and error.is_local(RETRY_BUDGET_EXHAUSTED):
            return None
        outcome = outcome_from_result(item.item_id, result, self._provider.read_item, self._utcnow())
        self._conditions.observe(outcome, tripped=self._client.tripped)
        return outcome

    def _add_outcome(self, item: TrackedItem, outcome: Outcome) -> bool:
        """Takes an outcome down; True when it is time to store."""
        self._progress.advance()
        return self._buffer.add(item, outcome)

    def report(self) -> CheckReport:
        """How it ended, or how far it is."""
        left = self._started > self._buffer.outcome_count or self._incomplete
        return CheckReport(
            tally=self._buffer.tally,
            asked=self._buffer.outcome_count,
            requests=self._requests,
            retries=self._retries,
            latencies_ms=(self._latencies.quantile(0.5), self._latencies.quantile(0.95)),
            stopped_by=self._conditions.stopped_by,
            cut_short_by=self._conditions.cut_short_by if left and self._conditions.stopped_by is None else None,
        )
