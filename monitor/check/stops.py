"""Whether one run may go on asking: what stops its target, what cuts it short, and who may be among the first.

It asks nothing itself. What a single outcome means for a target is `health.stopping`'s business.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from monitor.client.retry import is_transient
from monitor.health.classify import cause_of
from monitor.health.stopping import FIRST_ITEMS, StopRule
from monitor.model import Cause, Outcome, Reason

__all__ = ["Stops"]


class Stops:
    """What ends a run before its items do, and what opens it to all.

    Until an answer is accepted no more than five items are asked about, or until all five have failed without stopping
    the target.

    Args:
        deadline_s: when to stop, on the monotonic clock.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s, self._rule = deadline_s, StopRule()
        self._first_asked = self._first_answers = 0
        self._vouched_for = False
        self.stopped_by: Cause | None = None
        """The cause that stopped the target."""
        self.cut: Reason | None = None
        """Why the run was cut short."""
        self.opened = asyncio.Event()
        """Set once more than the first few may be asked about."""
        self.ending = asyncio.Event()
        """Set once no further request may start."""

    def over(self) -> bool:
        """Whether no further request may start."""
        if self.stopped_by is None and self.cut is None and time.monotonic() >= self._deadline_s:
            self.cut = Reason.DEADLINE
        over = self.stopped_by is not None or self.cut is not None
        if over:
            self.ending.set()
            self.opened.set()
        return over

    def stop(self, cause: Cause) -> None:
        """Stops the target, if nothing did before."""
        self.stopped_by = self.stopped_by or cause

    def cut_short(self, reason: Reason) -> None:
        """Cuts the run short, if nothing did before."""
        self.cut = self.cut or reason

    def vouch(self) -> None:
        """Heeds that the API has shown an item of ours: a 403 is that item's own from now on, on however many."""
        self._vouched_for = True

    @contextmanager
    def probing(self) -> Iterator[None]:
        """Within, one 403 speaks for the target; afterwards the usual five do, unless the probe was accepted."""
        self._rule = StopRule(first=1)
        try:
            yield
        finally:
            self._rule = StopRule()

    async def may_open(self) -> bool:
        """Whether to be among the first; whoever is not waits for them. False when by then nothing may start."""
        if self._first_asked >= FIRST_ITEMS:
            await self.opened.wait()
        self._first_asked += 1
        return not self.over()

    def heed(self, outcome: Outcome, *, tripped: bool) -> None:
        """What an answer means for the rest of the run: it must stop, or the first five have been heard.

        Args:
            outcome: of any item, in the order in which they arrive.
            tripped: whether the breaker has stopped the target.
        """
        self.stopped_by = self.stopped_by or self._stopping(outcome) or (Cause.OUTAGE if tripped else None)
        self._first_answers += 1
        if outcome.answered or self._first_answers >= FIRST_ITEMS:
            self.opened.set()

    def _stopping(self, outcome: Outcome) -> Cause | None:
        """Why the target must stop after this outcome, or None."""
        error = outcome.error
        hint = error.retry_after if error and is_transient(error) else None
        if error and hint and time.monotonic() + hint.total_seconds() >= self._deadline_s:
            return cause_of(error)  # the server says to come back, and this run will be over by then
        stopping = self._rule.observe(outcome)
        return None if stopping is Cause.FORBIDDEN and self._vouched_for else stopping
