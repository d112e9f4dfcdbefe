"""What the database knows about the monitor's own work on a target: when it ran, what it left unknown."""

from datetime import datetime

from sqlalchemy import Connection, exists, func, select

from monitor.model import ItemState, Reason, RunStatus
from monitor.store.items import active
from monitor.store.tables import items, runs

__all__ = ["has_tracked", "previous_start", "unknown_by_reason"]


def previous_start(conn: Connection, *, target: str, before: int) -> datetime | None:
    """When the last finished run of a target before this one (its id) started, however it ended; None without one."""
    finished = select(runs.c.started_at).where(runs.c.target == target, runs.c.status != RunStatus.RUNNING.value)
    return conn.execute(finished.where(runs.c.id < before).order_by(runs.c.id.desc()).limit(1)).scalar()


def unknown_by_reason(conn: Connection, *, target: str) -> dict[Reason, int]:
    """How many tracked items of a target are unknown, by reason."""
    unknown = (items.c.target == target, items.c.state == ItemState.UNKNOWN.value, items.c.reason.is_not(None))
    query = select(items.c.reason, func.count()).where(*unknown, *active()).group_by(items.c.reason)
    return {Reason(reason): count for reason, count in conn.execute(query)}


def has_tracked(conn: Connection, *, target: str) -> bool:
    """Whether a target has, or ever had, items."""
    return bool(conn.execute(select(exists().where(items.c.target == target))).scalar())
