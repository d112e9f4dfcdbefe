"""Who is told about an incident: an ordered list of routes, the first match wins unless it says `continue`. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase

from monitor.model import Incident

ATTRIBUTES = ("team", "cause", "target", "group", "severity", "environment")
"""What routes and silences can match."""

Attributes = Mapping[str, str | tuple[str, ...]]
"""What an incident is like; of an attribute with several values any may match, and with none none does."""

Matchers = Mapping[str, tuple[str, ...]]
"""Attribute to glob patterns (case counts): all attributes must match, each by any of its patterns."""


def attributes_of(incident: Incident) -> Attributes:
    """What routes and silences see of an incident."""
    return {
        "team": incident.team.value,
        "cause": incident.cause.value,
        "target": incident.target,
        "group": (incident.group,) if incident.group else incident.groups,
        "severity": incident.severity.value,
        "environment": incident.environment,
    }


def matches(matchers: Matchers, attributes: Attributes) -> bool:
    """Whether all matchers match; none at all match everything."""
    return mismatch(matchers, attributes) is None


def mismatch(matchers: Matchers, attributes: Attributes) -> str | None:
    """The first attribute that does not match, or None when all do."""
    return next((name for name, patterns in matchers.items() if not _any(attributes.get(name, ""), patterns)), None)


def literally(text: str) -> str:
    """The pattern that matches this text and no other."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in text)


def _any(value: str | tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    values = (value,) if isinstance(value, str) else value
    return any(fnmatchcase(each, pattern) for each in values for pattern in patterns)


LOG_CHANNEL = "log"
"""Where incidents go when no channel is configured, and those that no route matches: nothing is told to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Sends what matches to its channels."""

    match: Matchers = field(default_factory=dict)
    """Empty matches everything."""
    channels: tuple[str, ...] = ()
    goes_on: bool = False
    """Whether the routes after it are looked at too."""


class Taken(StrEnum):
    """What became of one route."""

    YES = "taken"
    AND_ON = "taken, and on to the next"
    NO = "does not match"
    NOT_REACHED = "not looked at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One route, as an incident comes by."""

    route: Route
    taken: Taken
    mismatch: str | None = None
    """The first attribute that does not match."""


def walk(attributes: Attributes, routes: Sequence[Route]) -> tuple[Step, ...]:
    """What becomes of each route, in order, for an incident."""
    steps: list[Step] = []
    over = False
    for each in routes:
        amiss = None if over else mismatch(each.match, attributes)
        if over:
            taken = Taken.NOT_REACHED
        elif amiss is not None:
            taken = Taken.NO
        else:
            taken = Taken.AND_ON if each.goes_on else Taken.YES
        steps.append(Step(route=each, taken=taken, mismatch=amiss))
        over = over or taken is Taken.YES
    return tuple(steps)


def route(attributes: Attributes, routes: Sequence[Route], channels: Sequence[str]) -> tuple[str, ...]:
    """Names the channels for an incident, each once, in the order of the routes.

    Args:
        attributes: of the incident.
        routes: in order; without any, every channel is told.
        channels: names of all configured channels; without any, the log is told.
    """
    if not channels:
        return (LOG_CHANNEL,)
    if not routes:
        return tuple(channels)
    taken = (step.route for step in walk(attributes, routes) if step.taken in {Taken.YES, Taken.AND_ON})
    return tuple(dict.fromkeys(name for each in taken for name in each.channels)) or (LOG_CHANNEL,)
