"""One run's judgement under way: each decision about an incident is made, and carried out at once.

It works in the transaction that closes the run, on what `judgement` fetched for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from monitor.casebook import Casebook
from monitor.incidents.rulebook import Rule
from monitor.incidents.rules import Action, Decision, Mark, decide, evolve
from monitor.incidents.words import counted
from monitor.model import ITEM_CAUSES, Cause, Evidence, Incident, IncidentKey, IncidentState
from monitor.roster import Roster
from monitor.store import evidence as evidence_store
from monitor.store import incidents as incident_store
from monitor.store import members

__all__ = ["Bench", "Change"]

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
