"""What would be done about a cause: when its incident opens, which routes it takes, and who is told. Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitor.incidents.channel_rules import other_channels
from monitor.incidents.decide import Action, EvidencePoint, decide
from monitor.incidents.rulebook import EffectiveRule, Rule, severity_of
from monitor.model import Cause, Severity, Silence
from monitor.notifications.routing import Attributes, Route, RouteStep, evaluate_routes, matches, route
from monitor.notifications.texts import channel_target


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """When an incident opens if from some run on every run sees its cause."""

    runs: int
    """The run that opens it, counted from the first that sees it."""
    after: timedelta
    """How long after the first that is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedCase:
    """One way in which an incident of the cause can open."""

    severity: Severity
    attributes: Attributes
    accepted: bool | None
    """Whether the API accepts other requests, where that makes a difference; else None."""
    steps: tuple[RouteStep, ...]
    """What becomes of each route, in order."""
    channels: tuple[str, ...]
    silence: Silence | None
    """The first silence in force that keeps its messages back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Where a cause is tried."""

    target: str
    """Its name, or what stands in its place for a channel: `channel:oncall`."""
    group: str
    environment: str
    routes: Sequence[Route]
    channels: Sequence[str]
    """Names of all configured channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What would be done about a cause."""

    scenario: Scenario
    found: EffectiveRule
    opening: Opening | None
    """None when it could never open by the schedule."""
    cases: tuple[SimulatedCase, ...]


def simulate(
    found: EffectiveRule,
    scenario: Scenario,
    *,
    due: Sequence[datetime],
    now: datetime,
    silences: Sequence[Silence] = (),
) -> Simulation:
    """Plays what would be done about a cause.

    Args:
        found: the rule in force for it there.
        scene: where.
        due: when the coming runs are due, from the first that sees the cause on; as many as the window holds.
        now: aware; only silences that hold at that moment count.
        silences: all that are known.
    """
    severities = {how: severity_of(found.rule, accepted=how) for how in (True, False)}
    alike = len(set(severities.values())) == 1
    active = [silence for silence in silences if silence.is_active(now)]
    cases = tuple(
        _case(found.rule, scenario, severity, active, accepted=None if alike else how)
        for how, severity in severities.items()
    )
    return Simulation(
        scenario=scenario, found=found, opening=opening(found.rule, due), cases=cases[:1] if alike else cases
    )


def _case(
    rule: Rule, scenario: Scenario, severity: Severity, silences: Sequence[Silence], *, accepted: bool | None
) -> SimulatedCase:
    attributes: Attributes = {
        "team": rule.team.value,
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
        attributes=attributes,
        accepted=accepted,
        steps=evaluate_routes(attributes, scenario.routes),
        channels=notified,
        silence=next((silence for silence in silences if matches(silence.matchers, attributes)), None),
    )


def opening(rule: Rule, due: Sequence[datetime]) -> Opening | None:
    """When an incident opens if every run from a certain one on sees the cause, and none before it did.

    The rule itself is asked; more evidence never makes it wait longer.

    Args:
        rule: in force.
        due: when those runs are due (ascending, at least one).

    Returns:
        None when it would not open within them.
    """
    previous_due = [due[0] - (time - due[0]) for time in due[1:]]
    before = [EvidencePoint(run_id=0, at=at, evidence=False) for at in previous_due]
    with_evidence = [EvidencePoint(run_id=n, at=at, evidence=True) for n, at in enumerate(due, 1)]

    def opens(runs: int) -> bool:
        points = [*reversed(with_evidence[:runs]), *before]
        return decide(rule, None, points, now=due[runs - 1]).action is Action.OPEN

    runs = bisect_left(range(1, len(due) + 1), True, key=opens) + 1  # noqa: FBT003  # what is looked for: the first yes
    return None if runs > len(due) else Opening(runs=runs, after=due[runs - 1] - due[0])
