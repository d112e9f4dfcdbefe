"""Decides whether a failed attempt is worth another, and when. Pure; it neither waits nor sends.

`TABLE` says what each kind of failure means for each class of operation, after Uppzy's retry decision table. Beyond it,
a spending limit (402, or a 429 that says so) is never waited out; `retryable: false` vetoes; nothing grants a retry
that the status forbids. A 401 is refreshed once by the client, not retried here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from monitor.client.classify import cause_of
from monitor.model import Cause
from monitor.model.http import ApiError, NetworkFault, Operation

_LONGEST_BACKOFF_S = 30.0
_FIRST_BACKOFF_S = 1.0
_MOST_DOUBLINGS = 5

WRITES = 3
"""The most attempts of what is repeated with bounds."""


class Failing(StrEnum):
    """Kinds of failure, as far as repeating is concerned."""

    LIMITED = "429"
    SERVER = "408 and 5xx, but for 501 and 505"
    NOT_SENT = "DNS, connection refused"
    UNCERTAIN = "timeout, reset, garbage"
    LASTING = "3xx, other 4xx, 501, 505, TLS, too large"


class Repeat(StrEnum):
    """Whether to repeat."""

    YES = "yes"
    BOUNDED = "yes, bounded"
    UNTIL_DEADLINE = "until the deadline"
    UNSAFE = "no: it may have happened"
    NO = "no"


def _row(server: Repeat, uncertain: Repeat) -> Mapping[Failing, Repeat]:
    return {
        Failing.LIMITED: server,
        Failing.SERVER: server,
        Failing.NOT_SENT: server,
        Failing.UNCERTAIN: uncertain,
        Failing.LASTING: Repeat.NO,
    }


TABLE: Mapping[Operation, Mapping[Failing, Repeat]] = {
    Operation.READ: _row(Repeat.YES, Repeat.YES),
    Operation.TOKEN: _row(Repeat.YES, Repeat.YES),
    Operation.POLL: _row(Repeat.UNTIL_DEADLINE, Repeat.UNTIL_DEADLINE),
    Operation.WRITE: _row(Repeat.BOUNDED, Repeat.UNSAFE),
    Operation.CLOSE: _row(Repeat.BOUNDED, Repeat.BOUNDED),
}


class Verdict(StrEnum):
    """What to do after a failed attempt."""

    RETRY = "retry"
    GIVE_UP = "give_up"


class RetryReason(StrEnum):
    """Why; the first two go with `RETRY`."""

    TRANSIENT = "transient"
    HINT = "hint"
    STATUS_FORBIDS = "status_forbids"
    SPENDING_LIMIT = "spending_limit"
    VETOED = "vetoed"
    UNSAFE_TO_REPEAT = "unsafe_to_repeat"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    ATTEMPTS_SPENT = "attempts_spent"
    RETRY_BUDGET_EXHAUSTED = "retry_budget_exhausted"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDecision:
    """A verdict with its reason."""

    verdict: Verdict
    reason: RetryReason
    wait_s: float = 0.0
    """Seconds to wait before the next attempt; 0 when giving up."""


def decide(
    failure: ApiError,
    *,
    attempt: int,
    max_attempts: int,
    budget_left: int,
    operation: Operation,
    now_s: float,
    deadline_s: float,
    rand: float,
) -> RetryDecision:
    """Whether to try again.

    Args:
        failure: how the last attempt ended.
        attempt: attempts made so far (≥ 1).
        max_attempts: how many there may be (≥ 1); of what is bounded at most `WRITES`, of polling as many as fit.
        budget_left: how many retries the run may still make, of all its calls together (≥ 0).
        operation: what the call does.
        now_s: monotonic seconds.
        deadline_s: the call's deadline on the same clock; no wait is begun that ends at or past it.
        rand: in [0, 1): the jitter, `rand · min(30 s, 1 s · 2ⁿ)` where n counts from 0 (full jitter: Brooker, AWS).

    Returns:
        The decision; a server's hint takes the place of the backoff.
    """
    repeat = TABLE[operation][failing(failure)]
    forbidden = _forbidden(failure, repeat)
    if forbidden:
        return _give_up(forbidden)
    if failure.retry_after is not None:
        wait_s, reason = failure.retry_after.total_seconds(), RetryReason.HINT
    else:
        wait_s, reason = rand * _backoff_s(attempt), RetryReason.TRANSIENT
    if now_s + wait_s >= deadline_s:
        return _give_up(RetryReason.DEADLINE_EXCEEDED)
    if repeat is not Repeat.UNTIL_DEADLINE and attempt >= _most(repeat, max_attempts):
        return _give_up(RetryReason.ATTEMPTS_SPENT)
    if budget_left <= 0:
        return _give_up(RetryReason.RETRY_BUDGET_EXHAUSTED)
    return RetryDecision(verdict=Verdict.RETRY, reason=reason, wait_s=wait_s)


def is_transient(failure: ApiError) -> bool:
    """Whether the failure may pass by itself: 408, 429, 5xx save 501 and 505, or the network save TLS and size.

    A veto and a spending limit make it one that does not.
    """
    return _forbidden(failure, TABLE[Operation.READ][failing(failure)]) is None


def failing(failure: ApiError) -> Failing:
    """The kind of a failure. One without status and network fault is our own, and lasting."""
    status = failure.status
    if status is None:
        return _OF_FAULT.get(failure.network, Failing.LASTING)
    if status == 429:
        return Failing.LIMITED
    passing = status == 408 or (500 <= status < 600 and status not in {501, 505})
    return Failing.SERVER if passing else Failing.LASTING


_OF_FAULT: Mapping[NetworkFault | None, Failing] = {
    NetworkFault.DNS: Failing.NOT_SENT,
    NetworkFault.REFUSED: Failing.NOT_SENT,
    NetworkFault.TIMEOUT: Failing.UNCERTAIN,
    NetworkFault.RESET: Failing.UNCERTAIN,
    NetworkFault.PROTOCOL: Failing.UNCERTAIN,
}


def _forbidden(failure: ApiError, repeat: Repeat) -> RetryReason | None:
    if cause_of(failure) is Cause.SPENDING_LIMIT:
        return RetryReason.SPENDING_LIMIT
    if repeat is Repeat.NO:
        return RetryReason.STATUS_FORBIDS
    if failure.retryable is False:
        return RetryReason.VETOED
    return RetryReason.UNSAFE_TO_REPEAT if repeat is Repeat.UNSAFE else None


def _most(repeat: Repeat, max_attempts: int) -> int:
    return min(max_attempts, WRITES) if repeat is Repeat.BOUNDED else max_attempts


def _give_up(reason: RetryReason) -> RetryDecision:
    return RetryDecision(verdict=Verdict.GIVE_UP, reason=reason)


def _backoff_s(attempt: int) -> float:
    return min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * (1 << min(attempt - 1, _MOST_DOUBLINGS)))
