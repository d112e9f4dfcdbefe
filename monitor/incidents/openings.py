"""The incident that an opening makes, its channels, and what decisions send. Pure: runs and backtests share it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from monitor.incidents.decide import Action, Decision
from monitor.incidents.rulebook import Rule, severity_of
from monitor.model import Evidence, Incident, IncidentState
from monitor.notifications.messages import MessageKind
from monitor.notifications.routing import LOG_CHANNEL, Attributes, attributes_of

Router = Callable[[Attributes], tuple[str, ...]]

MESSAGE_KINDS: Mapping[Action, MessageKind] = {
    Action.OPEN: MessageKind.OPENED,
    Action.REOPEN: MessageKind.OPENED,
    Action.UPDATE: MessageKind.UPDATED,
    Action.REMIND: MessageKind.REMINDER,
    Action.ACKNOWLEDGE: MessageKind.ACKNOWLEDGED,
    Action.RESOLVE: MessageKind.RESOLVED,
}
"""The kind of the message that a decision sends; no decision but these sends one."""


def new_incident(
    decision: Decision,
    rule: Rule,
    piece: Evidence,
    *,
    target: str,
    environment: str,
    accepted: bool | None,
    now: datetime,
    groups: tuple[str, ...] = (),
) -> Incident:
    """A new incident, not stored yet (`id` 0) and without channels; `groups` are those of its future members.

    `accepted`: whether the API accepted anything in the run that opens it; None: no run opens it.
    """
    return Incident(
        id=0,
        target=target,
        environment=environment,
        cause=decision.cause,
        group=piece.group,
        state=IncidentState.OPEN,
        severity=severity_of(rule, accepted=accepted is None or accepted),
        team=rule.team,
        accepted=accepted,
        opened_at=now,
        first_evidence_at=decision.first_evidence_at or now,
        last_evidence_at=now,
        peak_count=piece.count,
        groups=groups,
        evidence=piece,
    )


def with_channels(incident: Incident, decision: Decision, route: Router, *, now: datetime) -> Incident:
    """An incident that opens or reopens, with its channels, or with the silence that prevents the notification."""
    if decision.silence_id is not None:
        return replace(incident, silence_id=decision.silence_id, channels=())
    # an opening that only the fallback log took is not tied to it
    known = () if incident.channels == (LOG_CHANNEL,) else incident.channels
    channels = known or route(attributes_of(incident))
    return replace(incident, silence_id=None, channels=channels, last_message_at=now)
