"""Decides whether a failed attempt is worth another, and when. Pure; it neither waits nor sends.

| operation     | 408, 429, 5xx | DNS, refused | timeout, reset, garbage  | TLS, too large, 501, 505, 3xx, other 4xx |
|---------------|---------------|--------------|--------------------------|------------------------------------------|
| read, token   | yes           | yes          | yes                      | no                                       |
| write         | yes, bounded  | yes, bounded | no: it may have happened | no                                       |

After Uppzy's retry decision table. A spending limit (402, or a 429 that says so) is never waited out; `retryable:
false` vetoes; nothing grants a retry that the status forbids. A 401 is refreshed once by the client, not retried here.
"""

from dataclasses import dataclass
from enum import StrEnum

from monitor.exchange import ApiError, NetworkFault, Operation
from monitor.health.classify import cause_of
from monitor.model import Cause

__all__ = ["RetryDecision", "RetryReason", "Verdict", "decide", "is_transient"]

_LONGEST_BACKOFF_S = 30.0
_FIRST_BACKOFF_S = 1.0
_MOST_DOUBLINGS = 5
_SERVER_ERRORS = range(500, 600)
_NOT_CURED_BY_TIME = frozenset({501, 505})
_LASTING_FAULTS = frozenset({NetworkFault.TLS, NetworkFault.TOO_LARGE})
_NOTHING_WAS_SENT = frozenset({NetworkFault.DNS, NetworkFault.REFUSED})


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
    PAST_DEADLINE = "past_deadline"
    ATTEMPTS_SPENT = "attempts_spent"


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
    operation: Operation,
    now_s: float,
    deadline_s: float,
    rand: float,
) -> RetryDecision:
    """Whether to try again.

    Args:
        failure: how the last attempt ended.
        attempt: attempts made so far (≥ 1).
        max_attempts: how many there may be (≥ 1).
        operation: what the call does.
        now_s: monotonic seconds.
        deadline_s: the call's deadline on the same clock; no wait is begun that ends at or past it.
        rand: in [0, 1): the jitter, `rand · min(30 s, 1 s · 2ⁿ)` where n counts from 0 (full jitter: Brooker, AWS).

    Returns:
        The decision; a server's hint takes the place of the backoff.
    """
    forbidden = _forbidden(failure, operation)
    if forbidden:
        return RetryDecision(verdict=Verdict.GIVE_UP, reason=forbidden)
    if failure.retry_after is not None:
        wait_s, reason = failure.retry_after.total_seconds(), RetryReason.HINT
    else:
        wait_s, reason = rand * _backoff_s(attempt), RetryReason.TRANSIENT
    if now_s + wait_s >= deadline_s:
        return RetryDecision(verdict=Verdict.GIVE_UP, reason=RetryReason.PAST_DEADLINE)
    if attempt >= max_attempts:
        return RetryDecision(verdict=Verdict.GIVE_UP, reason=RetryReason.ATTEMPTS_SPENT)
    return RetryDecision(verdict=Verdict.RETRY, reason=reason, wait_s=wait_s)


def is_transient(failure: ApiError) -> bool:
    """Whether the failure may pass by itself: 408, 429, 5xx save 501 and 505, or the network; no veto, money left."""
    return _forbidden(failure, Operation.READ) is None


def _forbidden(failure: ApiError, operation: Operation) -> RetryReason | None:
    if cause_of(failure) is Cause.SPENDING_LIMIT:
        return RetryReason.SPENDING_LIMIT
    if not _passing(failure):
        return RetryReason.STATUS_FORBIDS
    if failure.retryable is False:
        return RetryReason.VETOED
    if operation is Operation.WRITE and failure.network is not None and failure.network not in _NOTHING_WAS_SENT:
        return RetryReason.UNSAFE_TO_REPEAT
    return None


def _passing(failure: ApiError) -> bool:
    if failure.status is None:
        return failure.network is not None and failure.network not in _LASTING_FAULTS
    if failure.status in _NOT_CURED_BY_TIME:
        return False
    return failure.status in {408, 429} or failure.status in _SERVER_ERRORS


def _backoff_s(attempt: int) -> float:
    return min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * (1 << min(attempt - 1, _MOST_DOUBLINGS)))
