"""Silences: they prevent notifications and change nothing else. Pure.

An incident opens, continues and resolves as it would without them; the decision names the silence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from fnmatch import fnmatchcase

from monitor.incidents.decide import FOLLOW_UPS, OPENINGS, Action, Decision, DecisionReason
from monitor.model import Cause, Incident, IncidentState, Severity, Silence, Team
from monitor.model.incidents import RENAMED
from monitor.notifications.routing import ATTRIBUTES, Matchers, attributes_of, escape_glob, matches

_MAX_PATTERN_LENGTH = 200
_KNOWN_VALUES: Mapping[str, tuple[str, ...]] = {
    "cause": tuple(each.value for each in Cause),
    "team": tuple(each.value for each in Team),
    "severity": tuple(each.value for each in Severity),
}
"""Attributes with a fixed set of values: a pattern that matches none of them is a mistake."""


def matchers_for(incidents: Sequence[Incident]) -> list[Matchers]:
    """Matchers for these incidents and later ones of the same keys, and for no others.

    A silence matches each of its targets with each of its causes and groups, so each cause and group has its own.
    """
    targets: dict[tuple[Cause, str], dict[str, None]] = {}
    for each in incidents:
        targets.setdefault(each.key, {})[escape_glob(each.target)] = None
    return [
        {"cause": (cause.value,), "target": tuple(patterns), **({"group": (escape_glob(group),)} if group else {})}
        for (cause, group), patterns in targets.items()
    ]


def parse_matchers(texts: Sequence[str]) -> Matchers:
    """Parses `ATTRIBUTE=PATTERN`; patterns of one attribute are alternatives. Check with `validate_matchers`."""
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, pattern = text.partition("=")
        found[name.strip()] = (*found.get(name.strip(), ()), pattern.strip())
    return found


def validate_matchers(matchers: Matchers) -> list[str]:
    """The problems of matchers, one sentence each."""
    found = (_validate(name, pattern) for name, patterns in matchers.items() for pattern in patterns)
    return [sentences for sentences in found if sentences]


def _validate(name: str, pattern: str) -> str:
    if name not in ATTRIBUTES:
        return f"there is no attribute {name!a}; write ATTRIBUTE=PATTERN with one of {', '.join(ATTRIBUTES)}"
    if not (pattern and pattern.isprintable() and len(pattern) <= _MAX_PATTERN_LENGTH):
        return f"{name} needs a pattern of 1 to {_MAX_PATTERN_LENGTH} printable characters, as in {name}=a*"
    if name == "cause" and pattern in RENAMED:
        return f"cause {pattern} is now called {RENAMED[pattern]}: rename it"
    known_values = _KNOWN_VALUES.get(name, ())
    if known_values and not any(fnmatchcase(value, pattern) for value in known_values):
        return f"there is no {name} like {pattern}; choose from {', '.join(known_values)}"
    return ""


def matches_everything(matchers: Matchers) -> bool:
    """Whether matchers match every incident."""
    return all(any(pattern.strip("*") == "" for pattern in patterns) for patterns in matchers.values())


def format_matchers(matchers: Matchers) -> str:
    """Matchers as text: `cause=outage target=gloo-*|uppzy`."""
    return " ".join(f"{name}={'|'.join(patterns)}" for name, patterns in matchers.items())


def active_silence(incident: Incident, silences: Sequence[Silence], *, now: datetime) -> Silence | None:
    """The silence that matches an incident at a moment, or None; see `matching_silence`."""
    return matching_silence(incident, [each for each in silences if each.is_active(now)])


def matching_silence(incident: Incident, silences: Sequence[Silence]) -> Silence | None:
    """Of active silences, the one that matches an incident, or None.

    Of several, the one that already silenced its opening, else the one that ends last.
    """
    attributes = attributes_of(incident)
    active = [each for each in silences if matches(each.matchers, attributes)]
    return max(active, key=lambda each: (each.id == incident.silence_id, each.ends_at, each.id), default=None)


def apply_silences(decision: Decision, incident: Incident, silences: Sequence[Silence], *, now: datetime) -> Decision:
    """The decision after silences.

    An opening stays one and names the silence. An update or a reminder becomes `continue`, and is due again after the
    silence. A resolution is sent to wherever the opening was sent, silenced or not, so that no alert stays open.
    `incident` is as stored; for an opening, as it will be.
    """
    if decision.action not in OPENINGS | FOLLOW_UPS:
        return decision
    silence = active_silence(incident, silences, now=now)
    if decision.action in OPENINGS:
        return decision if silence is None else replace(decision, silence_id=silence.id)
    if silence is not None:
        return replace(decision, action=Action.CONTINUE, reason=DecisionReason.SILENCED, silence_id=silence.id)
    if incident.silence_id is not None:
        # The opening is not sent yet, and comes before any update or reminder.
        return replace(decision, action=Action.CONTINUE, reason=DecisionReason.OPENING_DUE)
    return decision


def describe_silence(silence: Silence) -> str:
    """A silence as text: `silence 3 until 2026-03-01 06:00 UTC (deploy)`."""
    reason = f" ({silence.comment})" if silence.comment else ""
    return f"silence {silence.id} until {silence.ends_at:%Y-%m-%d %H:%M} UTC{reason}"


def describe_silence_end(silence: Silence, *, now: datetime) -> str:
    """Why a silence has no effect any more: `silence 3 ended`, `silence 3 was ended by ana`."""
    if silence.is_active(now):
        return f"silence {silence.id} no longer matches"
    return (
        f"silence {silence.id} was ended by {silence.expired_by}"
        if silence.expired_by
        else f"silence {silence.id} ended"
    )


def suppression_reasons(incident: Incident, silences: Sequence[Silence]) -> tuple[str, ...]:
    """Why an incident sends no notifications, such as `silenced by silence 3 until 2026-03-01 06:00 UTC (deploy)`."""
    sentences = (describe_acknowledgement(incident), _describe_silenced(incident, silences))
    return tuple(sentence for sentence in sentences if sentence)


def describe_acknowledgement(incident: Incident) -> str:
    """Who acknowledged an incident, and when; empty if it is not acknowledged."""
    if incident.state is not IncidentState.ACKNOWLEDGED or incident.acknowledged_at is None:
        return ""
    return f"acknowledged by {incident.acknowledged_by or 'somebody'}, {incident.acknowledged_at:%Y-%m-%d %H:%M:%S} UTC"


def _describe_silenced(incident: Incident, silences: Sequence[Silence]) -> str:
    never_notified = incident.silence_id is not None
    if incident.state is IncidentState.RESOLVED:
        return f"never notified, because of silence {incident.silence_id}" if never_notified else ""
    silence = matching_silence(incident, silences)
    if silence is not None:
        return f"silenced by {describe_silence(silence)}" + ("; not notified yet" if never_notified else "")
    if never_notified:
        return f"silence {incident.silence_id} has ended: the opening is sent with the next delivery"
    return ""
