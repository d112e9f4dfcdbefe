"""What a decision about an incident leaves behind: its row, an event in its life, and messages in the outbox.

All of it goes into the caller's transaction. It decides nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from monitor.incidents import store as incident_store
from monitor.incidents.decide import Action, Decision, Word
from monitor.incidents.rulebook import Rule, numbers_of, severity_of
from monitor.incidents.silences import hush, in_words
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

_REPEATS = frozenset({Action.UPDATE, Action.REMIND})

_TOLD = ("opened", "reopened", "updated", "reminded", "told")
"""Events after which people know how it stands, unless `silenced` follows."""


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
    silences: tuple[Silence, ...] = ()
    """Those in force."""

    def hush(self, decision: Decision, incident: Incident) -> Decision:
        """The decision as the silences in force leave it; `incident` as it stands, or is about to be."""
        return hush(decision, incident, self.silences, now=self.now)

    def draft(self, decision: Decision, rule: Rule, piece: Evidence, *, groups: tuple[str, ...] = ()) -> Incident:
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

    def addressed(self, incident: Incident, decision: Decision) -> Incident:
        """An incident that opens or reopens, with where that is told, or with the silence that keeps it back."""
        if decision.silence_id is not None:
            return replace(incident, silence_id=decision.silence_id, channels=())
        told_before = incident.channels
        channels = told_before or self.channels_for(incident)
        return replace(incident, silence_id=None, channels=channels, last_message_at=self.now)

    def channels_for(self, incident: Incident) -> tuple[str, ...]:
        """The channels that an incident is told on by the routes as they are now."""
        return self.route(attributes_of(incident))

    def tell(
        self,
        decision: Decision,
        incident: Incident,
        *,
        rule: Rule | None = None,
        error: str | None = None,
        word: Word | None = None,
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
            late = self._kept_back(decision, incident)
            reason, data = _account(decision, incident, rule, error, word)
            self.note(incident.id, _EVENTS[decision.action], f"{reason} (kept back {late})" if late else reason, data)
            notes: tuple[tuple[str, str], ...] = (("kept back", late),) if late else ()
            if word is not None:
                notes = word.facts if decision.action is Action.RESOLVE else word.remark
            self.send(kind, incident, again=decision.action is Action.REOPEN, error=error, notes=notes)
        if decision.silence_id is not None:
            self.keep_back(incident, decision.silence_id)

    def send(
        self,
        kind: MessageKind,
        incident: Incident,
        *,
        again: bool = False,
        error: str | None = None,
        notes: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Puts a message about an incident into the outbox, one for each of its channels."""
        message = render(kind, incident, self.run, now=self.now, again=again, error=error, notes=notes)
        outbox.put(self.conn, message, channels=incident.channels, now=self.now, wait=self.wait)

    def keep_back(self, incident: Incident, silence_id: int) -> None:
        """Records that a silence keeps a message back: once, and not again in each run of a night."""
        last = self._last_said(incident)
        if last is not None and last.kind == "silenced" and last.data.get("silence_id") == silence_id:
            return
        silence = next((each for each in self.silences if each.id == silence_id), None)
        reason = f"by {in_words(silence)}" if silence else f"by silence {silence_id}"
        self.note(incident.id, "silenced", reason, {"silence_id": silence_id})

    def _last_said(self, incident: Incident) -> incident_store.IncidentEvent | None:
        return incident_store.last_step(self.conn, incident.id, kinds=(*_TOLD, "silenced"))

    def _kept_back(self, decision: Decision, incident: Incident) -> str:
        """Why what repeats an opening comes so late, if a silence has kept it; else empty."""
        last = self._last_said(incident) if decision.action in _REPEATS else None
        if last is None or last.kind != "silenced":
            return ""
        return f"since {last.at:%Y-%m-%d %H:%M} UTC by silence {last.data.get('silence_id')}"

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


def _account(
    decision: Decision, incident: Incident, rule: Rule | None, error: str | None, word: Word | None
) -> tuple[str, dict[str, object]]:
    """The reason of a decision as its event tells it, and what else is kept with it."""
    reason = f"{decision.why.value} {word.reason}" if word else decision.why.value
    reason += f": {error}" if error else ""
    if decision.action is Action.RESOLVE and incident.silence_id is not None:
        reason = f"{reason} (nobody was told: silence {incident.silence_id} had kept the opening back)"
    data: dict[str, object] = {"channels": list(incident.channels)}
    data |= {"error": error} if error else {}
    data |= {"by": word.by, "comment": word.comment} if word else {}
    data |= {"rule": numbers_of(rule)} if rule else {}
    return reason, data
