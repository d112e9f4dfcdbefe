"""Which items are in a bad state, and to which incident they belong.

Level-triggered: an item in a bad state that belongs to no incident is evidence, however it got there, so that a run
that was killed between check and close loses nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, func, not_, or_, select, true, update

from monitor.database.tables import active, incidents, items, stuck
from monitor.model import ITEM_CAUSES, Cause, Evidence, ItemState

_IN_PROGRESS = frozenset({Cause.ITEMS_REGRESSED, Cause.ITEMS_STUCK, Cause.UNRECOGNISED_STATUS})
"""Causes whose items differ by their status, and are told by it."""
_STATUSES = 10
_LONGEST_STATUS = 60
_status = func.substr(func.coalesce(items.c.stage, "no status"), 1, _LONGEST_STATUS)
"""What the API says may be long; people want its name."""
_GROUPS = 20
"""So many groups of an incident's members are known by name: more than that is no place to look."""
_group = func.coalesce(items.c.group_name, "")
"""An item's group; empty for one without a group."""


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


def _loose(
    target: str, cause: Cause, now: datetime, patience: Patience, group: str | None = None
) -> ColumnElement[bool]:
    """Items for this cause to take: what fits two causes is the first one's, also while that one waits to open."""
    bad = _bad(cause, now, patience)
    earlier = (not_(_bad(other, now, patience)) for other in ITEM_CAUSES[: ITEM_CAUSES.index(cause)])
    theirs = true() if group is None else _group == group
    return and_(items.c.target == target, _active(), items.c.incident_id.is_(None), bad, *earlier, theirs)


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


def ailing_by_group(
    conn: Connection, *, target: str, cause: Cause, now: datetime, patience: Patience, samples: int
) -> tuple[Evidence, ...]:
    """The same as a piece of evidence per group, in the order of their names; items without a group come first."""
    where = _loose(target, cause, now, patience)
    totals = conn.execute(select(_group, func.count()).where(where).group_by(_group)).all()
    if not totals:
        return ()
    rank = func.row_number().over(partition_by=_group, order_by=items.c.item_id).label("rank")
    ranked = select(_group.label("name"), items.c.item_id, rank).where(where).subquery()
    ids = defaultdict[str, list[str]](list)
    first = select(ranked.c.name, ranked.c.item_id).where(ranked.c.rank <= samples)
    for name, item_id in conn.execute(first.order_by(ranked.c.name, ranked.c.rank)):
        ids[name].append(item_id)
    by_status = _each_by_status(conn, cause, where)
    return tuple(
        Evidence(cause=cause, group=name, count=total, sample_ids=tuple(ids[name]), breakdown=by_status.get(name, {}))
        for name, total in sorted((name, total) for name, total in totals)
    )


def ailing_groups(conn: Connection, *, target: str, cause: Cause, now: datetime, patience: Patience) -> tuple[str, ...]:
    """The groups of the items that such a cause is about and that no incident has, as they are told of an incident."""
    return tuple(name for name in _by_group(conn, _loose(target, cause, now, patience)) if name)


def statuses(conn: Connection, *, incident_id: int, cause: Cause) -> dict[str, int]:
    """How many members of an incident are in which status, as the provider spells it: the most frequent ten, the rest
    as one. Empty for a cause whose items don't differ by it.
    """
    return _by_status(conn, cause, items.c.incident_id == incident_id)


def _by_status(conn: Connection, cause: Cause, where: ColumnElement[bool]) -> dict[str, int]:
    if cause not in _IN_PROGRESS:
        return {}
    query = select(_status, func.count()).where(where).group_by(_status)
    named = {row[0]: row[1] for row in conn.execute(query.order_by(func.count().desc(), _status).limit(_STATUSES))}
    if len(named) == _STATUSES:
        total = conn.execute(select(func.count()).select_from(items).where(where)).scalar_one()
        named |= _rest(total - sum(named.values()))
    return named


def _each_by_status(conn: Connection, cause: Cause, where: ColumnElement[bool]) -> dict[str, dict[str, int]]:
    """The same for each group."""
    if cause not in _IN_PROGRESS:
        return {}
    query = select(_group, _status, func.count()).where(where).group_by(_group, _status)
    found = defaultdict[str, list[tuple[str, int]]](list)
    for name, status, how_many in conn.execute(query.order_by(func.count().desc(), _status)):
        found[name].append((status, how_many))
    return {name: dict(rows[:_STATUSES]) | _rest(_sum(rows[_STATUSES:])) for name, rows in found.items()}


def _sum(rows: Iterable[tuple[str, int]]) -> int:
    return sum(how_many for _, how_many in rows)


def _rest(others: int) -> dict[str, int]:
    return {"other statuses": others} if others else {}


def join(
    conn: Connection,
    *,
    target: str,
    cause: Cause,
    incident_id: int,
    now: datetime,
    patience: Patience,
    group: str | None = None,
    among: Sequence[str] | None = None,
) -> int:
    """Makes every such item a member, or every one of a group (empty: without one); gives back how many.

    Args:
        conn: the closing transaction.
        target: whose items.
        cause: that they are evidence for.
        incident_id: which takes them.
        now: the end of the run (aware).
        patience: with the target's items.
        group: only theirs; None: all.
        among: the ids of all of them, where they are known: then the others are not looked through, which very many
            groups would pay for with the square of their number.
    """
    where = _loose(target, cause, now, patience, group)
    if among is not None:
        where = and_(where, items.c.item_id.in_(among))
    return conn.execute(update(items).where(where).values(incident_id=incident_id)).rowcount


def leaving(
    conn: Connection, *, target: str, cause: Cause, now: datetime, patience: Patience, release: bool
) -> frozenset[int]:
    """The incidents of a cause that have members for `leave` to let go, or with `release` for that."""
    mine = and_(incidents.c.id == items.c.incident_id, incidents.c.cause == cause.value)
    stayed = or_(incidents.c.group_name == "", _group == incidents.c.group_name)
    well = _well(cause, now, patience, stayed)
    query = select(items.c.incident_id).join(incidents, mine).where(items.c.target == target)
    return frozenset(conn.execute(query.where(or_(well, not_(_active())) if release else well).distinct()).scalars())


def leave(
    conn: Connection, *, incident_id: int, cause: Cause, now: datetime, patience: Patience, group: str = ""
) -> int:
    """Lets members go that are seen not to be in the bad state any more; gives back how many.

    An unknown item stays: nothing was found out about it. Of a group's incident, whatever moved to another group goes.
    """
    well = _well(cause, now, patience, _group == group if group else true())
    where = and_(items.c.incident_id == incident_id, well)
    return conn.execute(update(items).where(where).values(incident_id=None)).rowcount


def _well(cause: Cause, now: datetime, patience: Patience, stayed: ColumnElement[bool]) -> ColumnElement[bool]:
    """Tracked items that are seen not to be in the bad state any more, or that did not stay in their group."""
    ill = and_(_bad(cause, now, patience), stayed)
    return and_(_active(), items.c.state != ItemState.UNKNOWN.value, not_(ill))


def release(conn: Connection, *, incident_id: int) -> int:
    """Lets members go that left the sync log or were told to be ignored; gives back how many."""
    where = and_(items.c.incident_id == incident_id, ~_active())
    return conn.execute(update(items).where(where).values(incident_id=None)).rowcount


def detach(conn: Connection, *, incident_id: int) -> None:
    """Lets all members go: the incident is resolved."""
    conn.execute(update(items).where(items.c.incident_id == incident_id).values(incident_id=None))


def counts(conn: Connection, *, target: str) -> dict[int, int]:
    """How many items belong to each incident of a target, but for those that have none."""
    theirs = (items.c.target == target, items.c.incident_id.is_not(None))
    query = select(items.c.incident_id, func.count()).where(*theirs).group_by(items.c.incident_id)
    return {row[0]: row[1] for row in conn.execute(query)}


def first_ids(conn: Connection, *, incident_id: int, limit: int = 10) -> tuple[str, ...]:
    """The first few members of an incident, by id."""
    return tuple(item_id for item_id, *_ in sample(conn, incident_id=incident_id, limit=limit))


def by_group(conn: Connection, *, incident_id: int) -> dict[str, int]:
    """How many members of an incident are in which group, those without one under an empty name: the most first."""
    return _by_group(conn, items.c.incident_id == incident_id)


def _by_group(conn: Connection, where: ColumnElement[bool]) -> dict[str, int]:
    query = select(_group, func.count()).where(where).group_by(_group).order_by(func.count().desc(), _group)
    return {row[0]: row[1] for row in conn.execute(query.limit(_GROUPS))}


def sample(conn: Connection, *, incident_id: int, limit: int) -> list[tuple[str, str | None, datetime | None]]:
    """The first members of an incident: id, stage, and since when they are as they are."""
    query = select(items.c.item_id, items.c.stage, func.coalesce(items.c.pending_since, items.c.since).label("since"))
    query = query.where(items.c.incident_id == incident_id).order_by(items.c.item_id).limit(limit)
    return [(row.item_id, row.stage, row.since) for row in conn.execute(query)]
