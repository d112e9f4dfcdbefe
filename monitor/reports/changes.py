"""Counts what changed since given runs, of several targets in one statement, and stores the report's cursor.

Each item counts once, under its current state: an item that failed and recovered counts as completed.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    RowMapping,
    String,
    Text,
    and_,
    case,
    cast,
    exists,
    func,
    or_,
    select,
)

from monitor.database.bulk import RowSet
from monitor.database.engine import insert
from monitor.database.lookups import (
    ENDED,
    TARGETS,
    WITH_SNAPSHOT,
    every_target,
    has_status,
    looked_up,
    newest_id,
    newest_of_each,
)
from monitor.database.report_tables import reports
from monitor.database.tables import UtcDateTime, active, in_state, incident_events, incidents, item_events, items, runs
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


_AFTER = RowSet("after_runs", target=String(), after=BigInteger())
_WITHIN = RowSet("within", target=String(), first=UtcDateTime(), last=UtcDateTime())
_FOREVER = datetime(9999, 1, 1, tzinfo=UTC)


def runs_before(conn: Connection, *, targets: Sequence[str], at: datetime) -> dict[str, int]:
    """The id of each target's last run that started before a time; 0 if there is none."""
    earlier = select(runs.c.id).where(runs.c.target == TARGETS.c.target, runs.c.started_at < at)
    last = earlier.order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(1).correlate(TARGETS.table)
    query = select(TARGETS.c.target, last.scalar_subquery())
    return {name: run_id or 0 for name, run_id in conn.execute(query, TARGETS.of(conn, [(each,) for each in targets]))}


def last_snapshots_at(conn: Connection, *, upto: Mapping[str, int]) -> dict[str, datetime]:
    """When the newest run with a snapshot finished, of the runs of a target up to an id; only where there is one."""
    newest = newest_id(_AFTER.c.target, WITH_SNAPSHOT, upto=_AFTER.c.after, correlate=_AFTER.table)
    ended = select(runs.c.finished_at).where(runs.c.id == newest).correlate(_AFTER.table).scalar_subquery()
    rows = conn.execute(select(_AFTER.c.target, ended), _AFTER.of(conn, list(upto.items())))
    return {target: at for target, at in rows if at is not None}


def count_runs(conn: Connection, *, after: Mapping[str, int]) -> dict[str, RunCounts]:
    """The finished runs of each target after a run id; only where there are any."""
    each = looked_up(
        conn.dialect.name, (_AFTER.c.target,), (runs.c.status, runs.c.started_at, runs.c.finished_at, runs.c.id),
        runs.c.target == _AFTER.c.target, runs.c.id > _AFTER.c.after, has_status(ENDED),
    ).subquery("each").c  # fmt: skip
    query = select(
        each.target,
        each.status,
        func.count().label("runs"),
        func.min(each.started_at).label("first"),
        func.max(each.finished_at).label("last"),
        func.max(each.id).label("last_id"),
    ).group_by(each.target, each.status)
    found = defaultdict[str, list[Row[Any]]](list)
    for row in conn.execute(query, _AFTER.of(conn, list(after.items()))):
        found[row.target].append(row)
    return {
        target: RunCounts(
            by_status=MappingProxyType({RunStatus(row.status): row.runs for row in rows}),
            first_started_at=min(row.first for row in rows),
            last_finished_at=max(row.last for row in rows),
            last_run_id=max(row.last_id for row in rows),
        )
        for target, rows in found.items()
    }


LONG = timedelta(hours=6)
"""From here on runs are counted out of the rollups."""


def count_runs_since(
    conn: Connection, *, began: Mapping[str, tuple[int, datetime]], now: datetime
) -> dict[str, RunCounts]:
    """As `count_runs`, by the id of a run and the time at which it, or a period, began.

    In a long time, whole hours are counted out of the rollups: these are few, and there where runs were pruned, too.
    """
    short = {target: after for target, (after, since) in began.items() if now - since < LONG}
    found = count_runs(conn, after=short) if short else {}
    long = {target: each for target, each in began.items() if target not in short}
    return found | (_out_of_rollups(conn, long, now) if long else {})


def _out_of_rollups(conn: Connection, began: Mapping[str, tuple[int, datetime]], now: datetime) -> dict[str, RunCounts]:
    newest = newest_of_each(conn, list(began), {"ended": ENDED})
    ids = {row.ended: name for name, row in newest.items() if row.ended is not None and row.ended > began[name][0]}
    if not ids:
        return {}
    ended = dict(map(tuple, conn.execute(select(runs.c.id, runs.c.finished_at).where(runs.c.id.in_(ids)))))
    last_hour = slot_start(now, HOUR)
    whole = [(name, slot_start(began[name][1], HOUR) + HOUR, last_hour) for name in ids.values()]
    counts = {name: Counter(each) for (name, _, _), each in zip(whole, rollups.count_runs(conn, whole), strict=True)}
    edges = [edge for name, first, _ in whole for edge in ((name, began[name][1], first), (name, last_hour, _FOREVER))]
    # by the index on starts: not by ids and statuses, of which there are many
    query = looked_up(
        conn.dialect.name, (_WITHIN.c.target,), (runs.c.id, runs.c.status),
        runs.c.target == _WITHIN.c.target, runs.c.started_at >= _WITHIN.c.first, runs.c.started_at < _WITHIN.c.last,
    )  # fmt: skip
    for name, run_id, status in conn.execute(query, _WITHIN.of(conn, edges)):
        if run_id > began[name][0] and status != RunStatus.RUNNING:
            counts[name][RunStatus(status)] += 1
    return {
        name: RunCounts(
            by_status=MappingProxyType(dict(counts[name])),
            first_started_at=began[name][1],
            last_finished_at=ended[run_id],
            last_run_id=run_id,
        )
        for run_id, name in ids.items()
    }


def started_at(conn: Connection, *, run_ids: Collection[int]) -> dict[int, datetime]:
    """When runs started, by id; without those that are gone."""
    query = select(runs.c.id, runs.c.started_at).where(runs.c.id.in_(run_ids))
    return {row.id: row.started_at for row in conn.execute(query)}


_BETWEEN = RowSet("between_runs", target=String(), after=BigInteger(), upto=BigInteger())


def count_item_changes(
    conn: Connection, *, between: Mapping[str, tuple[int, int]], samples: int
) -> dict[str, list[ItemChangeCount]]:
    """By target the items that changed in the runs after one and up to another, with `samples` (≥ 1) ids per state."""
    # not by the runs: a year has half a million, and events in few of them
    event = looked_up(
        conn.dialect.name, (_BETWEEN.c.target,), (item_events.c.item_id, item_events.c.kind, item_events.c.new),
        item_events.c.target == _BETWEEN.c.target, item_events.c.run_id > _BETWEEN.c.after,
        item_events.c.run_id <= _BETWEEN.c.upto,
    ).subquery("event").c  # fmt: skip
    turned = and_(event.kind == "state", items.c.known_state == event.new, *active())
    left = and_(event.kind == "removed", items.c.removed_at.is_not(None))
    back = and_(event.kind == "returned", items.c.removed_at.is_(None))
    change = case((event.kind == "state", event.new), else_=event.kind).label("to")
    same = (items.c.target == event.target, items.c.item_id == event.item_id)
    each = select(items.c.target, change, items.c.item_id).distinct().where(*same, or_(turned, left, back))
    each_one = each.subquery("each_one")
    kinds = [each_one.c.target, each_one.c.to]
    place = func.row_number().over(partition_by=kinds, order_by=each_one.c.item_id).label("place")
    counted = func.count().over(partition_by=kinds).label("items")
    placed = select(each_one, place, counted).subquery("placed")
    query = select(placed).where(placed.c.place <= samples).order_by(placed.c.target, placed.c.to, placed.c.place)
    rows = [(target, after, upto) for target, (after, upto) in between.items()]
    ids = defaultdict[tuple[str, str, int], list[str]](list)
    for row in conn.execute(query, _BETWEEN.of(conn, rows)):
        ids[row.target, row.to, row.items].append(row.item_id)
    found = defaultdict[str, list[ItemChangeCount]](list)
    for (target, to, count), sample in ids.items():
        found[target].append(ItemChangeCount(to=to, count=count, sample_ids=tuple(sample)))
    return found


def count_new_items(conn: Connection, *, seen: Mapping[str, tuple[datetime, datetime]]) -> dict[str, int]:
    """By target the tracked items that were first seen in the sync log from one time to another (inclusive)."""
    within = (items.c.first_seen_at >= _WITHIN.c.first, items.c.first_seen_at <= _WITHIN.c.last)
    return _count_items(conn, seen, *within, *active())


def count_newly_stuck(conn: Connection, *, ran_out: Mapping[str, tuple[datetime, datetime]]) -> dict[str, int]:
    """By target the pending items that are so since one time or later, but before another: these became stuck."""
    within = (items.c.pending_since >= _WITHIN.c.first, items.c.pending_since < _WITHIN.c.last)
    return _count_items(conn, ran_out, in_state(ItemState.PENDING), *active(), *within)


def _count_items(
    conn: Connection, within: Mapping[str, tuple[datetime, datetime]], *which: ColumnElement[bool]
) -> dict[str, int]:
    query = select(items.c.target, func.count()).where(*which).group_by(items.c.target)
    query = query.join_from(_WITHIN.table, items, items.c.target == _WITHIN.c.target)
    rows = [(target, first, last) for target, (first, last) in within.items()]
    return dict.fromkeys(within, 0) | dict(map(tuple, conn.execute(query, _WITHIN.of(conn, rows))))


_REPORTED = RowSet("reported", target=String(), after=BigInteger(), since=UtcDateTime(), began=UtcDateTime())


_NAMED = RowSet("named", id=BigInteger(), after=BigInteger(), since=UtcDateTime())


def incident_changes_by_target(
    conn: Connection, *, reported: Mapping[str, tuple[int, datetime | None]], limit: int
) -> dict[str, tuple[int, list[IncidentChange]]]:
    """By target the number of incidents that opened, reopened or resolved, and the newest `limit` (> 0).

    Only incident events after an id count, and with a time only those from then on.
    """
    began = _first_events_at(conn, {after for after, since in reported.values() if since is None})
    rows = [(target, after, since, since or began.get(after)) for target, (after, since) in reported.items()]
    of, target = _REPORTED.c, incidents.c.target
    happened = (
        exists()
        .where(incident_events.c.incident_id == incidents.c.id, *_events_since(of.after, of.since))
        .correlate(incidents, _REPORTED.table)
    )
    ids_of = defaultdict[str, list[int]](list)
    for each in (
        # only these can have events of the period: the last event of a resolved one is its resolution
        (incidents.c.resolved_at.is_(None), happened),
        (incidents.c.resolved_at >= of.began, or_(incidents.c.resolved_at >= of.since, happened)),
    ):
        # thousands of a year: as one text per target, and not placed by the database, which would sort them
        ids = select(func.aggregate_strings(cast(incidents.c.id, Text), ",")).where(target == of.target, *each)
        query = select(of.target, ids.correlate(_REPORTED.table).scalar_subquery())
        for name, numbers in conn.execute(query, _REPORTED.of(conn, rows)):
            ids_of[name] += map(int, numbers.split(",")) if numbers else ()
    named = {name: sorted(numbers, reverse=True)[:limit] for name, numbers in ids_of.items()}
    periods = {name: (after, since) for name, after, since, _ in rows}
    wanted = [(number, *periods[name]) for name, numbers in named.items() for number in numbers]
    which = (incidents.c.id, target, incidents.c.cause, incidents.c.state)
    query = select(*which, *_flags()).join_from(_NAMED.table, incidents, incidents.c.id == _NAMED.c.id)
    query = query.join(incident_events, incident_events.c.incident_id == incidents.c.id)
    query = query.where(*_events_since(_NAMED.c.after, _NAMED.c.since)).group_by(*which).order_by(incidents.c.id.desc())
    changed = conn.execute(query, _NAMED.of(conn, wanted)).mappings().all() if wanted else ()
    listed = defaultdict[str, list[IncidentChange]](list)
    for row in changed:
        listed[row["target"]].append(_incident_change(row))
    return {name: (len(ids_of[name]), listed[name]) for name in reported}


def incident_changes(
    conn: Connection, *, not_of: Collection[str], after: int, since: datetime | None, limit: int
) -> tuple[int, list[IncidentChange]]:
    """The number of incidents of other targets that opened, reopened or resolved, and the newest `limit` (> 0).

    `after` is the id of an incident event: only later ones count, and with `since` only those from that time on.
    """
    others = conn.execute(select(every_target(incidents.c.target).c.target)).scalars()
    names = [name for name in others if name is not None and name not in not_of]
    if not names:
        return 0, []
    found = incident_changes_by_target(conn, reported=dict.fromkeys(names, (after, since)), limit=limit).values()
    newest = sorted((each for _, listed in found for each in listed), key=lambda each: -each.id)
    return sum(total for total, _ in found), newest[:limit]


def _events_since(after: ColumnElement[int], since: ColumnElement[datetime]) -> tuple[ColumnElement[bool], ...]:
    return (
        incident_events.c.id > after,
        incident_events.c.kind.in_(_LIFECYCLE_EVENTS),
        or_(since.is_(None), incident_events.c.at >= since),
    )


def _flags() -> list[ColumnElement[int]]:
    """Per kind of event the id of the newest one of an incident."""
    return [
        func.max(case((incident_events.c.kind == kind, incident_events.c.id), else_=0)).label(kind)
        for kind in _LIFECYCLE_EVENTS
    ]


def _incident_change(row: RowMapping) -> IncidentChange:
    return IncidentChange(
        id=row["id"],
        target=row["target"],
        cause=Cause(row["cause"]),
        state=IncidentState(row["state"]),
        happened=tuple(sorted((kind for kind in _LIFECYCLE_EVENTS if row[kind]), key=lambda kind: row[kind])),
    )


_EVENTS = RowSet("events", after=BigInteger())


def _first_events_at(conn: Connection, after: Collection[int]) -> dict[int, datetime]:
    """A time before all incident events after each of these ids; only where there are any."""
    if not after:
        return {}
    later = select(incident_events.c.at).where(incident_events.c.id > _EVENTS.c.after).order_by(incident_events.c.id)
    first = later.limit(1).correlate(_EVENTS.table).scalar_subquery()
    rows = conn.execute(select(_EVENTS.c.after, first), _EVENTS.of(conn, [(each,) for each in after]))
    return {number: at - _CLOCK_SET_BACK_AT_MOST for number, at in rows if at is not None}


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


def last_cursors(conn: Connection, *, targets: Collection[str]) -> dict[str, ReportCursor]:
    """What the last report on each target covered; without targets that had none."""
    columns = (reports.c.target, reports.c.generated_at, reports.c.last_run_id, reports.c.last_incident_event_id)
    rows = map(dict, conn.execute(select(*columns).where(reports.c.target.in_(targets))).mappings())
    return {row.pop("target"): ReportCursor(**row) for row in rows}


def save_cursor(conn: Connection, *, target: str, cursor: ReportCursor) -> None:
    """Replaces the stored cursor of a target. Must run in a writing transaction."""
    values = asdict(cursor)
    row = insert(conn, reports).values(target=target, **values)
    conn.execute(row.on_conflict_do_update(index_elements=[reports.c.target], set_=values))
