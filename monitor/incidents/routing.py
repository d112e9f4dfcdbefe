"""Who is told about an incident: an ordered list of routes, the first match wins unless it says `continue`. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from monitor.incidents.matching import Attributes, Matchers, matches

__all__ = ["LOG_CHANNEL", "Route", "route"]

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
    told: dict[str, None] = {}
    for candidate in routes:
        if matches(candidate.match, attributes):
            told.update(dict.fromkeys(candidate.channels))
            if not candidate.goes_on:
                break
    return tuple(told) or (LOG_CHANNEL,)
