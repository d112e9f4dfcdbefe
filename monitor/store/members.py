"""Which items are in a bad state, and to which incident they belong.

Level-triggered: an item in a bad state that belongs to no incident is evidence, however it got there, so that a run
that was killed between check and close loses nothing.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, func, not_, or_, select, update

from monitor.model import ITEM_CAUSES, Cause, Evidence, ItemState
from monitor.store.items import active, stuck
from monitor.store.tables import items

__all__ = [
    "Patience",
    "ailing",
    "count",
    "detach",
    "first_ids",
    "groups",
    "join",
    "leave",
    "loose_groups",
    "release",
    "sample",
    "statuses",
]

_IN_PROGRESS = frozenset({Cause.ITEMS_REGRESSED, Cause.ITEMS_STUCK, Cause.UNRECOGNISED_STATUS})
"""Causes whose items differ by their status, and are told by it."""
_STATUSES = 10
_LONGEST_STATUS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long an item may take before it counts against the target."""

    stuck_after: timedelta
    missing_after: timedelta


def _active() -> ColumnElement[bool]:
    return and_(*active())


def _bad(cause: Cause, now: datetime, patience: Patience) -> ColumnElement[bool]:
    """Items that this cause is about, as far as the newest run could see them; true or false, never null."""
    match cause:
        case Cause.ITEMS_FAILED:
            return items.c.state == ItemState.FAILED.value
        case Cause.ITEMS_MISSING:
            uploaded = func.coalesce(items.c.submitted_at, items.c.first_seen_at)
            expected = or_(items.c.seen_at.is_not(None), uploaded < now - patience.missing_after)
            return and_(items.c.state == ItemState.NOT_FOUND.value, expected)
        case Cause.ITEMS_STUCK:
            return and_(items.c.pending_since.is_not(None), stuck(now - patience.stuck_after))
        case Cause.ITEMS_INVALID:
            return items.c.state == ItemState.INVALID.value
        case Cause.ITEMS_REGRESSED:
            return and_(items.c.state == ItemState.PENDING.value, items.c.regressed_at.is_not(None))
        case Cause.UNRECOGNISED_STATUS:
            return and_(items.c.state == ItemState.PENDING.value, items.c.recognised.is_(False))
        case _:
            raise ValueError(f"{cause} is not a cause of items")


def _loose(target: str, cause: Cause, now: datetime, patience: Patience) -> ColumnElement[bool]:
    """Items for this cause to take: what fits two causes is the first one's, also while that one waits to open."""
    bad = _bad(cause, now, patience)
    earlier = (not_(_bad(other, now, patience)) for other in ITEM_CAUSES[: ITEM_CAUSES.index(cause)])
    return and_(items.c.target == target, _active(), items.c.incident_id.is_(None), bad, *earlier)


def ailing(
    conn: Connection, *, target: str, cause: Cause, now: datetime, patience: Patience, samples: int
) -> Evidence | None:
    """Evidence of an item cause, or None: the items that it is about and no earlier one, and that no incident has."""
    where = _loose(target, cause, now, patience)
    total = conn.execute(select(func.count()).select_from(items).where(where)).scalar_one()
    if not total:
        return None
    ids = conn.execute(select(items.c.item_id).where(where).order_by(items.c.item_id).limit(samples)).scalars().all()
    return Evidence(cause=cause, count=total, sample_ids=tuple(ids), breakdown=_by_status(conn, cause, where))


def statuses(conn: Connection, *, incident_id: int, cause: Cause) -> dict[str, int]:
    """How many members of an incident are in which status, as the provider spells it: the most frequent ten, the rest
    as one. Empty for a cause whose items don't differ by it.
    """
    return _by_status(conn, cause, items.c.incident_id == incident_id)


def _by_status(conn: Connection, cause: Cause, where: ColumnElement[bool]) -> dict[str, int]:
    if cause not in _IN_PROGRESS:
        return {}
    # What the API says may be long; people want its name.
    status = func.substr(func.coalesce(items.c.stage, "no status"), 1, _LONGEST_STATUS)
    how_many = func.count()
    query = select(status, how_many).where(where).group_by(status).order_by(how_many.desc(), status)
    named = {row[0]: row[1] for row in conn.execute(query.limit(_STATUSES))}
    if len(named) == _STATUSES:
        total = conn.execute(select(how_many).select_from(items).where(where)).scalar_one()
        others = total - sum(named.values())
        named |= {"other statuses": others} if others else {}
    return named


def join(conn: Connection, *, target: str, cause: Cause, incident_id: int, now: datetime, patience: Patience) -> int:
    """Makes every such item a member; gives back how many."""
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


def groups(conn: Connection, *, incident_id: int, limit: int = 20) -> tuple[str, ...]:
    """The groups of an incident's members, the most frequent first."""
    return _groups(conn, items.c.incident_id == incident_id, limit)


def loose_groups(
    conn: Connection, *, target: str, cause: Cause, now: datetime, patience: Patience, limit: int = 20
) -> tuple[str, ...]:
    """The groups of the items that are for this cause to take, the most frequent first."""
    return _groups(conn, _loose(target, cause, now, patience), limit)


def _groups(conn: Connection, where: ColumnElement[bool], limit: int) -> tuple[str, ...]:
    query = select(items.c.group_name).where(where, items.c.group_name.is_not(None)).group_by(items.c.group_name)
    return tuple(conn.execute(query.order_by(func.count().desc(), items.c.group_name).limit(limit)).scalars())


def sample(conn: Connection, *, incident_id: int, limit: int) -> list[tuple[str, str | None, datetime | None]]:
    """The first members of an incident: id, stage, and since when they are as they are."""
    query = select(items.c.item_id, items.c.stage, func.coalesce(items.c.pending_since, items.c.since).label("since"))
    query = query.where(items.c.incident_id == incident_id).order_by(items.c.item_id).limit(limit)
    return [(row.item_id, row.stage, row.since) for row in conn.execute(query)]
