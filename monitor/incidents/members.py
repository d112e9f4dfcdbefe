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
_MAX_STATUSES = 10
_MAX_STATUS_LENGTH = 60
_status = func.substr(func.coalesce(items.c.stage, "no status"), 1, _MAX_STATUS_LENGTH)
"""What the API says may be long; people want its name."""
_MAX_GROUPS = 20
"""So many groups of an incident's members are known by name: more than that is no place to look."""
_group = func.coalesce(items.c.group_name, "")
"""An item's group; empty for one without a group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeLimits:
    """How long an item may take before it counts against the target."""

    stuck_after: timedelta
    missing_after: timedelta


def _active() -> ColumnElement[bool]:
    return and_(*active())


def _matches_cause(cause: Cause, now: datetime, age_limits: AgeLimits) -> ColumnElement[bool]:
    """Items that this cause is about, as far as the newest run could see them; true or false, never null."""
    match cause:
        case Cause.ITEMS_FAILED:
            return items.c.state == ItemState.FAILED.value
        case Cause.ITEMS_MISSING:
            uploaded = func.coalesce(items.c.submitted_at, items.c.first_seen_at)
            expected = or_(items.c.seen_at.is_not(None), uploaded < now - age_limits.missing_after)
            return and_(items.c.state == ItemState.NOT_FOUND.value, expected)
        case Cause.ITEMS_STUCK:
            return and_(items.c.pending_since.is_not(None), stuck(now - age_limits.stuck_after))
        case Cause.ITEMS_INVALID:
            return items.c.state == ItemState.INVALID.value
        case Cause.ITEMS_REGRESSED:
            return and_(items.c.state == ItemState.PENDING.value, items.c.regressed_at.is_not(None))
        case Cause.UNRECOGNISED_STATUS:
            return and_(items.c.state == ItemState.PENDING.value, items.c.recognised.is_(False))
        case _:
            raise ValueError(f"{cause} is not a cause of items")


def _unassigned(
    target: str, cause: Cause, now: datetime, age_limits: AgeLimits, group: str | None = None
) -> ColumnElement[bool]:
    """Items for this cause to take: what fits two causes is the first one's, also while that one waits to open."""
    in_cause = _matches_cause(cause, now, age_limits)
    earlier = (not_(_matches_cause(other, now, age_limits)) for other in ITEM_CAUSES[: ITEM_CAUSES.index(cause)])
    in_group = true() if group is None else _group == group
    return and_(items.c.target == target, _active(), items.c.incident_id.is_(None), in_cause, *earlier, in_group)


def unassigned_evidence(
    conn: Connection, *, target: str, cause: Cause, now: datetime, age_limits: AgeLimits, samples: int
) -> Evidence | None:
    """Evidence of an item cause, or None: the items that it is about and no earlier one, and that no incident has."""
    where = _unassigned(target, cause, now, age_limits)
    total = conn.execute(select(func.count()).select_from(items).where(where)).scalar_one()
    if not total:
        return None
    ids = conn.execute(select(items.c.item_id).where(where).order_by(items.c.item_id).limit(samples)).scalars().all()
    return Evidence(cause=cause, count=total, sample_ids=tuple(ids), breakdown=_by_status(conn, cause, where))


def unassigned_evidence_by_group(
    conn: Connection, *, target: str, cause: Cause, now: datetime, age_limits: AgeLimits, samples: int
) -> tuple[Evidence, ...]:
    """The same as a piece of evidence per group, in the order of their names; items without a group come first."""
    where = _unassigned(target, cause, now, age_limits)
    totals = conn.execute(select(_group, func.count()).where(where).group_by(_group)).all()
    if not totals:
        return ()
    rank = func.row_number().over(partition_by=_group, order_by=items.c.item_id).label("rank")
    ranked = select(_group.label("name"), items.c.item_id, rank).where(where).subquery()
    ids = defaultdict[str, list[str]](list)
    first = select(ranked.c.name, ranked.c.item_id).where(ranked.c.rank <= samples)
    for name, item_id in conn.execute(first.order_by(ranked.c.name, ranked.c.rank)):
        ids[name].append(item_id)
    by_status = _by_status_per_group(conn, cause, where)
    return tuple(
        Evidence(cause=cause, group=name, count=total, sample_ids=tuple(ids[name]), breakdown=by_status.get(name, {}))
        for name, total in sorted((name, total) for name, total in totals)
    )


def unassigned_groups(
    conn: Connection, *, target: str, cause: Cause, now: datetime, age_limits: AgeLimits
) -> tuple[str, ...]:
    """The groups of the items that such a cause is about and that no incident has, as they are told of an incident."""
    return tuple(name for name in _by_group(conn, _unassigned(target, cause, now, age_limits)) if name)


def statuses(conn: Connection, *, incident_id: int, cause: Cause) -> dict[str, int]:
    """How many members of an incident are in which status, as the provider spells it: the most frequent ten, the rest
    as one. Empty for a cause whose items don't differ by it.
    """
    return _by_status(conn, cause, items.c.incident_id == incident_id)


def _by_status(conn: Connection, cause: Cause, where: ColumnElement[bool]) -> dict[str, int]:
    if cause not in _IN_PROGRESS:
        return {}
    query = select(_status, func.count()).where(where).group_by(_status)
    named = {row[0]: row[1] for row in conn.execute(query.order_by(func.count().desc(), _status).limit(_MAX_STATUSES))}
    if len(named) == _MAX_STATUSES:
        total = conn.execute(select(func.count()).select_from(items).where(where)).scalar_one()
        named |= _other_statuses(total - sum(named.values()))
    return named


def _by_status_per_group(conn: Connection, cause: Cause, where: ColumnElement[bool]) -> dict[str, dict[str, int]]:
    """The same for each group."""
    if cause not in _IN_PROGRESS:
        return {}
    query = select(_group, _status, func.count()).where(where).group_by(_group, _status)
    found = defaultdict[str, list[tuple[str, int]]](list)
    for name, status, how_many in conn.execute(query.order_by(func.count().desc(), _status)):
        found[name].append((status, how_many))
    return {
        name: dict(rows[:_MAX_STATUSES]) | _other_statuses(_total(rows[_MAX_STATUSES:])) for name, rows in found.items()
    }


def _total(rows: Iterable[tuple[str, int]]) -> int:
    return sum(how_many for _, how_many in rows)


def _other_statuses(others: int) -> dict[str, int]:
    return {"other statuses": others} if others else {}


def add(
    conn: Connection,
    *,
    target: str,
    cause: Cause,
    incident_id: int,
    now: datetime,
    age_limits: AgeLimits,
    group: str | None = None,
    item_ids: Sequence[str] | None = None,
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
    where = _unassigned(target, cause, now, age_limits, group)
    if item_ids is not None:
        where = and_(where, items.c.item_id.in_(item_ids))
    return conn.execute(update(items).where(where).values(incident_id=incident_id)).rowcount


def incidents_losing_members(
    conn: Connection, *, target: str, cause: Cause, now: datetime, age_limits: AgeLimits, remove_untracked: bool
) -> frozenset[int]:
    """The incidents of a cause that have members for `remove_recovered` to let go, or with `remove_untracked` for that."""
    of_cause = and_(incidents.c.id == items.c.incident_id, incidents.c.cause == cause.value)
    stayed = or_(incidents.c.group_name == "", _group == incidents.c.group_name)
    recovered = _recovered(cause, now, age_limits, stayed)
    query = select(items.c.incident_id).join(incidents, of_cause).where(items.c.target == target)
    return frozenset(
        conn.execute(
            query.where(or_(recovered, not_(_active())) if remove_untracked else recovered).distinct()
        ).scalars()
    )


def remove_recovered(
    conn: Connection, *, incident_id: int, cause: Cause, now: datetime, age_limits: AgeLimits, group: str = ""
) -> int:
    """Lets members go that are seen not to be in the bad state any more; gives back how many.

    An unknown item stays: nothing was found out about it. Of a group's incident, whatever moved to another group goes.
    """
    recovered = _recovered(cause, now, age_limits, _group == group if group else true())
    where = and_(items.c.incident_id == incident_id, recovered)
    return conn.execute(update(items).where(where).values(incident_id=None)).rowcount


def _recovered(cause: Cause, now: datetime, age_limits: AgeLimits, stayed: ColumnElement[bool]) -> ColumnElement[bool]:
    """Tracked items that are seen not to be in the bad state any more, or that did not stay in their group."""
    unrecovered = and_(_matches_cause(cause, now, age_limits), stayed)
    return and_(_active(), items.c.state != ItemState.UNKNOWN.value, not_(unrecovered))


def remove_untracked(conn: Connection, *, incident_id: int) -> int:
    """Lets members go that left the sync log or were told to be ignored; gives back how many."""
    where = and_(items.c.incident_id == incident_id, ~_active())
    return conn.execute(update(items).where(where).values(incident_id=None)).rowcount


def remove_all(conn: Connection, *, incident_id: int) -> None:
    """Lets all members go: the incident is resolved."""
    conn.execute(update(items).where(items.c.incident_id == incident_id).values(incident_id=None))


def counts(conn: Connection, *, target: str) -> dict[int, int]:
    """How many items belong to each incident of a target, but for those that have none."""
    in_group = (items.c.target == target, items.c.incident_id.is_not(None))
    query = select(items.c.incident_id, func.count()).where(*in_group).group_by(items.c.incident_id)
    return {row[0]: row[1] for row in conn.execute(query)}


def first_ids(conn: Connection, *, incident_id: int, limit: int = 10) -> tuple[str, ...]:
    """The first few members of an incident, by id."""
    return tuple(item_id for item_id, *_ in sample(conn, incident_id=incident_id, limit=limit))


def by_group(conn: Connection, *, incident_id: int) -> dict[str, int]:
    """How many members of an incident are in which group, those without one under an empty name: the most first."""
    return _by_group(conn, items.c.incident_id == incident_id)


def _by_group(conn: Connection, where: ColumnElement[bool]) -> dict[str, int]:
    query = select(_group, func.count()).where(where).group_by(_group).order_by(func.count().desc(), _group)
    return {row[0]: row[1] for row in conn.execute(query.limit(_MAX_GROUPS))}


def sample(conn: Connection, *, incident_id: int, limit: int) -> list[tuple[str, str | None, datetime | None]]:
    """The first members of an incident: id, stage, and since when they are as they are."""
    query = select(items.c.item_id, items.c.stage, func.coalesce(items.c.pending_since, items.c.since).label("since"))
    query = query.where(items.c.incident_id == incident_id).order_by(items.c.item_id).limit(limit)
    return [(row.item_id, row.stage, row.since) for row in conn.execute(query)]
