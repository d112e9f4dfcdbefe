"""Maps an API's statuses to states: the provider's own table with the target's `statuses` on top. Pure.

Every provider uses it, so all follow the same rules: case does not count, an unknown status is pending and marked as
not recognised, and all text is printable. A word is any JSON scalar: a text, a number, true, false, or null.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from monitor.errors import ConfigError
from monitor.model import EXISTING_STATES, ItemState, ItemStatus
from monitor.model.http import plain_text
from monitor.providers.paths import word_text

_MAX_STAGE_CHARS = 200
_MAX_CACHED_STATUSES = 1000
Word = str | int | float | bool | None
"""A status as a description or an API writes it. None is `null`; until `statuses` names it, null is pending."""

_STATES = {state.value: state for state in (*EXISTING_STATES, ItemState.NOT_FOUND)}
_ORDER_OF_STATES = (ItemState.FAILED, ItemState.NOT_FOUND, ItemState.PENDING, ItemState.COMPLETED)
_RANK = {state: rank for rank, state in enumerate(_ORDER_OF_STATES)}


def worst(statuses: Iterable[ItemStatus]) -> ItemStatus:
    """The status of a whole from those of its parts, at least one: the first of failed, not found, pending, completed.

    The order of the parts does not count. Of equal states, one that nobody described comes first, then one with a
    reason.
    """
    return min(statuses, key=_badness)


def _badness(status: ItemStatus) -> tuple[int, bool, bool, str, str, str]:
    reason, message = status.failure_reason, status.failure_message
    return (_RANK[status.state], status.recognised, reason is None, status.stage, reason or "", message or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusTable:
    """State by case-folded status."""

    states: Mapping[str, ItemState]
    _cache: dict[str, ItemStatus | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By raw status: an API repeats a few of them a million times."""

    @classmethod
    def with_overrides(cls, known: Mapping[str, ItemState], statuses: Mapping[str, Sequence[Word]]) -> "StatusTable":
        """The provider's table (state by status, in any case) with the target's own statuses by state, which win.

        Raises ConfigError if a state is not completed, pending, failed or not_found, or a status has two states.
        """
        return cls(states={**{_fold_known(name): state for name, state in known.items()}, **_overrides(statuses)})

    def read(self, raw: str) -> ItemStatus | None:
        """The meaning of a status, with its text as `stage` (printable, at most 200 characters); None: blank."""
        if raw in self._cache:
            return self._cache[raw]
        meaning = self._interpret(raw)
        if len(raw) <= _MAX_STAGE_CHARS:
            if len(self._cache) >= _MAX_CACHED_STATUSES:
                self._cache.clear()
            self._cache[raw] = meaning
        return meaning

    def _interpret(self, raw: str) -> ItemStatus | None:
        stage = plain_text(raw, _MAX_STAGE_CHARS)
        if not stage:
            return None
        # only a clean status is known: with control characters removed, anything could look like one
        state = self.states.get(stage.casefold()) if raw.strip().isprintable() else None
        return ItemStatus(state=state or ItemState.PENDING, stage=stage, recognised=state is not None)


def fold_word(word: Word) -> str:
    """The form in which words are compared: printable, in one case."""
    return plain_text(word_text(word) or "", _MAX_STAGE_CHARS).casefold()


_fold_known = lru_cache(maxsize=1024, typed=True)(fold_word)
"""Of words that are configured or built in, which many targets share; typed, since 1 and true are different words."""


def _overrides(statuses: Mapping[str, Sequence[Word]]) -> dict[str, ItemState]:
    problems: list[str] = []
    states: dict[str, ItemState] = {}
    for name, given in statuses.items():
        state = _STATES.get(name)
        if state is None:
            problems.append(f"statuses.{name[:60]} is not a state: use {', '.join(_STATES)}")
            continue
        problems += [
            f"statuses has {plain_text(word_text(status) or '', 60)} under two states: keep it under one of them"
            for status in given
            if states.setdefault(_fold_known(status), state) is not state
        ]
    if problems:
        raise ConfigError(problems)
    return states
