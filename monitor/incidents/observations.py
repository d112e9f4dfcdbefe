"""Causes that no run is evidence of: waits, canaries and objectives say something about a target between its runs.

Each of them is a source with rows of its own. The end of any run of the target evaluates what they say, in the closing
transaction, so cron and the daemon decide alike, and a killed process loses nothing: the next run reads the same rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from monitor.incidents.decide import Action, Decision, DecisionReason, EvidencePoint, decide
from monitor.incidents.rulebook import DEFAULT_RULES, Rule
from monitor.model import OBSERVED_CAUSES, Cause, Evidence, Incident, IncidentKey, IncidentState, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a source says about one cause at the end of a run."""

    cause: Cause
    group: str = ""
    """Part of the incident's key, such as the name of an objective; empty: the whole target."""
    points: Sequence[EvidencePoint] = ()
    """What happened, newest first: each wait or canary that ended within the rule's window, or one reading of now."""
    evidence: Evidence | None = None
    """Details of the newest point, required if that is evidence; of the same cause and group."""
    severity: Severity | None = None
    """Instead of the built-in one of the rule; a configured one stays. A higher one raises that of an open incident."""
    resolved_by: DecisionReason | None = None
    """A reason to resolve an open incident whatever the points say, such as `NOT_OBSERVED`."""

    @property
    def key(self) -> IncidentKey:
        """The key of its incident."""
        return self.cause, self.group


class ObservationSource(Protocol):
    """Reads one kind of rows of a target."""

    def observe(
        self, conn: Connection, *, target: str, rules: Mapping[Cause, Rule], now: datetime
    ) -> Sequence[Observation]:
        """What the rows say about the target now, at most one observation per key. It writes no rows but its own."""
        ...


def removed_observations(
    observations: Sequence[Observation], current: Mapping[IncidentKey, Incident]
) -> list[Observation]:
    """An observation for each open incident that no source speaks of any more: it is no longer configured."""
    seen = {each.key for each in observations}
    return [
        Observation(cause=key[0], group=key[1], resolved_by=DecisionReason.NO_LONGER_CONFIGURED)
        for key, incident in current.items()
        if key[0] in OBSERVED_CAUSES and key not in seen and incident.state is not IncidentState.RESOLVED
    ]


def mark_point(observation: Observation, inhibited_by: Cause | None) -> Observation:
    """The observation of a run in which a higher cause explains it: its newest evidence opens nothing."""
    if inhibited_by is None or observation.evidence is None or not observation.points:
        return observation
    newest = replace(observation.points[0], evidence=False, inhibited=True)
    return replace(
        observation,
        points=(newest, *observation.points[1:]),
        evidence=replace(observation.evidence, inhibited_by=inhibited_by),
    )


def rule_for(observation: Observation, rule: Rule) -> Rule:
    """The rule with the severity of the observation, unless the configuration sets another than the built-in one."""
    built_in = rule.severity is DEFAULT_RULES[rule.cause].severity
    return replace(rule, severity=observation.severity) if observation.severity and built_in else rule


def decide_observation(rule: Rule, incident: Incident | None, observation: Observation, *, now: datetime) -> Decision:
    """Decides about one cause; `incident` is the open one of the key, else the one resolved last."""
    opened = None if incident is None or incident.state is IncidentState.RESOLVED else incident
    if observation.resolved_by is not None:
        action = Action.RESOLVE if opened else Action.NOTHING
        return Decision(cause=rule.cause, action=action, reason=observation.resolved_by)
    decision = decide(rule, incident, observation.points, now=now)
    burns = bool(observation.points) and observation.points[0].evidence
    if opened and burns and observation.severity and _is_higher(rule.severity, than=opened.severity):
        return replace(decision, action=Action.UPDATE, reason=DecisionReason.MORE_SEVERE)
    return decision


_SEVERITIES = tuple(Severity)
"""In ascending order."""


def _is_higher(severity: Severity, *, than: Severity) -> bool:
    return _SEVERITIES.index(severity) > _SEVERITIES.index(than)
