"""Which channels an incident is sent to: the first route that matches wins, unless it has `continue`. Pure."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase

import msgspec

from monitor.model import Incident, Team

ATTRIBUTES = ("team", "cause", "target", "group", "severity", "environment")
"""What routes and silences can match."""

Attributes = Mapping[str, str | tuple[str, ...]]
"""An incident's attributes. Of several values of an attribute any may match; without a value nothing matches."""

Matchers = Mapping[str, tuple[str, ...]]
"""Attribute → glob patterns (case-sensitive): every attribute must match one of its patterns."""


def attributes_of(incident: Incident) -> Attributes:
    """The attributes that routes and silences match."""
    return {
        "team": team_attribute(incident.teams),
        "cause": incident.cause.value,
        "target": incident.target,
        "group": (incident.group,) if incident.group else incident.groups,
        "severity": incident.severity.value,
        "environment": incident.environment,
    }


def team_attribute(teams: Sequence[Team]) -> str | tuple[str, ...]:
    """The attribute `team`: mostly one."""
    return teams[0].value if len(teams) == 1 else tuple(team.value for team in teams)


def matches(matchers: Matchers, attributes: Attributes) -> bool:
    """Whether all matchers match; empty matchers match everything."""
    return mismatch(matchers, attributes) is None


def mismatch(matchers: Matchers, attributes: Attributes) -> str | None:
    """The first attribute that does not match, or None."""
    return next(
        (name for name, patterns in matchers.items() if not _matches_any(attributes.get(name, ""), patterns)), None
    )


def escape_glob(text: str) -> str:
    """The pattern that matches exactly this text."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in text)


def _matches_any(value: str | tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    values = (value,) if isinstance(value, str) else value
    return any(fnmatchcase(each, pattern) for each in values for pattern in patterns)


LOG_CHANNEL = "log"
"""The channel for incidents that no route matches, and for all if no channel is configured."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Sends incidents that match to its channels."""

    match: Matchers = msgspec.field(default_factory=dict)
    channels: tuple[str, ...] = ()
    continue_: bool = False


class RouteOutcome(StrEnum):
    """The result of one route for an incident."""

    MATCHED = "matches"
    MATCHED_CONTINUE = "matches, continue"
    NOT_MATCHED = "does not match"
    NOT_EVALUATED = "not evaluated"


class RouteStep(msgspec.Struct, frozen=True, kw_only=True):
    """One route and its result."""

    route: Route
    outcome: RouteOutcome
    mismatch: str | None = None
    """The first attribute that does not match."""


def evaluate_routes(attributes: Attributes, routes: Sequence[Route]) -> tuple[RouteStep, ...]:
    """Evaluates each route in order."""
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
    """The channels for an incident, each once, in the order of the routes; all without routes; the log if none."""
    if not channels:
        return (LOG_CHANNEL,)
    if not routes:
        return tuple(channels)
    matching = {RouteOutcome.MATCHED, RouteOutcome.MATCHED_CONTINUE}
    matched = (step.route for step in evaluate_routes(attributes, routes) if step.outcome in matching)
    return tuple(dict.fromkeys(name for each in matched for name in each.channels)) or (LOG_CHANNEL,)
