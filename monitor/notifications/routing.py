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
    return next(
        (name for name, patterns in matchers.items() if not _matches_any(attributes.get(name, ""), patterns)), None
    )


def escape_glob(text: str) -> str:
    """The pattern that matches this text and no other."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in text)


def _matches_any(value: str | tuple[str, ...], patterns: tuple[str, ...]) -> bool:
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
    continue_: bool = False
    """Whether the routes after it are looked at too."""


class RouteOutcome(StrEnum):
    """What became of one route."""

    MATCHED = "taken"
    MATCHED_CONTINUE = "taken, and on to the next"
    NOT_MATCHED = "does not match"
    NOT_EVALUATED = "not looked at"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteStep:
    """One route, as an incident comes by."""

    route: Route
    outcome: RouteOutcome
    mismatch: str | None = None
    """The first attribute that does not match."""


def evaluate_routes(attributes: Attributes, routes: Sequence[Route]) -> tuple[RouteStep, ...]:
    """What becomes of each route, in order, for an incident."""
    steps: list[RouteStep] = []
    stopped = False
    for each in routes:
        mismatched = None if stopped else mismatch(each.match, attributes)
        if stopped:
            outcome = RouteOutcome.NOT_EVALUATED
        elif mismatched is not None:
            outcome = RouteOutcome.NOT_MATCHED
        else:
            outcome = RouteOutcome.MATCHED_CONTINUE if each.continue_ else RouteOutcome.MATCHED
        steps.append(RouteStep(route=each, outcome=outcome, mismatch=mismatched))
        stopped = stopped or outcome is RouteOutcome.MATCHED
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
    matched = (
        step.route
        for step in evaluate_routes(attributes, routes)
        if step.outcome in {RouteOutcome.MATCHED, RouteOutcome.MATCHED_CONTINUE}
    )
    return tuple(dict.fromkeys(name for each in matched for name in each.channels)) or (LOG_CHANNEL,)
