"""What a decision about an incident leaves behind: its row, an event in its life, and messages in the outbox.

All of it goes into the caller's transaction. It decides nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from monitor.incidents import store as incident_store
from monitor.incidents.decide import Action, Decision, OperatorAction
from monitor.incidents.rulebook import Rule, rule_parameters, severity_of
from monitor.incidents.silences import apply_silences, describe_cause
from monitor.model import Evidence, Incident, IncidentState, Silence
from monitor.notifications import outbox
from monitor.notifications.messages import MessageKind, RunFacts, render
from monitor.notifications.routing import Attributes, attributes_of

Router = Callable[[Attributes], tuple[str, ...]]
"""Names the channels for an incident's attributes."""

_EVENTS: Mapping[Action, str] = {
    Action.OPEN: "opened",
    Action.REOPEN: "reopened",
    Action.UPDATE: "updated",
    Action.REMIND: "reminded",
    Action.ACKNOWLEDGE: "acknowledged",
    Action.RESOLVE: "resolved",
}

_KINDS: Mapping[Action, MessageKind] = {
    Action.OPEN: MessageKind.OPENED,
    Action.REOPEN: MessageKind.OPENED,
    Action.UPDATE: MessageKind.UPDATED,
    Action.REMIND: MessageKind.REMINDER,
    Action.ACKNOWLEDGE: MessageKind.ACKNOWLEDGED,
    Action.RESOLVE: MessageKind.RESOLVED,
}

_FOLLOW_UPS = frozenset({Action.UPDATE, Action.REMIND})

_NOTIFICATION_EVENTS = ("opened", "reopened", "updated", "reminded", "notified")
"""Events after which people know how it stands, unless `silenced` follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentRecorder:
    """The incidents of one target, as one transaction changes them."""

    conn: Connection
    target: str
    environment: str
    route: Router
    now: datetime
    run: RunFacts | None = None
    """The run behind the changes; None when no run is."""
    group_wait: timedelta = timedelta(0)
    """How long messages wait for others like them, so that one cause on many targets is one message."""
    silences: tuple[Silence, ...] = ()
    """Those in force."""

    def apply_silences(self, decision: Decision, incident: Incident) -> Decision:
        """The decision as the silences in force leave it; `incident` as it stands, or is about to be."""
        return apply_silences(decision, incident, self.silences, now=self.now)

    def new_incident(
        self, decision: Decision, rule: Rule, piece: Evidence, *, groups: tuple[str, ...] = ()
    ) -> Incident:
        """A new incident that is not stored yet (`id` 0) and addressed to nobody.

        Args:
            decision: to open it.
            rule: in force for the cause.
            piece: the evidence that opens it; its group is the incident's.
            groups: of the items that are about to join it.
        """
        return Incident(
            id=0,
            target=self.target,
            environment=self.environment,
            cause=decision.cause,
            group=piece.group,
            state=IncidentState.OPEN,
            severity=severity_of(rule, accepted=self.run is None or self.run.answered > 0),
            team=rule.team,
            opened_at=self.now,
            first_evidence_at=decision.first_evidence_at or self.now,
            last_evidence_at=self.now,
            peak_count=piece.count,
            groups=groups,
            evidence=piece,
        )

    def with_channels(self, incident: Incident, decision: Decision) -> Incident:
        """An incident that opens or reopens, with where that is told, or with the silence that keeps it back."""
        if decision.silence_id is not None:
            return replace(incident, silence_id=decision.silence_id, channels=())
        previous_channels = incident.channels
        channels = previous_channels or self.channels_for(incident)
        return replace(incident, silence_id=None, channels=channels, last_message_at=self.now)

    def channels_for(self, incident: Incident) -> tuple[str, ...]:
        """The channels that an incident is told on by the routes as they are now."""
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
        """Records what was decided and puts its messages into the outbox, where the decision has any.

        Args:
            decision: about the incident.
            incident: as it stands after it.
            rule: by which an opening was decided, to be kept with it.
            error: the last error, in our own words, for a cause that has one.
            word: of the person who decided it.
            kind: of the messages, where it is not the one that goes with the decision.
        """
        kind = kind or _KINDS.get(decision.action)
        if kind is not None:
            delayed = self._silenced_since(decision, incident)
            reason, data = _reason_and_data(decision, incident, rule, error, operator_action)
            self.add_event(
                incident.id, _EVENTS[decision.action], f"{reason} (kept back {delayed})" if delayed else reason, data
            )
            notes: tuple[tuple[str, str], ...] = (("kept back", delayed),) if delayed else ()
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
    ) -> None:
        """Puts a message about an incident into the outbox, one for each of its channels."""
        message = render(kind, incident, self.run, now=self.now, reopened=again, error=error, notes=notes)
        outbox.enqueue(self.conn, message, channels=incident.channels, now=self.now, wait=self.group_wait)

    def record_silenced(self, incident: Incident, silence_id: int) -> None:
        """Records that a silence keeps a message back: once, and not again in each run of a night."""
        last = self._last_notification_event(incident)
        if last is not None and last.kind == "silenced" and last.data.get("silence_id") == silence_id:
            return
        silence = next((each for each in self.silences if each.id == silence_id), None)
        reason = f"by {describe_cause(silence)}" if silence else f"by silence {silence_id}"
        self.add_event(incident.id, "silenced", reason, {"silence_id": silence_id})

    def _last_notification_event(self, incident: Incident) -> incident_store.IncidentEvent | None:
        return incident_store.last_event(self.conn, incident.id, kinds=(*_NOTIFICATION_EVENTS, "silenced"))

    def _silenced_since(self, decision: Decision, incident: Incident) -> str:
        """Why what repeats an opening comes so late, if a silence has kept it; else empty."""
        last = self._last_notification_event(incident) if decision.action in _FOLLOW_UPS else None
        if last is None or last.kind != "silenced":
            return ""
        return f"since {last.at:%Y-%m-%d %H:%M} UTC by silence {last.data.get('silence_id')}"

    def add_event(self, incident_id: int, kind: str, reason: str, data: Mapping[str, object]) -> None:
        """Records one step in an incident's life."""
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
    """The reason of a decision as its event tells it, and what else is kept with it."""
    reason = f"{decision.reason.value} {operator_action.reason}" if operator_action else decision.reason.value
    reason += f": {error}" if error else ""
    if decision.action is Action.RESOLVE and incident.silence_id is not None:
        reason = f"{reason} (nobody was told: silence {incident.silence_id} had kept the opening back)"
    data: dict[str, object] = {"channels": list(incident.channels)}
    data |= {"error": error} if error else {}
    data |= {"by": operator_action.by, "comment": operator_action.comment} if operator_action else {}
    data |= {"rule": rule_parameters(rule)} if rule else {}
    return reason, data
