"""Decides whether and when to retry a failed attempt. Pure; it neither waits nor sends.

`RETRY_TABLE` says what each kind of failure means for each kind of operation, after Uppzy's retry decision table. In
addition, a spending limit (402, or a 429 that says so) is never retried, `retryable: false` forbids a retry, and
nothing allows a retry that the status forbids. The client itself renews the credentials once after a 401.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from monitor.client.classify import cause_of
from monitor.model import Cause
from monitor.model.durations import exponential_backoff_s
from monitor.model.http import ApiError, Meaning, NetworkFault, Operation

_MAX_BACKOFF_S = 30.0
_INITIAL_BACKOFF_S = 1.0

MAX_BOUNDED_ATTEMPTS = 3


class FailureKind(StrEnum):
    """Kinds of failure, as far as retries are concerned."""

    RATE_LIMITED = "429"
    SERVER_ERROR = "408 and 5xx except 501 and 505"
    NOT_SENT = "DNS, connection refused"
    AMBIGUOUS = "timeout, reset, garbage"
    PERMANENT = "3xx, other 4xx, 501, 505, TLS, too large"


class RetryPolicy(StrEnum):
    """Whether to retry."""

    YES = "yes"
    BOUNDED = "yes, bounded"
    UNTIL_DEADLINE = "until the deadline"
    UNSAFE = "no: it may have been executed"
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


class RetryDecision(msgspec.Struct, frozen=True, kw_only=True):
    """The decision and its reason."""

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
    """Whether to try again after `attempt` (≥ 1) attempts; a server's hint replaces the backoff.

    Times are monotonic seconds; a wait must end before the deadline. `budget_left` is what all calls of the run may
    still retry. The backoff is `rand · min(30 s, 1 s · 2ⁿ)`, `rand` in [0, 1), n from 0 (full jitter: Brooker, AWS).
    """
    policy = RETRY_TABLE[operation][failure_kind(failure)]
    veto = _veto_reason(failure, policy)
    if veto:
        return _give_up(veto)
    if failure.retry_after is not None:
        wait_s, reason = failure.retry_after.total_seconds(), RetryReason.RETRY_AFTER
    else:
        wait_s, reason = _backoff_s(attempt, jitter=rand), RetryReason.TRANSIENT
    if now_s + wait_s >= deadline_s:
        return _give_up(RetryReason.DEADLINE_EXCEEDED)
    if policy is not RetryPolicy.UNTIL_DEADLINE and attempt >= _max_attempts(policy, max_attempts):
        return _give_up(RetryReason.ATTEMPTS_EXHAUSTED)
    if budget_left <= 0:
        return _give_up(RetryReason.RETRY_BUDGET_EXHAUSTED)
    return RetryDecision(action=RetryAction.RETRY, reason=reason, wait_s=wait_s)


def is_transient(failure: ApiError) -> bool:
    """Whether a read may be retried: 408, 429, 5xx except 501 and 505, or a network fault except TLS and size. Neither
    a spending limit nor `retryable: false` is transient.
    """
    return _veto_reason(failure, RETRY_TABLE[Operation.READ][failure_kind(failure)]) is None


def failure_kind(failure: ApiError) -> FailureKind:
    """The kind of a failure. An error of our own (no status, no network fault) is permanent.

    What the API's description says of an answer wins over its status.
    """
    if failure.meaning is not None:
        return _KIND_OF_MEANING.get(failure.meaning, FailureKind.PERMANENT)
    status = failure.status
    if status is None:
        return _KIND_OF_FAULT.get(failure.network, FailureKind.PERMANENT)
    if status == 429:
        return FailureKind.RATE_LIMITED
    transient = status == 408 or (500 <= status < 600 and status not in {501, 505})
    return FailureKind.SERVER_ERROR if transient else FailureKind.PERMANENT


_KIND_OF_MEANING: Mapping[Meaning, FailureKind] = {
    Meaning.RATE_LIMITED: FailureKind.RATE_LIMITED,
    Meaning.OUTAGE: FailureKind.SERVER_ERROR,
}

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


def _backoff_s(attempt: int, *, jitter: float = 1.0) -> float:
    return exponential_backoff_s(attempt - 1, initial_s=_INITIAL_BACKOFF_S, max_s=_MAX_BACKOFF_S, jitter=jitter)
