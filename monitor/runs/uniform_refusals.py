"""Holds back refusals of single ids while nothing else is answered: if all get the same, it says nothing about any.

A retired API version answers 410 to everything, a wrong path or a key that is rejected with 400 likewise. Then no item
is invalid or missing, and the run has a cause (`bad_request`, `wrong_scope`). Pure.
"""

from collections.abc import Iterable

from monitor.model import Cause, ItemState, Outcome
from monitor.model.http import Meaning
from monitor.model.items import TrackedItem

MAX_HELD = 2000
"""The most outcomes that are held back; it bounds the memory. Beyond, all count as uniform."""

_MIN_ALIKE = 2
"""One refusal alone is about its item."""

Found = tuple[TrackedItem, Outcome]


class UniformRefusals:
    """The refusals of one run, in the order of arrival."""

    def __init__(self) -> None:
        self._held: list[Found] = []
        self.settled = self._overflowed = False
        """Whether the API answers for other items."""

    def settle(self) -> None:
        """Notes that the API answers for other items: from now on a refusal is about its item."""
        self.settled = True

    def add(self, item: TrackedItem, outcome: Outcome) -> tuple[Found, ...]:
        """Adds an outcome; returns the outcomes that are certain now."""
        if self.settled or not outcome.answered:
            return ((item, outcome),)
        if not _is_refusal(outcome):
            self.settled = True
            return (*self._release(), (item, outcome))
        self._held.append((item, outcome))
        if len(self._held) < MAX_HELD and not self._overflowed:
            return ()
        self._overflowed = True
        return self.drain()

    def drain(self) -> tuple[Found, ...]:
        """What is still held back, at the end of a pass: unknown if the API gave all of them the same answer."""
        cause = _common_cause([outcome for _, outcome in self._held], at_least=1 if self._overflowed else _MIN_ALIKE)
        held = self._release()
        if self.settled or cause is None:
            return held
        return tuple((item, _unknown(outcome, cause)) for item, outcome in held)

    def _release(self) -> tuple[Found, ...]:
        held, self._held = tuple(self._held), []
        return held


def _is_refusal(outcome: Outcome) -> bool:
    return outcome.state is ItemState.INVALID or _is_gone(outcome)


def _is_gone(outcome: Outcome) -> bool:
    error = outcome.error
    return error is not None and error.status == 410 and error.meaning in {None, Meaning.NOT_FOUND}


def _common_cause(outcomes: Iterable[Outcome], *, at_least: int) -> Cause | None:
    """What refusals have in common: none was for a good id, or all say word for word that something is gone."""
    refused = list(outcomes)
    if len(refused) < at_least:
        return None
    if all(outcome.state is ItemState.INVALID for outcome in refused):
        return Cause.BAD_REQUEST
    words = {(e.status, e.code, e.error, e.message) for outcome in refused if (e := outcome.error) is not None}
    return Cause.WRONG_SCOPE if len(words) == 1 and all(map(_is_gone, refused)) else None


def _unknown(outcome: Outcome, cause: Cause) -> Outcome:
    return Outcome(
        item_id=outcome.item_id,
        state=ItemState.UNKNOWN,
        reason=cause,
        error=outcome.error,
        answered=False,
        cached=outcome.cached,
        at=outcome.at,
    )
