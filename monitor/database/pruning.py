"""Queries for pruning: the next batch of old rows, what must be kept, and deleting; then freeing disk space.

Functions with a connection work inside the caller's transaction. Rows are read in the order of their ids, so that no
index on times is needed. `retention_policy` decides what is old.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, Engine, and_, case, delete, exists, func, or_, select, text

from monitor.database.engine import reading, translate_errors
from monitor.database.report_tables import reports
from monitor.database.retention_policy import (
    KEPT_RUNS,
    ExpiredBatch,
    KeepReason,
    OldRun,
    ProtectedRuns,
    Prunable,
    expired,
    keep_reason,
)
from monitor.database.tables import (
    canaries,
    evidence,
    incident_events,
    incidents,
    item_events,
    items,
    notifications,
    runs,
    waits,
)
from monitor.database.tables import snapshots as snapshot_rows
from monitor.database.urls import is_sqlite
from monitor.model import IncidentState, ItemState, RunStatus

_TABLES = {
    Prunable.SNAPSHOTS: runs,
    Prunable.ITEM_EVENTS: item_events,
    Prunable.NOTIFICATIONS: notifications,
    Prunable.WAITS: waits,
    Prunable.CANARIES: canaries,
}
_TIMES = {
    Prunable.SNAPSHOTS: runs.c.finished_at,
    Prunable.ITEM_EVENTS: item_events.c.at,
    Prunable.NOTIFICATIONS: notifications.c.created_at,
    Prunable.WAITS: waits.c.started_at,
    Prunable.CANARIES: canaries.c.finished_at,
}


def newest_run_starts(conn: Connection, *, before: datetime) -> tuple[datetime | None, datetime | None]:
    """The latest start of any run, and the latest start before a given time."""
    settled = func.max(case((runs.c.started_at <= before, runs.c.started_at)), type_=runs.c.started_at.type)
    row = conn.execute(select(func.max(runs.c.started_at), settled)).one()
    return row[0], row[1]


def next_batch(
    conn: Connection, kind: Prunable, *, after: int, before: datetime, now: datetime, limit: int
) -> ExpiredBatch | None:
    """The old rows among the next `limit` (> 0) rows after an id (0: from the first); None if there are no rows."""
    key, at = _TABLES[kind].c.id, _TIMES[kind]
    rows = conn.execute(select(key, at).where(key > after).order_by(key).limit(limit)).all()
    return expired([(row[0], row[1]) for row in rows], before=before, now=now, after=after) if rows else None


def protected(conn: Connection, *, newest: int = KEPT_RUNS) -> ProtectedRuns:
    """The runs that are kept whatever their age, among them the `newest` (> 0) per target and outcome.

    Runs written later are recent, and so are kept anyway.
    """
    floors, ends = _newest_runs(conn, newest)
    return ProtectedRuns(
        newest=floors,
        ends=ends,
        incidents=_runs_of_incidents(conn),
        openings=_openings(conn),
        reports=_runs_of_reports(conn),
    )


def prune(conn: Connection, kind: Prunable, ids: Sequence[int], *, before: datetime, protected: ProtectedRuns) -> int:
    """Deletes the old rows that are not protected; returns how many. Must run in a writing transaction."""
    if kind is Prunable.SNAPSHOTS:
        ids = _deletable_runs(conn, ids, protected)
    return conn.execute(delete(_TABLES[kind]).where(*_delete_conditions(kind, ids, before))).rowcount if ids else 0


def count(conn: Connection, kind: Prunable, ids: Sequence[int], *, before: datetime, protected: ProtectedRuns) -> int:
    """How many of these old rows `prune` would delete."""
    if kind is Prunable.SNAPSHOTS:
        return len(_deletable_runs(conn, ids, protected))
    query = select(func.count()).select_from(_TABLES[kind]).where(*_delete_conditions(kind, ids, before))
    return conn.execute(query).scalar_one()


def _delete_conditions(kind: Prunable, ids: Sequence[int], before: datetime) -> tuple[ColumnElement[bool], ...]:
    these = _TABLES[kind].c.id.in_(ids)
    match kind:
        case Prunable.SNAPSHOTS:
            return (these,)
        case Prunable.ITEM_EVENTS:
            return these, ~_latest_state_event()
        case Prunable.NOTIFICATIONS:
            return these, _of_resolved_incidents(before)
        case Prunable.WAITS:
            return these, waits.c.result.is_not(None)
        case Prunable.CANARIES:
            return these, canaries.c.clean_up != "pending", _older_canary()


def _deletable_runs(conn: Connection, ids: Sequence[int], protected: ProtectedRuns) -> list[int]:
    columns = (runs.c.id, runs.c.target, runs.c.status, _reason().label("abort_reason"), runs.c.finished_at)
    ended = runs.c.status != RunStatus.RUNNING.value
    rows = conn.execute(select(*columns).where(runs.c.id.in_(ids), ended)).mappings()
    return [row["id"] for row in rows if keep_reason(OldRun(**row), protected) is KeepReason.PRUNED]


def _latest_state_event() -> ColumnElement[bool]:
    """The last state change of an item that is not completed: it shows since when, or that it was completed before."""
    later = item_events.alias("later")
    same = and_(later.c.target == item_events.c.target, later.c.item_id == item_events.c.item_id)
    newer = exists().where(same, later.c.kind == "state", later.c.id > item_events.c.id)
    unfinished = exists().where(
        items.c.target == item_events.c.target,
        items.c.item_id == item_events.c.item_id,
        items.c.removed_at.is_(None),
        items.c.known_state.is_distinct_from(ItemState.COMPLETED.value),
    )
    return and_(item_events.c.kind == "state", unfinished, ~newer)


def _of_resolved_incidents(before: datetime) -> ColumnElement[bool]:
    """Sent, about an incident that was resolved before and has no message due: later messages refer to earlier ones.

    Or a report that was sent before.
    """
    over = exists().where(
        incidents.c.id == notifications.c.incident_id,
        incidents.c.state == IncidentState.RESOLVED.value,
        incidents.c.resolved_at < before,
    )
    other = notifications.alias("other")
    waits = exists().where(
        other.c.incident_id == notifications.c.incident_id,
        or_(other.c.status.not_in(("sent", "superseded")), other.c.created_at >= before, other.c.sent_at >= before),
    )
    report = and_(
        notifications.c.incident_id.is_(None), notifications.c.status == "sent", notifications.c.sent_at < before
    )
    return or_(and_(over, ~waits), report)


def _older_canary() -> ColumnElement[bool]:
    """Not the newest of its target and status, which metrics and reports show."""
    later = canaries.alias("later")
    return exists().where(
        later.c.target == canaries.c.target, later.c.status == canaries.c.status, later.c.id > canaries.c.id
    )


def _reason() -> ColumnElement[str]:
    return func.coalesce(runs.c.abort_reason, "")


def _newest_runs(conn: Connection, kept: int) -> tuple[dict[tuple[str, str, str], int], set[int]]:
    """`ProtectedRuns.newest` and `.ends`."""
    kind = (runs.c.target, runs.c.status, _reason().label("reason"))
    same_outcome = (runs.c.target, runs.c.status, _reason())
    by_start = (runs.c.started_at.desc(), runs.c.id.desc())
    by_run_key = (runs.c.target, runs.c.run_key.is_(None))
    place = func.row_number()
    ranked = select(
        *kind,
        runs.c.id,
        place.over(partition_by=same_outcome, order_by=runs.c.id.desc()).label("place"),
        place.over(partition_by=same_outcome, order_by=by_start).label("late"),
        place.over(partition_by=runs.c.target, order_by=(runs.c.started_at, runs.c.id)).label("early"),
        place.over(partition_by=by_run_key, order_by=runs.c.id.desc()).label("turn"),
    ).subquery("ranked")
    # a daemon continues after the last run with a run key
    at_an_end = or_(ranked.c.late == 1, ranked.c.early == 1, ranked.c.turn == 1)
    chosen = or_(ranked.c.place == kept, at_an_end)
    floors, ends = {}, set()
    for row in conn.execute(select(ranked).where(chosen)):
        if row.place == kept:
            floors[row.target, row.status, row.reason] = row.id
        if 1 in (row.late, row.early, row.turn):
            ends.add(row.id)
    return floors, ends


def _runs_of_incidents(conn: Connection) -> set[int]:
    """The run with the newest evidence of each incident, and every run that an open incident refers to."""
    newest = select(evidence.c.run_id).join(incidents, incidents.c.evidence_id == evidence.c.id)
    named = select(incident_events.c.run_id).join(incidents, incidents.c.id == incident_events.c.incident_id)
    named = named.where(incidents.c.state != IncidentState.RESOLVED.value, incident_events.c.run_id.is_not(None))
    return set(conn.execute(newest.union(named)).scalars())


def _openings(conn: Connection) -> dict[str, list[tuple[datetime, datetime]]]:
    columns = (incidents.c.target, incidents.c.first_evidence_at, incidents.c.opened_at)
    found = defaultdict[str, list[tuple[datetime, datetime]]](list)
    for target, since, until in conn.execute(select(*columns).where(incidents.c.state != IncidentState.RESOLVED.value)):
        found[target].append((since, until))
    return found


def _runs_of_reports(conn: Connection) -> set[int]:
    reported = select(func.max(snapshot_rows.c.run_id)).join(runs, runs.c.id == snapshot_rows.c.run_id)
    reported = reported.where(runs.c.target == reports.c.target, runs.c.id <= reports.c.last_run_id)
    rows = conn.execute(select(reports.c.last_run_id, reported.scalar_subquery())).all()
    return {run_id for row in rows for run_id in row if run_id}


_INCREMENTAL = 2


class SpaceReclaim(StrEnum):
    """What happens to the space of deleted rows."""

    SERVER = "server"
    RETURNED = "returned"
    KEPT = "kept"
    """The file was created without `auto_vacuum`: it keeps its size and reuses the space."""


def space_reclaim(engine: Engine) -> SpaceReclaim:
    """What this database does with it."""
    if not is_sqlite(engine.url):
        return SpaceReclaim.SERVER
    with reading(engine) as conn:
        return SpaceReclaim.RETURNED if conn.scalar(text("PRAGMA auto_vacuum")) == _INCREMENTAL else SpaceReclaim.KEPT


def vacuum_pages(conn: Connection, *, pages: int) -> int:
    """Removes up to `pages` (> 0) free pages from the file; returns how many are left. In a writing transaction."""
    # the driver's cursor: each page is a row without columns, which must be fetched and which SQLAlchemy can't fetch
    conn.connection.cursor().execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
    return int(conn.exec_driver_sql("PRAGMA freelist_count").scalar_one())


def checkpoint(engine: Engine) -> bool:
    """Moves the write-ahead log into the file, without waiting: only then it shrinks. Returns whether all was moved."""
    with translate_errors(engine), engine.connect() as conn:
        cursor = conn.connection.cursor()
        waits = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
        try:
            # a waiting checkpoint blocks writers
            cursor.execute("PRAGMA busy_timeout=0")
            return bool(cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
        finally:
            cursor.execute(f"PRAGMA busy_timeout={waits}")


def database_size(engine: Engine) -> int:
    """Size on disk in bytes, with the write-ahead log; 0 for a server."""
    if not is_sqlite(engine.url):
        return 0
    file = Path(str(engine.url.database))
    parts = (file, file.with_name(f"{file.name}-wal"))
    return sum(each.stat().st_size for each in parts if each.exists())
