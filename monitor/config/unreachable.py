"""Rules and routes that could never do anything: for targets that are not there, or behind others that take all. Pure.

They are looked for in unchecked data, so that nothing else that is wrong hides them; but only once everything that they
depend on is right in itself.
"""

import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase, translate
from itertools import pairwise
from typing import TypeVar

from pydantic import ValidationError

from monitor.config.fields import did_you_mean, format_choices, quote_name
from monitor.config.origin import Loc
from monitor.config.problems import Problem
from monitor.config.routes import RouteConfig
from monitor.config.rules import RuleConfig
from monitor.incidents.rulebook import (
    EffectiveRule,
    Override,
    Rule,
    RuleProblem,
    effective_rules,
    rule_problem,
    severity_of,
)
from monitor.model import ITEM_CAUSES, Cause, Severity, Team
from monitor.model.durations import format_duration
from monitor.notifications.routing import Matchers, Route
from monitor.notifications.texts import channel_target

MOST_STATES = 5000
"""So many states are walked through at the most: patterns full of stars can be made to have any number."""

_LAST = 0x110000
_State = tuple[tuple[int, int], ...]
"""Of each pattern that can still match, its number and the positions (a bit each) that it may have come to."""


def representatives(patterns: Iterable[str], *, most: int = MOST_STATES) -> tuple[str, ...] | None:
    """Texts of which one matches exactly the same of the patterns as any text that there is, the empty one apart.

    Returns:
        The texts, each as short as can be; None when more than `most` states would have to be looked at.
    """
    compiled = [_Pattern(text) for text in dict.fromkeys(patterns)]
    letters = _letters(compiled)
    start: _State = tuple((number, pattern.start) for number, pattern in enumerate(compiled))
    seen, waiting, found = {start}, deque([(start, "")]), dict[frozenset[int], str]()
    while waiting:
        state, text = waiting.popleft()
        for letter in letters:
            after = tuple(_stepped(compiled, state, letter))
            matching = frozenset(number for number, at in after if at & compiled[number].end)
            found.setdefault(matching, text + letter)
            if after not in seen:
                seen.add(after)
                waiting.append((after, text + letter))
        if len(seen) > most:
            return None
    return tuple(found.values())


def _stepped(compiled: Sequence["_Pattern"], state: _State, letter: str) -> Iterator[tuple[int, int]]:
    for number, at in state:
        if after := compiled[number].step(at, letter):
            yield number, after


class _Pattern:
    """One pattern as an automaton without memory: a bit per position in its parts."""

    def __init__(self, text: str) -> None:
        self.parts = tuple(_parts(text))
        self._accepts = [re.compile(translate(part)) for part in self.parts]
        self.end = 1 << len(self.parts)
        self.start = self._closed(1)

    def step(self, at: int, letter: str) -> int:
        after = 0
        for position, part in enumerate(self.parts):
            if at >> position & 1:
                if part == "*":
                    after |= 1 << position
                elif self._accepts[position].match(letter):
                    after |= 2 << position
        return self._closed(after)

    def _closed(self, at: int) -> int:
        """With the positions that are reached by letting a star match nothing."""
        for position, part in enumerate(self.parts):
            if part == "*" and at >> position & 1:
                at |= 2 << position
        return at


def _parts(text: str) -> Iterator[str]:
    """A pattern's parts, each a pattern for one character, or a star."""
    at = 0
    while at < len(text):
        end = _end_of_set(text, at) if text[at] == "[" else at
        yield text[at : end + 1] if end > at or text[at] != "[" else "[[]"
        at = end + 1


def _end_of_set(text: str, at: int) -> int:
    """Where the set that begins here ends; where it begins if it never does: then its bracket stands for itself."""
    end = at + 1
    end += text[end : end + 1] == "!"
    return max(at, text.find("]", end + 1))


def _letters(compiled: Iterable[_Pattern]) -> tuple[str, ...]:
    """One character for all those that no part of any pattern tells apart: printable, and no space if possible."""
    named = {ord(letter) for pattern in compiled for part in pattern.parts for letter in part}
    bounds = sorted({0, _LAST} | named | {code + 1 for code in named})
    return tuple(letter for one, next_one in pairwise(bounds) if (letter := _printable(one, next_one)))


def _printable(first: int, beyond: int) -> str | None:
    space = None
    for code in range(first, beyond):
        letter = chr(code)
        if letter.isprintable():
            if not letter.isspace():
                return letter
            space = space or letter
    return space


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
    ALREADY_ACKNOWLEDGED = "routes before it take all that it matches"


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
        rules = effective_rules(overrides, name)
        for cause in Cause:
            if cause is not Cause.CHANNEL_FAILING:
                found += _of_rule(name, rules[cause].rule, grouped=grouped and cause in ITEM_CAUSES)
    for name in map(channel_target, channels):
        found += _of_rule(name, effective_rules(overrides, name)[Cause.CHANNEL_FAILING].rule, grouped=False)
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
        last = next((n for n in matching if not routes[n].continue_), None)
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
        return DeadEnd(position=position, why=WhyDead.ALREADY_ACKNOWLEDGED, behind=behind)
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
    return texts is None or any(_is_like(text, patterns) for text in texts)


def _fits(name: str, match: Matchers, kind: Kind) -> bool:
    return name not in match or _is_like(str(getattr(kind, name)), match[name])


def _is_like(text: str, patterns: tuple[str, ...]) -> bool:
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
    matching = (name not in r.match or any(_is_like(value, r.match[name]) for value in values) for r in routes)
    return sum(fits << n for n, fits in enumerate(matching))


_NAMED = 8
"""Names of targets that a sentence lists, where it has no better guess."""
_T = TypeVar("_T")


def idle(data: Mapping[str, object]) -> list[Problem]:
    """Every rule and route that could never do anything.

    Args:
        data: the settings as merged, unchecked.
    """
    targets, channels = _targets(data), _names(data, "channels")
    rules = _checked(data, "rules", RuleConfig.model_validate)
    if targets is None or channels is None or rules is None:
        return []
    overrides = [rule.to_override(position) for position, rule in enumerate(rules)]
    found = [*_for_nobody(overrides, list(targets), channels), *_never_open(overrides, list(targets), channels)]
    routes = _checked(data, "routes", RouteConfig.model_validate)
    if routes:
        of = kinds(targets, channels, overrides)
        ends = dead_ends([route.to_route() for route in routes], of)
        found += [_never_taken(end, routes[end.position], of) for end in ends]
    return found


def _targets(data: Mapping[str, object]) -> dict[str, bool] | None:
    """The names of the targets, and whether their sync logs can say groups; the built-in one can."""
    rows = data.get("targets")
    names = _names(data, "targets")
    if not names or not isinstance(rows, list):
        return None
    logs = [row.get("sync_log") for row in rows]
    return {name: not isinstance(log, Mapping) or "group_column" in log for name, log in zip(names, logs, strict=True)}


def _names(data: Mapping[str, object], table: str) -> list[str] | None:
    """The names of a table's rows; None when one has none, which is told already."""
    rows = data.get(table, [])
    if not isinstance(rows, list):
        return None
    names = [row.get("name") if isinstance(row, Mapping) else None for row in rows]
    texts = [name for name in names if isinstance(name, str)]
    return texts if len(texts) == len(names) else None


def _checked(data: Mapping[str, object], table: str, read: Callable[[object], _T]) -> list[_T] | None:
    """The rows of a table; None when one is wrong, which is told already."""
    rows = data.get(table, [])
    try:
        return [read(row) for row in rows] if isinstance(rows, list) else None
    except ValidationError:
        return None


def _for_nobody(overrides: Sequence[Override], targets: list[str], channels: list[str]) -> Iterator[Problem]:
    for position, override in enumerate(overrides):
        what, names = "target", targets
        if override.cause is Cause.CHANNEL_FAILING:
            what, names = "channel", [channel_target(name) for name in channels]
        if override.targets and not any(override.applies_to(name) for name in names):
            predicate = f"matches nothing: there is no {what} {_like(override.targets, names)}"
            yield Problem(loc=("rules", position, "target"), predicate=predicate)


def _never_open(overrides: Sequence[Override], targets: list[str], channels: list[str]) -> Iterator[Problem]:
    told: set[Problem] = set()
    for name in (*targets, *map(channel_target, channels)) if overrides else ():
        about = {Cause.CHANNEL_FAILING} if name not in targets else set(Cause) - {Cause.CHANNEL_FAILING}
        for cause, rule in effective_rules(overrides, name).items():
            if cause in about and rule.sources and (problem := _flawed(rule)) and problem not in told:
                told.add(problem)
                yield problem


def _flawed(found: EffectiveRule) -> Problem | None:
    rule, wrong = found.rule, rule_problem(found.rule)
    if wrong is RuleProblem.RUNS_EXCEED_OF:
        predicate = (
            f"is smaller than the runs in force ({rule.runs}, {found.sources.get('runs', 'built in')}), so that the "
            "rule could never open an incident: raise it, or lower runs"
        )
        return Problem(loc=_loc(found.sources["of"], "of"), predicate=predicate)
    if wrong is RuleProblem.HOLD_FOR_EXCEEDS_WINDOW:
        return _apart(found)
    return None


def _apart(found: EffectiveRule) -> Problem:
    """Of the two that do not fit each other, the one that was said last is named."""
    rule, said = found.rule, found.sources
    if _row(said.get("hold_for")) >= _row(said.get("window")):
        other = f"{format_duration(rule.window)}, {said.get('window', 'built in')}"
        words = f"is longer than the window in force ({other}): no two runs lie so far apart in it; shorten it"
        return Problem(loc=_loc(said["hold_for"], "span"), predicate=f"{words}, or lengthen window")
    other = f"{format_duration(rule.hold_for)}, {said.get('hold_for', 'built in')}"
    words = f"is shorter than the span in force ({other}): no two runs lie so far apart in it; lengthen it"
    return Problem(loc=_loc(said["window"], "window"), predicate=f"{words}, or shorten span")


def _row(source: str | None) -> int:
    return -1 if source is None else int(source.removeprefix("rules[").removesuffix("]"))


def _loc(source: str, key: str) -> Loc:
    return ("rules", _row(source), key)


def _never_taken(end: DeadEnd, route: RouteConfig, of: Sequence[Kind]) -> Problem:
    loc: Loc = ("routes", end.position)
    match end.why:
        case WhyDead.ALREADY_ACKNOWLEDGED:
            them, there = ("that one", "there") if len(end.behind) == 1 else ("them", "in them")
            before = " and ".join(f"routes[{n}]" for n in end.behind)
            verb = "takes" if len(end.behind) == 1 else "take"
            predicate = f"is never reached: {before} {verb} all that it matches; put it before {them}, "
            return Problem(loc=loc, predicate=f"{predicate}or say continue = true {there}")
        case WhyDead.NO_GROUPS:
            predicate = (
                f"matches nothing: only incidents about items ({', '.join(each.value for each in ITEM_CAUSES)}) have "
                "groups, of targets whose sync log has a group_column; set one, or remove the route"
            )
            return Problem(loc=(*loc, "match", "group"), predicate=predicate)
        case WhyDead.NOT_TOGETHER:
            words = " and ".join(f"{name} {format_choices(patterns)}" for name, patterns in route.match.items())
            predicate = f"matches nothing: there is no incident with {words}; `rules list` has the rules in force"
            return Problem(loc=(*loc, "match"), predicate=predicate)
        case WhyDead.NOTHING_LIKE_IT:
            name, patterns = _attribute(end, route)
            known = sorted({str(getattr(kind, name)) for kind in of}) if name not in {"group", "environment"} else []
            predicate = f"matches nothing: there is no {_NOUNS.get(name, name)} {_like(patterns, known)}"
            return Problem(loc=(*loc, "match", name), predicate=predicate)


_NOUNS: Mapping[str, str] = {"team": "incident for a team", "severity": "incident of a severity"}


def _attribute(end: DeadEnd, route: RouteConfig) -> tuple[str, tuple[str, ...]]:
    return next((str(name), patterns) for name, patterns in route.match.items() if name == end.attribute)


def _like(patterns: Iterable[str], known: list[str]) -> str:
    """`like "glo-*"; did you mean "gloo-prod"?`."""
    asked = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in known)]
    near = next(filter(None, (did_you_mean(pattern.strip("*?"), known) for pattern in asked)), "")
    there = f"; there is {format_choices(known)}" if 0 < len(known) <= _NAMED else ""
    return f"like {' or '.join(map(quote_name, asked))}{near or there or ': mend it, or remove it'}"
