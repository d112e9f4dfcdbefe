"""Waits until every item is settled, or its budget ends. `rules` decides, this module asks and sleeps.

1. Every item is due at once. One scheduler gives due items to a bounded number of workers, which ask.
2. An item without a last word is due again after an interval that grows, or after a failure as late as its backoff and
   the server's hint say.
3. While the circuit breaker is open nobody asks. After a pause that grows, one request tries whether the API is back.
4. The wait ends when every item is settled, when waiting can't help, when no further look fits into the budget, or by
   `interrupt`.
"""

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitor.model import Cause, ItemState, Outcome
from monitor.model.http import ApiError
from monitor.runs.looks import Looks
from monitor.runs.outcomes import malformed_id_outcome
from monitor.runs.stop_rules import FIRST_ITEMS, StopRule
from monitor.runs.time_limit import DEADLINE_GRACE_S, settle
from monitor.waits import rules
from monitor.waits.report import WaitReport, common_cause, item_report
from monitor.waits.rules import Tally, WaitResult, WatchedItem, tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What bounds the requests of a wait."""

    workers: int
    """Most questions at a time (≥ 1)."""
    rate_per_s: Callable[[], float | None]
    """Requests per second that may be sent, as far as it is known."""
    breaker_is_open: Callable[[], bool]
    resume: Callable[[], None]
    """Lets one request through an open breaker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitSpec:
    """What to wait for. `deadline_s` is on the monotonic clock."""

    target: str
    items: Sequence[WatchedItem]
    """Each id once."""
    started_s: float
    deadline_s: float
    missing_after: timedelta
    """How long an id that the API does not know is taken to be on its way."""
    valid_id: Callable[[str], bool]
    once: bool = False
    """Ask about each item once, and wait for nothing."""

    @property
    def timeout(self) -> timedelta:
        """The budget."""
        return timedelta(seconds=self.deadline_s - self.started_s)


class Wait:
    """One wait. `tally` may be asked while it goes on."""

    def __init__(
        self,
        spec: WaitSpec,
        looks: Looks,
        limits: Limits,
        *,
        interrupt: asyncio.Event,
        utcnow: Callable[[], datetime],
        rand: Callable[[], float] = random.random,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec, self._looks, self._limits = spec, looks, limits
        self._interrupt, self._rand, self._monotonic = interrupt, rand, monotonic
        self._started_at = utcnow()
        self._due: list[tuple[float, int, WatchedItem]] = []
        self._order = itertools.count()
        self._open = self._in_flight = 0
        self._ready: asyncio.Queue[list[WatchedItem]] = asyncio.Queue(maxsize=limits.workers)
        self._wake, self._ended = asyncio.Event(), asyncio.Event()
        self._paused_until_s, self._pauses, self._paused = 0.0, 0, False
        self._first_looks = StopRule(first=min(FIRST_ITEMS, max(1, len(spec.items))))
        self.stopped_by: Cause | None = None
        self.last_error: ApiError | None = None
        """Of the last question that was not answered."""

    @property
    def items(self) -> Sequence[WatchedItem]:
        """The items, as far as they are known."""
        return self._spec.items

    @property
    def timeout(self) -> timedelta:
        """The budget."""
        return self._spec.timeout

    def tally(self) -> Tally:
        """The counts as of now."""
        return tally(self._spec.items)

    async def run(self) -> WaitReport:
        """Waits. Returns by the deadline and 1.5 s of grace, whatever the API does.

        Raises what a defect raises; nothing that the network or the API does.
        """
        self._begin()
        if self._open:
            await self._ask_until_the_end()
        rules.settle_refusals(self._spec.items)
        return self._report()

    def _begin(self) -> None:
        for watched in self._spec.items:
            item_id = watched.item.item_id
            if self._spec.valid_id(item_id):
                self._open += 1
                self._schedule(watched, self._spec.started_s)
            else:  # no request is sent
                watched.observe(malformed_id_outcome(item_id, self._started_at))
                watched.settled = True

    async def _ask_until_the_end(self) -> None:
        workers = [asyncio.create_task(self._work()) for _ in range(min(self._limits.workers, self._open))]
        tasks = [asyncio.create_task(self._dispatch()), *workers]
        signals = [asyncio.create_task(event.wait()) for event in (self._ended, self._interrupt)]
        ends = self._spec.deadline_s, self._spec.deadline_s + DEADLINE_GRACE_S
        try:
            for end_s in ends if self._spec.deadline_s > self._monotonic() else ():
                left_s = max(0.0, end_s - self._monotonic())
                done, _ = await asyncio.wait([*tasks, *signals], timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
                if done or not self._in_flight:
                    break  # else the client is about to end what is in flight
        finally:
            await settle(*tasks, *signals)
        for task in tasks:  # they end only by a defect
            if task.done() and not task.cancelled():
                task.result()

    async def _dispatch(self) -> None:
        """Gives due items to the workers, in the order in which they are due."""
        while True:
            self._wake.clear()
            now_s = self._monotonic()
            if self._paused and now_s >= self._paused_until_s:
                self._paused = False
                self._limits.resume()
            if not self._paused and (batch := self._pop_due(now_s)):
                self._in_flight += 1
                await self._ready.put(batch)
                continue
            await self._sleep(now_s)

    async def _sleep(self, now_s: float) -> None:
        """Until something is due, or a worker has changed what is."""
        due_s = self._paused_until_s if self._paused else self._due[0][0] if self._due else None
        try:
            async with asyncio.timeout(None if due_s is None else max(0.0, due_s - now_s)):
                await self._wake.wait()
        except TimeoutError:
            return

    def _pop_due(self, now_s: float) -> list[WatchedItem]:
        """Due items that can be asked about together; empty if none is due."""
        batch: list[WatchedItem] = []
        while self._due and self._due[0][0] <= now_s and len(batch) < self._looks.batch_size:
            if batch and not self._looks.alike(batch[0].item, self._due[0][2].item):
                break
            batch.append(heapq.heappop(self._due)[2])
        return batch

    async def _work(self) -> None:
        while True:
            batch = await self._ready.get()
            found = await self._looks.ask([watched.item for watched in batch])
            now_s = self._monotonic()
            for watched, outcome in zip(batch, found, strict=True):
                if isinstance(outcome, Outcome):  # else the deadline came first
                    self._take(watched, outcome, now_s)
            self._in_flight -= 1
            if not self._open or not (self._due or self._in_flight):
                self._ended.set()
            self._wake.set()

    def _take(self, watched: WatchedItem, outcome: Outcome, now_s: float) -> None:
        spec = self._spec
        if rules.was_not_sent(outcome):
            self._pause(now_s, None)
            self._schedule_again(watched, self._paused_until_s, now_s)
            return
        watched.observe(outcome)
        if outcome.state is ItemState.UNKNOWN:
            self.last_error = outcome.error
        else:
            self._pauses = 0
        self._stop_if_it_is_no_use(watched, outcome, now_s)
        if self._limits.breaker_is_open():
            self._pause(now_s, outcome.error)
        if spec.once or rules.is_settled(
            watched, outcome, started_at=self._started_at, missing_after=spec.missing_after
        ):
            watched.settled = True
            self._open -= 1
            return
        self._schedule_again(watched, now_s + self._interval_s(watched, outcome), now_s)

    def _stop_if_it_is_no_use(self, watched: WatchedItem, outcome: Outcome, now_s: float) -> None:
        cause = rules.stop_cause(outcome, left_s=self._spec.deadline_s - now_s)
        if watched.looks == 1 and self._first_looks.observe(outcome) is Cause.FORBIDDEN:
            cause = Cause.FORBIDDEN
        if cause is not None:
            self.stopped_by = self.stopped_by or cause
            self._ended.set()

    def _interval_s(self, watched: WatchedItem, outcome: Outcome) -> float:
        if outcome.error is not None and outcome.state is ItemState.UNKNOWN:
            return self._backoff_s(watched.failures, outcome.error)
        requests = self._open / self._looks.batch_size
        return rules.interval_s(
            watched.looks, requests=requests, rate_per_s=self._limits.rate_per_s(), rand=self._rand()
        )

    def _pause(self, now_s: float, error: ApiError | None) -> None:
        """Nobody asks for a while: the breaker is open."""
        if self._paused:
            return
        self._pauses += 1
        until_s = self._next_look_s(now_s + self._backoff_s(self._pauses, error), now_s)
        self._paused, self._paused_until_s = True, self._spec.deadline_s if until_s is None else until_s

    def _backoff_s(self, failures: int, error: ApiError | None) -> float:
        return rules.pause_s(failures, error, budget_s=self.timeout.total_seconds(), rand=self._rand())

    def _schedule_again(self, watched: WatchedItem, due_s: float, now_s: float) -> None:
        at_s = self._next_look_s(due_s, now_s)
        if at_s is not None:
            self._schedule(watched, at_s)

    def _next_look_s(self, due_s: float, now_s: float) -> float | None:
        spec = self._spec
        return rules.next_look_s(due_s, now_s=now_s, started_s=spec.started_s, deadline_s=spec.deadline_s)

    def _schedule(self, watched: WatchedItem, due_s: float) -> None:
        heapq.heappush(self._due, (due_s, next(self._order), watched))

    def _report(self) -> WaitReport:
        counts = self.tally()
        # what is left although every item had its last word, can't be had by waiting
        stopped = self.stopped_by is not None or (not self._open and counts.left > 0)
        return self.report_of(rules.result_of(counts, stopped=stopped, interrupted=self._interrupt.is_set()))

    def _silence(self, result: WaitResult) -> Cause | None:
        """An API that hangs through the whole budget gives no error, and says nothing of its job volume."""
        was_silent = not any(each.looks for each in self._spec.items)
        return Cause.OUTAGE if was_silent and result is WaitResult.TIMED_OUT and self._looks.requests else None

    def report_of(self, result: WaitResult) -> WaitReport:
        """What is known now, with this as the result."""
        spec, counts = self._spec, self.tally()
        return WaitReport(
            target=spec.target,
            result=result,
            cause=(self.stopped_by or common_cause(spec.items) or self._silence(result)) if counts.left else None,
            started_at=self._started_at,
            duration_s=round(self._monotonic() - spec.started_s, 3),
            timeout=spec.timeout,
            requests=self._looks.requests,
            items=tuple(map(item_report, spec.items)),
            counts=counts,
        )
