"""Whether one run may go on asking: what stops its target, what cuts it short, and who may be among the first.

It asks nothing itself. What a single outcome means for a target is `health.stop_cause`'s business.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from monitor.client.classify import cause_of
from monitor.client.retry import is_transient
from monitor.model import Cause, ItemState, Outcome, Reason

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


class StopConditions:
    """What ends a run before its items do, and what opens it to all.

    Until an answer is accepted no more than five items are asked about, or until all five have failed without stopping
    the target.

    Args:
        deadline_s: when to stop, on the monotonic clock.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s, self._rule = deadline_s, StopRule()
        self._first_asked = self._first_answers = 0
        self._access_confirmed = False
        self.stopped_by: Cause | None = None
        """The cause that stopped the target."""
        self.cut_short_by: Reason | None = None
        """Why the run was cut short."""
        self.all_admitted = asyncio.Event()
        """Set once more than the first few may be asked about."""
        self.stopping = asyncio.Event()
        """Set once no further request may start."""

    def must_stop(self) -> bool:
        """Whether no further request may start."""
        if self.stopped_by is None and self.cut_short_by is None and time.monotonic() >= self._deadline_s:
            self.cut_short_by = Reason.DEADLINE
        must_stop = self.stopped_by is not None or self.cut_short_by is not None
        if must_stop:
            self.stopping.set()
            self.all_admitted.set()
        return must_stop

    def stop(self, cause: Cause) -> None:
        """Stops the target, if nothing did before."""
        self.stopped_by = self.stopped_by or cause

    def cut_short(self, reason: Reason) -> None:
        """Cuts the run short, if nothing did before."""
        self.cut_short_by = self.cut_short_by or reason

    def confirm_access(self) -> None:
        """Heeds that the API has shown an item of ours: a 403 is that item's own from now on, on however many."""
        self._access_confirmed = True

    @contextmanager
    def probing(self) -> Iterator[None]:
        """Within, one 403 speaks for the target; afterwards the usual five do, unless the probe was accepted."""
        self._rule = StopRule(first=1)
        try:
            yield
        finally:
            self._rule = StopRule()

    async def admit(self) -> bool:
        """Whether to be among the first; whoever is not waits for them. False when by then nothing may start."""
        if self._first_asked >= FIRST_ITEMS:
            await self.all_admitted.wait()
        self._first_asked += 1
        return not self.must_stop()

    def observe(self, outcome: Outcome, *, tripped: bool) -> None:
        """What an answer means for the rest of the run: it must stop, or the first five have been heard.

        Args:
            outcome: of any item, in the order in which they arrive.
            tripped: whether the breaker has stopped the target.
        """
        self.stopped_by = self.stopped_by or self._stop_cause(outcome) or (Cause.OUTAGE if tripped else None)
        self._first_answers += 1
        if outcome.answered or self._first_answers >= FIRST_ITEMS:
            self.all_admitted.set()

    def _stop_cause(self, outcome: Outcome) -> Cause | None:
        """Why the target must stop after this outcome, or None."""
        error = outcome.error
        hint = error.retry_after if error and is_transient(error) else None
        if error and hint and time.monotonic() + hint.total_seconds() >= self._deadline_s:
            return cause_of(error)  # the server says to come back, and this run will be over by then
        stop_cause = self._rule.observe(outcome)
        return None if stop_cause is Cause.FORBIDDEN and self._access_confirmed else stop_cause
