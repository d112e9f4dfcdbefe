"""When the incident of a channel opens, is told again, and ends, and who is told of it. Pure.

It follows the rule of `channel_failing` as far as that makes sense without runs: severity, team and reminders.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from monitor.incidents.decide import Action, Decision, DecisionReason, EvidencePoint, decide
from monitor.incidents.rulebook import Rule
from monitor.model import Incident, IncidentState
from monitor.notifications.routing import LOG_CHANNEL


class ChannelEvent(StrEnum):
    """What was seen of a channel."""

    FAILED = "failed"
    """It was suspended, or a message to it became a dead letter for want of an answer."""
    DELIVERED = "delivered"
    REMOVED = "gone"
    """No channel of that name is configured any more."""


_RESOLUTIONS = {ChannelEvent.DELIVERED: DecisionReason.DELIVERED, ChannelEvent.REMOVED: DecisionReason.NOT_CONFIGURED}


def decide_channel(rule: Rule, incident: Incident | None, channel_event: ChannelEvent, *, now: datetime) -> Decision:
    """Decides about one channel.

    Args:
        rule: the rule in force for `channel_failing`; how many runs it asks for means nothing here.
        incident: the open incident of the channel, else the one resolved last, else None.
        sign: what was just seen.
        now: when (aware).
    """
    if channel_event is ChannelEvent.FAILED:
        begin_immediate = replace(rule, runs=1, of=1)
        decision = decide(begin_immediate, incident, [EvidencePoint(run_id=0, at=now, evidence=True)], now=now)
        return replace(decision, reason=DecisionReason.UNDELIVERABLE) if decision.action is Action.OPEN else decision
    if incident is None or incident.state is IncidentState.RESOLVED:
        return Decision(cause=rule.cause, action=Action.NOTHING, reason=DecisionReason.NO_EVIDENCE)
    return Decision(cause=rule.cause, action=Action.RESOLVE, reason=_RESOLUTIONS[channel_event])


def other_channels(routed: Sequence[str], configured: Sequence[str], *, failing: Collection[str]) -> tuple[str, ...]:
    """Who is told that a channel fails: those routed that do not fail, else any that do not, else the log.

    Args:
        routed: the channels that the routes name for the incident.
        configured: all channels.
        failing: names of the channels that fail, the one in question included.

    Returns:
        Their names; none when a channel that took the log's name fails like all others.
    """
    for choice in (routed, configured):
        if healthy := tuple(name for name in choice if name not in failing):
            return healthy
    return () if LOG_CHANNEL in failing else (LOG_CHANNEL,)
