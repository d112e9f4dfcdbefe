"""What a finished run means for the incidents of its target: evidence, decisions and messages, in one transaction.

It fetches what the pure rules need, lets them decide, and writes incidents, events, members and notifications through
the store. The caller's transaction makes all of it one change, together with the snapshot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from monitor.casebook import Casebook, Router
from monitor.health.evidence import SAMPLES, attach
from monitor.health.oversight import coverage, emptied, missed
from monitor.health.punctuality import DueTimes
from monitor.incidents.render import RunFacts
from monitor.incidents.rulebook import Rule
from monitor.incidents.rules import Action, Decision, Mark, decide, evolve
from monitor.incidents.witnesses import witness
from monitor.incidents.words import counted
from monitor.model import (
    ITEM_CAUSES,
    MONITOR_CAUSES,
    REQUEST_CAUSES,
    Cause,
    Evidence,
    Incident,
    IncidentState,
    RunStatus,
    SyncReport,
)
from monitor.store import evidence as evidence_store
from monitor.store import incidents as incident_store
from monitor.store import members, oversight, silences
from monitor.store.members import Patience

__all__ = ["Change", "Judge", "Verdict"]

_RUN_CAUSES = tuple(cause for cause in MONITOR_CAUSES if cause is not Cause.CHANNEL_FAILING)
"""What runs show about the monitor; channels are watched where messages are sent."""
_OPENINGS = frozenset({Action.OPEN, Action.REOPEN})


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
    """Judges the runs of one target."""

    target: str
    environment: str
    rules: Mapping[Cause, Rule]
    patience: Patience
    route: Router
    due_times: DueTimes | None = None
    """When its runs are due; None when nobody said so, and so none can be missed."""

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
        sick = (self._sick(conn, cause, now) for cause in ITEM_CAUSES)
        pieces = (*attach(seen, seen), *attach((piece for piece in sick if piece), seen))
        bench = self._bench(conn, facts, pieces, now, causes=(*REQUEST_CAUSES, *ITEM_CAUSES))
        changes = [bench.about_runs(cause) for cause in REQUEST_CAUSES]
        changes += [bench.about_items(cause, may_resolve=may_resolve) for cause in ITEM_CAUSES]
        return Verdict(evidence=pieces, changes=tuple(change for change in changes if change is not None))

    def judge_monitor(
        self, conn: Connection, *, facts: RunFacts, read: SyncReport | None, started_at: datetime, now: datetime
    ) -> Verdict:
        """Judges what a run shows about the monitor itself, by the causes of which it is a witness.

        Args:
            conn: the closing transaction; items already carry this run's outcomes.
            facts: about the run.
            read: what reading the sync log brought; None when it could not be read.
            started_at: when the run started (aware).
            now: the end of the run (aware).
        """
        pieces = self._about_monitor(conn, facts, read, started_at)
        causes = tuple(cause for cause in _RUN_CAUSES if facts.status in witness(cause).statuses)
        bench = self._bench(conn, facts, pieces, now, causes=causes)
        changes = [bench.about_runs(cause) for cause in causes]
        return Verdict(evidence=pieces, changes=tuple(change for change in changes if change is not None))

    def _about_monitor(
        self, conn: Connection, facts: RunFacts, read: SyncReport | None, started_at: datetime
    ) -> tuple[Evidence, ...]:
        late = missed(self._missed_runs(conn, facts, started_at))
        if read is None:
            unread = Evidence(cause=Cause.SYNC_LOG_UNREADABLE, count=1)
            return (unread, late) if late else (unread,)
        unknown = oversight.unknown_by_reason(conn, target=self.target)
        tracked_before = oversight.has_tracked(conn, target=self.target)
        pieces = (
            coverage(facts.status, total=facts.total, unknown=unknown),
            emptied(read, tracked_before=tracked_before),
            late,
        )
        return tuple(piece for piece in pieces if piece)

    def _missed_runs(self, conn: Connection, facts: RunFacts, started_at: datetime) -> int:
        if self.due_times is None:
            return 0
        previous = oversight.previous_start(conn, target=self.target, before=facts.run_id)
        return 0 if previous is None else self.due_times.missed(previous, started_at)

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

    def _sick(self, conn: Connection, cause: Cause, now: datetime) -> Evidence | None:
        return members.ailing(conn, target=self.target, cause=cause, now=now, patience=self.patience, samples=SAMPLES)

    def _bench(
        self, conn: Connection, facts: RunFacts, pieces: Sequence[Evidence], now: datetime, *, causes: Sequence[Cause]
    ) -> "_Bench":
        ids = evidence_store.write(conn, target=self.target, run_id=facts.run_id, at=now, pieces=pieces)
        window = max(self.rules[cause].window for cause in causes)
        at_least = max(max(self.rules[cause].of, self.rules[cause].resolve_after) for cause in causes)
        marks = evidence_store.marks(conn, target=self.target, causes=causes, since=now - window, at_least=at_least)
        book = Casebook(
            conn=conn,
            target=self.target,
            environment=self.environment,
            route=self.route,
            now=now,
            run=facts,
            silences=silences.in_force(conn, now=now),
        )
        return _Bench(
            judge=self,
            conn=conn,
            book=book,
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
    book: Casebook
    now: datetime
    seen: Mapping[Cause, Evidence]
    evidence_ids: Mapping[Cause, int]
    marks: Mapping[Cause, Sequence[Mark]]
    current: Mapping[Cause, Incident]

    def about_runs(self, cause: Cause) -> Change | None:
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
            self.book.note(incident_id, "joined", f"{counted(joined)} joined", {"count": joined, "sample_ids": sample})
        return joined

    def _carry_out(self, decision: Decision, *, members_now: int, incident: Incident | None = None) -> Change | None:
        if decision.action in {Action.NOTHING, Action.WAIT, Action.MUTE}:
            return None
        before = incident or self.current.get(decision.cause)
        if decision.action is Action.OPEN:
            before = None
        subject = self._subject(decision, before, members_now)
        decision = self.book.hush(decision, subject)
        after = self._open_new(decision, subject) if before is None else self._save(decision, subject, members_now)
        after = incident_store.as_it_stands(self.conn, after)
        rule = self.judge.rules[decision.cause] if decision.action in _OPENINGS else None
        self.book.tell(decision, after, rule=rule, error=self._last_error(decision.cause))
        return Change(decision=decision, incident=after)

    def _subject(self, decision: Decision, before: Incident | None, members_now: int) -> Incident:
        """What silences and routes look at: the incident with the groups of its items, those about to join included."""
        if before is None:
            piece, rule = self.seen[decision.cause], self.judge.rules[decision.cause]
            return self.book.draft(decision, rule, piece, groups=self._groups(decision.cause))
        if decision.action is Action.REOPEN:
            return replace(before, groups=self._groups(decision.cause))
        if decision.action in {Action.UPDATE, Action.REMIND}:
            return incident_store.as_it_stands(self.conn, replace(before, member_count=members_now))
        return before

    def _groups(self, cause: Cause) -> tuple[str, ...]:
        if cause not in ITEM_CAUSES:
            return ()
        judge = self.judge
        return members.loose_groups(self.conn, target=judge.target, cause=cause, now=self.now, patience=judge.patience)

    def _open_new(self, decision: Decision, draft: Incident) -> Incident:
        addressed, evidence_id = self.book.addressed(draft, decision), self.evidence_ids[decision.cause]
        opened = replace(addressed, id=incident_store.open_new(self.conn, addressed, evidence_id=evidence_id))
        return self._with_members(opened)

    def _save(self, decision: Decision, before: Incident, members_now: int) -> Incident:
        piece = self.seen.get(decision.cause)
        after = evolve(before, decision, now=self.now, evidence=piece, members=members_now)
        if decision.action is Action.RESOLVE:
            members.detach(self.conn, incident_id=after.id)
        if decision.action is Action.REOPEN:
            after = self.book.addressed(after, decision)
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

    def _last_error(self, cause: Cause) -> str | None:
        return self.book.run.error if self.book.run and cause is Cause.SYNC_LOG_UNREADABLE else None
