"""What people do about an incident: acknowledge it, or say that it is over. Each in the caller's writing transaction.

The incident's row is locked first, so that a run that closes at the same moment decides before or after it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from monitor.incidents import decide as decisions
from monitor.incidents import members
from monitor.incidents import store as incident_store
from monitor.incidents.decide import Action, Decision, OperatorAction, evolve
from monitor.incidents.recorder import IncidentRecorder
from monitor.model import Incident


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionResult:
    """What came of it."""

    decision: Decision
    incident: Incident
    """As it stands now."""

    @property
    def changed(self) -> bool:
        """Whether anything was changed."""
        return self.decision.action is not Action.NOTHING


def acknowledge(
    conn: Connection, incident_id: int, *, operator_action: OperatorAction, now: datetime
) -> ActionResult | None:
    """Notes that somebody looks after an incident: no reminders any more.

    Args:
        conn: a writing transaction.
        incident_id: its number.
        word: whose it is.
        now: when (aware).

    Returns:
        What came of it; None when there is no such incident.
    """
    result = _decide(conn, incident_id, decisions.acknowledge)
    if result is None or not result.changed:
        return result
    count = result.incident.member_count
    return _save(
        conn,
        result.decision,
        evolve(result.incident, result.decision, now=now, members=count, by=operator_action.by),
        operator_action,
        now,
    )


def resolve(
    conn: Connection, incident_id: int, *, operator_action: OperatorAction, now: datetime
) -> ActionResult | None:
    """Ends an incident because somebody says so; its items are free to join another one.

    Args:
        conn: a writing transaction.
        incident_id: its number.
        word: whose it is.
        now: when (aware).

    Returns:
        What came of it; None when there is no such incident.
    """
    result = _decide(conn, incident_id, decisions.resolve_manually)
    if result is None or not result.changed:
        return result
    members.remove_all(conn, incident_id=incident_id)
    return _save(conn, result.decision, evolve(result.incident, result.decision, now=now), operator_action, now)


def _decide(conn: Connection, incident_id: int, decide: Callable[[Incident], Decision]) -> ActionResult | None:
    """The incident as it stands, locked, and what is decided about it; None when there is none of that number."""
    incident = incident_store.find(conn, incident_id, lock=True)
    return None if incident is None else ActionResult(decision=decide(incident), incident=incident)


def _save(
    conn: Connection, decision: Decision, after: Incident, operator_action: OperatorAction, now: datetime
) -> ActionResult:
    incident_store.save(conn, after)
    recorder = IncidentRecorder(
        conn=conn,
        target=after.target,
        environment=after.environment,
        route=lambda _: after.channels,  # it goes where the opening went, whatever the routes say now
        now=now,
    )
    recorder.record(decision, after, operator_action=operator_action)
    return ActionResult(decision=decision, incident=after)
