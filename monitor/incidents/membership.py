"""Which items belong to which incident of a target: who leaves, who joins, and what those are evidence of that no
incident has.

It is called in the transaction that closes a run and decides about no incident. What it needs of a rule is whether it
keeps one incident for the target or one per group.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from monitor.incidents import members
from monitor.incidents import store as incident_store
from monitor.incidents.evidence import MAX_SAMPLES
from monitor.incidents.members import AgeLimits
from monitor.incidents.rulebook import GroupBy, Rule
from monitor.model import ITEM_CAUSES, Cause, Evidence, Incident, IncidentKey, IncidentState
from monitor.notifications.texts import format_items


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """The items of one target, and the incidents that they belong to."""

    target: str
    rules: Mapping[Cause, Rule]
    age_limits: AgeLimits

    def release(
        self, conn: Connection, incidents: Iterable[Incident], *, run_id: int, now: datetime, remove_untracked: bool
    ) -> None:
        """Lets members of open incidents go that are well, and those that are not tracked any more.

        An incident is done with its members one by one, also where its rule keeps another kind of incidents by now:
        what was opened for the whole target, or for a group, lives on until they are well.

        Args:
            conn: the closing transaction; items already carry the run's outcomes.
            incidents: of the target; those that are not open, or not about items, are passed over.
            run_id: the run.
            now: its end (aware).
            may_release: whether it saw that items left the sync log.
        """
        concerned = [
            each for each in incidents if each.cause in ITEM_CAUSES and each.state is not IncidentState.RESOLVED
        ]
        # One question per cause: of very many groups, few have anybody to let go.
        removed = {
            cause: self._incidents_losing_members(conn, cause, now, remove_untracked=remove_untracked)
            for cause in {each.cause for each in concerned}
        }
        for incident in concerned:
            if incident.id in removed[incident.cause]:
                self._release(conn, incident, run_id=run_id, now=now, remove_untracked=remove_untracked)

    def _incidents_losing_members(
        self, conn: Connection, cause: Cause, now: datetime, *, remove_untracked: bool
    ) -> frozenset[int]:
        return members.incidents_losing_members(
            conn,
            target=self.target,
            cause=cause,
            now=now,
            age_limits=self.age_limits,
            remove_untracked=remove_untracked,
        )

    def _release(
        self, conn: Connection, incident: Incident, *, run_id: int, now: datetime, remove_untracked: bool
    ) -> None:
        removed = members.remove_recovered(
            conn,
            incident_id=incident.id,
            cause=incident.cause,
            now=now,
            age_limits=self.age_limits,
            group=incident.group,
        )
        removed += members.remove_untracked(conn, incident_id=incident.id) if remove_untracked else 0
        incident_store.add_event(
            conn,
            incident_id=incident.id,
            run_id=run_id,
            at=now,
            kind="left",
            reason=f"{format_items(removed)} no longer in that state, or no longer tracked",
            data={"count": removed},
        )

    def evidence(self, conn: Connection, *, now: datetime) -> tuple[Evidence, ...]:
        """What the items that no incident has are evidence of, by cause, and by group where the rule says so."""
        return tuple(piece for cause in ITEM_CAUSES for piece in self._unassigned_evidence(conn, cause, now))

    def _unassigned_evidence(self, conn: Connection, cause: Cause, now: datetime) -> Sequence[Evidence]:
        if self.rules[cause].by is GroupBy.GROUP:
            return members.unassigned_evidence_by_group(
                conn, target=self.target, cause=cause, now=now, age_limits=self.age_limits, samples=MAX_SAMPLES
            )
        piece = members.unassigned_evidence(
            conn, target=self.target, cause=cause, now=now, age_limits=self.age_limits, samples=MAX_SAMPLES
        )
        return () if piece is None else (piece,)

    def add(self, conn: Connection, piece: Evidence, *, incident_id: int, now: datetime) -> int:
        """Makes the items behind a piece of evidence members of its incident; gives back how many."""
        cause, group = piece.key
        by_group = self.rules[cause].by is GroupBy.GROUP
        return members.add(
            conn,
            target=self.target,
            cause=cause,
            incident_id=incident_id,
            now=now,
            age_limits=self.age_limits,
            group=group if by_group else None,
            item_ids=piece.sample_ids if piece.count == len(piece.sample_ids) else None,
        )

    def groups(self, conn: Connection, key: IncidentKey, *, now: datetime) -> tuple[str, ...]:
        """The groups of the items that are evidence for a cause and group, the most frequent first."""
        cause, group = key
        if self.rules[cause].by is GroupBy.GROUP:
            return (group,) if group else ()
        return members.unassigned_groups(conn, target=self.target, cause=cause, now=now, age_limits=self.age_limits)
