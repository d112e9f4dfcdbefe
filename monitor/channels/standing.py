"""How a channel stands after an attempt: well, waiting for its next try, or parked. Pure."""

from dataclasses import replace
from datetime import datetime, timedelta

from monitor.channels import Ending, Verdict
from monitor.model import ChannelState

__all__ = ["FAILING_AFTER", "FIRST_WAIT", "LONGEST_WAIT", "after", "is_failing"]

FIRST_WAIT = timedelta(seconds=30)
LONGEST_WAIT = timedelta(minutes=15)
"""The wait doubles from one to the other."""

FAILING_AFTER = timedelta(minutes=15)
"""A channel that could not be reached for so long is told of on the others."""

_LONGEST_HINT = timedelta(hours=1)
"""A receiver that asks for more is asked again after this."""


def after(
    state: ChannelState, verdict: Verdict, *, fingerprint: str | None, now: datetime, rand: float
) -> ChannelState:
    """How a channel stands after one attempt.

    Args:
        state: before it.
        verdict: how it ended. A refused message shows that the receiver can be reached.
        fingerprint: of the settings that were used; None: no such channel is configured.
        now: when it ended (aware).
        rand: jitter, from 0 to 1: the wait is between half and all of the backoff.
    """
    if verdict.ending in {Ending.DELIVERED, Ending.REFUSED}:
        return ChannelState(name=state.name)
    failed = replace(
        state, failures=state.failures + 1, failing_since=state.failing_since or now, last_error=verdict.reason
    )
    if verdict.ending is Ending.PARKED:
        return replace(failed, parked_at=state.parked_at or now, fingerprint=fingerprint, blocked_until=None)
    backoff = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(state.failures, 10)) * (0.5 + rand / 2)
    hint = min(verdict.retry_after or timedelta(0), _LONGEST_HINT)
    return replace(failed, blocked_until=now + max(backoff, hint))


def is_failing(state: ChannelState, *, now: datetime) -> bool:
    """Whether others are to be told that nothing gets through there: it is parked, or was not reached for long."""
    if state.parked_at is not None:
        return True
    return state.failing_since is not None and now - state.failing_since >= FAILING_AFTER
