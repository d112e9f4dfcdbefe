"""What silences do to decisions: messages wait, nothing else changes. Pure.

A silence never touches an incident's life. It opens, goes on and resolves as it would have; only what people would
be told stays behind, and the decision names the silence that keeps it.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from monitor.incidents.matching import attributes_of, matches
from monitor.incidents.rules import Action, Decision, Why
from monitor.model import Incident, Silence

__all__ = ["ended", "hush", "in_words", "matching", "silence_over"]

_OPENINGS = frozenset({Action.OPEN, Action.REOPEN})
_REPEATS = frozenset({Action.UPDATE, Action.REMIND})


def silence_over(incident: Incident, silences: Sequence[Silence], *, now: datetime) -> Silence | None:
    """The silence that holds for an incident at a moment, or None; which of several, says `matching`."""
    return matching(incident, [each for each in silences if each.in_force(now)])


def matching(incident: Incident, silences: Sequence[Silence]) -> Silence | None:
    """Of silences that are in force the one that matches an incident, or None.

    Of several it is the one that keeps its opening back already, else the one that ends last.
    """
    attributes = attributes_of(incident)
    holding = [each for each in silences if matches(each.matchers, attributes)]
    return max(holding, key=lambda each: (each.id == incident.silence_id, each.ends_at, each.id), default=None)


def hush(decision: Decision, incident: Incident, silences: Sequence[Silence], *, now: datetime) -> Decision:
    """The decision as silences leave it.

    An opening stays one, with the silence that keeps its message back. An update or a reminder becomes `continue`:
    it is due again after the silence. An end is told wherever the opening was, silenced or not, as an alert must not
    stay open.

    Args:
        decision: what the rules decided.
        incident: as it stands; for an opening, as it is about to be.
        silences: all that might hold.
        now: when (aware).
    """
    if decision.action not in _OPENINGS | _REPEATS:
        return decision
    silence = silence_over(incident, silences, now=now)
    if decision.action in _OPENINGS:
        return decision if silence is None else replace(decision, silence_id=silence.id)
    if silence is not None:
        return replace(decision, action=Action.CONTINUE, why=Why.SILENCED, silence_id=silence.id)
    if incident.silence_id is not None:
        # Nobody has heard of it yet: what would repeat an opening waits for that.
        return replace(decision, action=Action.CONTINUE, why=Why.OPENING_DUE)
    return decision


def in_words(silence: Silence) -> str:
    """A silence for people: `silence 3 until 2026-03-01 06:00 UTC (deploy)`."""
    why = f" ({silence.comment})" if silence.comment else ""
    return f"silence {silence.id} until {silence.ends_at:%Y-%m-%d %H:%M} UTC{why}"


def ended(silence: Silence, *, now: datetime) -> str:
    """Why a silence keeps nothing back any more: `silence 3 ended`, `silence 3 was ended by ana`."""
    if silence.in_force(now):
        return f"silence {silence.id} does not match it any more"
    return (
        f"silence {silence.id} was ended by {silence.expired_by}"
        if silence.expired_by
        else f"silence {silence.id} ended"
    )
