"""Decides for a wait: when to ask again, what settles an item, what ends the wait. Pure.

Only what the API itself calls final settles an item. An intermediate status, and one that nobody has seen before, never
does: so a wait has a budget, and always ends (openai-python#3097: a poll that never returns, as the status stays
`in_progress`).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from monitor.client.classify import cause_of
from monitor.client.retry import is_transient
from monitor.model import Cause, ItemState, Outcome
from monitor.model.durations import exponential_backoff_s
from monitor.model.http import BREAKER_OPEN, ApiError
from monitor.model.items import TrackedItem
from monitor.runs.uniform_refusals import UniformRefusals

FIRST_INTERVAL_S = 1.0
MAX_INTERVAL_S = 15.0
"""Gloo's own cookbook asks every 15 s."""
GROWTH = 1.5
JITTER = 0.1
"""Intervals differ by up to this share, so that thousands of items are not asked about at one moment."""
MAX_BACKOFF_S = 30.0
_LAST_LOOK_S, _LAST_LOOK_SHARE = 2.0, 0.1
"""How long before its end a wait looks for the last time: two seconds, or this share of a short budget."""
_PAUSE_SHARE = 0.1
_MAX_GROWTH_STEPS = 16


class WaitResult(StrEnum):
    """How a wait ended, as it is stored, and a label of the metric."""

    COMPLETED = "completed"
    """Every item is completed."""
    FAILED = "failed"
    """Every item is settled, and some are failed, missing or invalid."""
    TIMED_OUT = "timed_out"
    """The budget ran out before every item was settled."""
    STOPPED = "stopped"
    """Items are not settled, and waiting does not change that: a rejected key, a spending limit, a refused item."""
    INTERRUPTED = "interrupted"
    """By a signal, or because its caller gave it up."""
    KILLED = "killed"
    """Its process ended without a word; a later wait or run stored that."""
    CRASHED = "crashed"
    """By an error that nobody foresaw."""


DURATION_BUCKETS_S = (5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
"""Upper bounds of durations in `wait_totals` and in the metric's histogram: whole seconds, ascending."""


@dataclass(slots=True, kw_only=True)
class WatchedItem:
    """One item of a wait, and what was found out about it so far."""

    item: TrackedItem
    seen: bool = False
    """The API has returned it, in an earlier run or in this wait: a 404 means that it is gone."""
    looks: int = 0
    """Answers and failures so far."""
    failures: int = 0
    """In a row."""
    answer: Outcome | None = None
    """The last answer of the API about it."""
    failure: Outcome | None = None
    """What came instead of an answer since then."""
    settled: bool = False

    def observe(self, outcome: Outcome) -> None:
        """Adds what came."""
        self.looks += 1
        if outcome.state is ItemState.UNKNOWN:
            self.failures += 1
            self.failure = outcome
            return
        self.failures, self.failure, self.answer = 0, None, outcome
        self.seen = self.seen or outcome.state.exists


def is_settled(watched: WatchedItem, outcome: Outcome, *, started_at: datetime, missing_after: timedelta) -> bool:
    """Whether an outcome, already observed, is the last word on an item.

    An id that was just uploaded may be unknown to the API for a while. So a 404 settles it only if the API had it
    before, or if it is older than `missing_after`: since its upload where that is known, else since the wait began.
    """
    match outcome.state:
        case ItemState.COMPLETED | ItemState.FAILED | ItemState.INVALID:
            return True
        case ItemState.PENDING:
            return False
        case ItemState.NOT_FOUND:
            since = min(watched.item.submitted_at or started_at, started_at)
            return watched.seen or outcome.at - since >= missing_after
        case ItemState.UNKNOWN:
            return outcome.reason in REFUSALS_OF_AN_ITEM
        case _:
            assert_never(outcome.state)


REFUSALS_OF_AN_ITEM = frozenset({Cause.FORBIDDEN, Cause.WRONG_SCOPE, Cause.BAD_REQUEST})
"""Waiting does not cure them, and they may concern this item alone: it is not asked about again."""

_INCURABLE = frozenset({Cause.UNAUTHORIZED, Cause.SPENDING_LIMIT})
"""Waiting does not cure them, and they concern every item: the client has renewed its credentials already."""


def stop_cause(outcome: Outcome, *, left_s: float) -> Cause | None:
    """Why a wait must end with this outcome, although time is left (`left_s`, in seconds); None: it goes on.

    A server's hint that reaches beyond the end ends it as well: until then nothing would be answered. An outage does
    not: it may end in time.
    """
    error = outcome.error
    if error is None or outcome.answered:
        return None
    cause = cause_of(error)
    if cause in _INCURABLE:
        return cause
    hint = error.retry_after if is_transient(error) else None
    return cause if hint is not None and hint.total_seconds() >= left_s else None


def was_not_sent(outcome: Outcome) -> bool:
    """Whether the circuit breaker refused the request: it says nothing about the item."""
    return outcome.error is not None and outcome.error.is_local(BREAKER_OPEN)


def interval_s(looks: int, *, requests: float, rate_per_s: float | None, rand: float) -> float:
    """Seconds until an item that is not settled is asked about again, after `looks` (≥ 1) looks.

    They grow from 1 s by half each time, up to 15 s. If the API is known to take `rate_per_s` requests per second, the
    interval is at least what one look at all open items takes (`requests` of them). `rand` in [0, 1) spreads them.
    """
    grown = min(MAX_INTERVAL_S, FIRST_INTERVAL_S * GROWTH ** min(looks - 1, _MAX_GROWTH_STEPS))
    all_once = requests / rate_per_s if rate_per_s else 0.0
    return max(grown, all_once) * (1 - JITTER + 2 * JITTER * rand)


def pause_s(failures: int, error: ApiError | None, *, budget_s: float, rand: float) -> float:
    """Seconds until the next attempt after `failures` (≥ 1) failures in a row; a server's hint may make it longer.

    They double up to 30 s, but to no more than a tenth of the whole budget: a short wait must notice a short outage.
    """
    most_s = min(MAX_BACKOFF_S, max(FIRST_INTERVAL_S, _PAUSE_SHARE * budget_s))
    backoff = exponential_backoff_s(failures - 1, initial_s=FIRST_INTERVAL_S, max_s=most_s, jitter=0.5 + rand / 2)
    hint = error.retry_after if error is not None and is_transient(error) else None
    return max(backoff, hint.total_seconds() if hint is not None else 0.0)


def next_look_s(due_s: float, *, now_s: float, started_s: float, deadline_s: float) -> float | None:
    """When to look, if it should be at `due_s`: shortly before the deadline at the latest; None: no more.

    Without this last look, an item that was completed in the last interval would count as timed out. Monotonic seconds.
    """
    last_s = deadline_s - min(_LAST_LOOK_S, _LAST_LOOK_SHARE * (deadline_s - started_s))
    if due_s <= last_s:
        return due_s
    return last_s if now_s < last_s else None


def settle_refusals(items: Sequence[WatchedItem]) -> None:
    """Takes back the word `invalid` (400, 422, 410) where the API said the same of every item, and no other word.

    Then it is the request that is wrong, or a retired API: see `uniform_refusals`.
    """
    refusals = UniformRefusals()
    answered = [(each, each.answer) for each in items if each.answer is not None]
    by_id = {each.item.item_id: each for each in items}
    certain = [found for each, answer in answered for found in refusals.add(each.item, answer)]
    for item, outcome in (*certain, *refusals.drain()):
        watched = by_id[item.item_id]
        if outcome.state is ItemState.UNKNOWN:
            watched.answer, watched.failure = None, outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The items of a wait by what is known of them: `asked` is the sum of the others."""

    asked: int
    completed: int = 0
    failed: int = 0
    missing: int = 0
    """Not found, and no longer expected."""
    invalid: int = 0
    pending: int = 0
    """In progress; or not found, but perhaps not there yet."""
    unknown: int = 0
    """The API gave no answer about them."""

    @property
    def settled(self) -> int:
        """Those with a last word."""
        return self.completed + self.failed + self.missing + self.invalid

    @property
    def problems(self) -> int:
        """Settled, and not completed."""
        return self.settled - self.completed

    @property
    def left(self) -> int:
        """Those without a last word."""
        return self.pending + self.unknown


def column_of(watched: WatchedItem) -> str:
    """The column of `Tally` that an item counts in."""
    if watched.answer is None:
        return "unknown"
    match watched.answer.state:
        case ItemState.NOT_FOUND:
            return "missing" if watched.settled and watched.failure is None else "pending"
        case known:
            return known.value


def tally(items: Iterable[WatchedItem]) -> Tally:
    """Counts items."""
    counts = Counter(map(column_of, items))
    return Tally(asked=counts.total(), **counts)


def result_of(counts: Tally, *, stopped: bool, interrupted: bool) -> WaitResult:
    """How a wait ended. What is settled wins over how it ended: an interrupt after the last answer changes nothing."""
    if not counts.left:
        return WaitResult.FAILED if counts.problems else WaitResult.COMPLETED
    if interrupted:
        return WaitResult.INTERRUPTED
    return WaitResult.STOPPED if stopped else WaitResult.TIMED_OUT


def bucket_of(duration_s: float) -> int:
    """The upper bound of a duration in `DURATION_BUCKETS_S`; 0 beyond the last."""
    return next((bound for bound in DURATION_BUCKETS_S if duration_s <= bound), 0)
