"""When an incident opens, continues, reminds and resolves. Pure: stored runs and `now` in, a decision out.

All counting is over runs and time as stored, so a hundred cron runs decide what a hundred daemon ticks decide. This
module reads no clock and writes nothing; `evolve` gives the incident that a decision leads to.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from monitor.incidents.rulebook import COUNTED_PER_ITEM, Rule, counted_noun
from monitor.model import OBSERVED_CAUSES, Cause, Evidence, Incident, IncidentState
from monitor.notifications.routing import LOG_CHANNEL

REOPEN_WITHIN = timedelta(minutes=15)
"""Evidence this soon after the resolution reopens the incident instead of opening another."""

UPDATE_INTERVAL = timedelta(minutes=30)
"""At most one update about new members per interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidencePoint:
    """What one finished run, wait or canary says about one cause."""

    run_id: int
    """Of a wait or canary: its own id."""
    at: datetime
    evidence: bool
    inhibited: bool = False
    confirms_recovery: bool = True
    """Without evidence, the run counts as a clean one (see `counts_as_recovery`)."""


class Action(StrEnum):
    """What to do about one cause."""

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


OPENINGS = frozenset({Action.OPEN, Action.REOPEN})
FOLLOW_UPS = frozenset({Action.UPDATE, Action.REMIND})
_NOTIFYING = OPENINGS | FOLLOW_UPS | {Action.RESOLVE}


class DecisionReason(StrEnum):
    """The reason of a decision, as users read it."""

    NO_EVIDENCE = "no evidence"
    INHIBITED = "inhibited by a higher cause of the same run"
    BELOW_THRESHOLD = "evidence in too few of the last runs"
    HOLD_FOR_NOT_ELAPSED = "evidence not for long enough yet"
    THRESHOLD_MET = "evidence in enough of the last runs"
    FIRST_EVIDENCE = "one run with evidence is enough"
    RECURRED = "evidence again soon after the resolution"
    STILL_OPEN = "still open"
    NEW_MEMBERS = "items joined since the last notification"
    MORE_SEVERE = "it has become more severe"
    REMINDER_DUE = "a reminder is due"
    CLEAN_RUNS = "enough runs without evidence"
    MEMBERS_RECOVERED = "no item is in that state any more"
    RECOVERY_UNCONFIRMED = "no item is in that state any more, but the sync log was empty"
    NOT_OBSERVED = "nothing of the kind happened within the rule's window"
    NO_LONGER_CONFIGURED = "it is no longer configured"
    UNDELIVERABLE = "messages can't be delivered"
    CHANNELS_FAILING = "the notified channels fail too"
    DELIVERED = "a message was delivered again"
    NOT_CONFIGURED = "the channel is no longer configured"
    SILENCED = "silenced"
    OPENING_DUE = "its silence has ended: the opening is sent with the next delivery"
    ACKNOWLEDGED = "acknowledged"
    ALREADY_ACKNOWLEDGED = "already acknowledged"
    RESOLVED_MANUALLY = "resolved manually"
    ALREADY_RESOLVED = "already resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do about one cause on one target, and why."""

    cause: Cause
    action: Action
    reason: DecisionReason
    first_evidence_at: datetime | None = None
    """Start of the evidence that opens it."""
    silence_id: int | None = None

    @property
    def reason_text(self) -> str:
        """The reason in the words of what the cause's rule counts: runs, waits or canaries."""
        one, many = counted_noun(self.cause, 1), counted_noun(self.cause, 2)
        return self.reason.value.replace("one run", f"one {one}").replace("runs", many)


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

    `incident` is the open one of the key, else the one resolved last. `points` are finished runs, newest first,
    including the present one, which ended `now`. `may_resolve` is False if the run can't confirm recovery (the
    sync log was empty).
    """
    if incident is not None and incident.state is not IncidentState.RESOLVED:
        return _decide_open(rule, incident, points, now=now, members=members, may_resolve=may_resolve)
    newest = points[0] if points else None
    if newest is None or not newest.evidence:
        if newest is not None and newest.inhibited:
            return _decision(rule, Action.INHIBIT, DecisionReason.INHIBITED)
        return _decision(rule, Action.NOTHING, DecisionReason.NO_EVIDENCE)
    resolved_at = None if incident is None else incident.resolved_at
    if resolved_at is not None:
        # Evidence from before the resolution no longer counts; those runs still do.
        after = _points_since(points, resolved_at, now)
        points = [point if n < after else replace(point, evidence=False) for n, point in enumerate(points)]
    opening = _decide_opening(rule, points, now)
    if opening.action is Action.OPEN and resolved_at is not None and now - resolved_at <= REOPEN_WITHIN:
        return replace(opening, action=Action.REOPEN, reason=DecisionReason.RECURRED)
    return opening


def may_change(incident: Incident | None, evidence: Evidence | None) -> bool:
    """Whether `decide` may do anything about a cause at the end of a run that counts for it.

    If nothing is open, and this run has no evidence that nothing inhibits, it does nothing whatever the runs before
    say: then they need not be read.
    """
    is_open = incident is not None and incident.state is not IncidentState.RESOLVED
    return is_open or (evidence is not None and evidence.inhibited_by is None)


def _points_since(points: Sequence[EvidencePoint], moment: datetime, now: datetime) -> int:
    """How many of the newest runs ended after a moment, even if the clock was set back or forth since.

    The sequence is in run order. A moment is usually the end of one of the runs. If that run is too old to be among
    them and the moment now lies in the future, the runs up to `now` count.
    """
    exact = next((n for n, point in enumerate(points) if point.at == moment), None)
    if exact is not None:
        return exact
    if moment <= now:
        return next((n for n, point in enumerate(points) if point.at <= moment), len(points))
    return next((n for n, point in enumerate(points) if point.at > now), len(points))


def _decision(rule: Rule, action: Action, reason: DecisionReason, first: datetime | None = None) -> Decision:
    return Decision(cause=rule.cause, action=action, reason=reason, first_evidence_at=first)


class ThresholdCount(msgspec.Struct, frozen=True, kw_only=True):
    """How close the evidence is to an opening."""

    seen: int
    """Runs with evidence …"""
    of: int
    """… among the last so many, as far as they are within the rule's window."""
    needed: int


def count_evidence(rule: Rule, points: Sequence[EvidencePoint], now: datetime) -> ThresholdCount:
    """Counts evidence by a rule; `points` newest first. Runs that are counted per item were counted before."""
    if rule.cause in COUNTED_PER_ITEM:
        return ThresholdCount(seen=sum(point.evidence for point in points[:1]), of=1, needed=1)
    inside = [point for point in points if now - point.at <= rule.window]
    needed = rule.runs if len(inside) >= rule.of or rule.cause in OBSERVED_CAUSES else len(inside)
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
    reason = DecisionReason.FIRST_EVIDENCE if rule.of == 1 else DecisionReason.THRESHOLD_MET
    return _decision(rule, Action.OPEN, reason, first)


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
    """Runs since the last evidence that confirm recovery; inhibited ones don't."""
    clean = 0
    for point in points[: _points_since(points, incident.last_evidence_at, points[0].at) if points else 0]:
        if point.evidence:
            break
        clean += point.confirms_recovery and not point.inhibited
    return clean


def evolve(
    incident: Incident,
    decision: Decision,
    *,
    now: datetime,
    evidence: Evidence | None = None,
    members: int = 0,
    by: str | None = None,
) -> Incident:
    """An existing incident after a decision; `evidence`, even inhibited, and `members` are those of the present run."""
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
    """Whether a notification is sent: not if silenced, and no resolution if the opening was never sent."""
    not_notified = decision.action is Action.RESOLVE and incident.silence_id is not None
    return decision.action in _NOTIFYING and decision.silence_id is None and not not_notified


def _reopened(incident: Incident, decision: Decision) -> Incident:
    """Open again and unacknowledged; if silenced, without channels like any silenced opening."""
    return replace(
        incident,
        state=IncidentState.OPEN,
        resolved_at=None,
        acknowledged_at=None,
        acknowledged_by=None,
        silence_id=decision.silence_id,
        channels=() if decision.silence_id is not None else incident.channels,
    )


# --- operators


class OperatorAction(msgspec.Struct, frozen=True, kw_only=True):
    """Who acknowledges or resolves, and why."""

    by: str
    comment: str = ""

    @property
    def reason(self) -> str:
        """For an event: `by ana: I am on it`."""
        return f"by {self.by}: {self.comment}" if self.comment else f"by {self.by}"

    @property
    def resolution_facts(self) -> tuple[tuple[str, str], ...]:
        """For a resolution message: label and value."""
        return (("resolved by", self.by), *self.comment_facts)

    @property
    def comment_facts(self) -> tuple[tuple[str, str], ...]:
        """The comment alone, for a message that names the person anyway."""
        return (("comment", self.comment),) if self.comment else ()


def acknowledge(incident: Incident) -> Decision:
    """Decides whether an incident can be acknowledged: if it is open and not acknowledged yet."""
    if incident.state is IncidentState.OPEN:
        return Decision(cause=incident.cause, action=Action.ACKNOWLEDGE, reason=DecisionReason.ACKNOWLEDGED)
    resolved = incident.state is IncidentState.RESOLVED
    reason = DecisionReason.ALREADY_RESOLVED if resolved else DecisionReason.ALREADY_ACKNOWLEDGED
    return Decision(cause=incident.cause, action=Action.NOTHING, reason=reason)


def resolve_manually(incident: Incident) -> Decision:
    """Decides whether an incident can be resolved manually: if it is not resolved yet."""
    if incident.state is IncidentState.RESOLVED:
        return Decision(cause=incident.cause, action=Action.NOTHING, reason=DecisionReason.ALREADY_RESOLVED)
    return Decision(cause=incident.cause, action=Action.RESOLVE, reason=DecisionReason.RESOLVED_MANUALLY)


# --- channels: the incidents of `channel_failing`, which no run leads to


class ChannelEvent(StrEnum):
    """What happened to a channel."""

    FAILED = "failed"
    DELIVERED = "delivered"
    REMOVED = "gone"


_RESOLUTIONS = {ChannelEvent.DELIVERED: DecisionReason.DELIVERED, ChannelEvent.REMOVED: DecisionReason.NOT_CONFIGURED}


def decide_channel(rule: Rule, incident: Incident | None, channel_event: ChannelEvent, *, now: datetime) -> Decision:
    """Decides about one channel, given its open incident, else the one resolved last, else None.

    Of the rule (of `channel_failing`), only severity, team and reminders apply, not its numbers of runs.
    """
    if channel_event is ChannelEvent.FAILED:
        immediate = replace(rule, runs=1, of=1)
        decision = decide(immediate, incident, [EvidencePoint(run_id=0, at=now, evidence=True)], now=now)
        return replace(decision, reason=DecisionReason.UNDELIVERABLE) if decision.action is Action.OPEN else decision
    if incident is None or incident.state is IncidentState.RESOLVED:
        return _decision(rule, Action.NOTHING, DecisionReason.NO_EVIDENCE)
    return _decision(rule, Action.RESOLVE, _RESOLUTIONS[channel_event])


def other_channels(routed: Sequence[str], configured: Sequence[str], *, failing: Collection[str]) -> tuple[str, ...]:
    """Where to notify that a channel fails: the routed channels that work, else any that works, else the log.

    None if a channel called `log` is configured and fails like all others. `failing` includes the channel in question.
    """
    for choice in (routed, configured):
        if healthy := tuple(name for name in choice if name not in failing):
            return healthy
    return () if LOG_CHANNEL in failing else (LOG_CHANNEL,)
