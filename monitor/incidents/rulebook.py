"""The rules themselves, one per cause: how much evidence opens an incident, and whose it is. Data only."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from monitor.model import Cause, Severity, Team

__all__ = ["DEFAULT_RULES", "By", "Rule", "numbers_of", "severity_of", "with_numbers"]


class By(StrEnum):
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
    span: timedelta = timedelta(0)
    """First and last evidence at least so far apart; one lone run in the window counts."""
    resolve_after: int = 2
    """Runs without evidence that resolve a request cause."""
    remind_every: timedelta = timedelta(hours=4)
    by: By = By.TARGET


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
        Rule(cause=Cause.OUTAGE, team=Team.OPERATIONS, severity=Severity.CRITICAL, runs=2, of=2, span=_MINUTES_3),
        Rule(cause=Cause.BAD_RESPONSE, team=Team.INTEGRATION, runs=2, of=2),
        Rule(cause=Cause.BAD_REQUEST, team=Team.INTEGRATION, runs=2, of=2),
        Rule(cause=Cause.ITEMS_FAILED, team=Team.PIPELINE, remind_every=_DAY),
        Rule(cause=Cause.ITEMS_MISSING, team=Team.PIPELINE, remind_every=_DAY),
        Rule(cause=Cause.ITEMS_REGRESSED, team=Team.PIPELINE, remind_every=_DAY),
        Rule(cause=Cause.ITEMS_STUCK, team=Team.PIPELINE, remind_every=_DAY),
        Rule(cause=Cause.ITEMS_INVALID, team=Team.PIPELINE, remind_every=_DAY),
        Rule(cause=Cause.UNRECOGNISED_STATUS, team=Team.INTEGRATION, remind_every=_DAY),
        Rule(cause=Cause.COVERAGE, team=Team.MONITOR, runs=2, of=2),
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


def numbers_of(rule: Rule) -> dict[str, float]:
    """What a rule counts by, as JSON values: kept with an opening, since the rule may be another one later."""
    return {
        "runs": rule.runs,
        "of": rule.of,
        "window_s": rule.window.total_seconds(),
        "span_s": rule.span.total_seconds(),
        "resolve_after": rule.resolve_after,
        "remind_every_s": rule.remind_every.total_seconds(),
    }


def with_numbers(rule: Rule, stored: object) -> Rule:
    """The rule with numbers that `numbers_of` once gave; what is not among them stays as it is."""
    if not isinstance(stored, Mapping):
        return rule
    numbers = {**numbers_of(rule), **stored}
    return replace(
        rule,
        runs=int(numbers["runs"]),
        of=int(numbers["of"]),
        window=timedelta(seconds=numbers["window_s"]),
        span=timedelta(seconds=numbers["span_s"]),
        resolve_after=int(numbers["resolve_after"]),
        remind_every=timedelta(seconds=numbers["remind_every_s"]),
    )
