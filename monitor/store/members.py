"""Which items are in a bad state, and to which incident they belong.

Level-triggered: an item in a bad state that belongs to no incident is evidence, however it got there, so that a run
that was killed between check and close loses nothing.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, update

from monitor.model import Cause, ItemState
from monitor.store.items import active
from monitor.store.tables import items

__all__ = ["Patience", "ailing", "count", "detach", "first_ids", "join", "leave", "release", "sample"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long an item may take before it counts against the target."""

    stuck_after: timedelta
    missing_after: timedelta


def _active() -> ColumnElement[bool]:
    return and_(*active())


def _bad(cause: Cause, now: datetime, patience: Patience) -> ColumnElement[bool]:
    """Items that this cause is about, as far as the newest run could see them."""
    match cause:
        case Cause.ITEMS_FAILED:
            return items.c.state == ItemState.FAILED.value
        case Cause.ITEMS_MISSING:
            uploaded = func.coalesce(items.c.submitted_at, items.c.first_seen_at)
            expected = or_(items.c.seen_at.is_not(None), uploaded < now - patience.missing_after)
            return and_(items.c.state == ItemState.NOT_FOUND.value, expected)
        case Cause.ITEMS_STUCK:
            overdue = items.c.pending_since < now - patience.stuck_after
            return and_(items.c.state == ItemState.PENDING.value, overdue)
        case Cause.ITEMS_INVALID:
            return items.c.state == ItemState.INVALID.value
        case _:
            raise ValueError(f"{cause} is not a cause of items")


def _loose(target: str, cause: Cause, now: datetime, patience: Patience) -> ColumnElement[bool]:
    return and_(items.c.target == target, _active(), items.c.incident_id.is_(None), _bad(cause, now, patience))


def ailing(
    conn: Connection, *, target: str, cause: Cause, now: datetime, patience: Patience, samples: int
) -> tuple[int, tuple[str, ...]]:
    """How many items are in the bad state of a cause and belong to no incident, and the first few ids."""
    where = _loose(target, cause, now, patience)
    total = conn.execute(select(func.count()).select_from(items).where(where)).scalar_one()
    ids = conn.execute(select(items.c.item_id).where(where).order_by(items.c.item_id).limit(samples)).scalars().all()
    return total, tuple(ids)


def join(conn: Connection, *, target: str, cause: Cause, incident_id: int, now: datetime, patience: Patience) -> int:
    """Makes every item in the bad state that belongs to no incident a member; gives back how many."""
    where = _loose(target, cause, now, patience)
    return conn.execute(update(items).where(where).values(incident_id=incident_id)).rowcount


def leave(conn: Connection, *, incident_id: int, cause: Cause, now: datetime, patience: Patience) -> int:
    """Lets members go that are seen not to be in the bad state any more; gives back how many.

    An unknown item stays: nothing was found out about it.
    """
    known = and_(items.c.state != ItemState.UNKNOWN.value, ~_bad(cause, now, patience))
    where = and_(items.c.incident_id == incident_id, _active(), known)
    return conn.execute(update(items).where(where).values(incident_id=None)).rowcount


def release(conn: Connection, *, incident_id: int) -> int:
    """Lets members go that left the sync log or were told to be ignored; gives back how many."""
    where = and_(items.c.incident_id == incident_id, ~_active())
    return conn.execute(update(items).where(where).values(incident_id=None)).rowcount


def detach(conn: Connection, *, incident_id: int) -> None:
    """Lets all members go: the incident is resolved."""
    conn.execute(update(items).where(items.c.incident_id == incident_id).values(incident_id=None))


def count(conn: Connection, *, incident_id: int) -> int:
    """How many items belong to an incident."""
    return conn.execute(select(func.count()).select_from(items).where(items.c.incident_id == incident_id)).scalar_one()


def first_ids(conn: Connection, *, incident_id: int, limit: int = 10) -> tuple[str, ...]:
    """The first few members of an incident, by id."""
    return tuple(item_id for item_id, *_ in sample(conn, incident_id=incident_id, limit=limit))


def sample(conn: Connection, *, incident_id: int, limit: int) -> list[tuple[str, str | None, datetime | None]]:
    """The first members of an incident: id, stage, and since when they are as they are."""
    query = select(items.c.item_id, items.c.stage, func.coalesce(items.c.pending_since, items.c.since).label("since"))
    query = query.where(items.c.incident_id == incident_id).order_by(items.c.item_id).limit(limit)
    return [(row.item_id, row.stage, row.since) for row in conn.execute(query)]
