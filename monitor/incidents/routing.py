"""Who is told about an incident: an ordered list of routes, the first match wins unless it says `continue`. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from monitor.incidents.matching import Attributes, Matchers, mismatch

__all__ = ["LOG_CHANNEL", "Route", "Step", "Taken", "route", "walk"]

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
