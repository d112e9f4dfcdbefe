"""Which routes incidents can arrive at, and why they never arrive at others. Pure.

It is worked out exactly, over every incident that a configuration can produce. Groups are known only to sync logs, and
one file may serve several environments: both are taken to be called anything.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from monitor.incidents.globs import representatives
from monitor.incidents.matching import Matchers
from monitor.incidents.overrides import Override, in_force
from monitor.incidents.routing import Route
from monitor.incidents.rulebook import Rule, severity_of
from monitor.incidents.words import channel_target
from monitor.model import ITEM_CAUSES, Cause, Severity, Team

__all__ = ["DeadEnd", "Kind", "WhyDead", "dead_ends", "kinds"]

_CLOSED = ("team", "cause", "target", "severity")
"""Attributes whose values a configuration knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Incidents that are alike in all that a configuration knows of them."""

    target: str
    cause: Cause
    team: Team
    severity: Severity
    grouped: bool
    """Whether they can have groups: they are about items, and the target's sync log may say groups."""


class WhyDead(StrEnum):
    """Why nothing arrives at a route."""

    NOTHING_LIKE_IT = "no incident is like that in one of the attributes"
    NO_GROUPS = "no incident that it could match has groups"
    NOT_TOGETHER = "no incident is like that in all of the attributes"
    TAKEN_BEFORE = "routes before it take all that it matches"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadEnd:
    """A route that no incident arrives at."""

    position: int
    why: WhyDead
    attribute: str | None = None
    """The one that matches nothing."""
    behind: tuple[int, ...] = ()
    """Positions of the routes that take what it matches."""


def kinds(targets: Mapping[str, bool], channels: Iterable[str], overrides: Sequence[Override]) -> tuple[Kind, ...]:
    """Every kind of incident that there can be.

    Args:
        targets: names of the targets, and whether their items can have groups.
        channels: names of the configured channels.
        overrides: what differs from the built-in rules.
    """
    found: list[Kind] = []
    for name, grouped in targets.items():
        rules = in_force(overrides, name)
        for cause in Cause:
            if cause is not Cause.CHANNEL_FAILING:
                found += _of_rule(name, rules[cause].rule, grouped=grouped and cause in ITEM_CAUSES)
    for name in map(channel_target, channels):
        found += _of_rule(name, in_force(overrides, name)[Cause.CHANNEL_FAILING].rule, grouped=False)
    return tuple(found)


def _of_rule(target: str, rule: Rule, *, grouped: bool) -> Iterator[Kind]:
    for severity in dict.fromkeys(severity_of(rule, accepted=accepted) for accepted in (True, False)):
        yield Kind(target=target, cause=rule.cause, team=rule.team, severity=severity, grouped=grouped)


def dead_ends(routes: Sequence[Route], of: Sequence[Kind]) -> tuple[DeadEnd, ...]:
    """The routes that no incident can arrive at, in their order.

    Args:
        routes: in order.
        of: every kind of incident that there can be.
    """
    ways = _ways(routes, of)
    if ways is None:
        return ()
    reached: set[int] = set()
    behind: dict[int, set[int]] = defaultdict(set)
    for matching in ways:
        last = next((n for n in matching if not routes[n].goes_on), None)
        if last is None:
            reached.update(matching)
            continue
        reached.update(n for n in matching if n <= last)
        for n in matching:
            if n > last:
                behind[n].add(last)
    return tuple(_dead_end(n, routes, of, tuple(sorted(behind[n]))) for n in range(len(routes)) if n not in reached)


def _dead_end(position: int, routes: Sequence[Route], of: Sequence[Kind], behind: tuple[int, ...]) -> DeadEnd:
    if behind:
        return DeadEnd(position=position, why=WhyDead.TAKEN_BEFORE, behind=behind)
    match = routes[position].match
    for name, patterns in match.items():
        if not _possible(name, patterns, of):
            return DeadEnd(position=position, why=WhyDead.NOTHING_LIKE_IT, attribute=name)
    like_it = [kind for kind in of if all(_fits(name, match, kind) for name in _CLOSED)]
    if "group" in match and not any(kind.grouped for kind in like_it) and like_it:
        return DeadEnd(position=position, why=WhyDead.NO_GROUPS, attribute="group")
    return DeadEnd(position=position, why=WhyDead.NOT_TOGETHER)


def _possible(name: str, patterns: tuple[str, ...], of: Sequence[Kind]) -> bool:
    if name in _CLOSED:
        return any(_fits(name, {name: patterns}, kind) for kind in of)
    texts = representatives(patterns)
    return texts is None or any(_like(text, patterns) for text in texts)


def _fits(name: str, match: Matchers, kind: Kind) -> bool:
    return name not in match or _like(str(getattr(kind, name)), match[name])


def _like(text: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _ways(routes: Sequence[Route], of: Sequence[Kind]) -> tuple[tuple[int, ...], ...] | None:
    """The positions of all routes that an incident matches, for every way in which incidents can match routes.

    None when groups or environments are matched by patterns that can't be told apart in time.
    """
    environments, groups = _open(routes, "environment"), _open(routes, "group")
    if environments is None or groups is None:
        return None
    nameless = _mask(routes, "group", ())
    found = {
        mask & environment & group
        for mask, grouped in set(_closed(routes, of))
        for environment in environments
        for group in ({nameless, *groups} if grouped else {nameless})
    }
    return tuple(tuple(n for n in range(len(routes)) if mask >> n & 1) for mask in sorted(found))


def _closed(routes: Sequence[Route], of: Sequence[Kind]) -> Iterator[tuple[int, bool]]:
    """For each kind a bit per route that matches all which is known of it, and whether it can have groups."""
    masks: dict[tuple[str, str], int] = {}
    for kind in of:
        mask = -1
        for name in _CLOSED:
            key = name, str(getattr(kind, name))
            if key not in masks:
                masks[key] = _mask(routes, name, key[1:])
            mask &= masks[key]
        yield mask, kind.grouped


def _open(routes: Sequence[Route], name: str) -> frozenset[int] | None:
    """For each way in which a text can match the routes in an attribute, a bit per route that it matches."""
    texts = representatives(pattern for route in routes for pattern in route.match.get(name, ()))
    return None if texts is None else frozenset(_mask(routes, name, (text,)) for text in texts)


def _mask(routes: Sequence[Route], name: str, values: tuple[str, ...]) -> int:
    """A bit per route that asks nothing of an attribute, or matches any of the values."""
    matching = (name not in r.match or any(_like(value, r.match[name]) for value in values) for r in routes)
    return sum(fits << n for n, fits in enumerate(matching))
