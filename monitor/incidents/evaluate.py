"""What a finished run means for the incidents of its target: evidence, decisions and messages, in one transaction.

It fetches what the pure rules need, lets them decide, and writes incidents, events, members and notifications through
the store. The caller's transaction makes all of it one change, together with the snapshot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from monitor.incidents import members
from monitor.incidents import silence_store as silences
from monitor.incidents import store as evidence_store
from monitor.incidents import store as incident_store
from monitor.incidents import store as oversight
from monitor.incidents.decide import Action, Decision, Mark, decide, evolve
from monitor.incidents.evidence import attach, coverage, emptied, missed
from monitor.incidents.members import Patience
from monitor.incidents.membership import Roster
from monitor.incidents.recorder import Casebook, Router
from monitor.incidents.rulebook import Rule, witness
from monitor.model import (
    ITEM_CAUSES,
    MONITOR_CAUSES,
    REQUEST_CAUSES,
    Cause,
    Evidence,
    Incident,
    IncidentKey,
    IncidentState,
    RunStatus,
    SyncReport,
    rank,
)
from monitor.model.schedule import DueTimes
from monitor.notifications.messages import RunFacts
from monitor.notifications.texts import counted

_OPENINGS = frozenset({Action.OPEN, Action.REOPEN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a run did to one incident."""

    decision: Decision
    incident: Incident


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One run's judgement under way: everything that the decisions need, fetched once."""

    rules: Mapping[Cause, Rule]
    roster: Roster
    conn: Connection
    book: Casebook
    now: datetime
    seen: Mapping[IncidentKey, Evidence]
    evidence_ids: Mapping[IncidentKey, int]
    marks: Mapping[IncidentKey, Sequence[Mark]]
    current: Mapping[IncidentKey, Incident]
    member_counts: Mapping[int, int]
    """Members of each incident once the well ones have left, before anybody joins; those that have any."""

    def about_runs(self, key: IncidentKey) -> Change | None:
        """Decides about a cause without members."""
        decision = decide(self.rules[key[0]], self.current.get(key), self.marks[key], now=self.now)
        return self._carry_out(key, decision, members_now=0)

    def about_items(self, key: IncidentKey, *, may_resolve: bool) -> Change | None:
        """Decides about a cause with members; who is well has left already, who is not joins now."""
        incident, members_now = self._open(key), 0
        if incident is not None:
            joined = self._join(key, incident.id) if self._own(key) else 0
            incident = replace(incident, untold_count=incident.untold_count + joined)
            members_now = self.member_counts.get(incident.id, 0) + joined
        decision = decide(
            self.rules[key[0]],
            incident or self.current.get(key),
            self.marks[key],
            now=self.now,
            members=members_now,
            may_resolve=may_resolve,
        )
        return self._carry_out(key, decision, members_now=members_now, incident=incident)

    def _open(self, key: IncidentKey) -> Incident | None:
        incident = self.current.get(key)
        return None if incident is None or incident.state is IncidentState.RESOLVED else incident

    def _own(self, key: IncidentKey) -> bool:
        """Whether this run saw evidence for it; what a higher cause explains is not this incident's."""
        piece = self.seen.get(key)
        return piece is not None and piece.explained_by is None

    def _join(self, key: IncidentKey, incident_id: int) -> int:
        joined = self.roster.join(self.conn, self.seen[key], incident_id=incident_id, now=self.now)
        if joined:
            sample = list(self.seen[key].sample_ids)
            self.book.note(incident_id, "joined", f"{counted(joined)} joined", {"count": joined, "sample_ids": sample})
        return joined

    def _carry_out(
        self, key: IncidentKey, decision: Decision, *, members_now: int, incident: Incident | None = None
    ) -> Change | None:
        if decision.action in {Action.NOTHING, Action.WAIT, Action.MUTE}:
            return None
        before = incident or self.current.get(key)
        if decision.action is Action.OPEN:
            before = None
        subject = self._subject(key, decision, before, members_now)
        decision = self.book.hush(decision, subject)
        after = (
            self._open_new(key, decision, subject)
            if before is None
            else self._save(key, decision, subject, members_now)
        )
        after = self._with_breakdown(decision, incident_store.as_it_stands(self.conn, after))
        rule = self.rules[decision.cause] if decision.action in _OPENINGS else None
        self.book.tell(decision, after, rule=rule, error=self._last_error(decision.cause))
        return Change(decision=decision, incident=after)

    def _with_breakdown(self, decision: Decision, incident: Incident) -> Incident:
        """The opening of an outage tells of all the runs that led to it: the last may have sent next to nothing."""
        seen, since = incident.evidence, decision.first_evidence_at
        if incident.cause is not Cause.OUTAGE or seen is None or since is None or decision.action not in _OPENINGS:
            return incident
        summed = evidence_store.breakdown_since(self.conn, target=incident.target, key=incident.key, since=since)
        return replace(incident, evidence=replace(seen, breakdown=summed))

    def _subject(self, key: IncidentKey, decision: Decision, before: Incident | None, members_now: int) -> Incident:
        """What silences and routes look at: the incident with the groups of its items, those about to join included."""
        if before is None:
            piece, rule = self.seen[key], self.rules[decision.cause]
            return self.book.draft(decision, rule, piece, groups=self._groups(key))
        if decision.action is Action.REOPEN:
            return replace(before, groups=self._groups(key))
        if decision.action in {Action.UPDATE, Action.REMIND}:
            return incident_store.as_it_stands(self.conn, replace(before, member_count=members_now))
        return before

    def _groups(self, key: IncidentKey) -> tuple[str, ...]:
        return self.roster.groups(self.conn, key, now=self.now) if key[0] in ITEM_CAUSES else ()

    def _open_new(self, key: IncidentKey, decision: Decision, draft: Incident) -> Incident:
        addressed, evidence_id = self.book.addressed(draft, decision), self.evidence_ids[key]
        if key[0] in ITEM_CAUSES:
            addressed = replace(addressed, member_count=self.seen[key].count)  # who is about to join
        opened = replace(addressed, id=incident_store.open_new(self.conn, addressed, evidence_id=evidence_id))
        return self._with_members(opened)

    def _save(self, key: IncidentKey, decision: Decision, before: Incident, members_now: int) -> Incident:
        piece = self.seen.get(key)
        after = evolve(before, decision, now=self.now, evidence=piece, members=members_now)
        # it goes by the name that is configured now, or whoever delivers under that name would pass it over
        after = replace(after, environment=self.book.environment)
        if decision.action is Action.RESOLVE:
            members.detach(self.conn, incident_id=after.id)
        if decision.action is Action.REOPEN:
            after = self.book.addressed(after, decision)
        if self._own(key) or after != self.current[key]:
            incident_store.save(self.conn, after, evidence_id=self.evidence_ids[key] if self._own(key) else None)
        return self._with_members(after) if decision.action is Action.REOPEN else after

    def _with_members(self, incident: Incident) -> Incident:
        """Takes the items that opened it in, in case it is about items."""
        if incident.cause not in ITEM_CAUSES:
            return incident
        count = self._join(incident.key, incident.id)
        taken = replace(incident, member_count=count, peak_count=max(count, incident.peak_count))
        if taken != incident:
            incident_store.save(self.conn, taken)
        return taken

    def _last_error(self, cause: Cause) -> str | None:
        return self.book.run.error if self.book.run and cause is Cause.SYNC_LOG_UNREADABLE else None


_RUN_CAUSES = tuple(cause for cause in MONITOR_CAUSES if cause is not Cause.CHANNEL_FAILING)
"""What runs show about the monitor; channels are watched where messages are sent."""


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
    group_wait: timedelta = timedelta(0)
    """How long messages wait for those of other targets."""
    due_times: DueTimes | None = None
    """When its runs are due; None when nobody said so, and so none can be missed."""

    @property
    def roster(self) -> Roster:
        """Which of its items belong to which incident."""
        return Roster(target=self.target, rules=self.rules, patience=self.patience)

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
        current = incident_store.current(conn, target=self.target)
        # Before anything is counted: an item that went from one bad state to another must be free to join there.
        self.roster.let_go(conn, current.values(), run_id=facts.run_id, now=now, may_release=may_resolve)
        pieces = (*attach(seen, seen), *attach(self.roster.evidence(conn, now=now), seen))
        about_items = _keys_of_items(pieces, current)
        about_runs = [(cause, "") for cause in REQUEST_CAUSES]
        bench = self._bench(conn, facts, pieces, current, now, keys=[*about_runs, *about_items])
        changes = [bench.about_runs(key) for key in about_runs]
        changes += [bench.about_items(key, may_resolve=may_resolve) for key in about_items]
        return Verdict(evidence=pieces, changes=tuple(change for change in changes if change is not None))

    def judge_monitor(
        self,
        conn: Connection,
        *,
        facts: RunFacts,
        read: SyncReport | None,
        started_at: datetime,
        now: datetime,
        owners: Sequence[Evidence] = (),
    ) -> Verdict:
        """Judges what a run shows about the monitor itself, by the causes of which it is a witness.

        Args:
            conn: the closing transaction; items already carry this run's outcomes.
            facts: about the run.
            read: what reading the sync log brought; None when it could not be read.
            started_at: when the run started (aware).
            now: the end of the run (aware).
            owners: evidence of request causes, highest rank first, which may explain it.
        """
        pieces = attach(self._about_monitor(conn, facts, read, started_at), owners)
        current = incident_store.current(conn, target=self.target)
        keys = [(cause, "") for cause in _RUN_CAUSES if facts.status in witness(cause).statuses]
        bench = self._bench(conn, facts, pieces, current, now, keys=keys)
        changes = [bench.about_runs(key) for key in keys]
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
        previous = oversight.previous_run(conn, target=self.target, before=facts.run_id)
        if previous is None or self.due_times.is_news_to(previous.slot):
            return 0
        return self.due_times.missed(previous.started_at, started_at)

    def _bench(
        self,
        conn: Connection,
        facts: RunFacts,
        pieces: Sequence[Evidence],
        current: Mapping[IncidentKey, Incident],
        now: datetime,
        *,
        keys: Sequence[IncidentKey],
    ) -> Bench:
        ids = evidence_store.write(conn, target=self.target, run_id=facts.run_id, at=now, pieces=pieces)
        rules = [self.rules[cause] for cause, _ in keys]
        window = max(rule.window for rule in rules)
        at_least = max(max(rule.of, rule.resolve_after) for rule in rules)
        marks = evidence_store.marks(conn, target=self.target, keys=keys, since=now - window, at_least=at_least)
        book = Casebook(
            conn=conn,
            target=self.target,
            environment=self.environment,
            route=self.route,
            now=now,
            run=facts,
            wait=self.group_wait,
            silences=silences.in_force(conn, now=now),
        )
        return Bench(
            rules=self.rules,
            roster=self.roster,
            conn=conn,
            book=book,
            now=now,
            seen={piece.key: piece for piece in pieces},
            evidence_ids=ids,
            marks=marks,
            current=current,
            member_counts=members.counts(conn, target=self.target),
        )


def _keys_of_items(pieces: Sequence[Evidence], current: Mapping[IncidentKey, Incident]) -> list[IncidentKey]:
    """What is to be decided about items: each cause and group that a run saw or that has an open incident."""
    seen = [piece.key for piece in pieces]
    still_open = [key for key, incident in current.items() if incident.state is not IncidentState.RESOLVED]
    return sorted({key for key in (*seen, *still_open) if key[0] in ITEM_CAUSES}, key=lambda key: (rank(key[0]), key))
