"""The rules themselves, one per cause: how much evidence opens an incident, and whose it is. Data only."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from monitor.model import Cause, RunStatus, Severity, Team


class GroupBy(StrEnum):
    """What there is one incident of a cause for at a time."""

    TARGET = "target"
    GROUP = "group"
    """Each group of a target's items, and those without a group; only a cause about items has groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When the incident of one cause opens and resolves, and who is told."""

    cause: Cause
    team: Team
    severity: Severity = Severity.WARNING
    runs: int = 1
    """Evidence in so many …"""
    of: int = 1
    """… of the last so many runs …"""
    window: timedelta = timedelta(hours=1)
    """… inside this; if fewer runs fall inside it, in all of them."""
    hold_for: timedelta = timedelta(0)
    """First and last evidence at least so far apart; one lone run in the window counts."""
    resolve_after: int = 2
    """Runs without evidence that resolve a request cause."""
    repeat_interval: timedelta = timedelta(hours=4)
    by: GroupBy = GroupBy.TARGET


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
        Rule(cause=Cause.UNRECOGNISED_STATUS, team=Team.INTEGRATION, repeat_interval=_DAY),
        Rule(cause=Cause.TOO_MANY_UNKNOWN, team=Team.MONITOR, runs=2, of=2),
        Rule(cause=Cause.SYNC_LOG_UNREADABLE, team=Team.MONITOR, severity=Severity.CRITICAL, runs=2, of=2),
        Rule(cause=Cause.SYNC_LOG_EMPTY, team=Team.MONITOR),
        Rule(cause=Cause.RUN_MISSED, team=Team.MONITOR),
        Rule(cause=Cause.CHANNEL_FAILING, team=Team.MONITOR),
    )
}
"""The built-in rules, one per cause."""


def severity_of(rule: Rule, *, accepted: bool) -> Severity:
    """How urgent an incident is when it opens: as its rule says, but for a denial of everything.

    A rejected or malformed key answers 403 at Gloo, where others say 401: nothing is watched any more, and that is
    critical. A rule for `forbidden` with a severity of its own is left alone.

    Args:
        rule: in force for the cause.
        accepted: whether the API accepted anything in the run.
    """
    built_in = rule.severity is DEFAULT_RULES[rule.cause].severity
    denied = rule.cause is Cause.FORBIDDEN and not accepted
    return Severity.CRITICAL if denied and built_in else rule.severity


def rule_parameters(rule: Rule) -> dict[str, float]:
    """What a rule counts by, as JSON values: kept with an opening, since the rule may be another one later."""
    return {
        "runs": rule.runs,
        "of": rule.of,
        "window_s": rule.window.total_seconds(),
        "for_s": rule.hold_for.total_seconds(),
        "resolve_after": rule.resolve_after,
        "repeat_interval_s": rule.repeat_interval.total_seconds(),
    }


def with_parameters(rule: Rule, stored: object) -> Rule:
    """The rule with numbers that `rule_parameters` once gave; what is not among them stays as it is."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """What one `[[rules]]` table changes."""

    cause: Cause
    changes: Mapping[str, Any]
    """Field of `Rule` to its value."""
    targets: tuple[str, ...] = ()
    """Glob patterns of the targets that it is for (case counts); none: all."""
    source: str
    """What it is called: `rules[2]`."""

    def applies_to(self, target: str) -> bool:
        """Whether it changes the rule of a target, or of what stands in a target's place (`channel:oncall`)."""
        return not self.targets or any(fnmatchcase(target, pattern) for pattern in self.targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveRule:
    """A rule, and where its values came from."""

    rule: Rule
    sources: Mapping[str, str] = field(default_factory=dict)
    """Field to the table that says its value; what is not in it is built in."""

    @property
    def changed_by(self) -> tuple[str, ...]:
        """The tables that say any of its values, in the order in which they were first heeded; none: it is built in."""
        return tuple(dict.fromkeys(self.sources.values()))


def effective_rules(overrides: Iterable[Override], target: str) -> Mapping[Cause, EffectiveRule]:
    """The rule of every cause on one target.

    Args:
        overrides: in the order of the configuration: of two that say the same, the later one holds.
        target: its name; for `channel_failing` what stands in its place, `channel:NAME`.
    """
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

    RUNS_EXCEED_OF = "it asks for evidence in more runs than it looks at"
    HOLD_FOR_EXCEEDS_WINDOW = "no two runs inside the window lie as far apart as it asks"


def rule_problem(rule: Rule) -> RuleProblem | None:
    """Why a rule could never open an incident, or None.

    A span beyond the window would let only a run that is alone in the window open one, which nobody means by a span.
    """
    if rule.runs > rule.of:
        return RuleProblem.RUNS_EXCEED_OF
    return RuleProblem.HOLD_FOR_EXCEEDS_WINDOW if rule.hold_for > rule.window else None


MIN_ANSWERED = 20
"""A run vouches for the API's recovery when it got answers for so many items, or for all that were due."""


class RecoveryCriterion(StrEnum):
    """What a run must have done for its silence to speak for the end of a cause."""

    ANSWERED = "got enough answers"
    READ = "read ids"
    RAN = "ran"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """The runs that count for a cause."""

    statuses: frozenset[RunStatus]
    criterion: RecoveryCriterion = RecoveryCriterion.ANSWERED


_COMPLETE_OR_PARTIAL = frozenset({RunStatus.COMPLETE, RunStatus.PARTIAL})
_ASKED_API = _COMPLETE_OR_PARTIAL | {RunStatus.ABORTED}
_FINISHED = _ASKED_API | {RunStatus.FAILED}

_DEFAULT_FILTER = RunFilter(statuses=_ASKED_API)
_FILTERS: Mapping[Cause, RunFilter] = {
    # What aborted a run explains what it left unknown.
    Cause.TOO_MANY_UNKNOWN: RunFilter(statuses=_COMPLETE_OR_PARTIAL),
    # One that read ids vouches for the log, whatever the API said.
    Cause.SYNC_LOG_UNREADABLE: RunFilter(statuses=_FINISHED, criterion=RecoveryCriterion.READ),
    # Every run that read an empty log is evidence of it while the incident is open.
    Cause.SYNC_LOG_EMPTY: RunFilter(statuses=_ASKED_API, criterion=RecoveryCriterion.RAN),
    Cause.RUN_MISSED: RunFilter(statuses=_FINISHED, criterion=RecoveryCriterion.RAN),
}


def run_filter(cause: Cause) -> RunFilter:
    """The runs that count for a cause."""
    return _FILTERS.get(cause, _DEFAULT_FILTER)


def counts_as_recovery(criterion: RecoveryCriterion, *, due: int, answered: int) -> bool:
    """Whether a run without evidence speaks for the end of a cause; an empty work list vouches for no API and no log.

    Args:
        vouching: what is asked of it.
        due: items that it meant to ask about.
        answered: of them, those that got a reply.
    """
    if criterion is RecoveryCriterion.RAN:
        return True
    return due > 0 and (criterion is RecoveryCriterion.READ or answered >= min(MIN_ANSWERED, due))
