"""What runs changed since a certain one, added up: runs by how they ended, items by what became of them, incidents.

An item counts once, under what holds of it now: one that failed and recovered in between is completed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select

from monitor.database.engine import insert
from monitor.database.tables import active, incident_events, incidents, item_events, items, reports, runs, snapshots
from monitor.model import Cause, IncidentState, ItemState, RunStatus

_TOLD = ("opened", "reopened", "resolved")
"""Events of an incident that change whether it is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsMade:
    """The finished runs of a target after a certain one."""

    by_status: Mapping[RunStatus, int]
    """How they ended; only what occurred."""
    first_started_at: datetime
    last_finished_at: datetime
    last_run_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsChanged:
    """Items that went the same way."""

    what: str
    """An item state, `removed` or `returned`."""
    count: int
    sample_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentChange:
    """An incident that opened, reopened or resolved."""

    id: int
    target: str
    cause: Cause
    state: IncidentState
    """As it is now."""
    kinds: tuple[str, ...]
    """Which of `opened`, `reopened` and `resolved` happened to it, in the order in which each did last."""


def run_before(conn: Connection, *, target: str, at: datetime) -> int:
    """The id of the last run of a target that started before a moment; 0 when there is none."""
    earlier = select(runs.c.id).where(runs.c.target == target, runs.c.started_at < at)
    return conn.execute(earlier.order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(1)).scalar() or 0


def counted_at(conn: Connection, *, target: str, upto: int) -> datetime | None:
    """When the newest snapshot of a target was made among the runs up to that id; None when there is none."""
    query = select(runs.c.finished_at).join(snapshots, snapshots.c.run_id == runs.c.id)
    query = query.where(runs.c.target == target, runs.c.id <= upto).order_by(runs.c.id.desc()).limit(1)
    return conn.execute(query).scalar()


def runs_made(conn: Connection, *, target: str, after: int) -> RunsMade | None:
    """The finished runs of a target after the run of that id, or None when there is none."""
    finished = and_(runs.c.target == target, runs.c.id > after, runs.c.status != RunStatus.RUNNING.value)
    query = select(
        runs.c.status,
        func.count().label("runs"),
        func.min(runs.c.started_at).label("first"),
        func.max(runs.c.finished_at).label("last"),
        func.max(runs.c.id).label("last_id"),
    )
    rows = conn.execute(query.where(finished).group_by(runs.c.status)).all()
    if not rows:
        return None
    return RunsMade(
        by_status=MappingProxyType({RunStatus(row.status): row.runs for row in rows}),
        first_started_at=min(row.first for row in rows),
        last_finished_at=max(row.last for row in rows),
        last_run_id=max(row.last_id for row in rows),
    )


def items_changed(conn: Connection, *, target: str, after: int, upto: int, samples: int) -> list[ItemsChanged]:
    """What became of the items of a target in the runs after one and up to another.

    Args:
        conn: a connection.
        target: whose items.
        after: the id of a run; those after it count.
        upto: the id of the last run that counts.
        samples: how many ids to name each time (≥ 1).
    """
    turned = and_(item_events.c.kind == "state", items.c.known_state == item_events.c.new, *active())
    left = and_(item_events.c.kind == "removed", items.c.removed_at.is_not(None))
    back = and_(item_events.c.kind == "returned", items.c.removed_at.is_(None))
    what = case((item_events.c.kind == "state", item_events.c.new), else_=item_events.c.kind).label("what")
    same = and_(items.c.target == item_events.c.target, items.c.item_id == item_events.c.item_id)
    # not by the target of the events: then SQLite would walk through all that it ever had
    of_target = select(runs.c.id).where(runs.c.target == target, runs.c.id > after, runs.c.id <= upto)
    of_runs = item_events.c.run_id.in_(of_target)
    each = select(what, items.c.item_id).distinct().join(items, same).where(of_runs, or_(turned, left, back))
    each_one = each.subquery("each_one")
    place = func.row_number().over(partition_by=each_one.c.what, order_by=each_one.c.item_id).label("place")
    counted = func.count().over(partition_by=each_one.c.what).label("items")
    placed = select(each_one, place, counted).subquery("placed")
    rows = conn.execute(select(placed).where(placed.c.place <= samples).order_by(placed.c.what, placed.c.place)).all()
    found: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for row in rows:
        found.setdefault(row.what, []).append(row.item_id)
        counts[row.what] = row.items
    return [ItemsChanged(what=each, count=counts[each], sample_ids=tuple(ids)) for each, ids in found.items()]


def items_new(conn: Connection, *, target: str, start: datetime, end: datetime) -> int:
    """How many tracked items of a target were first read from its sync log from `start` to `end` (both included)."""
    seen = items.c.first_seen_at >= start, items.c.first_seen_at <= end
    query = select(func.count()).select_from(items).where(items.c.target == target, *seen, *active())
    return conn.execute(query).scalar_one()


def become_stuck(conn: Connection, *, target: str, after: datetime, upto: datetime, stuck_after: timedelta) -> int:
    """How many items are pending whose patience ran out after one moment and before another."""
    ran_out = items.c.pending_since >= after - stuck_after, items.c.pending_since < upto - stuck_after
    pending = items.c.target == target, items.c.state == ItemState.PENDING.value, *active()
    return conn.execute(select(func.count()).select_from(items).where(*pending, *ran_out)).scalar_one()


def incident_changes(
    conn: Connection, *, of: str | None, not_of: Collection[str] = (), after: int, since: datetime | None, limit: int
) -> tuple[int, list[IncidentChange]]:
    """How many incidents opened, reopened or resolved, and the newest of them.

    Args:
        conn: a connection.
        of: whose incidents; None: of all targets but `not_of`.
        not_of: targets that are left out.
        after: the id of an incident's event; those after it count.
        since: aware; events before it do not count.
        limit: how many incidents to give back (> 0).
    """
    theirs = incidents.c.target == of if of is not None else incidents.c.target.not_in(list(not_of))
    happened: list[ColumnElement[bool]] = [incident_events.c.id > after, incident_events.c.kind.in_(_TOLD), theirs]
    if since is not None:
        happened.append(incident_events.c.at >= since)
    which = (incidents.c.id, incidents.c.target, incidents.c.cause, incidents.c.state)
    flags = [
        func.max(case((incident_events.c.kind == kind, incident_events.c.id), else_=0)).label(kind) for kind in _TOLD
    ]
    query = select(*which, *flags, func.count().over().label("incidents"))
    query = query.join(incident_events, incident_events.c.incident_id == incidents.c.id).where(*happened)
    rows = conn.execute(query.group_by(*which).order_by(incidents.c.id.desc()).limit(limit)).mappings().all()
    found = [
        IncidentChange(
            id=row["id"],
            target=row["target"],
            cause=Cause(row["cause"]),
            state=IncidentState(row["state"]),
            kinds=tuple(sorted((kind for kind in _TOLD if row[kind]), key=lambda kind: row[kind])),
        )
        for row in rows
    ]
    return (rows[0]["incidents"] if rows else 0), found


def last_event(conn: Connection) -> int:
    """The id of the newest event of any incident; 0 before the first."""
    return conn.execute(select(func.max(incident_events.c.id))).scalar() or 0


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
