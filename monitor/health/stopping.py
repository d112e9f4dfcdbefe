"""When one target's run must stop: a small state machine over outcomes. Pure.

A 403 on one item is that item's own and never stops a target; what does is listed in `StopRule`.
"""

from monitor.health.classify import cause_of
from monitor.model import Cause, ItemState, Outcome

__all__ = ["FIRST_ITEMS", "StopRule"]

FIRST_ITEMS = 5
"""How many distinct items must all be refused with 403 before the whole target is taken to be refused."""


class StopRule:
    """Watches the outcomes of one run, in the order in which they arrive.

    A target stops when no token can be had, when a 401 outlives its refresh, on `spending_limit`, or when the first
    five distinct items are all 403. (The breaker, which stops a target that is down, lives in the client.)

    Args:
        first: how many distinct items must all be 403 (> 0): one, where it is a probe.
    """

    def __init__(self, *, first: int = FIRST_ITEMS) -> None:
        self._first = first
        self._finished = 0
        self._forbidden = 0

    def observe(self, outcome: Outcome) -> Cause | None:
        """Takes one more outcome in; says why the target must stop, or None."""
        cause = cause_of(outcome.error) if outcome.error else None
        if outcome.error and outcome.error.from_token_endpoint:
            return cause
        if cause in {Cause.UNAUTHORIZED, Cause.SPENDING_LIMIT}:
            return cause
        if not outcome.answered and outcome.error is None:
            return None  # quarantined, or given up by us: the API said nothing
        self._finished += 1
        self._forbidden += outcome.state is ItemState.UNKNOWN and cause is Cause.FORBIDDEN
        if self._finished == self._forbidden == self._first:
            return Cause.FORBIDDEN
        return None
