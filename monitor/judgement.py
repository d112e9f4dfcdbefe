"""What a finished run means for the incidents of its target: evidence, decisions and messages, in one transaction.

It fetches what the pure rules need, lets them decide, and writes incidents, events, members and notifications through
the store. The caller's transaction makes all of it one change, together with the snapshot.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from monitor.health.evidence import SAMPLES, attach
from monitor.incidents.message import MessageKind
from monitor.incidents.render import RunFacts, render
from monitor.incidents.rulebook import Rule
from monitor.incidents.rules import Action, Decision, Mark, decide, evolve
from monitor.incidents.words import counted
from monitor.model import ITEM_CAUSES, REQUEST_CAUSES, Cause, Evidence, Incident, IncidentState, RunStatus
from monitor.store import evidence as evidence_store
from monitor.store import incidents as incident_store
from monitor.store import members, outbox
from monitor.store.members import Patience

__all__ = ["Change", "Judge", "Verdict"]

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
class Change:
    """What a run did to one incident."""

    decision: Decision
    incident: Incident


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a run means: its evidence, highest cause first, and the incidents that it touched."""

    evidence: tuple[Evidence, ...] = ()
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Judges the runs of one target.

    `route` names the channels for an incident's attributes (team, cause, target, severity, environment).
    """

    target: str
    environment: str
    rules: Mapping[Cause, Rule]
    patience: Patience
    route: Callable[[Mapping[str, str]], tuple[str, ...]]

    def judge(
        self, conn: Connection, *, facts: RunFacts, seen: Sequence[Evidence], now: datetime, log_empty: bool
    ) -> Verdict:
        """Judges a run that asked the API.

        Args:
            conn: the closing transaction; items already carry this run's outcomes.
            facts: about the run.
            seen: evidence of request causes, highest rank first.
            now: the end of the run (aware).
            log_empty: whether the sync log held no id: then nothing is resolved.
        """
        may_resolve = facts.status is RunStatus.COMPLETE and not log_empty
        # Before anything is counted: an item that went from one bad state to another must be free to join there.
        for incident in incident_store.current(conn, target=self.target).values():
            if incident.cause in ITEM_CAUSES and incident.state is not IncidentState.RESOLVED:
                self._let_go(conn, incident, facts, now, may_release=may_resolve)
        sick = [self._sick(conn, cause, now) for cause in ITEM_CAUSES]
        pieces = (*attach(seen, seen), *attach((piece for piece in sick if piece.count), seen))
        bench = self._bench(conn, facts, pieces, now, causes=(*REQUEST_CAUSES, *ITEM_CAUSES))
        changes = [bench.about_requests(cause) for cause in REQUEST_CAUSES]
        changes += [bench.about_items(cause, may_resolve=may_resolve) for cause in ITEM_CAUSES]
        return Verdict(evidence=pieces, changes=tuple(change for change in changes if change is not None))

    def judge_monitor(
        self, conn: Connection, *, facts: RunFacts, cause: Cause, seen: Evidence | None, now: datetime
    ) -> Verdict:
        """Judges one cause about the monitor itself, for a run with evidence of it (`seen`) or without."""
        pieces = (seen,) if seen else ()
        change = self._bench(conn, facts, pieces, now, causes=(cause,), unread=True).about_requests(cause)
        return Verdict(evidence=pieces, changes=(change,) if change else ())

    def _let_go(
        self, conn: Connection, incident: Incident, facts: RunFacts, now: datetime, *, may_release: bool
    ) -> None:
        left = members.leave(conn, incident_id=incident.id, cause=incident.cause, now=now, patience=self.patience)
        left += members.release(conn, incident_id=incident.id) if may_release else 0
        if left:
            incident_store.add_event(
                conn,
                incident_id=incident.id,
                run_id=facts.run_id,
                at=now,
                kind="left",
                reason=f"{counted(left)} no longer in that state, or no longer tracked",
                data={"count": left},
            )

    def _sick(self, conn: Connection, cause: Cause, now: datetime) -> Evidence:
        count, ids = members.ailing(
            conn, target=self.target, cause=cause, now=now, patience=self.patience, samples=SAMPLES
        )
        return Evidence(cause=cause, count=count, sample_ids=ids)

    def _bench(
        self,
        conn: Connection,
        facts: RunFacts,
        pieces: Sequence[Evidence],
        now: datetime,
        *,
        causes: Sequence[Cause],
        unread: bool = False,
    ) -> "_Bench":
        ids = evidence_store.write(conn, target=self.target, run_id=facts.run_id, at=now, pieces=pieces)
        window = max(self.rules[cause].window for cause in causes)
        at_least = max(max(self.rules[cause].of, self.rules[cause].resolve_after) for cause in causes)
        marks = evidence_store.marks(
            conn, target=self.target, causes=causes, since=now - window, at_least=at_least, unread=unread
        )
        return _Bench(
            judge=self,
            conn=conn,
            facts=facts,
            now=now,
            seen={piece.cause: piece for piece in pieces},
            evidence_ids=ids,
            marks=marks,
            current=incident_store.current(conn, target=self.target),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """One run's judgement under way: everything that the decisions need, fetched once."""

    judge: Judge
    conn: Connection
    facts: RunFacts
    now: datetime
    seen: Mapping[Cause, Evidence]
    evidence_ids: Mapping[Cause, int]
    marks: Mapping[Cause, Sequence[Mark]]
    current: Mapping[Cause, Incident]

    def about_requests(self, cause: Cause) -> Change | None:
        decision = decide(self.judge.rules[cause], self.current.get(cause), self.marks[cause], now=self.now)
        return self._carry_out(decision, members_now=0)

    def about_items(self, cause: Cause, *, may_resolve: bool) -> Change | None:
        """Decides about a cause with members; who is well has left already, who is not joins now."""
        incident = self._open(cause)
        if incident is not None:
            joined = 0 if self._explained(cause) else self._join(cause, incident.id)
            incident = replace(incident, untold_count=incident.untold_count + joined)
        members_now = members.count(self.conn, incident_id=incident.id) if incident else 0
        decision = decide(
            self.judge.rules[cause],
            incident or self.current.get(cause),
            self.marks[cause],
            now=self.now,
            members=members_now,
            may_resolve=may_resolve,
        )
        return self._carry_out(decision, members_now=members_now, incident=incident)

    def _open(self, cause: Cause) -> Incident | None:
        incident = self.current.get(cause)
        return None if incident is None or incident.state is IncidentState.RESOLVED else incident

    def _explained(self, cause: Cause) -> bool:
        piece = self.seen.get(cause)
        return piece is not None and piece.explained_by is not None

    def _join(self, cause: Cause, incident_id: int) -> int:
        joined = members.join(
            self.conn,
            target=self.judge.target,
            cause=cause,
            incident_id=incident_id,
            now=self.now,
            patience=self.judge.patience,
        )
        if joined:
            sample = list(self.seen[cause].sample_ids) if cause in self.seen else []
            self._event(incident_id, "joined", f"{counted(joined)} joined", {"count": joined, "sample_ids": sample})
        return joined

    def _carry_out(self, decision: Decision, *, members_now: int, incident: Incident | None = None) -> Change | None:
        if decision.action in {Action.NOTHING, Action.WAIT, Action.MUTE}:
            return None
        before = incident or self.current.get(decision.cause)
        if decision.action is Action.OPEN or before is None:
            after = self._open_new(decision)
        else:
            after = self._save(decision, before, members_now)
        after = replace(after, member_ids=members.first_ids(self.conn, incident_id=after.id))
        self._tell(decision, after)
        return Change(decision=decision, incident=after)

    def _open_new(self, decision: Decision) -> Incident:
        piece, rule = self.seen[decision.cause], self.judge.rules[decision.cause]
        draft = Incident(
            id=0,
            target=self.judge.target,
            environment=self.judge.environment,
            cause=decision.cause,
            state=IncidentState.OPEN,
            severity=rule.severity,
            team=rule.team,
            opened_at=self.now,
            first_evidence_at=decision.first_evidence_at or self.now,
            last_evidence_at=self.now,
            last_message_at=self.now,
            peak_count=piece.count,
            evidence=piece,
        )
        draft = replace(draft, channels=self._route(draft))
        evidence_id = self.evidence_ids[decision.cause]
        opened = replace(draft, id=incident_store.open_new(self.conn, draft, evidence_id=evidence_id))
        return self._with_members(opened)

    def _save(self, decision: Decision, before: Incident, members_now: int) -> Incident:
        piece = self.seen.get(decision.cause)
        after = evolve(before, decision, now=self.now, evidence=piece, members=members_now)
        if decision.action is Action.RESOLVE:
            members.detach(self.conn, incident_id=after.id)
        # Evidence that a higher cause explains is not this incident's.
        own = piece is not None and piece.explained_by is None
        incident_store.save(self.conn, after, evidence_id=self.evidence_ids[decision.cause] if own else None)
        return self._with_members(after) if decision.action is Action.REOPEN else after

    def _with_members(self, incident: Incident) -> Incident:
        """Takes the items that opened it in, in case it is about items."""
        if incident.cause not in ITEM_CAUSES:
            return incident
        count = self._join(incident.cause, incident.id)
        taken = replace(incident, member_count=count, peak_count=max(count, incident.peak_count))
        incident_store.save(self.conn, taken)
        return taken

    def _tell(self, decision: Decision, incident: Incident) -> None:
        kind = _KINDS.get(decision.action)
        if kind is None:
            return
        self._event(incident.id, _EVENTS[decision.action], decision.why.value, {"channels": list(incident.channels)})
        again = decision.action is Action.REOPEN
        message = render(kind, incident, self.facts, now=self.now, again=again)
        outbox.put(self.conn, message, channels=incident.channels, now=self.now)

    def _route(self, incident: Incident) -> tuple[str, ...]:
        return self.judge.route(
            {
                "team": incident.team.value,
                "cause": incident.cause.value,
                "target": incident.target,
                "severity": incident.severity.value,
                "environment": incident.environment,
            }
        )

    def _event(self, incident_id: int, kind: str, reason: str, data: Mapping[str, object]) -> None:
        incident_store.add_event(
            self.conn,
            incident_id=incident_id,
            run_id=self.facts.run_id,
            at=self.now,
            kind=kind,
            reason=reason,
            data=data,
        )
