"""Counts what changed since a given run, and stores the report's cursor.

Each item counts once, under its current state: an item that failed and recovered counts as completed.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select, union_all

from monitor.database.engine import insert
from monitor.database.lookups import ENDED, WITH_SNAPSHOT, every_target, has_status, newest_id
from monitor.database.report_tables import reports
from monitor.database.tables import active, in_state, incident_events, incidents, item_events, items, runs
from monitor.model import Cause, IncidentState, ItemState, RunStatus
from monitor.rollups import history as rollups
from monitor.rollups.bounds import slot_start
from monitor.rollups.history import HOUR

_LIFECYCLE_EVENTS = ("opened", "reopened", "resolved")
_CLOCK_SET_BACK_AT_MOST = timedelta(days=1)
"""Between an event and a later one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCounts:
    """The finished runs of a target after a given one."""

    by_status: Mapping[RunStatus, int]
    """Only statuses that occurred."""
    first_started_at: datetime
    last_finished_at: datetime
    last_run_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemChangeCount:
    """Items with the same new state."""

    to: str
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
    happened: tuple[str, ...]
    """Those of `opened`, `reopened` and `resolved` that happened, ordered by their last occurrence."""


def run_before(conn: Connection, *, target: str, at: datetime) -> int:
    """The id of a target's last run that started before a time; 0 if there is none."""
    earlier = select(runs.c.id).where(runs.c.target == target, runs.c.started_at < at)
    return conn.execute(earlier.order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(1)).scalar() or 0


def last_snapshot_at(conn: Connection, *, target: str, upto: int) -> datetime | None:
    """When the newest run with a snapshot finished, of the runs up to an id; None if there is none."""
    newest = newest_id(target, WITH_SNAPSHOT, upto=upto)
    return conn.execute(select(runs.c.finished_at).where(runs.c.id == newest)).scalar()


def count_runs(conn: Connection, *, target: str, after: int) -> RunCounts | None:
    """The finished runs of a target after a run id; None if there are none."""
    finished = and_(runs.c.target == target, runs.c.id > after, has_status(ENDED))
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


LONG = timedelta(days=2)
"""From here on runs are counted out of the rollups."""


def count_runs_since(conn: Connection, *, target: str, after: int, since: datetime, now: datetime) -> RunCounts | None:
    """As `count_runs`, for a run, or a period, that began at `since`.

    In a long time, whole hours are counted out of the rollups: these are few, and there where runs were pruned, too.
    """
    if now - since < LONG:
        return count_runs(conn, target=target, after=after)
    newest = select(runs.c.id, runs.c.finished_at).where(runs.c.id == newest_id(target, ENDED), runs.c.id > after)
    last = conn.execute(newest).first()
    if last is None:
        return None
    first_hour, last_hour = slot_start(since, HOUR) + HOUR, slot_start(now, HOUR)
    counts = Counter(rollups.count_runs(conn, target=target, since=first_hour, until=last_hour))
    for start, end in ((since, first_hour), (last_hour, None)):
        in_hour = [runs.c.target == target, runs.c.started_at >= start]
        in_hour += [runs.c.started_at < end] if end else []
        # by the index on starts: not by ids and statuses, of which there are many
        rows = conn.execute(select(runs.c.id, runs.c.status).where(*in_hour))
        counts.update(RunStatus(status) for run_id, status in rows if run_id > after and status != RunStatus.RUNNING)
    return RunCounts(
        by_status=MappingProxyType(dict(counts)),
        first_started_at=since,
        last_finished_at=last.finished_at,
        last_run_id=last.id,
    )


def started_at(conn: Connection, *, run_id: int) -> datetime | None:
    """When a run started; None if it is gone."""
    return conn.execute(select(runs.c.started_at).where(runs.c.id == run_id)).scalar()


def count_item_changes(conn: Connection, *, target: str, after: int, upto: int, samples: int) -> list[ItemChangeCount]:
    """The changed items of a target in the runs after `after` and up to `upto`, with `samples` (≥ 1) ids per state."""
    turned = and_(item_events.c.kind == "state", items.c.known_state == item_events.c.new, *active())
    left = and_(item_events.c.kind == "removed", items.c.removed_at.is_not(None))
    back = and_(item_events.c.kind == "returned", items.c.removed_at.is_(None))
    change = case((item_events.c.kind == "state", item_events.c.new), else_=item_events.c.kind).label("to")
    same = and_(items.c.target == item_events.c.target, items.c.item_id == item_events.c.item_id)
    # not by the runs: a year has half a million, and events in few of them
    of_runs = item_events.c.target == target, item_events.c.run_id > after, item_events.c.run_id <= upto
    each = select(change, items.c.item_id).distinct().join(items, same).where(*of_runs, or_(turned, left, back))
    each_one = each.subquery("each_one")
    place = func.row_number().over(partition_by=each_one.c.to, order_by=each_one.c.item_id).label("place")
    counted = func.count().over(partition_by=each_one.c.to).label("items")
    placed = select(each_one, place, counted).subquery("placed")
    rows = conn.execute(select(placed).where(placed.c.place <= samples).order_by(placed.c.to, placed.c.place)).all()
    found: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for row in rows:
        found.setdefault(row.to, []).append(row.item_id)
        counts[row.to] = row.items
    return [ItemChangeCount(to=each, count=counts[each], sample_ids=tuple(ids)) for each, ids in found.items()]


def count_new_items(conn: Connection, *, target: str, start: datetime, end: datetime) -> int:
    """Number of tracked items first seen in the sync log from `start` to `end` (inclusive)."""
    seen = items.c.first_seen_at >= start, items.c.first_seen_at <= end
    query = select(func.count()).select_from(items).where(items.c.target == target, *seen, *active())
    return conn.execute(query).scalar_one()


def count_newly_stuck(conn: Connection, *, target: str, after: datetime, upto: datetime, stuck_after: timedelta) -> int:
    """Number of pending items that became stuck between two times."""
    ran_out = items.c.pending_since >= after - stuck_after, items.c.pending_since < upto - stuck_after
    pending = items.c.target == target, in_state(ItemState.PENDING), *active()
    return conn.execute(select(func.count()).select_from(items).where(*pending, *ran_out)).scalar_one()


def incident_changes(
    conn: Connection, *, of: str | None, not_of: Collection[str] = (), after: int, since: datetime | None, limit: int
) -> tuple[int, list[IncidentChange]]:
    """The number of incidents that opened, reopened or resolved, and the newest `limit` (> 0).

    `after` is the id of an incident event: only later ones count, and with `since` only those from that time on.
    If `of` is None, all targets except `not_of` count.
    """
    ids = select(incidents.c.id)
    if of is not None:
        ids = ids.where(incidents.c.target == of)
    else:
        others = select(every_target(incidents.c.target).c.target)
        ids = ids.where(incidents.c.target.in_(others), incidents.c.target.not_in(list(not_of)))
    began = since or _first_event_at(conn, after=after)
    # only these can have events of the period: the last event of a resolved one is its resolution
    wanted = [ids.where(incidents.c.resolved_at.is_(None))]
    if began is not None:
        wanted.append(ids.where(incidents.c.resolved_at >= began))
    happened: list[ColumnElement[bool]] = [
        incident_events.c.id > after,
        incident_events.c.kind.in_(_LIFECYCLE_EVENTS),
        incidents.c.id.in_(union_all(*wanted)),
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
            happened=tuple(sorted((kind for kind in _LIFECYCLE_EVENTS if row[kind]), key=lambda kind: row[kind])),
        )
        for row in rows
    ]
    return (rows[0]["incidents"] if rows else 0), found


def _first_event_at(conn: Connection, *, after: int) -> datetime | None:
    """A time before all incident events after an id; None if there are none."""
    first = select(incident_events.c.at).where(incident_events.c.id > after).order_by(incident_events.c.id).limit(1)
    at: datetime | None = conn.execute(first).scalar()
    return None if at is None else at - _CLOCK_SET_BACK_AT_MOST


def last_event(conn: Connection) -> int:
    """The id of the newest incident event; 0 before the first."""
    return conn.execute(select(func.max(incident_events.c.id))).scalar() or 0


NO_TARGET = ""
"""Stored instead of a target, for incidents that belong to no configured target, such as those of channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportCursor:
    """What the last report covered."""

    generated_at: datetime
    last_run_id: int
    """The newest finished run; 0: none."""
    last_incident_event_id: int


def last_cursor(conn: Connection, *, target: str) -> ReportCursor | None:
    """What the last report on a target covered; None before the first."""
    columns = (reports.c.generated_at, reports.c.last_run_id, reports.c.last_incident_event_id)
    row = conn.execute(select(*columns).where(reports.c.target == target)).mappings().one_or_none()
    return None if row is None else ReportCursor(**row)


def save_cursor(conn: Connection, *, target: str, cursor: ReportCursor) -> None:
    """Replaces the stored cursor of a target. Must run in a writing transaction."""
    values = asdict(cursor)
    row = insert(conn, reports).values(target=target, **values)
    conn.execute(row.on_conflict_do_update(index_elements=[reports.c.target], set_=values))
