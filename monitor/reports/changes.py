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

_LIFECYCLE_EVENTS = ("opened", "reopened", "resolved")
"""Events of an incident that change whether it is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCounts:
    """The finished runs of a target after a certain one."""

    by_status: Mapping[RunStatus, int]
    """How they ended; only what occurred."""
    first_started_at: datetime
    last_finished_at: datetime
    last_run_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemChangeCount:
    """Items that went the same way."""

    change: str
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


def last_snapshot_at(conn: Connection, *, target: str, upto: int) -> datetime | None:
    """When the newest snapshot of a target was made among the runs up to that id; None when there is none."""
    query = select(runs.c.finished_at).join(snapshots, snapshots.c.run_id == runs.c.id)
    query = query.where(runs.c.target == target, runs.c.id <= upto).order_by(runs.c.id.desc()).limit(1)
    return conn.execute(query).scalar()


def count_runs(conn: Connection, *, target: str, after: int) -> RunCounts | None:
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
    return RunCounts(
        by_status=MappingProxyType({RunStatus(row.status): row.runs for row in rows}),
        first_started_at=min(row.first for row in rows),
        last_finished_at=max(row.last for row in rows),
        last_run_id=max(row.last_id for row in rows),
    )


def count_item_changes(conn: Connection, *, target: str, after: int, upto: int, samples: int) -> list[ItemChangeCount]:
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
    change = case((item_events.c.kind == "state", item_events.c.new), else_=item_events.c.kind).label("what")
    same = and_(items.c.target == item_events.c.target, items.c.item_id == item_events.c.item_id)
    # not by the target of the events: then SQLite would walk through all that it ever had
    of_target = select(runs.c.id).where(runs.c.target == target, runs.c.id > after, runs.c.id <= upto)
    of_runs = item_events.c.run_id.in_(of_target)
    each = select(change, items.c.item_id).distinct().join(items, same).where(of_runs, or_(turned, left, back))
    each_one = each.subquery("each_one")
    place = func.row_number().over(partition_by=each_one.c.change, order_by=each_one.c.item_id).label("place")
    counted = func.count().over(partition_by=each_one.c.change).label("items")
    placed = select(each_one, place, counted).subquery("placed")
    rows = conn.execute(select(placed).where(placed.c.place <= samples).order_by(placed.c.change, placed.c.place)).all()
    found: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for row in rows:
        found.setdefault(row.change, []).append(row.item_id)
        counts[row.change] = row.items
    return [ItemChangeCount(change=each, count=counts[each], sample_ids=tuple(ids)) for each, ids in found.items()]


def count_new_items(conn: Connection, *, target: str, start: datetime, end: datetime) -> int:
    """How many tracked items of a target were first read from its sync log from `start` to `end` (both included)."""
    seen = items.c.first_seen_at >= start, items.c.first_seen_at <= end
    query = select(func.count()).select_from(items).where(items.c.target == target, *seen, *active())
    return conn.execute(query).scalar_one()


def count_newly_stuck(conn: Connection, *, target: str, after: datetime, upto: datetime, stuck_after: timedelta) -> int:
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
    happened: list[ColumnElement[bool]] = [
        incident_events.c.id > after,
        incident_events.c.kind.in_(_LIFECYCLE_EVENTS),
        theirs,
    ]
    if since is not None:
        happened.append(incident_events.c.at >= since)
    which = (incidents.c.id, incidents.c.target, incidents.c.cause, incidents.c.state)
    flags = [
        func.max(case((incident_events.c.kind == kind, incident_events.c.id), else_=0)).label(kind)
        for kind in _LIFECYCLE_EVENTS
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
            kinds=tuple(sorted((kind for kind in _LIFECYCLE_EVENTS if row[kind]), key=lambda kind: row[kind])),
        )
        for row in rows
    ]
    return (rows[0]["incidents"] if rows else 0), found


def last_event(conn: Connection) -> int:
    """The id of the newest event of any incident; 0 before the first."""
    return conn.execute(select(func.max(incident_events.c.id))).scalar() or 0


NO_TARGET = ""
"""In the place of a target: incidents that belong to none of the configured targets, such as those of channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportCursor:
    """How far one report told."""

    generated_at: datetime
    last_run_id: int
    """The newest finished run that it told of; 0: none."""
    last_incident_event_id: int


def last_cursor(conn: Connection, *, target: str) -> ReportCursor | None:
    """How far the last report on a target told; None before the first."""
    columns = (reports.c.generated_at, reports.c.last_run_id, reports.c.last_incident_event_id)
    row = conn.execute(select(*columns).where(reports.c.target == target)).mappings().one_or_none()
    return None if row is None else ReportCursor(**row)


def save_cursor(conn: Connection, *, target: str, cursor: ReportCursor) -> None:
    """Stores how far a report told, in place of the one before. Must run in a writing transaction."""
    values = {
        "generated_at": cursor.generated_at,
        "last_run_id": cursor.last_run_id,
        "last_incident_event_id": cursor.last_incident_event_id,
    }
    row = insert(conn, reports).values(target=target, **values)
    conn.execute(row.on_conflict_do_update(index_elements=[reports.c.target], set_=values))
