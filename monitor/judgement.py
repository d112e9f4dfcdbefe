"""What a finished run means for the incidents of its target: evidence, decisions and messages, in one transaction.

It fetches what the pure rules need, lets them decide, and writes incidents, events, members and notifications through
the store. The caller's transaction makes all of it one change, together with the snapshot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from monitor.bench import Bench, Change
from monitor.casebook import Casebook, Router
from monitor.health.evidence import attach
from monitor.health.oversight import coverage, emptied, missed
from monitor.health.punctuality import DueTimes
from monitor.incidents.render import RunFacts
from monitor.incidents.rulebook import Rule
from monitor.incidents.witnesses import witness
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
from monitor.roster import Roster
from monitor.store import evidence as evidence_store
from monitor.store import incidents as incident_store
from monitor.store import members, oversight, silences
from monitor.store.members import Patience

__all__ = ["Judge", "Verdict"]

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
