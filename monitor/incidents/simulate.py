"""What would be done about a cause: when its incident opens, which routes it takes, and who is told. Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitor.incidents.channel_rules import bystanders
from monitor.incidents.decide import Action, Mark, decide
from monitor.incidents.rulebook import InForce, Rule, severity_of
from monitor.model import Cause, Severity, Silence
from monitor.notifications.routing import Attributes, Route, Step, matches, route, walk
from monitor.notifications.texts import channel_target


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """When an incident opens if from some run on every run sees its cause."""

    runs: int
    """The run that opens it, counted from the first that sees it."""
    after: timedelta
    """How long after the first that is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way in which an incident of the cause can open."""

    severity: Severity
    attributes: Attributes
    accepted: bool | None
    """Whether the API accepts other requests, where that makes a difference; else None."""
    steps: tuple[Step, ...]
    """What becomes of each route, in order."""
    channels: tuple[str, ...]
    silence: Silence | None
    """The first silence in force that keeps its messages back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where a cause is tried."""

    target: str
    """Its name, or what stands in its place for a channel: `channel:oncall`."""
    group: str
    environment: str
    routes: Sequence[Route]
    channels: Sequence[str]
    """Names of all configured channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What would be done about a cause."""

    scene: Scene
    found: InForce
    opening: Opening | None
    """None when it could never open by the schedule."""
    cases: tuple[Case, ...]


def rehearse(
    found: InForce, scene: Scene, *, due: Sequence[datetime], now: datetime, silences: Sequence[Silence] = ()
) -> Rehearsal:
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
    in_force = [silence for silence in silences if silence.in_force(now)]
    cases = tuple(
        _case(found.rule, scene, severity, in_force, accepted=None if alike else how)
        for how, severity in severities.items()
    )
    return Rehearsal(scene=scene, found=found, opening=opening(found.rule, due), cases=cases[:1] if alike else cases)


def _case(rule: Rule, scene: Scene, severity: Severity, silences: Sequence[Silence], *, accepted: bool | None) -> Case:
    attributes: Attributes = {
        "team": rule.team.value,
        "cause": rule.cause.value,
        "target": scene.target,
        "group": (scene.group,) if scene.group else (),
        "severity": severity.value,
        "environment": scene.environment,
    }
    told = route(attributes, scene.routes, scene.channels)
    if rule.cause is Cause.CHANNEL_FAILING:
        failing = [name for name in scene.channels if channel_target(name) == scene.target]
        told = bystanders(told, scene.channels, failing=failing)
    return Case(
        severity=severity,
        attributes=attributes,
        accepted=accepted,
        steps=walk(attributes, scene.routes),
        channels=told,
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
    rhythm = [due[0] - (time - due[0]) for time in due[1:]]
    before = [Mark(run_id=0, at=at, evidence=False) for at in rhythm]
    seen = [Mark(run_id=n, at=at, evidence=True) for n, at in enumerate(due, 1)]

    def opens(runs: int) -> bool:
        marks = [*reversed(seen[:runs]), *before]
        return decide(rule, None, marks, now=due[runs - 1]).action is Action.OPEN

    runs = bisect_left(range(1, len(due) + 1), True, key=opens) + 1  # noqa: FBT003  # what is looked for: the first yes
    return None if runs > len(due) else Opening(runs=runs, after=due[runs - 1] - due[0])
