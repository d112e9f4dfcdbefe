"""Decides whether a failed attempt is worth another, and when. Pure; it neither waits nor sends.

`RETRY_TABLE` says what each kind of failure means for each class of operation, after Uppzy's retry decision table. Beyond it,
a spending limit (402, or a 429 that says so) is never waited out; `retryable: false` vetoes; nothing grants a retry
that the status forbids. A 401 is refreshed once by the client, not retried here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from monitor.client.classify import cause_of
from monitor.model import Cause
from monitor.model.http import ApiError, NetworkFault, Operation

_MAX_BACKOFF_S = 30.0
_INITIAL_BACKOFF_S = 1.0
_MAX_DOUBLINGS = 5

MAX_BOUNDED_ATTEMPTS = 3
"""The most attempts of what is repeated with bounds."""


class FailureKind(StrEnum):
    """Kinds of failure, as far as repeating is concerned."""

    RATE_LIMITED = "429"
    SERVER_ERROR = "408 and 5xx, but for 501 and 505"
    NOT_SENT = "DNS, connection refused"
    AMBIGUOUS = "timeout, reset, garbage"
    PERMANENT = "3xx, other 4xx, 501, 505, TLS, too large"


class RetryPolicy(StrEnum):
    """Whether to repeat."""

    YES = "yes"
    BOUNDED = "yes, bounded"
    UNTIL_DEADLINE = "until the deadline"
    UNSAFE = "no: it may have happened"
    NO = "no"


def _policies(server: RetryPolicy, uncertain: RetryPolicy) -> Mapping[FailureKind, RetryPolicy]:
    return {
        FailureKind.RATE_LIMITED: server,
        FailureKind.SERVER_ERROR: server,
        FailureKind.NOT_SENT: server,
        FailureKind.AMBIGUOUS: uncertain,
        FailureKind.PERMANENT: RetryPolicy.NO,
    }


RETRY_TABLE: Mapping[Operation, Mapping[FailureKind, RetryPolicy]] = {
    Operation.READ: _policies(RetryPolicy.YES, RetryPolicy.YES),
    Operation.TOKEN: _policies(RetryPolicy.YES, RetryPolicy.YES),
    Operation.POLL: _policies(RetryPolicy.UNTIL_DEADLINE, RetryPolicy.UNTIL_DEADLINE),
    Operation.WRITE: _policies(RetryPolicy.BOUNDED, RetryPolicy.UNSAFE),
    Operation.CLOSE: _policies(RetryPolicy.BOUNDED, RetryPolicy.BOUNDED),
}


class RetryAction(StrEnum):
    """What to do after a failed attempt."""

    RETRY = "retry"
    GIVE_UP = "give_up"


class RetryReason(StrEnum):
    """Why; the first two go with `RETRY`."""

    TRANSIENT = "transient"
    RETRY_AFTER = "hint"
    STATUS_FORBIDS = "status_forbids"
    SPENDING_LIMIT = "spending_limit"
    VETOED = "vetoed"
    UNSAFE_TO_REPEAT = "unsafe_to_repeat"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    RETRY_BUDGET_EXHAUSTED = "retry_budget_exhausted"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDecision:
    """A verdict with its reason."""

    action: RetryAction
    reason: RetryReason
    wait_s: float = 0.0
    """Seconds to wait before the next attempt; 0 when giving up."""


def decide_retry(
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
        max_attempts: how many there may be (≥ 1); of what is bounded at most `MAX_BOUNDED_ATTEMPTS`, of polling as many as fit.
        budget_left: how many retries the run may still make, of all its calls together (≥ 0).
        operation: what the call does.
        now_s: monotonic seconds.
        deadline_s: the call's deadline on the same clock; no wait is begun that ends at or past it.
        rand: in [0, 1): the jitter, `rand · min(30 s, 1 s · 2ⁿ)` where n counts from 0 (full jitter: Brooker, AWS).

    Returns:
        The decision; a server's hint takes the place of the backoff.
    """
    policy = RETRY_TABLE[operation][failure_kind(failure)]
    veto = _veto_reason(failure, policy)
    if veto:
        return _give_up(veto)
    if failure.retry_after is not None:
        wait_s, reason = failure.retry_after.total_seconds(), RetryReason.RETRY_AFTER
    else:
        wait_s, reason = rand * _backoff_s(attempt), RetryReason.TRANSIENT
    if now_s + wait_s >= deadline_s:
        return _give_up(RetryReason.DEADLINE_EXCEEDED)
    if policy is not RetryPolicy.UNTIL_DEADLINE and attempt >= _max_attempts(policy, max_attempts):
        return _give_up(RetryReason.ATTEMPTS_EXHAUSTED)
    if budget_left <= 0:
        return _give_up(RetryReason.RETRY_BUDGET_EXHAUSTED)
    return RetryDecision(action=RetryAction.RETRY, reason=reason, wait_s=wait_s)


def is_transient(failure: ApiError) -> bool:
    """Whether the failure may pass by itself: 408, 429, 5xx save 501 and 505, or the network save TLS and size.

    A veto and a spending limit make it one that does not.
    """
    return _veto_reason(failure, RETRY_TABLE[Operation.READ][failure_kind(failure)]) is None


def failure_kind(failure: ApiError) -> FailureKind:
    """The kind of a failure. One without status and network fault is our own, and lasting."""
    status = failure.status
    if status is None:
        return _KIND_OF_FAULT.get(failure.network, FailureKind.PERMANENT)
    if status == 429:
        return FailureKind.RATE_LIMITED
    transient = status == 408 or (500 <= status < 600 and status not in {501, 505})
    return FailureKind.SERVER_ERROR if transient else FailureKind.PERMANENT


_KIND_OF_FAULT: Mapping[NetworkFault | None, FailureKind] = {
    NetworkFault.DNS: FailureKind.NOT_SENT,
    NetworkFault.REFUSED: FailureKind.NOT_SENT,
    NetworkFault.TIMEOUT: FailureKind.AMBIGUOUS,
    NetworkFault.RESET: FailureKind.AMBIGUOUS,
    NetworkFault.PROTOCOL: FailureKind.AMBIGUOUS,
}


def _veto_reason(failure: ApiError, policy: RetryPolicy) -> RetryReason | None:
    if cause_of(failure) is Cause.SPENDING_LIMIT:
        return RetryReason.SPENDING_LIMIT
    if policy is RetryPolicy.NO:
        return RetryReason.STATUS_FORBIDS
    if failure.retryable is False:
        return RetryReason.VETOED
    return RetryReason.UNSAFE_TO_REPEAT if policy is RetryPolicy.UNSAFE else None


def _max_attempts(policy: RetryPolicy, max_attempts: int) -> int:
    return min(max_attempts, MAX_BOUNDED_ATTEMPTS) if policy is RetryPolicy.BOUNDED else max_attempts


def _give_up(reason: RetryReason) -> RetryDecision:
    return RetryDecision(action=RetryAction.GIVE_UP, reason=reason)


def _backoff_s(attempt: int) -> float:
    return min(_MAX_BACKOFF_S, _INITIAL_BACKOFF_S * (1 << min(attempt - 1, _MAX_DOUBLINGS)))
