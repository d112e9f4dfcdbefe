"""What people do about an incident: acknowledge it, or say that it is over. Each in the caller's writing transaction.

The incident's row is locked first, so that a run that closes at the same moment decides before or after it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from monitor.incidents import decide as handling
from monitor.incidents import members
from monitor.incidents import store as incident_store
from monitor.incidents.decide import Action, Decision, Word, evolve
from monitor.incidents.recorder import Casebook
from monitor.model import Incident


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
    found = _decided(conn, incident_id, handling.acknowledge)
    if found is None or not found.done:
        return found
    count = found.incident.member_count
    return _kept(
        conn, found.decision, evolve(found.incident, found.decision, now=now, members=count, by=word.by), word, now
    )


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
    found = _decided(conn, incident_id, handling.resolve_by_hand)
    if found is None or not found.done:
        return found
    members.detach(conn, incident_id=incident_id)
    return _kept(conn, found.decision, evolve(found.incident, found.decision, now=now), word, now)


def _decided(conn: Connection, incident_id: int, decide: Callable[[Incident], Decision]) -> Handled | None:
    """The incident as it stands, locked, and what is decided about it; None when there is none of that number."""
    incident = incident_store.find(conn, incident_id, lock=True)
    return None if incident is None else Handled(decision=decide(incident), incident=incident)


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
