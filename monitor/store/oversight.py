"""What the database knows about the monitor's own work on a target: when it ran, what it left unknown."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, exists, func, select

from monitor.model import ItemState, Reason, RunStatus
from monitor.store.items import active
from monitor.store.tables import items, runs

__all__ = ["Previous", "has_tracked", "previous_run", "unknown_by_reason"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """A run before another one, however it ended."""

    started_at: datetime
    slot: str | None


def previous_run(conn: Connection, *, target: str, before: int) -> Previous | None:
    """The last finished run of a target before this one (its id), however it ended; None without one."""
    columns = (runs.c.started_at, runs.c.slot)
    finished = select(*columns).where(runs.c.target == target, runs.c.status != RunStatus.RUNNING.value)
    row = conn.execute(finished.where(runs.c.id < before).order_by(runs.c.id.desc()).limit(1)).mappings().first()
    return None if row is None else Previous(**row)


def unknown_by_reason(conn: Connection, *, target: str) -> dict[Reason, int]:
    """How many tracked items of a target are unknown, by reason."""
    unknown = (items.c.target == target, items.c.state == ItemState.UNKNOWN.value, items.c.reason.is_not(None))
    query = select(items.c.reason, func.count()).where(*unknown, *active()).group_by(items.c.reason)
    return {Reason(reason): count for reason, count in conn.execute(query)}


def has_tracked(conn: Connection, *, target: str) -> bool:
    """Whether a target has, or ever had, items."""
    return bool(conn.execute(select(exists().where(items.c.target == target))).scalar())
