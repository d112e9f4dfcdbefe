"""Rules and routes that could never do anything: for targets that are not there, or behind others that take all. Pure.

They are looked for in unchecked data, so that nothing else that is wrong hides them; but only once everything that they
depend on is right in itself.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from pydantic import ValidationError

from monitor.config.channels import RouteConfig
from monitor.config.durations import format_duration
from monitor.config.origin import Loc
from monitor.config.problems import Problem
from monitor.config.rules import RuleOverride
from monitor.config.wording import did_you_mean, listed, shown
from monitor.incidents.arrivals import DeadEnd, Kind, WhyDead, dead_ends, kinds
from monitor.incidents.overrides import Flaw, InForce, Override, flaw, in_force
from monitor.incidents.words import channel_target
from monitor.model import ITEM_CAUSES, Cause

__all__ = ["idle"]

_NAMED = 8
"""Names of targets that a sentence lists, where it has no better guess."""
_T = TypeVar("_T")


def idle(data: Mapping[str, object]) -> list[Problem]:
    """Every rule and route that could never do anything.

    Args:
        data: the settings as merged, unchecked.
    """
    targets, channels = _targets(data), _names(data, "channels")
    rules = _checked(data, "rules", RuleOverride.model_validate)
    if targets is None or channels is None or rules is None:
        return []
    overrides = [rule.override(position) for position, rule in enumerate(rules)]
    found = [*_for_nobody(overrides, list(targets), channels), *_never_open(overrides, list(targets), channels)]
    routes = _checked(data, "routes", RouteConfig.model_validate)
    if routes:
        of = kinds(targets, channels, overrides)
        ends = dead_ends([route.route() for route in routes], of)
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
        if override.targets and not any(override.is_for(name) for name in names):
            predicate = f"matches nothing: there is no {what} {_like(override.targets, names)}"
            yield Problem(loc=("rules", position, "target"), predicate=predicate)


def _never_open(overrides: Sequence[Override], targets: list[str], channels: list[str]) -> Iterator[Problem]:
    told: set[Problem] = set()
    for name in (*targets, *map(channel_target, channels)) if overrides else ():
        about = {Cause.CHANNEL_FAILING} if name not in targets else set(Cause) - {Cause.CHANNEL_FAILING}
        for cause, rule in in_force(overrides, name).items():
            if cause in about and rule.sources and (problem := _flawed(rule)) and problem not in told:
                told.add(problem)
                yield problem


def _flawed(found: InForce) -> Problem | None:
    rule, wrong = found.rule, flaw(found.rule)
    if wrong is Flaw.TOO_FEW_RUNS:
        predicate = (
            f"is smaller than the runs in force ({rule.runs}, {found.sources.get('runs', 'built in')}), so that the "
            "rule could never open an incident: raise it, or lower runs"
        )
        return Problem(loc=_loc(found.sources["of"], "of"), predicate=predicate)
    if wrong is Flaw.TOO_LONG_A_SPAN:
        return _apart(found)
    return None


def _apart(found: InForce) -> Problem:
    """Of the two that do not fit each other, the one that was said last is named."""
    rule, said = found.rule, found.sources
    if _row(said.get("span")) >= _row(said.get("window")):
        other = f"{format_duration(rule.window)}, {said.get('window', 'built in')}"
        words = f"is longer than the window in force ({other}): no two runs lie so far apart in it; shorten it"
        return Problem(loc=_loc(said["span"], "span"), predicate=f"{words}, or lengthen window")
    other = f"{format_duration(rule.span)}, {said.get('span', 'built in')}"
    words = f"is shorter than the span in force ({other}): no two runs lie so far apart in it; lengthen it"
    return Problem(loc=_loc(said["window"], "window"), predicate=f"{words}, or shorten span")


def _row(source: str | None) -> int:
    return -1 if source is None else int(source.removeprefix("rules[").removesuffix("]"))


def _loc(source: str, key: str) -> Loc:
    return ("rules", _row(source), key)


def _never_taken(end: DeadEnd, route: RouteConfig, of: Sequence[Kind]) -> Problem:
    loc: Loc = ("routes", end.position)
    match end.why:
        case WhyDead.TAKEN_BEFORE:
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
            words = " and ".join(f"{name} {listed(patterns)}" for name, patterns in route.match.items())
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
    there = f"; there is {listed(known)}" if 0 < len(known) <= _NAMED else ""
    return f"like {' or '.join(map(shown, asked))}{near or there or ': mend it, or remove it'}"
