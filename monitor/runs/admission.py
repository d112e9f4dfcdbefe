"""Lets the workers of one run ask: five items first, then all, then none. `stop_rules` decides, this module waits.

Every change of the state goes through here and wakes whoever waits for it, and the deadline needs no change at all:
`watch` wakes everyone when it comes.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from monitor.model import Cause, Outcome, Reason
from monitor.runs.stop_rules import StopConditions


class Admission:
    """Who may ask in one run. `deadline_s` is on the monotonic clock."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s, self._conditions = deadline_s, StopConditions(deadline_s)
        self._all_admitted, self._stopping = asyncio.Event(), asyncio.Event()
        self.is_stopping = False
        """The same as `must_stop` while `watch` runs, which notes the deadline: for every item."""
        self.is_open = False
        """Whether `admit` would return True without a wait: the rule, and this is asked for every item."""

    @property
    def stopped_by(self) -> Cause | None:
        """The cause that stopped the target."""
        return self._conditions.stopped_by

    @property
    def tripped(self) -> bool:
        """Whether nothing but the circuit breaker stopped the target."""
        return self._conditions.tripped

    @property
    def cut_short_by(self) -> Reason | None:
        """Why the run ends before all items were asked about."""
        return self._conditions.cut_short_by

    def must_stop(self) -> bool:
        """Whether no further request may start."""
        self._wake()
        return self._stopping.is_set()

    async def admit(self) -> bool:
        """Waits while only the first five items may be asked about. False if the run must stop."""
        if not (self._all_admitted.is_set() or self._conditions.take_first_place()):
            await self._all_admitted.wait()
        return not self._stopping.is_set()

    def observe(self, outcome: Outcome, *, tripped: bool) -> None:
        """Adds an outcome of any item; `tripped`: the circuit breaker has stopped the target."""
        if outcome.error is None and not tripped:  # the rule
            self._conditions.observe_answer(answered=outcome.answered)
        else:
            self._conditions.observe(outcome, tripped=tripped, now_s=time.monotonic())
        if self._conditions.stopped_by is not None or not self._all_admitted.is_set():
            self._wake()

    def give_up(self) -> None:
        """Notes that a request ended without a statement of the API."""
        self._conditions.give_up()
        self._wake()

    def stop(self, cause: Cause) -> None:
        """Stops the target; the first cause counts."""
        self._conditions.stop(cause)
        self._wake()

    def cut_short(self, reason: Reason) -> None:
        """Cuts the run short; the first reason counts."""
        self._conditions.cut_short(reason)
        self._wake()

    def confirm_access(self) -> None:
        """Notes that the API returned one of our items; from now on a 403 concerns only its own item."""
        self._conditions.confirm_access()

    @contextmanager
    def probing(self) -> Iterator[None]:
        """Inside, one 403 stops the target; afterwards five do."""
        with self._conditions.probing():
            yield

    async def watch(self, interrupt: asyncio.Event) -> None:
        """Cuts the run short when `interrupt` is set or the deadline comes, whichever is first."""
        try:
            async with asyncio.timeout(max(0.0, self._deadline_s - time.monotonic())):
                await interrupt.wait()
        except TimeoutError:
            self.cut_short(Reason.DEADLINE)
        else:
            self.cut_short(Reason.INTERRUPTED)

    async def wait_until_stopping(self) -> None:
        """Returns once no further request may start."""
        await self._stopping.wait()

    def _wake(self) -> None:
        now_s = time.monotonic()
        if self._conditions.must_stop(now_s):
            self._stopping.set()
        if self._conditions.all_admitted(now_s):
            self._all_admitted.set()
        self.is_stopping = self._stopping.is_set()
        self.is_open = self._all_admitted.is_set() and not self.is_stopping
