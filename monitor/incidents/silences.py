"""What silences do to decisions: messages wait, nothing else changes. Pure.

A silence never touches an incident's life. It opens, goes on and resolves as it would have; only what people would
be told stays behind, and the decision names the silence that keeps it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from fnmatch import fnmatchcase

from monitor.incidents.decide import Action, Decision, DecisionReason
from monitor.model import Cause, Incident, IncidentState, Severity, Silence, Team
from monitor.notifications.routing import ATTRIBUTES, Matchers, attributes_of, escape_glob, matches

_MAX_PATTERN_LENGTH = 200
_KNOWN_VALUES: Mapping[str, tuple[str, ...]] = {
    "cause": tuple(each.value for each in Cause),
    "team": tuple(each.value for each in Team),
    "severity": tuple(each.value for each in Severity),
}
"""Attributes whose values are all known: a pattern that matches none of them is a slip."""


def matchers_for(incident: Incident) -> Matchers:
    """What matches an incident and whatever comes after it under the same key."""
    key = {"cause": incident.cause.value, "target": incident.target}
    key |= {"group": incident.group} if incident.group else {}
    return {name: (escape_glob(value),) for name, value in key.items()}


def parse_matchers(texts: Sequence[str]) -> Matchers:
    """Reads `ATTRIBUTE=PATTERN`; patterns of one attribute are alternatives. `validate_matchers` says what it can't be."""
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, pattern = text.partition("=")
        found[name.strip()] = (*found.get(name.strip(), ()), pattern.strip())
    return found


def validate_matchers(matchers: Matchers) -> list[str]:
    """What is wrong with matchers, a sentence each; none when they can match something."""
    found = (_validate(name, pattern) for name, patterns in matchers.items() for pattern in patterns)
    return [sentences for sentences in found if sentences]


def _validate(name: str, pattern: str) -> str:
    if name not in ATTRIBUTES:
        return f"there is no attribute {name!a}; write ATTRIBUTE=PATTERN with one of {', '.join(ATTRIBUTES)}"
    if not (pattern and pattern.isprintable() and len(pattern) <= _MAX_PATTERN_LENGTH):
        return f"{name} needs a pattern of 1 to {_MAX_PATTERN_LENGTH} printable characters, as in {name}=a*"
    known_values = _KNOWN_VALUES.get(name, ())
    if known_values and not any(fnmatchcase(value, pattern) for value in known_values):
        return f"there is no {name} like {pattern}; there are {', '.join(known_values)}"
    return ""


def matches_everything(matchers: Matchers) -> bool:
    """Whether matchers leave nothing out."""
    return all(any(pattern.strip("*") == "" for pattern in patterns) for patterns in matchers.values())


def format_matchers(matchers: Matchers) -> str:
    """Matchers as they are asked for: `cause=outage target=gloo-*|uppzy`."""
    return " ".join(f"{name}={'|'.join(patterns)}" for name, patterns in matchers.items())


_OPENINGS = frozenset({Action.OPEN, Action.REOPEN})
_FOLLOW_UPS = frozenset({Action.UPDATE, Action.REMIND})


def active_silence(incident: Incident, silences: Sequence[Silence], *, now: datetime) -> Silence | None:
    """The silence that holds for an incident at a moment, or None; which of several, says `matching_silence`."""
    return matching_silence(incident, [each for each in silences if each.is_active(now)])


def matching_silence(incident: Incident, silences: Sequence[Silence]) -> Silence | None:
    """Of silences that are in force the one that matches an incident, or None.

    Of several it is the one that keeps its opening back already, else the one that ends last.
    """
    attributes = attributes_of(incident)
    active = [each for each in silences if matches(each.matchers, attributes)]
    return max(active, key=lambda each: (each.id == incident.silence_id, each.ends_at, each.id), default=None)


def apply_silences(decision: Decision, incident: Incident, silences: Sequence[Silence], *, now: datetime) -> Decision:
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
    if decision.action not in _OPENINGS | _FOLLOW_UPS:
        return decision
    silence = active_silence(incident, silences, now=now)
    if decision.action in _OPENINGS:
        return decision if silence is None else replace(decision, silence_id=silence.id)
    if silence is not None:
        return replace(decision, action=Action.CONTINUE, reason=DecisionReason.SILENCED, silence_id=silence.id)
    if incident.silence_id is not None:
        # Nobody has heard of it yet: what would repeat an opening waits for that.
        return replace(decision, action=Action.CONTINUE, reason=DecisionReason.OPENING_DUE)
    return decision


def describe_cause(silence: Silence) -> str:
    """A silence for people: `silence 3 until 2026-03-01 06:00 UTC (deploy)`."""
    reason = f" ({silence.comment})" if silence.comment else ""
    return f"silence {silence.id} until {silence.ends_at:%Y-%m-%d %H:%M} UTC{reason}"


def describe_silence_end(silence: Silence, *, now: datetime) -> str:
    """Why a silence keeps nothing back any more: `silence 3 ended`, `silence 3 was ended by ana`."""
    if silence.is_active(now):
        return f"silence {silence.id} does not match it any more"
    return (
        f"silence {silence.id} was ended by {silence.expired_by}"
        if silence.expired_by
        else f"silence {silence.id} ended"
    )


def suppression_reasons(incident: Incident, silences: Sequence[Silence]) -> tuple[str, ...]:
    """Sentences without a full stop, as in `silenced by silence 3 until 2026-03-01 06:00 UTC (deploy)`.

    Args:
        incident: open or over.
        silences: those in force.
    """
    sentences = (describe_acknowledgement(incident), _describe_silenced(incident, silences))
    return tuple(sentence for sentence in sentences if sentence)


def describe_acknowledgement(incident: Incident) -> str:
    """Who looks after an incident since when; empty when nobody does."""
    if incident.state is not IncidentState.ACKNOWLEDGED or incident.acknowledged_at is None:
        return ""
    return f"acknowledged by {incident.acknowledged_by or 'somebody'}, {incident.acknowledged_at:%Y-%m-%d %H:%M:%S} UTC"


def _describe_silenced(incident: Incident, silences: Sequence[Silence]) -> str:
    untold = incident.silence_id is not None
    if incident.state is IncidentState.RESOLVED:
        return f"nobody was told: silence {incident.silence_id} kept the opening back" if untold else ""
    silence = matching_silence(incident, silences)
    if silence is not None:
        return f"silenced by {describe_cause(silence)}" + ("; nobody was told yet" if untold else "")
    return f"silence {incident.silence_id} is over: the opening goes out with the next delivery" if untold else ""
