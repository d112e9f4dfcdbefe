"""Records a decision about an incident: an event, and messages in the outbox, in the caller's transaction.

It decides nothing. The incident's row is saved by the caller.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Connection

from monitor.incidents import store as incident_store
from monitor.incidents.decide import FOLLOW_UPS, Action, Decision, OperatorAction
from monitor.incidents.openings import MESSAGE_KINDS, Router, new_incident, with_channels
from monitor.incidents.rulebook import Rule, rule_parameters
from monitor.incidents.silences import apply_silences, describe_silence
from monitor.model import Cause, Evidence, Incident, Severity, Silence
from monitor.notifications import outbox
from monitor.notifications.messages import SILENCED_LABEL, MessageKind, RunFacts, render
from monitor.notifications.routing import attributes_of
from monitor.notifications.trend import RunCounts, has_trend, trend_text

EVENT_KINDS: Mapping[Action, str] = {
    Action.OPEN: "opened",
    Action.REOPEN: "reopened",
    Action.UPDATE: "updated",
    Action.REMIND: "reminded",
    Action.ACKNOWLEDGE: "acknowledged",
    Action.RESOLVE: "resolved",
}

NOTIFICATION_EVENTS = ("opened", "reopened", "updated", "reminded", "notified", "silenced")
"""Events that send a notification, or say that it was silenced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LateOpenings:
    """What notifies of openings after the run: it knows the routes of every target in one environment."""

    environment: str
    route: Router
    channel_router: Callable[[Connection], Router]
    """The router of `channel_failing` incidents, which leaves out failing channels. It locks the incidents of channels,
    so it is called first: the order that all writers use.
    """

    def recorder(
        self, conn: Connection, incident: Incident, channel_router: Router, *, now: datetime, active: Sequence[Silence]
    ) -> "IncidentRecorder":
        """The recorder of one incident; `active` are the silences of this moment."""
        return IncidentRecorder(
            conn=conn,
            target=incident.target,
            environment=self.environment,
            route=channel_router if incident.cause is Cause.CHANNEL_FAILING else self.route,
            now=now,
            silences=tuple(active),
        )


class IncidentRecorder(msgspec.Struct, frozen=True, kw_only=True):
    """Records what one transaction does to the incidents of one target."""

    conn: Connection
    target: str
    environment: str
    route: Router
    now: datetime
    run: RunFacts | None = None
    group_wait: timedelta = timedelta(0)
    """How long messages wait for similar ones, so that one cause on many targets makes one message."""
    silences: tuple[Silence, ...] = ()
    recent: list[Sequence[RunCounts]] = msgspec.field(default_factory=list)
    """The counts of the target's newest runs, read once, for the first message that shows their trend."""

    def apply_silences(self, decision: Decision, incident: Incident) -> Decision:
        """The decision after silences; see `silences.apply_silences`."""
        return apply_silences(decision, incident, self.silences, now=self.now)

    def new_incident(
        self, decision: Decision, rule: Rule, piece: Evidence, *, groups: tuple[str, ...] = ()
    ) -> Incident:
        """A new incident, not stored yet (`id` 0) and without channels; `groups` are those of its future members."""
        return new_incident(
            decision,
            rule,
            piece,
            target=self.target,
            environment=self.environment,
            accepted=None if self.run is None else self.run.any_accepted,
            now=self.now,
            groups=groups,
        )

    def with_channels(self, incident: Incident, decision: Decision) -> Incident:
        """An incident that opens or reopens, with its channels, or with the silence that prevents the notification."""
        return with_channels(incident, decision, self.route, now=self.now)

    def escalated(self, incident: Incident, severity: Severity) -> Incident:
        """An open incident of a higher severity, with the channels that the routes add for it."""
        raised = replace(incident, severity=severity)
        return replace(raised, channels=tuple(dict.fromkeys((*incident.channels, *self.channels_for(raised)))))

    def channels_for(self, incident: Incident) -> tuple[str, ...]:
        """The channels of an incident by the present routes."""
        return self.route(attributes_of(incident))

    def record(
        self,
        decision: Decision,
        incident: Incident,
        *,
        rule: Rule | None = None,
        error: str | None = None,
        operator_action: OperatorAction | None = None,
        kind: MessageKind | None = None,
    ) -> None:
        """Records a decision about an incident, given as it is afterwards, and enqueues its messages, if it has any."""
        kind = kind or MESSAGE_KINDS.get(decision.action)
        if kind is not None:
            delayed = self._silenced_since(decision, incident)
            reason, data = _reason_and_data(decision, incident, rule, error, operator_action)
            self.add_event(
                incident.id, EVENT_KINDS[decision.action], f"{reason} (silenced {delayed})" if delayed else reason, data
            )
            notes: tuple[tuple[str, str], ...] = ((SILENCED_LABEL, delayed),) if delayed else ()
            if operator_action is not None:
                notes = (
                    operator_action.resolution_facts
                    if decision.action is Action.RESOLVE
                    else operator_action.comment_facts
                )
            self.enqueue(kind, incident, again=decision.action is Action.REOPEN, error=error, notes=notes)
        if decision.silence_id is not None:
            self.record_silenced(incident, decision.silence_id)

    def enqueue(
        self,
        kind: MessageKind,
        incident: Incident,
        *,
        again: bool = False,
        error: str | None = None,
        notes: tuple[tuple[str, str], ...] = (),
        first_look: bool = False,
    ) -> None:
        """Puts a message into the outbox for each channel of an incident; of a first look even after the first run."""
        if not incident.channels:
            return
        message = render(
            kind,
            incident,
            self.run,
            now=self.now,
            reopened=again,
            error=error,
            notes=notes,
            trend=self._trend(incident),
        )
        message = replace(message, first_look=first_look or message.first_look)
        outbox.enqueue(self.conn, message, channels=incident.channels, now=self.now, wait=self.group_wait)

    def _trend(self, incident: Incident) -> str:
        """The trend of what an incident is about; empty for one group, since snapshots count the whole target."""
        if incident.group or not has_trend(incident.cause):
            return ""
        if not self.recent:
            self.recent.append(incident_store.recent_counts(self.conn, target=self.target, now=self.now))
        return trend_text(incident.cause, self.recent[0])

    def record_silenced(self, incident: Incident, silence_id: int) -> None:
        """Records that a silence prevents a notification, once per silence and not once per run."""
        last = self._last_notification_event(incident)
        if last is not None and last.kind == "silenced" and last.data.get("silence_id") == silence_id:
            return
        silence = next((each for each in self.silences if each.id == silence_id), None)
        reason = f"by {describe_silence(silence)}" if silence else f"by silence {silence_id}"
        self.add_event(incident.id, "silenced", reason, {"silence_id": silence_id})

    def _last_notification_event(self, incident: Incident) -> incident_store.IncidentEvent | None:
        return incident_store.last_event(self.conn, incident.id, kinds=NOTIFICATION_EVENTS)

    def _silenced_since(self, decision: Decision, incident: Incident) -> str:
        """For an update or reminder that a silence delayed, since when; else empty."""
        last = self._last_notification_event(incident) if decision.action in FOLLOW_UPS else None
        if last is None or last.kind != "silenced":
            return ""
        return f"since {last.at:%Y-%m-%d %H:%M} UTC by silence {last.data.get('silence_id')}"

    def add_event(self, incident_id: int, kind: str, reason: str, data: Mapping[str, object]) -> None:
        """Records an event of an incident."""
        incident_store.add_event(
            self.conn,
            incident_id=incident_id,
            run_id=self.run.run_id if self.run else None,
            at=self.now,
            kind=kind,
            reason=reason,
            data=data,
        )


def _reason_and_data(
    decision: Decision, incident: Incident, rule: Rule | None, error: str | None, operator_action: OperatorAction | None
) -> tuple[str, dict[str, object]]:
    """The text and the data of a decision's event."""
    reason = f"{decision.reason_text} {operator_action.reason}" if operator_action else decision.reason_text
    reason += f": {error}" if error else ""
    if decision.action is Action.RESOLVE and incident.silence_id is not None:
        reason = f"{reason} (never notified, because of silence {incident.silence_id})"
    data: dict[str, object] = {"channels": list(incident.channels)}
    data |= {"error": error} if error else {}
    data |= {"by": operator_action.by, "comment": operator_action.comment} if operator_action else {}
    data |= {"rule": rule_parameters(rule)} if rule else {}
    return reason, data
