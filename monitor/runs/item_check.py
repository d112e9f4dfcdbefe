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
from monitor.model.http import BUDGET_SPENT, PAST_DEADLINE, Answer, ApiError, Request
from monitor.model.items import ItemChange, TrackedItem
from monitor.providers import Provider
from monitor.runs.batches import Ledger, Source
from monitor.runs.outcomes import malformed, outcome_of
from monitor.runs.progress import CheckReport, Progress
from monitor.runs.stop_rules import Stops

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


Known = Callable[[TrackedItem], Outcome | None]
"""What is known of an item without asking about it alone; None: it has to be asked about."""


def _nothing_known(_: TrackedItem) -> None:
    """Every item has to be asked about."""


def _as_it_is(_: list[TrackedItem]) -> None:
    """Keeps the order."""


GRACE_S = 5.0
"""Once a run must end, requests in flight may finish for so long, in seconds."""

MOST_LATER = 2000
"""Items that are kept for a second question, at the most: memory is bounded, whatever fails."""

MOST_IN_VAIN = 5
"""Second questions in a row that bring nothing: what failed has not passed, and more of them would only be a burden."""


class Asker(Protocol):
    """What the check needs of the resilient client."""

    @property
    def tripped(self) -> bool:
        """Whether the breaker has stopped the target."""
        ...

    async def ask(self, request: Request, *, deadline_s: float, again: bool = False) -> Answer:
        """Sends a request, with retries, until `deadline_s` on the monotonic clock; `again`: not for the first time."""
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
        mix: puts a batch of due items into another order: what has neighbouring ids often fails together, and must not
            look like all of the service.
        grace_s: once the run must end, requests in flight may finish for so long, in seconds.
    """

    def __init__(  # noqa: PLR0913  # each part of a check is named where it is wired
        self,
        *,
        provider: Provider,
        client: Asker,
        record: Callable[[Sequence[ItemChange]], None],
        concurrency: int,
        deadline_s: float,
        interrupt: asyncio.Event,
        progress: Progress,
        utcnow: Callable[[], datetime],
        mix: Callable[[list[TrackedItem]], object] = _as_it_is,
        grace_s: float = GRACE_S,
    ) -> None:
        self._provider, self._client, self._ledger = provider, client, Ledger(record)
        self._concurrency, self._deadline_s, self._interrupt = concurrency, deadline_s, interrupt
        self._progress, self._utcnow, self._mix, self._grace_s = progress, utcnow, mix, grace_s
        self._latencies, self._stops = LatencyHistogram(), Stops(deadline_s)
        self._taken = self._requests = self._retries = 0
        self._undrained = False
        self._later: deque[tuple[TrackedItem, Outcome]] = deque()
        self._vain = 0

    async def run(self, due: Iterator[list[TrackedItem]], *, known: Known = _nothing_known) -> CheckReport:
        """Asks about every item that `due` yields, until it ends or the run must. May be called again with more.

        Args:
            due: batches of due items; advanced in a worker thread.
            known: what is known of an item already, without asking about it.

        Returns:
            How it ended so far, earlier calls included.

        Raises:
            StoreError: when the work list can't be read or written.
            LeaseLostError: when another run took over.
        """
        source = Source(due, self._mix)
        workers = [asyncio.create_task(self._work(source, known)) for _ in range(self._concurrency)]
        watches = [asyncio.create_task(self._heed_interrupt()), asyncio.create_task(self._end(workers))]
        try:
            await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in (*workers, *watches):
                task.cancel()
            await asyncio.gather(*workers, *watches, return_exceptions=True)
            # Threads that read and write can't be cancelled: they end before the check does.
            await source.settle()
            await self._ledger.settle()
        for worker in workers:
            if not worker.cancelled():
                worker.result()
        while self._later:
            self._note(*self._later.popleft())
        await self._ledger.flush()
        self._undrained = self._undrained or not source.drained
        return self.report()

    async def probe(self, item: TrackedItem) -> None:
        """Asks about one item before any other: what refuses it, a 403 included, stops the target.

        Raises:
            StoreError: when the outcome can't be written.
            LeaseLostError: when another run took over.
        """
        with self._stops.probing():
            report = await self.run(iter([[item]]))
        if report.tally.answered:
            self.vouch()

    @property
    def over(self) -> bool:
        """Whether no further request may start."""
        return self._stops.over()

    def count(self, *, requests: int, retries: int, latencies_ms: Iterable[float]) -> None:
        """Counts requests that somebody else made for this run, such as those for the list."""
        self._requests += requests
        self._retries += retries
        for latency_ms in latencies_ms:
            self._latencies.add(latency_ms)

    def confirm(self, items: int) -> None:
        """Counts items that the API said to be completed still, all at once: nothing about them changes."""
        self._ledger.tally.confirm(items)

    def vouch(self) -> None:
        """Heeds that the API showed an item of ours: a 403 on another is that item's own, on however many."""
        self._stops.vouch()

    def stop(self, cause: Cause, error: ApiError, *, items: int) -> None:
        """Stops the target because of an error that leaves so many items unknown."""
        self._stops.stop(cause)
        self._ledger.tally.block(cause, error, items)

    def cut(self, reason: Reason) -> None:
        """Ends the run before its items were asked about."""
        self._stops.cut_short(reason)
        self._undrained = True

    async def _heed_interrupt(self) -> None:
        await self._interrupt.wait()
        self._stops.cut_short(Reason.INTERRUPTED)
        self._stops.over()

    async def _end(self, workers: Sequence[asyncio.Task[None]]) -> None:
        """Once nothing further may start, gives requests in flight a grace period and then ends them."""
        await self._stops.ending.wait()
        await asyncio.sleep(self._grace_s)
        for worker in workers:
            worker.cancel()

    async def _work(self, source: Source, known: Known) -> None:
        while (item := source.at_hand() or await source.take()) is not None:
            self._taken += 1
            if self._stops.over():
                return
            outcome = known(item)
            if outcome is None and not self._provider.valid_id(item.item_id):
                outcome = malformed(item.item_id, self._utcnow())
            elif outcome is None and (self._stops.opened.is_set() or await self._stops.may_open()):
                outcome = await self._ask(item)
            if outcome is None:
                continue
            if self._may_pass(outcome):
                self._later.append((item, outcome))
            elif self._note(item, outcome):
                await self._ledger.flush()
        await self._ask_again()

    def _may_pass(self, outcome: Outcome) -> bool:
        """Whether a second question at the end may be worth it."""
        error = outcome.error
        if error is None or error.held or len(self._later) >= MOST_LATER or self._stops.over():
            return False
        return not outcome.answered and is_transient(error)

    async def _ask_again(self) -> None:
        """The second pass; what it can't improve keeps its first outcome. A few in a row in vain end it."""
        while self._later and self._vain < MOST_IN_VAIN and not self._stops.over():
            item, failed = self._later.popleft()
            outcome = failed
            try:
                outcome = await self._ask(item, again=True) or failed
            finally:
                due = self._note(item, outcome)
            if outcome.answered:
                self._ledger.tally.recover(failed)
            self._vain = 0 if outcome.answered else self._vain + 1
            if due:
                await self._ledger.flush()

    async def _ask(self, item: TrackedItem, *, again: bool = False) -> Outcome | None:
        """The outcome; None when our deadline came first: the item counts as not asked, and is due first next time.

        None too for a second question that the budget does not allow.
        """
        request = self._provider.item_request(item.item_id)
        answer = await self._client.ask(request, deadline_s=self._deadline_s, again=again)
        if answer.attempts:
            self._requests += answer.attempts
            self._retries += answer.attempts - (not again)
            self._latencies.add(answer.latency_ms)
        error = answer.error
        if error is not None and error.is_our(PAST_DEADLINE):
            self._stops.cut = Reason.DEADLINE
            return None
        if error is not None and error.is_our(BUDGET_SPENT):
            return None
        outcome = outcome_of(item.item_id, answer, self._provider.read_item, self._utcnow())
        self._stops.heed(outcome, tripped=self._client.tripped)
        return outcome

    def _note(self, item: TrackedItem, outcome: Outcome) -> bool:
        """Takes an outcome down; True when it is time to store."""
        self._progress.advance()
        return self._ledger.note(item, outcome)

    def report(self) -> CheckReport:
        """How it ended, or how far it is."""
        left = self._taken > self._ledger.noted or self._undrained
        return CheckReport(
            tally=self._ledger.tally,
            asked=self._ledger.noted,
            requests=self._requests,
            retries=self._retries,
            latencies_ms=(self._latencies.quantile(0.5), self._latencies.quantile(0.95)),
            stopped_by=self._stops.stopped_by,
            cut=self._stops.cut if left and self._stops.stopped_by is None else None,
        )
