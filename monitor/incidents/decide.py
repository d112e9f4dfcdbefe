"""When an incident opens, goes on, is told again, and resolves. Pure: stored runs and `now` in, a decision out.

All counting is over runs and time as the database keeps them, so that a hundred cron runs decide what a hundred daemon
ticks decide. This module never reads a clock and writes nothing; `evolve` says what a decision makes of an incident.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from monitor.incidents.rulebook import Rule
from monitor.model import Cause, Evidence, Incident, IncidentState

REOPEN_WITHIN = timedelta(minutes=15)
"""What comes back so soon after its resolution is the same incident."""

UPDATE_INTERVAL = timedelta(minutes=30)
"""New members of an open incident are told at most so often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidencePoint:
    """What one finished run says about one cause."""

    run_id: int
    at: datetime
    evidence: bool
    """Evidence that no higher cause explains."""
    inhibited: bool = False
    """Evidence that a higher cause explains."""
    confirms_recovery: bool = True
    """At least min(20, due) answered requests: only then does silence speak for recovery."""


class Action(StrEnum):
    """What is done about one cause."""

    NOTHING = "nothing"
    INHIBIT = "inhibit"
    WAIT = "wait"
    OPEN = "open"
    REOPEN = "reopen"
    CONTINUE = "continue"
    UPDATE = "update"
    REMIND = "remind"
    ACKNOWLEDGE = "acknowledge"
    RESOLVE = "resolve"


class DecisionReason(StrEnum):
    """The reason of a decision."""

    NO_EVIDENCE = "no evidence"
    INHIBITED = "inhibited by a higher cause of the same run"
    BELOW_THRESHOLD = "not yet in enough of the last runs"
    HOLD_FOR_NOT_ELAPSED = "not yet for long enough"
    THRESHOLD_MET = "evidence in enough of the last runs"
    FIRST_EVIDENCE = "one run with evidence is enough"
    RECURRED = "it came back soon after its resolution"
    STILL_OPEN = "still open"
    NEW_MEMBERS = "items joined since the last notification"
    REMINDER_DUE = "a reminder is due"
    CLEAN_RUNS = "enough runs without evidence"
    MEMBERS_RECOVERED = "no item is in that state any more"
    UNDELIVERABLE = "messages can't be delivered"
    CHANNELS_FAILING = "the channels that were notified fail too"
    DELIVERED = "a message was delivered there again"
    NOT_CONFIGURED = "no channel of that name is configured any more"
    RECOVERY_UNCONFIRMED = "no item is in that state any more, but the run was cut short or the sync log empty"
    SILENCED = "silenced"
    OPENING_DUE = "its silence has ended: the opening is sent with the next delivery"
    ACKNOWLEDGED = "acknowledged"
    ALREADY_ACKNOWLEDGED = "it is acknowledged already"
    RESOLVED_MANUALLY = "resolved by hand"
    ALREADY_RESOLVED = "it is resolved already"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do about one cause on one target, and why."""

    cause: Cause
    action: Action
    reason: DecisionReason
    first_evidence_at: datetime | None = None
    """Start of the evidence that opens it."""
    silence_id: int | None = None
    """The silence that keeps its message back."""


def decide(
    rule: Rule,
    incident: Incident | None,
    points: Sequence[EvidencePoint],
    *,
    now: datetime,
    members: int | None = None,
    may_resolve: bool = True,
) -> Decision:
    """Decides about one cause on one target.

    Args:
        rule: the rule in force for the cause.
        incident: the open incident of that key, else the one resolved last, else None.
        marks: finished runs of the target, newest first, the present one included.
        now: the end of the present run (aware).
        members: items that belong to the incident after this run; None for a cause without members.
        may_resolve: False for a run that can't vouch for the members (cut short, sync log empty).
    """
    if incident is not None and incident.state is not IncidentState.RESOLVED:
        return _decide_open(rule, incident, points, now=now, members=members, may_resolve=may_resolve)
    newest = points[0] if points else None
    if newest is None or not newest.evidence:
        inhibited = newest is not None and newest.inhibited
        return (
            _decision(rule, Action.INHIBIT, DecisionReason.INHIBITED)
            if inhibited
            else _decision(rule, Action.NOTHING, DecisionReason.NO_EVIDENCE)
        )
    if incident is not None and incident.resolved_at is not None:
        # What was resolved is no evidence any more; the runs themselves still count.
        after = _points_since(points, incident.resolved_at, now)
        points = [point if n < after else replace(point, evidence=False) for n, point in enumerate(points)]
    opening = _decide_opening(rule, points, now)
    if opening.action is not Action.OPEN or incident is None or incident.resolved_at is None:
        return opening
    if now - incident.resolved_at <= REOPEN_WITHIN:
        return replace(opening, action=Action.REOPEN, reason=DecisionReason.RECURRED)
    return opening


def _points_since(points: Sequence[EvidencePoint], moment: datetime, now: datetime) -> int:
    """How many of the newest runs ended after a moment, also when the clock was set back or forth since.

    The order of runs is the order of their marks. Most often a moment is the end of one of them; where that run lies
    too far back to be among them, and the moment in the future by now, those count that the clock of now has seen.
    """
    exact = next((n for n, point in enumerate(points) if point.at == moment), None)
    if exact is not None:
        return exact
    if moment <= now:
        return next((n for n, point in enumerate(points) if point.at <= moment), len(points))
    return next((n for n, point in enumerate(points) if point.at > now), len(points))


def _decision(rule: Rule, action: Action, reason: DecisionReason, first: datetime | None = None) -> Decision:
    return Decision(cause=rule.cause, action=action, reason=reason, first_evidence_at=first)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdCount:
    """How far the evidence has come towards an opening."""

    seen: int
    """Runs with evidence …"""
    of: int
    """… among the last so many, as far as they lie in the rule's window."""
    needed: int


def count_evidence(rule: Rule, points: Sequence[EvidencePoint], now: datetime) -> ThresholdCount:
    """Counts evidence as a rule does; `points` newest first."""
    inside = [point for point in points if now - point.at <= rule.window]
    needed = rule.runs if len(inside) >= rule.of else len(inside)
    counted = inside[: rule.of]
    return ThresholdCount(seen=sum(point.evidence for point in counted), of=len(counted), needed=needed)


def _decide_opening(rule: Rule, points: Sequence[EvidencePoint], now: datetime) -> Decision:
    inside = [point for point in points if now - point.at <= rule.window]
    counted = count_evidence(rule, inside, now)
    if counted.seen < counted.needed:
        return _decision(rule, Action.WAIT, DecisionReason.BELOW_THRESHOLD)
    first = _streak_start(rule, inside)
    if len(inside) > 1 and timedelta(0) <= inside[0].at - first < rule.hold_for:
        return _decision(rule, Action.WAIT, DecisionReason.HOLD_FOR_NOT_ELAPSED)
    return _decision(
        rule, Action.OPEN, DecisionReason.FIRST_EVIDENCE if rule.of == 1 else DecisionReason.THRESHOLD_MET, first
    )


def _streak_start(rule: Rule, points: Sequence[EvidencePoint]) -> datetime:
    """Time of the first evidence with no `resolve_after` clean runs between it and the newest (which is evidence)."""
    first, clean = points[0].at, 0
    for point in points:
        if point.evidence:
            first, clean = point.at, 0
        else:
            clean += point.confirms_recovery
        if clean >= rule.resolve_after:
            break
    return first


def _decide_open(
    rule: Rule,
    incident: Incident,
    points: Sequence[EvidencePoint],
    *,
    now: datetime,
    members: int | None,
    may_resolve: bool,
) -> Decision:
    if may_resolve and members == 0:
        return _decision(rule, Action.RESOLVE, DecisionReason.MEMBERS_RECOVERED)
    if members is None and clean_runs(incident, points) >= rule.resolve_after:
        return _decision(rule, Action.RESOLVE, DecisionReason.CLEAN_RUNS)
    if members == 0:
        return _decision(rule, Action.CONTINUE, DecisionReason.RECOVERY_UNCONFIRMED)
    since_last_message = now - (incident.last_message_at or incident.opened_at)
    if incident.unnotified_count and since_last_message >= UPDATE_INTERVAL:
        return _decision(rule, Action.UPDATE, DecisionReason.NEW_MEMBERS)
    if incident.state is IncidentState.OPEN and since_last_message >= rule.repeat_interval:
        return _decision(rule, Action.REMIND, DecisionReason.REMINDER_DUE)
    return _decision(rule, Action.CONTINUE, DecisionReason.STILL_OPEN)


def clean_runs(incident: Incident, points: Sequence[EvidencePoint]) -> int:
    """Runs since the last evidence that answered enough to vouch for recovery; muted ones vouch for nothing."""
    clean = 0
    for point in points[: _points_since(points, incident.last_evidence_at, points[0].at) if points else 0]:
        if point.evidence:
            break
        clean += point.confirms_recovery and not point.inhibited
    return clean


_NOTIFYING = frozenset({Action.OPEN, Action.REOPEN, Action.UPDATE, Action.REMIND, Action.RESOLVE})


def evolve(
    incident: Incident,
    decision: Decision,
    *,
    now: datetime,
    evidence: Evidence | None = None,
    members: int = 0,
    by: str | None = None,
) -> Incident:
    """What a decision makes of an incident that exists already.

    Args:
        incident: as it is stored.
        decision: what was decided about it.
        now: the end of the present run (aware).
        evidence: what the present run saw of the cause, explained or not; None when it saw nothing.
        members: items that belong to it after this run (0 for a request cause).
        by: who acknowledges it.
    """
    seen = evidence is not None and evidence.inhibited_by is None
    affected = members or (evidence.count if evidence is not None and seen else 0)
    changed = replace(
        incident,
        member_count=members,
        peak_count=max(incident.peak_count, affected),
        last_evidence_at=now if seen else incident.last_evidence_at,
        evidence=evidence if seen else incident.evidence,
    )
    if _notifies(incident, decision):
        changed = replace(changed, last_message_at=now, unnotified_count=0)
    match decision.action:
        case Action.RESOLVE:
            return replace(changed, state=IncidentState.RESOLVED, resolved_at=now, unnotified_count=0)
        case Action.REOPEN:
            return _reopened(changed, decision)
        case Action.ACKNOWLEDGE:
            return replace(changed, state=IncidentState.ACKNOWLEDGED, acknowledged_at=now, acknowledged_by=by)
    return changed


def _notifies(incident: Incident, decision: Decision) -> bool:
    """Whether people are told: not while a silence keeps it back, nor of the end of what they never heard of."""
    not_notified = decision.action is Action.RESOLVE and incident.silence_id is not None
    return decision.action in _NOTIFYING and decision.silence_id is None and not not_notified


def _reopened(incident: Incident, decision: Decision) -> Incident:
    """Open again, for somebody else to acknowledge; silenced, it is as untold as any opening."""
    return replace(
        incident,
        state=IncidentState.OPEN,
        resolved_at=None,
        acknowledged_at=None,
        acknowledged_by=None,
        silence_id=decision.silence_id,
        channels=() if decision.silence_id is not None else incident.channels,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAction:
    """Whose word it is."""

    by: str
    comment: str = ""

    @property
    def reason(self) -> str:
        """For an event: `by ana: I am on it`."""
        return f"by {self.by}: {self.comment}" if self.comment else f"by {self.by}"

    @property
    def resolution_facts(self) -> tuple[tuple[str, str], ...]:
        """For a message about an end: label and value."""
        return (("resolved by", self.by), *self.comment_facts)

    @property
    def comment_facts(self) -> tuple[tuple[str, str], ...]:
        """The comment alone, for a message that names the person anyway."""
        return (("comment", self.comment),) if self.comment else ()


def acknowledge(incident: Incident) -> Decision:
    """Decides whether an incident can be acknowledged: an open one that nobody looks after yet."""
    if incident.state is IncidentState.OPEN:
        return Decision(cause=incident.cause, action=Action.ACKNOWLEDGE, reason=DecisionReason.ACKNOWLEDGED)
    reason = (
        DecisionReason.ALREADY_RESOLVED
        if incident.state is IncidentState.RESOLVED
        else DecisionReason.ALREADY_ACKNOWLEDGED
    )
    return Decision(cause=incident.cause, action=Action.NOTHING, reason=reason)


def resolve_manually(incident: Incident) -> Decision:
    """Decides whether an incident can be resolved by hand: one that is not over yet."""
    if incident.state is IncidentState.RESOLVED:
        return Decision(cause=incident.cause, action=Action.NOTHING, reason=DecisionReason.ALREADY_RESOLVED)
    return Decision(cause=incident.cause, action=Action.RESOLVE, reason=DecisionReason.RESOLVED_MANUALLY)
