"""What a decision about an incident leaves behind: its row, an event in its life, and messages in the outbox.

All of it goes into the caller's transaction. It decides nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from monitor.incidents.matching import Attributes, attributes_of
from monitor.incidents.message import MessageKind
from monitor.incidents.render import RunFacts, render
from monitor.incidents.rulebook import Rule, severity_of
from monitor.incidents.rules import Action, Decision
from monitor.model import Evidence, Incident, IncidentState
from monitor.store import incidents as incident_store
from monitor.store import outbox

__all__ = ["Casebook", "Router"]

Router = Callable[[Attributes], tuple[str, ...]]
"""Names the channels for an incident's attributes."""

_EVENTS: Mapping[Action, str] = {
    Action.OPEN: "opened",
    Action.REOPEN: "reopened",
    Action.UPDATE: "updated",
    Action.REMIND: "reminded",
    Action.RESOLVE: "resolved",
}

_KINDS: Mapping[Action, MessageKind] = {
    Action.OPEN: MessageKind.OPENED,
    Action.REOPEN: MessageKind.OPENED,
    Action.UPDATE: MessageKind.UPDATED,
    Action.REMIND: MessageKind.REMINDER,
    Action.RESOLVE: MessageKind.RESOLVED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Casebook:
    """The incidents of one target, as one transaction changes them."""

    conn: Connection
    target: str
    environment: str
    route: Router
    now: datetime
    run: RunFacts | None = None
    """The run behind the changes; None when no run is."""
    wait: timedelta = timedelta(0)
    """How long messages wait for others like them, so that one cause on many targets is one message."""

    def draft(self, decision: Decision, rule: Rule, piece: Evidence, *, groups: tuple[str, ...] = ()) -> Incident:
        """A new incident that is not stored yet (`id` 0), with the channels that its opening goes to.

        Args:
            decision: to open it.
            rule: in force for the cause.
            piece: the evidence that opens it; its group is the incident's.
            groups: of the items that are about to join it.
        """
        incident = Incident(
            id=0,
            target=self.target,
            environment=self.environment,
            cause=decision.cause,
            group=piece.group,
            groups=groups,
            state=IncidentState.OPEN,
            severity=severity_of(rule, accepted=self.run is None or self.run.answered > 0),
            team=rule.team,
            opened_at=self.now,
            first_evidence_at=decision.first_evidence_at or self.now,
            last_evidence_at=self.now,
            last_message_at=self.now,
            peak_count=piece.count,
            evidence=piece,
        )
        return replace(incident, channels=self.channels_for(incident))

    def channels_for(self, incident: Incident) -> tuple[str, ...]:
        """The channels that an incident is told on by the routes as they are now."""
        return self.route(attributes_of(incident))

    def tell(self, decision: Decision, incident: Incident, *, error: str | None = None) -> None:
        """Records what was decided and puts its messages into the outbox, where the decision has any.

        Args:
            decision: about the incident.
            incident: as it stands after it.
            error: the last error, in our own words, for a cause that has one.
        """
        kind = _KINDS.get(decision.action)
        if kind is None:
            return
        told = {"channels": list(incident.channels), **({"error": error} if error else {})}
        reason = f"{decision.why.value}: {error}" if error else decision.why.value
        self.note(incident.id, _EVENTS[decision.action], reason, told)
        again = decision.action is Action.REOPEN
        message = render(kind, incident, self.run, now=self.now, again=again, error=error)
        outbox.put(self.conn, message, channels=incident.channels, now=self.now, wait=self.wait)

    def note(self, incident_id: int, kind: str, reason: str, data: Mapping[str, object]) -> None:
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
