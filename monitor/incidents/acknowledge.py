"""Operator actions: acknowledge an incident, or resolve it manually, in the caller's writing transaction.

The incident's row is locked first, so a run that closes at the same time decides before or after it.
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
    """The result of an operator's action."""

    decision: Decision
    incident: Incident

    @property
    def changed(self) -> bool:
        """Whether anything was changed."""
        return self.decision.action is not Action.NOTHING


def acknowledge(
    conn: Connection, incident_id: int, *, operator_action: OperatorAction, now: datetime
) -> ActionResult | None:
    """Acknowledges an incident: no more reminders. None if there is no such incident."""
    return _apply(conn, incident_id, decisions.acknowledge, operator_action, now)


def resolve(
    conn: Connection, incident_id: int, *, operator_action: OperatorAction, now: datetime
) -> ActionResult | None:
    """Resolves an incident and releases its items. None if there is no such incident."""
    return _apply(conn, incident_id, decisions.resolve_manually, operator_action, now)


def _apply(
    conn: Connection,
    incident_id: int,
    decide: Callable[[Incident], Decision],
    operator_action: OperatorAction,
    now: datetime,
) -> ActionResult | None:
    incident = incident_store.find(conn, incident_id, lock=True)
    if incident is None:
        return None
    result = ActionResult(decision=decide(incident), incident=incident)
    if not result.changed:
        return result
    count = incident.member_count
    if result.decision.action is Action.RESOLVE:
        members.remove_all(conn, incident_id=incident_id)
        count = 0
    after = evolve(incident, result.decision, now=now, members=count, by=operator_action.by)
    incident_store.save(conn, after)
    recorder = IncidentRecorder(
        conn=conn,
        target=after.target,
        environment=after.environment,
        route=lambda _: after.channels,  # to the channels of the opening, whatever the routes say now
        now=now,
    )
    recorder.record(result.decision, after, operator_action=operator_action)
    return ActionResult(decision=result.decision, incident=after)
