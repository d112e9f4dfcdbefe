"""What is stored of an incident's story: the runs around it, the incident before it, and what was sent where."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, select

from monitor.incidents.replay import RunSeen
from monitor.incidents.rules import Mark
from monitor.incidents.witnesses import Witness, vouches, witness
from monitor.model import Evidence, Incident, RunStatus
from monitor.store import evidence as evidence_store
from monitor.store import incidents as incident_store
from monitor.store.engine import in_fews
from monitor.store.runs import abandoned
from monitor.store.tables import evidence, incidents, notifications, runs

__all__ = ["MOST", "Sent", "predecessor", "runs_around", "sent"]

MOST = 10_000
"""Runs of one incident that are told."""
_MOST_BEFORE = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One message about an incident to one channel, and what became of it."""

    kind: str
    channel: str
    written_at: datetime
    status: str
    """due, sent, superseded or dead"""
    sent_at: datetime | None
    attempts: int
    error: str | None
    """Why it was not delivered, the last time."""


def predecessor(conn: Connection, incident: Incident) -> Incident | None:
    """The incident of the same key that came before, or None."""
    key = (incidents.c.target == incident.target, incidents.c.cause == incident.cause.value)
    same = select(incidents.c.id).where(*key, incidents.c.group_name == incident.group, incidents.c.id < incident.id)
    found = conn.execute(same.order_by(incidents.c.id.desc()).limit(1)).scalar()
    return None if found is None else incident_store.find(conn, found)


def sent(conn: Connection, incident_id: int) -> list[Sent]:
    """The messages about an incident, in the order in which they were written."""
    query = select(notifications).where(notifications.c.incident_id == incident_id).order_by(notifications.c.id)
    return [
        Sent(
            kind=row["kind"],
            channel=row["channel"],
            written_at=row["created_at"],
            status=row["status"],
            sent_at=row["sent_at"],
            attempts=row["attempts"],
            error=row["last_error"],
        )
        for row in conn.execute(query).mappings()
    ]


def runs_around(conn: Connection, incident: Incident, *, window: timedelta, at_least: int) -> list[RunSeen]:
    """The finished runs of an incident's target, oldest first.

    Args:
        conn: a connection.
        incident: whose.
        window: how long before the first evidence the rule looks back.
        at_least: how many runs before it there are to be, as far as there are so many.

    Returns:
        Those before the first evidence, and at most `MOST` from there to the resolution.
    """
    began = incident.first_evidence_at
    columns = (runs.c.id, runs.c.status, runs.c.finished_at, runs.c.due, runs.c.answered, abandoned().label("died"))
    finished = select(*columns).where(
        runs.c.target == incident.target, runs.c.finished_at.is_not(None), runs.c.status != RunStatus.RUNNING.value
    )
    earlier = finished.where(runs.c.finished_at < began).order_by(runs.c.id.desc())
    before = conn.execute(earlier.where(runs.c.finished_at >= began - window).limit(_MOST_BEFORE)).mappings().all()
    if len(before) < at_least:
        before = conn.execute(earlier.limit(at_least)).mappings().all()
    during = finished.where(runs.c.finished_at >= began).order_by(runs.c.id).limit(MOST)
    if incident.resolved_at is not None:
        during = during.where(runs.c.finished_at <= incident.resolved_at)
    rows = [*reversed(before), *conn.execute(during).mappings().all()]
    seen = _evidence(conn, incident, [row["id"] for row in rows])
    says = witness(incident.cause)
    return [_run(row, seen.get(row["id"]), says) for row in rows]


def _evidence(conn: Connection, incident: Incident, run_ids: Sequence[int]) -> dict[int, Evidence]:
    found: dict[int, Evidence] = {}
    about = (evidence.c.cause == incident.cause.value, evidence.c.group_name == incident.group)
    for few in in_fews(run_ids):
        rows = conn.execute(select(evidence).where(evidence.c.run_id.in_(few), *about)).mappings()
        found.update({row["run_id"]: evidence_store.from_row(row) for row in rows})
    return found


def _run(row: RowMapping, seen: Evidence | None, says: Witness) -> RunSeen:
    status = RunStatus(row["status"])
    mark = Mark(
        run_id=row["id"],
        at=row["finished_at"],
        evidence=seen is not None and seen.explained_by is None,
        muted=seen is not None and seen.explained_by is not None,
        enough=vouches(says.vouching, due=row["due"], answered=row["answered"]),
    )
    counts = mark if status in says.statuses and not row["died"] else None
    return RunSeen(run_id=row["id"], at=row["finished_at"], status=status, mark=counts, evidence=seen)
