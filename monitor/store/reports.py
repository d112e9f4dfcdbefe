"""How far the last report on a target told, so that the next one tells what changed since."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from monitor.store.engine import insert
from monitor.store.tables import reports

__all__ = ["ELSEWHERE", "Told", "last_told", "remember"]

ELSEWHERE = ""
"""In the place of a target: incidents that belong to none of the configured targets, such as those of channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How far one report told."""

    made_at: datetime
    last_run_id: int
    """The newest finished run that it told of; 0: none."""
    last_incident_event_id: int


def last_told(conn: Connection, *, target: str) -> Told | None:
    """How far the last report on a target told; None before the first."""
    columns = (reports.c.made_at, reports.c.last_run_id, reports.c.last_incident_event_id)
    row = conn.execute(select(*columns).where(reports.c.target == target)).mappings().one_or_none()
    return None if row is None else Told(**row)


def remember(conn: Connection, *, target: str, told: Told) -> None:
    """Stores how far a report told, in place of the one before. Must run in a writing transaction."""
    values = {
        "made_at": told.made_at,
        "last_run_id": told.last_run_id,
        "last_incident_event_id": told.last_incident_event_id,
    }
    row = insert(conn, reports).values(target=target, **values)
    conn.execute(row.on_conflict_do_update(index_elements=[reports.c.target], set_=values))
