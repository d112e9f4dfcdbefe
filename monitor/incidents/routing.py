"""Who is told about an incident: an ordered list of routes, the first match wins unless it says `continue`. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

__all__ = ["LOG_CHANNEL", "Route", "route"]

LOG_CHANNEL = "log"
"""Where incidents go when no channel is configured, and those that no route matches: nothing is told to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Sends what matches to its channels."""

    match: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Attribute (team, cause, target, severity, environment) to glob patterns, any of which must match; all
    attributes must. Empty matches everything."""
    channels: tuple[str, ...] = ()
    goes_on: bool = False
    """Whether the routes after it are looked at too."""


def route(attributes: Mapping[str, str], routes: Sequence[Route], channels: Sequence[str]) -> tuple[str, ...]:
    """Names the channels for an incident, each once, in the order of the routes.

    Args:
        attributes: of the incident: team, cause, target, severity, environment.
        routes: in order; without any, every channel is told.
        channels: names of all configured channels; without any, the log is told.
    """
    if not channels:
        return (LOG_CHANNEL,)
    if not routes:
        return tuple(channels)
    told: dict[str, None] = {}
    for candidate in routes:
        if _matches(candidate, attributes):
            told.update(dict.fromkeys(candidate.channels))
            if not candidate.goes_on:
                break
    return tuple(told) or (LOG_CHANNEL,)


def _matches(candidate: Route, attributes: Mapping[str, str]) -> bool:
    return all(
        any(fnmatchcase(attributes.get(name, ""), pattern) for pattern in patterns)
        for name, patterns in candidate.match.items()
    )
