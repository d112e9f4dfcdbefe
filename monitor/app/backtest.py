"""Puts a backtest together: the rules and routes of a configuration, over a stored history."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Engine

from monitor.config import Config
from monitor.config.rules import build_routes, rules_for_target
from monitor.database.engine import reading
from monitor.incidents import silence_store
from monitor.incidents.backtest import Backtest, backtest
from monitor.incidents.replay_state import ReplayPlan
from monitor.incidents.rulebook import COUNTED_PER_ITEM, DEFAULT_RULES, Rule
from monitor.model import ITEM_CAUSES, OBSERVED_CAUSES, Cause
from monitor.notifications.routing import Attributes, Route, route
from monitor.rollups.history import count_pruned

_LATE = timedelta(days=1)
"""A history that begins later than this in the period is pruned, or young."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestResult:
    """A backtest, and where its result is not exact."""

    found: Backtest
    targets: Sequence[str]
    inexact: Sequence[str]
    """Sentences, each about what the stored history can't say."""


def run_backtest(
    engine: Engine, config: Config, candidate: Config, *, targets: Sequence[str], since: datetime, until: datetime
) -> BacktestResult:
    """Replays the history of targets by the rules and routes of `candidate`; `config` is as it is in force.

    It only reads. Raises StoreError if the database can't be used.
    """
    routes, channels = build_routes(candidate.routes), [channel.name for channel in candidate.channels]
    send = partial(_route, routes=routes, channels=channels)
    with reading(engine) as conn:
        silences = silence_store.list_silences(conn, ending_after=since)
        plans = [
            ReplayPlan(
                target=name,
                environment=config.environment,
                rules=rules_for_target(candidate.rules, target=name),
                route=send,
                silences=silences,
            )
            for name in targets
        ]
        by_group = any("group" in each.match for each in routes) or any("group" in each.matchers for each in silences)
        found = backtest(conn, plans, since=since, until=until, with_groups=by_group)
        pruned = {name: count_pruned(conn, target=name, since=since, until=until) for name in targets}
    sentences = [*_about_rules(config, candidate, targets), *_about_pruning(pruned), *_about_history(found, since)]
    if by_group and any(each.either.cause in ITEM_CAUSES for each in found.incidents):
        sentences.append("routes and silences that match groups saw the groups that items have now")
    return BacktestResult(found=found, targets=targets, inexact=sentences)


def _route(attributes: Attributes, *, routes: Sequence[Route], channels: Sequence[str]) -> tuple[str, ...]:
    return route(attributes, routes, channels)


def _about_rules(config: Config, candidate: Config, targets: Sequence[str]) -> list[str]:
    """Where candidate rules ask what the history can't say."""
    changed: Counter[tuple[Cause, str]] = Counter()
    for name in targets:
        before, after = (rules_for_target(each.rules, target=name) for each in (config, candidate))
        changed.update((cause, what) for cause in DEFAULT_RULES for what in _inexact(before[cause], after[cause]))
    return [f"{cause.value}: {what}" for cause, what in changed]


def _inexact(before: Rule, after: Rule) -> list[str]:
    cause, found = after.cause, list[str]()
    if cause in OBSERVED_CAUSES and (_opens(before), before.resolve_after) != (_opens(after), after.resolve_after):
        found.append(
            "runs do not have what it counts, so its incidents open and resolve as they did: `runs`, `of`, `window`, "
            "`for` and `resolve_after` change nothing here"
        )
    if cause not in ITEM_CAUSES or before == after:
        return found
    if before.by is not after.by:
        found.append("the history has its items as they were grouped then, so `by` changes nothing here")
    if cause in COUNTED_PER_ITEM:
        if before.runs != after.runs:
            found.append("the history has only items that reached the `runs` of then, so `runs` changes nothing here")
    elif _opens(before) != _opens(after):
        found.append(
            "while its incident was open, the history has the number of its items, but not which of them a run could "
            "not see: a run that saw none counts as one without evidence"
        )
    return found


def _opens(rule: Rule) -> tuple[object, ...]:
    return rule.runs, rule.of, rule.window, rule.hold_for


def _about_pruning(pruned: Mapping[str, int]) -> list[str]:
    """The first run of a target is kept, so where the history begins does not show that the rest is gone."""
    count, names = sum(pruned.values()), [name for name, number in pruned.items() if number]
    if not count:
        return []
    number = f"{count} runs" if count > 1 else "1 run"
    named = f"{number} of {', '.join(names)} in this time {'were' if count > 1 else 'was'} pruned"
    return [f"{named}: what opened or resolved then can't be replayed"]


def _about_history(found: Backtest, since: datetime) -> list[str]:
    sentences = []
    if found.first_run_at is not None and found.first_run_at - since > _LATE and not _has_before(found):
        sentences.append(f"the history begins at {found.first_run_at:%Y-%m-%d %H:%M} UTC: earlier runs are not stored")
    if found.clock_set_back:
        sentences.append(f"the clock was set back during runs of {', '.join(found.clock_set_back)}")
    if found.unmatched:
        sentences.append(
            f"{found.unmatched} of {found.people} acknowledgements and resolutions by people met no open incident in "
            "the replay, and were left out"
        )
    return sentences


def _has_before(found: Backtest) -> bool:
    return any(each.either.before for each in found.incidents)
