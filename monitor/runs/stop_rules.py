"""Decides whether a run may send further requests: what stops its target, and what cuts the run short. Pure."""

from collections.abc import Iterator
from contextlib import contextmanager

from monitor.client.classify import cause_of
from monitor.client.retry import is_transient
from monitor.model import Cause, ItemState, Outcome, Reason

FIRST_ITEMS = 5
"""If this many distinct items all get a 403 first, the API refuses the whole target."""


class StopRule:
    """Decides from the outcomes of one run, in their order, whether its target must stop.

    A target stops if the token request fails, if a 401 remains after one refresh, on `spending_limit`, or if the first
    `first` distinct items all get a 403: five, or one in a probe. The circuit breaker is part of the client.
    """

    def __init__(self, *, first: int = FIRST_ITEMS) -> None:
        self._first = first
        self._finished = 0
        self._forbidden = 0

    def observe(self, outcome: Outcome) -> Cause | None:
        """Adds an outcome. Returns the cause if the target must stop."""
        if outcome.error is None:
            self.observe_answer(answered=outcome.answered)
            return None
        cause = cause_of(outcome.error)
        if outcome.error.from_token_endpoint:
            return cause
        if cause in {Cause.UNAUTHORIZED, Cause.SPENDING_LIMIT}:
            return cause
        self._finished += 1
        self._forbidden += outcome.state is ItemState.UNKNOWN and cause is Cause.FORBIDDEN
        if self._finished == self._forbidden == self._first:
            return Cause.FORBIDDEN
        return None

    def observe_answer(self, *, answered: bool) -> None:
        """The same for an outcome without an error; not `answered`: quarantined or abandoned by us."""
        self._finished += answered


class StopConditions:
    """The state of one run: whether it must stop, and whether more than the first five items may be asked about.

    The others may be asked about once one of the first five is answered, or all five have ended without stopping the
    target. Instants are seconds on the monotonic clock.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s, self._rule = deadline_s, StopRule()
        self._first_asked = self._first_ended = 0
        self._any_answered = self._access_confirmed = False
        self.stopped_by: Cause | None = None
        self.tripped = False
        """Whether nothing but the circuit breaker stopped the target."""
        self.cut_short_by: Reason | None = None

    def must_stop(self, now_s: float) -> bool:
        """Whether no further request may start."""
        if self.stopped_by is None and self.cut_short_by is None and now_s >= self._deadline_s:
            self.cut_short_by = Reason.DEADLINE
        return self.stopped_by is not None or self.cut_short_by is not None

    def all_admitted(self, now_s: float) -> bool:
        """Whether no item has to wait for the first five: they ended, or the run must stop."""
        return self._any_answered or self._first_ended >= FIRST_ITEMS or self.must_stop(now_s)

    def take_first_place(self) -> bool:
        """Takes one of the first five places; False if they were all taken."""
        self._first_asked += 1
        return self._first_asked <= FIRST_ITEMS

    def stop(self, cause: Cause) -> None:
        """Stops the target; the first cause counts."""
        self.stopped_by = self.stopped_by or cause

    def cut_short(self, reason: Reason) -> None:
        """Cuts the run short; the first reason counts."""
        self.cut_short_by = self.cut_short_by or reason

    def confirm_access(self) -> None:
        """Notes that the API returned one of our items; from now on a 403 concerns only its own item."""
        self._access_confirmed = True

    @contextmanager
    def probing(self) -> Iterator[None]:
        """Inside, one 403 stops the target; afterwards five do."""
        self._rule = StopRule(first=1)
        try:
            yield
        finally:
            self._rule = StopRule()

    def observe(self, outcome: Outcome, *, tripped: bool, now_s: float) -> None:
        """Adds an outcome of any item, in order of arrival; `tripped`: the circuit breaker has stopped the target."""
        cause = self._stop_cause(outcome, now_s)
        self.tripped = tripped and (self.tripped or self.stopped_by is None) and cause is None
        self.stopped_by = self.stopped_by or cause or (Cause.OUTAGE if tripped else None)
        self._any_answered = self._any_answered or outcome.answered
        self._first_ended += 1

    def observe_answer(self, *, answered: bool) -> None:
        """The same for an outcome without an error while the circuit breaker is closed: it stops nothing."""
        self._rule.observe_answer(answered=answered)
        self.tripped = False
        self._any_answered = self._any_answered or answered
        self._first_ended += 1

    def give_up(self) -> None:
        """Notes that a request ended without a statement of the API: others must not wait for it."""
        self._first_ended += 1

    def _stop_cause(self, outcome: Outcome, now_s: float) -> Cause | None:
        """The cause if the target must stop after this outcome."""
        error = outcome.error
        hint = error.retry_after if error and is_transient(error) else None
        if error and hint and now_s + hint.total_seconds() >= self._deadline_s:
            return cause_of(error)  # Retry-After ends after the deadline
        stop_cause = self._rule.observe(outcome)
        return None if stop_cause is Cause.FORBIDDEN and self._access_confirmed else stop_cause
