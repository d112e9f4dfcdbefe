"""What people do about an incident: acknowledge it, or say that it is over. Each in the caller's writing transaction.

The incident's row is locked first, so that a run that closes at the same moment decides before or after it.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from monitor.casebook import Casebook
from monitor.incidents import handling
from monitor.incidents.handling import Word
from monitor.incidents.rules import Action, Decision, evolve
from monitor.model import Incident
from monitor.store import incidents as incident_store
from monitor.store import members

__all__ = ["Handled", "acknowledge", "resolve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """What came of it."""

    decision: Decision
    incident: Incident
    """As it stands now."""

    @property
    def done(self) -> bool:
        """Whether anything was changed."""
        return self.decision.action is not Action.NOTHING


def acknowledge(conn: Connection, incident_id: int, *, word: Word, now: datetime) -> Handled | None:
    """Notes that somebody looks after an incident: no reminders any more.

    Args:
        conn: a writing transaction.
        incident_id: its number.
        word: whose it is.
        now: when (aware).

    Returns:
        What came of it; None when there is no such incident.
    """
    incident = incident_store.find(conn, incident_id, lock=True)
    if incident is None:
        return None
    decision = handling.acknowledge(incident)
    if decision.action is Action.NOTHING:
        return Handled(decision=decision, incident=incident)
    after = evolve(incident, decision, now=now, members=incident.member_count, by=word.by)
    return _kept(conn, decision, after, word, now)


def resolve(conn: Connection, incident_id: int, *, word: Word, now: datetime) -> Handled | None:
    """Ends an incident because somebody says so; its items are free to join another one.

    Args:
        conn: a writing transaction.
        incident_id: its number.
        word: whose it is.
        now: when (aware).

    Returns:
        What came of it; None when there is no such incident.
    """
    incident = incident_store.find(conn, incident_id, lock=True)
    if incident is None:
        return None
    decision = handling.resolve_by_hand(incident)
    if decision.action is Action.NOTHING:
        return Handled(decision=decision, incident=incident)
    members.detach(conn, incident_id=incident_id)
    return _kept(conn, decision, evolve(incident, decision, now=now), word, now)


def _kept(conn: Connection, decision: Decision, after: Incident, word: Word, now: datetime) -> Handled:
    incident_store.save(conn, after)
    book = Casebook(
        conn=conn,
        target=after.target,
        environment=after.environment,
        route=lambda _: after.channels,  # it goes where the opening went, whatever the routes say now
        now=now,
    )
    book.tell(decision, after, word=word)
    return Handled(decision=decision, incident=after)
