"""Simulates a cause: when its incident would open, which routes match, and which channels are notified. Pure."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from monitor.incidents.decide import Action, EvidencePoint, decide, other_channels
from monitor.incidents.rulebook import COUNTED_PER_ITEM, DEFAULT_RULES, EffectiveRule, Rule, severity_of
from monitor.incidents.slo import BURN_ALERTS
from monitor.model import Cause, Severity, Silence, Team, responsible
from monitor.notifications.routing import Attributes, Route, RouteStep, evaluate_routes, matches, route, team_attribute
from monitor.notifications.texts import channel_target


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """When an incident opens if every run from a first one on has evidence."""

    runs: int
    """The run that opens it, counted from the first with evidence."""
    after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedCase:
    """One of the ways in which an incident of the cause can open."""

    severity: Severity
    teams: tuple[Team, ...]
    attributes: Attributes
    accepted: bool | None
    """Whether the API accepts other requests; None if that makes no difference."""
    condition: str = ""
    """When an objective's alert has this severity; empty for any other cause."""
    steps: tuple[RouteStep, ...]
    channels: tuple[str, ...]
    silence: Silence | None
    """The first active one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Where a cause is simulated."""

    target: str
    """Its name, or `channel:NAME` for a channel."""
    group: str
    environment: str
    routes: Sequence[Route]
    channels: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """The result of a simulation."""

    scenario: Scenario
    found: EffectiveRule
    opening: Opening | None
    """None if it could never open by the schedule."""
    cases: tuple[SimulatedCase, ...]


def simulate(
    found: EffectiveRule,
    scenario: Scenario,
    *,
    due: Sequence[datetime],
    now: datetime,
    silences: Sequence[Silence] = (),
) -> Simulation:
    """Simulates a cause on a target.

    `due` has the times of the runs from the first with evidence, as many as the window holds. Silences count if
    they are active `now`.
    """
    active = [silence for silence in silences if silence.is_active(now)]
    if found.rule.cause is Cause.SLO_BURN:
        return Simulation(
            scenario=scenario,
            found=found,
            opening=opening(found.rule, due),
            cases=tuple(_objective_cases(found.rule, scenario, active)),
        )
    severities = {how: severity_of(found.rule, accepted=how) for how in (True, False)}
    teams = {responsible(found.rule.cause, found.rule.team, accepted=how) for how in severities}
    alike = len(set(severities.values())) == len(teams) == 1
    cases = tuple(
        _case(found.rule, scenario, severity, active, accepted=None if alike else how)
        for how, severity in severities.items()
    )
    return Simulation(
        scenario=scenario, found=found, opening=opening(found.rule, due), cases=cases[:1] if alike else cases
    )


def _objective_cases(rule: Rule, scenario: Scenario, silences: Sequence[Silence]) -> Iterator[SimulatedCase]:
    """A case per severity of the burn-rate alerts; a configured severity is that of all of them."""
    if rule.severity is not DEFAULT_RULES[rule.cause].severity:
        yield _case(rule, scenario, rule.severity, silences, accepted=None)
        return
    for severity in dict.fromkeys(alert.severity for alert in BURN_ALERTS):
        thresholds = " or ".join(f"{each.factor:g}×" for each in BURN_ALERTS if each.severity is severity)
        case = _case(rule, scenario, severity, silences, accepted=None)
        yield replace(case, condition=f"while the budget burns faster than {thresholds}")


def _case(
    rule: Rule, scenario: Scenario, severity: Severity, silences: Sequence[Silence], *, accepted: bool | None
) -> SimulatedCase:
    teams = responsible(rule.cause, rule.team, accepted=accepted)
    attributes: Attributes = {
        "team": team_attribute(teams),
        "cause": rule.cause.value,
        "target": scenario.target,
        "group": (scenario.group,) if scenario.group else (),
        "severity": severity.value,
        "environment": scenario.environment,
    }
    notified = route(attributes, scenario.routes, scenario.channels)
    if rule.cause is Cause.CHANNEL_FAILING:
        failing = [name for name in scenario.channels if channel_target(name) == scenario.target]
        notified = other_channels(notified, scenario.channels, failing=failing)
    return SimulatedCase(
        severity=severity,
        teams=teams,
        attributes=attributes,
        accepted=accepted,
        steps=evaluate_routes(attributes, scenario.routes),
        channels=notified,
        silence=next((silence for silence in silences if matches(silence.matchers, attributes)), None),
    )


def opening(rule: Rule, due: Sequence[datetime]) -> Opening | None:
    """When an incident opens if every run has evidence and none before them had; None if it does not within them.

    It asks `decide`; more evidence never delays an opening, so a binary search finds the run. `due` are the times of
    the runs with evidence (ascending, at least one).
    """
    previous_due = [due[0] - (time - due[0]) for time in due[1:]]
    before = [EvidencePoint(run_id=0, at=at, evidence=False) for at in previous_due]
    first = rule.runs if rule.cause in COUNTED_PER_ITEM else 1
    with_evidence = [EvidencePoint(run_id=n, at=at, evidence=n >= first) for n, at in enumerate(due, 1)]

    def opens(runs: int) -> bool:
        points = [*reversed(with_evidence[:runs]), *before]
        return decide(rule, None, points, now=due[runs - 1]).action is Action.OPEN

    runs = bisect_left(range(1, len(due) + 1), True, key=opens) + 1  # noqa: FBT003  # the first run that opens it
    return None if runs > len(due) else Opening(runs=runs, after=due[runs - 1] - due[0])
