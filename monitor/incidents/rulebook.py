"""The rules, one per cause: how much evidence opens an incident, and which team gets it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from monitor.model import Cause, RunStatus, Severity, Team


class GroupBy(StrEnum):
    """What has at most one open incident of a cause."""

    TARGET = "target"
    GROUP = "group"
    """Each group of the target's items, and the items without a group; only for item causes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When the incident of one cause opens, reminds and resolves, and its team."""

    cause: Cause
    team: Team
    severity: Severity = Severity.WARNING
    runs: int = 1
    """Evidence in this many …"""
    of: int = 1
    """… of the last runs (of `polling_timeouts` the last waits, of the causes about canaries the last canaries) …"""
    window: timedelta = timedelta(hours=1)
    """… within this time; if it holds fewer runs, in all of them. Waits and canaries come at any time, so for them
    `runs` is needed in any case."""
    hold_for: timedelta = timedelta(0)
    """`for` in the configuration: minimum time from first to last evidence; a lone run in the window is enough."""
    resolve_after: int = 2
    """Runs without evidence that resolve a request cause."""
    repeat_interval: timedelta = timedelta(hours=4)
    by: GroupBy = GroupBy.TARGET


COUNTED_PER_ITEM = frozenset({Cause.ITEMS_UNVERIFIED})
"""Causes whose `runs` are counted item by item, in a row, in any window: a run has evidence once an item reached them.
Different items in every run are no document that the API can't answer for."""

_COUNTED_NOUNS: Mapping[Cause, tuple[str, str]] = {
    Cause.POLLING_TIMEOUTS: ("wait", "waits"),
    Cause.CANARY_FAILED: ("canary", "canaries"),
    Cause.CANARY_SLOW: ("canary", "canaries"),
}


def counted_noun(cause: Cause, count: int) -> str:
    """What the numbers of a cause's rule count, for people: `run`, `runs`, `waits`, `canaries`."""
    return _COUNTED_NOUNS.get(cause, ("run", "runs"))[count != 1]


_DAY = timedelta(days=1)
_MINUTES_3 = timedelta(minutes=3)

DEFAULT_RULES: Mapping[Cause, Rule] = {
    rule.cause: rule
    for rule in (
        Rule(cause=Cause.SPENDING_LIMIT, team=Team.ACCOUNT, severity=Severity.CRITICAL),
        Rule(cause=Cause.UNAUTHORIZED, team=Team.CREDENTIALS, severity=Severity.CRITICAL, runs=2, of=2),
        Rule(cause=Cause.FORBIDDEN, team=Team.ACCOUNT, runs=2, of=2),
        Rule(cause=Cause.WRONG_SCOPE, team=Team.INTEGRATION, runs=2, of=2),
        Rule(cause=Cause.RATE_LIMITED, team=Team.OPERATIONS, runs=3, of=5),
        Rule(cause=Cause.OUTAGE, team=Team.OPERATIONS, severity=Severity.CRITICAL, runs=2, of=2, hold_for=_MINUTES_3),
        Rule(cause=Cause.BAD_RESPONSE, team=Team.INTEGRATION, runs=2, of=2),
        Rule(cause=Cause.BAD_REQUEST, team=Team.INTEGRATION, runs=2, of=2),
        Rule(cause=Cause.ITEMS_FAILED, team=Team.PIPELINE, repeat_interval=_DAY),
        Rule(cause=Cause.ITEMS_MISSING, team=Team.PIPELINE, repeat_interval=_DAY),
        Rule(cause=Cause.ITEMS_REGRESSED, team=Team.PIPELINE, repeat_interval=_DAY),
        Rule(cause=Cause.ITEMS_STUCK, team=Team.PIPELINE, repeat_interval=_DAY),
        Rule(cause=Cause.ITEMS_INVALID, team=Team.PIPELINE, repeat_interval=_DAY),
        Rule(cause=Cause.ITEMS_UNVERIFIED, team=Team.INTEGRATION, runs=3, of=3, repeat_interval=_DAY),
        Rule(cause=Cause.UNRECOGNISED_STATUS, team=Team.INTEGRATION, repeat_interval=_DAY),
        Rule(cause=Cause.POLLING_TIMEOUTS, team=Team.OPERATIONS, runs=3, of=10, window=7 * _DAY),
        Rule(cause=Cause.CANARY_FAILED, team=Team.PIPELINE, runs=2, of=2, window=7 * _DAY, resolve_after=1),
        Rule(cause=Cause.CANARY_SLOW, team=Team.PIPELINE, runs=2, of=2, window=7 * _DAY, resolve_after=1),
        Rule(cause=Cause.INDEXING_SLOW, team=Team.PIPELINE),
        Rule(cause=Cause.SLO_BURN, team=Team.PIPELINE, resolve_after=1),
        Rule(cause=Cause.TOO_MANY_UNKNOWN, team=Team.MONITOR, runs=2, of=2),
        Rule(cause=Cause.SYNC_LOG_UNREADABLE, team=Team.MONITOR, severity=Severity.CRITICAL, runs=2, of=2),
        Rule(cause=Cause.SYNC_LOG_EMPTY, team=Team.MONITOR),
        Rule(cause=Cause.RUN_MISSED, team=Team.MONITOR),
        Rule(cause=Cause.RUN_CRASHING, team=Team.MONITOR, severity=Severity.CRITICAL),
        Rule(cause=Cause.CHANNEL_FAILING, team=Team.MONITOR),
    )
}


def severity_of(rule: Rule, *, accepted: bool) -> Severity:
    """The severity of an incident that opens: the rule's, except for a `forbidden` that denies everything.

    Gloo answers 403 to a rejected or malformed key, where others answer 401. Then nothing is monitored any more, which
    is critical. A rule for `forbidden` that sets another severity than the built-in one keeps it. `accepted`: whether
    the API accepted anything in the run.
    """
    built_in = rule.severity is DEFAULT_RULES[rule.cause].severity
    denied = rule.cause is Cause.FORBIDDEN and not accepted
    return Severity.CRITICAL if denied and built_in else rule.severity


def rule_parameters(rule: Rule) -> dict[str, float]:
    """A rule's numbers as JSON values, stored with an opening because the rule may change later."""
    return {
        "runs": rule.runs,
        "of": rule.of,
        "window_s": rule.window.total_seconds(),
        "for_s": rule.hold_for.total_seconds(),
        "resolve_after": rule.resolve_after,
        "repeat_interval_s": rule.repeat_interval.total_seconds(),
    }


def with_parameters(rule: Rule, stored: object) -> Rule:
    """The rule with stored `rule_parameters`; a missing number stays as it is."""
    if not isinstance(stored, Mapping):
        return rule
    numbers = {**rule_parameters(rule), **stored}
    return replace(
        rule,
        runs=int(numbers["runs"]),
        of=int(numbers["of"]),
        window=timedelta(seconds=numbers["window_s"]),
        hold_for=timedelta(seconds=numbers["for_s"]),
        resolve_after=int(numbers["resolve_after"]),
        repeat_interval=timedelta(seconds=numbers["repeat_interval_s"]),
    )


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """The changes of one `[[rules]]` table."""

    cause: Cause
    changes: Mapping[str, Any]
    targets: tuple[str, ...] = ()
    """Glob patterns of its targets (case-sensitive); empty: all."""
    source: str
    """Such as `rules[2]`."""

    def applies_to(self, target: str) -> bool:
        """Whether it changes the rule of a target, or of a channel (`channel:oncall`)."""
        return not self.targets or any(fnmatchcase(target, pattern) for pattern in self.targets)


class EffectiveRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule, and where its values come from."""

    rule: Rule
    sources: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Field to the table that sets it; a field that is missing here has its built-in value."""

    @property
    def changed_by(self) -> tuple[str, ...]:
        """The tables that set any of its values, in order of first use; empty: the rule is built in."""
        return tuple(dict.fromkeys(self.sources.values()))


def effective_rules(overrides: Iterable[Override], target: str) -> Mapping[Cause, EffectiveRule]:
    """The rule of every cause on one target, or on `channel:NAME`; the last override that sets a field wins."""
    effective = {cause: EffectiveRule(rule=rule) for cause, rule in DEFAULT_RULES.items()}
    for override in overrides:
        if override.applies_to(target):
            effective[override.cause] = _merged(effective[override.cause], override)
    return effective


def _merged(below: EffectiveRule, override: Override) -> EffectiveRule:
    changes = dict(override.changes)
    if "runs" in changes:
        # `runs = 3` alone means three in a row, whatever `of` was before.
        changes.setdefault("of", changes["runs"])
    sources = {**below.sources, **dict.fromkeys(changes, override.source)}
    return EffectiveRule(rule=replace(below.rule, **changes), sources=sources)


class RuleProblem(StrEnum):
    """Why a rule could never open an incident."""

    RUNS_EXCEED_OF = "`runs` is greater than `of`"
    HOLD_FOR_EXCEEDS_WINDOW = "`for` is longer than `window`"


def rule_problem(rule: Rule) -> RuleProblem | None:
    """Why a rule could never open an incident, or None.

    With `for` longer than the window, only a lone run in the window could open one, which is not what `for` is for.
    """
    if rule.runs > rule.of:
        return RuleProblem.RUNS_EXCEED_OF
    return RuleProblem.HOLD_FOR_EXCEEDS_WINDOW if rule.hold_for > rule.window else None


MIN_ANSWERED = 20
"""Answered items that confirm recovery of the API; if fewer were due, all of those."""


class RecoveryCriterion(StrEnum):
    """What a run without evidence must have done to count as a clean run."""

    ACCEPTED = "got enough accepted answers"
    REPLIED = "got enough replies of the API"
    READ = "read ids"
    RAN = "ran"


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """The runs that count for a cause."""

    statuses: frozenset[RunStatus]
    criterion: RecoveryCriterion = RecoveryCriterion.ACCEPTED


_COMPLETE_OR_PARTIAL = frozenset({RunStatus.COMPLETE, RunStatus.PARTIAL})
_ASKED_API = _COMPLETE_OR_PARTIAL | {RunStatus.ABORTED}
_FINISHED = _ASKED_API | {RunStatus.FAILED}

_DEFAULT_FILTER = RunFilter(statuses=_ASKED_API)
_FILTERS: Mapping[Cause, RunFilter] = {
    # An API that refuses works again.
    Cause.OUTAGE: RunFilter(statuses=_ASKED_API, criterion=RecoveryCriterion.REPLIED),
    # The cause of an abort explains the unknown items.
    Cause.TOO_MANY_UNKNOWN: RunFilter(statuses=_COMPLETE_OR_PARTIAL),
    # A run that read ids confirms the log, whatever the API answered.
    Cause.SYNC_LOG_UNREADABLE: RunFilter(statuses=_FINISHED, criterion=RecoveryCriterion.READ),
    # Every run that reads an empty log is evidence, so any other run is clean.
    Cause.SYNC_LOG_EMPTY: RunFilter(statuses=_ASKED_API, criterion=RecoveryCriterion.RAN),
    Cause.RUN_MISSED: RunFilter(statuses=_FINISHED, criterion=RecoveryCriterion.RAN),
    # Of the crashed runs only those that ended by an unforeseen error: see `store`.
    Cause.RUN_CRASHING: RunFilter(statuses=_FINISHED | {RunStatus.CRASHED}, criterion=RecoveryCriterion.RAN),
}


def run_filter(cause: Cause) -> RunFilter:
    """The runs that count for a cause."""
    return _FILTERS.get(cause, _DEFAULT_FILTER)


def counts_as_recovery(criterion: RecoveryCriterion, *, due: int, replied: int, accepted: int | None) -> bool:
    """Whether a run without evidence is a clean run. With nothing due, it confirms neither the API nor the log.

    Of the `due` items, the API itself replied about `replied`, and `accepted` of these replies show that it accepts the
    credentials and requests (None: not known, as in runs of earlier versions).
    """
    if criterion is RecoveryCriterion.RAN:
        return True
    if criterion is RecoveryCriterion.READ:
        return due > 0
    enough = replied if criterion is RecoveryCriterion.REPLIED or accepted is None else accepted
    return due > 0 and enough >= min(MIN_ANSWERED, due)
