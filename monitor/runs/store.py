"""Stores runs and their snapshots, and reads them as history. Evidence and incidents have their own store."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    bindparam,
    column,
    func,
    insert,
    literal_column,
    select,
    table,
    text,
    union_all,
    update,
)
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from monitor.database.engine import in_chunks
from monitor.database.lookups import WITH_SNAPSHOT, count_rows, has_status, newest_id, newest_ids, newest_of_each
from monitor.database.tables import UtcDateTime, item_events, runs, snapshots
from monitor.database.text import to_column_text
from monitor.errors import LeaseLostError
from monitor.model import FINISHED, Cause, RunStatus, Snapshot
from monitor.rollups import history as rollups
from monitor.rollups.indexing import Watch

PROCESS_DIED = "the process ended before the run was closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow(rollups.ClosedRun):
    """One row of the view `history`: a closed run that has a snapshot."""

    snapshot: Snapshot

    def columns(self) -> dict[str, object]:
        """The values by column name, in the order of the view."""
        return dict(zip(HISTORY_COLUMNS, (*_run_values(self), *_snapshot_values(self.snapshot)), strict=True))


_RUN_COLUMNS = tuple(field.name for field in fields(HistoryRow) if field.name != "snapshot")
_SNAPSHOT_FIELDS = tuple(field.name for field in fields(Snapshot))
_SNAPSHOT_COLUMNS = tuple(each for each in snapshots.c if each.name != "run_id")
HISTORY_COLUMNS = (*_RUN_COLUMNS, *(each.name for each in _SNAPSHOT_COLUMNS))
_run_values, _snapshot_values = attrgetter(*_RUN_COLUMNS), attrgetter(*(each.name for each in _SNAPSHOT_COLUMNS))
HISTORY = table(
    "history",
    *(column(name, (runs.c.id if name == "run_id" else runs.c[name]).type) for name in _RUN_COLUMNS),
    *(column(each.name, each.type) for each in _SNAPSHOT_COLUMNS),
)


class LastRun(msgspec.Struct, frozen=True, kw_only=True):
    """How the last run of a target that asked the API ended."""

    finished_at: datetime
    aborted_by: Cause | None = None


_SNAPSHOT = [snapshots.c[field.name] for field in fields(Snapshot)]


def start(
    conn: Connection,
    *,
    target: str,
    environment: str,
    run_key: str | None,
    epoch: int,
    started_at: datetime,
    throttle_factor: float = 1.0,
) -> int:
    """Opens a run under the lease's epoch, with the throttle factor of the previous run; returns its new id."""
    row = {
        "target": target,
        "environment": environment,
        "run_key": run_key,
        "epoch": epoch,
        "started_at": started_at,
        "status": RunStatus.RUNNING.value,
        "throttle_factor": throttle_factor,
    }
    return int(conn.execute(_opening(), row).scalar_one())


@cache  # as the others: every run executes it, and SQLAlchemy takes longer to put it together than SQLite for the row
def _opening() -> ReturningInsert[int]:
    return insert(runs).returning(runs.c.id)


def already_executed(conn: Connection, *, target: str, run_key: str) -> bool:
    """Whether a run with this run key was closed by its own process. After a crash the run key is executed again."""
    executed = select(runs.c.id).where(runs.c.target == target, runs.c.run_key == run_key, _finished()).limit(1)
    return conn.execute(executed).first() is not None


def last_run_key(conn: Connection, *, target: str) -> str | None:
    """The run key of the target's newest run that has one, running and crashed runs included."""
    keyed = runs.c.target == target, runs.c.run_key.is_not(None)
    if conn.execute(select(runs.c.id).where(*keyed).limit(1)).first() is None:
        return None  # known from the index; the search below would pass over every run
    newest = []
    for status in RunStatus:
        with_run_key = select(runs.c.id, runs.c.run_key).where(*keyed)
        newest.append(with_run_key.where(runs.c.status == status.value).order_by(runs.c.id.desc()).limit(1).subquery())
    found = union_all(*(select(each) for each in newest)).subquery("newest")
    return conn.execute(select(found.c.run_key).order_by(found.c.id.desc()).limit(1)).scalar()


def finish(  # noqa: PLR0913  # the row as it is closed, each part named at the call
    conn: Connection,
    *,
    run_id: int,
    status: RunStatus,
    abort_reason: str | None,
    owner_cause: Cause | None,
    due: int,
    answered: int,
    accepted: int | None = None,
    error: str | None,
    finished_at: datetime,
    snapshot: Snapshot | None,
) -> None:
    """Closes an open run and stores its snapshot, in the closing transaction.

    `abort_reason` is a cause (`run_crashing` if an unforeseen error ended it), `deadline` or `interrupted`. `due`
    counts the items that it had to ask about, `answered` those that the API itself replied about, and `accepted` the
    answers
    that show that it accepts the credentials (None: not known). Without a snapshot, `error` says why.

    Raises:
        LeaseLostError: another process has already closed the run as crashed.
    """
    values = {
        "of_run": run_id,
        "status": status.value,
        "abort_reason": abort_reason,
        "owner_cause": owner_cause.value if owner_cause else None,
        "due": due,
        "answered": answered,
        "accepted": accepted,
        "error": to_column_text(error, 2000),
        "finished_at": finished_at,
    }
    closed = conn.execute(_closing(), values).mappings().one_or_none()
    if closed is None:
        raise LeaseLostError(f"run {run_id} was closed by another process; its snapshot is not stored")
    if snapshot is not None:
        conn.execute(insert(snapshots), {"run_id": run_id, "total": snapshot.total, **snapshot.values()})
    rollups.add_run(conn, _closed_run(closed, snapshot))


_CLOSED = (runs.c.id.label("run_id"), *(runs.c[name] for name in _RUN_COLUMNS if name != "run_id"))
"""What a rollup needs of a run that was closed."""


@cache
def _closing() -> ReturningUpdate[Any]:
    # the condition has no parameter of the name `status`, which is a column to be set
    is_open = runs.c.status == literal_column(f"'{RunStatus.RUNNING.value}'")
    return update(runs).where(runs.c.id == bindparam("of_run"), is_open).returning(*_CLOSED)


def _closed_run(row: RowMapping, snapshot: Snapshot | None) -> rollups.ClosedRun:
    return rollups.ClosedRun(**{**row, "status": RunStatus(row["status"])}, snapshot=snapshot)


def closed_by_owner(conn: Connection, *, run_id: int) -> bool:
    """Whether a run was closed by its own process. Waits for a commit in progress on a lost connection."""
    found = conn.execute(select(_finished()).where(runs.c.id == run_id).with_for_update()).scalar()
    return bool(found)


def _finished() -> ColumnElement[bool]:
    return has_status(FINISHED)


def set_throttle_factor(conn: Connection, *, run_id: int, factor: float) -> None:
    """Stores the share (over 0, up to 1) of rate and concurrency that the target's next run uses."""
    conn.execute(update(runs).where(runs.c.id == run_id).values(throttle_factor=factor))


def last_runs(conn: Connection, *, targets: Sequence[str]) -> dict[str, LastRun]:
    """The last run of each target that asked the API and did not crash; without targets before their first."""
    newest = newest_of_each(conn, targets, {"counted": WITH_SNAPSHOT}).values()
    columns = (runs.c.target, runs.c.finished_at, runs.c.status, runs.c.abort_reason)
    found: dict[str, LastRun] = {}
    for chunk in in_chunks([row.counted for row in newest if row.counted is not None]):
        rows = conn.execute(select(*columns).where(runs.c.id.in_(chunk))).mappings()
        found |= {row["target"]: _last_run(row) for row in rows}
    return found


def _last_run(row: RowMapping) -> LastRun:
    aborted = row["status"] == RunStatus.ABORTED.value and row["abort_reason"]
    return LastRun(finished_at=row["finished_at"], aborted_by=Cause(row["abort_reason"]) if aborted else None)


def abandon(conn: Connection, *, target: str, before_epoch: int, at: datetime, error: str = PROCESS_DIED) -> int:
    """Closes the runs of older epochs as crashed, without a snapshot: their process died. Returns how many.

    `error` says why there is no snapshot.
    """
    left_open = (runs.c.target == target, runs.c.status == RunStatus.RUNNING.value, runs.c.epoch < before_epoch)
    values = {"status": RunStatus.CRASHED.value, "error": error}
    closed = conn.execute(update(runs).where(*left_open).values(finished_at=at, **values).returning(*_CLOSED))
    dead = closed.mappings().all()
    for row in dead:
        rollups.add_run(conn, _closed_run(row, None))
    return len(dead)


class PastRuns(msgspec.Struct, frozen=True, kw_only=True):
    """What a run must know of the runs before it."""

    throttle_factor: float = 1.0
    """The share of rate and concurrency that the newest run left."""
    left_open: bool = False
    """Whether a run is open whose process died: see `abandon`."""
    snapshot: Snapshot | None = None
    """The newest one."""
    last: LastRun | None = None
    watch: Watch = msgspec.field(default_factory=Watch)


# two look-ups per status, as in `lookups`; as text, because every run would put it together
_NEWEST_OF_STATUS = """
SELECT * FROM (
    SELECT id, status, started_at, finished_at, abort_reason, throttle_factor FROM runs
    WHERE target = :target AND status = '{0}' ORDER BY id DESC LIMIT 2
) AS {0}_runs"""
_NEWEST_OF_EACH = " UNION ALL ".join(_NEWEST_OF_STATUS.format(status.value) for status in RunStatus)
_PAST_RUNS = text(
    f"SELECT newest.*, {', '.join(str(each) for each in _SNAPSHOT)} FROM ({_NEWEST_OF_EACH}) AS newest "  # noqa: S608  # our own names
    "LEFT JOIN snapshots ON snapshots.run_id = newest.id ORDER BY newest.id DESC"
).columns(started_at=UtcDateTime, finished_at=UtcDateTime)


def past_runs(conn: Connection, *, target: str) -> PastRuns:
    """The runs of a target so far, in one statement, under the lease and before the next one is inserted."""
    rows = conn.execute(_PAST_RUNS, {"target": target}).mappings().all()
    asked = [row for row in rows if row["status"] in WITH_SNAPSHOT]
    if not asked:
        return PastRuns(throttle_factor=_factor(rows), left_open=_is_left_open(rows))
    newest = asked[0]
    gap = newest["started_at"] - asked[1]["started_at"] if len(asked) > 1 else None
    known = newest["completed"] is not None
    return PastRuns(
        throttle_factor=_factor(rows),
        left_open=_is_left_open(rows),
        snapshot=Snapshot(**{each.name: newest[each.name] for each in fields(Snapshot)}) if known else None,
        last=_last_run(newest),
        watch=Watch(previous_started_at=newest["started_at"], usual_gap=gap),
    )


def _factor(rows: Sequence[RowMapping]) -> float:
    return float(rows[0]["throttle_factor"]) if rows else 1.0


def _is_left_open(rows: Sequence[RowMapping]) -> bool:
    return any(row["status"] == RunStatus.RUNNING.value for row in rows)


def history(conn: Connection, *, target: str | None, limit: int) -> list[HistoryRow]:
    """The newest `limit` (> 0) snapshots of a target, or of all targets, newest first."""
    if target is None:
        ids = select(snapshots.c.run_id).order_by(snapshots.c.run_id.desc()).limit(limit)
    else:
        ids = newest_ids(target, WITH_SNAPSHOT, limit=limit)
    newest = select(HISTORY).where(HISTORY.c.run_id.in_(ids)).order_by(HISTORY.c.run_id.desc()).limit(limit)
    return [history_row(row) for row in conn.execute(newest).mappings()]


def count_snapshots(conn: Connection, *, target: str | None, at_most: int) -> int:
    """The number of snapshots of a target, or of all targets, counted up to `at_most`."""
    found = select(snapshots.c.run_id)
    if target is not None:
        found = select(runs.c.id).where(runs.c.target == target, has_status(WITH_SNAPSHOT))
    return count_rows(conn, found, at_most=at_most)


def history_row(values: RowMapping) -> HistoryRow:
    """One run and its snapshot, from a row of the view."""
    # at once: each look-up in a row takes several times as long as one in a dictionary
    columns = dict(zip(values.keys(), values.values(), strict=True))
    run = {name: columns[name] for name in _RUN_COLUMNS} | {"status": RunStatus(columns["status"])}
    snapshot = Snapshot(**{name: columns[name] for name in _SNAPSHOT_FIELDS})
    return HistoryRow(**run, snapshot=snapshot)


def last_snapshot(conn: Connection, target: str) -> Snapshot | None:
    """The newest snapshot of a target; None before its first."""
    newest = select(*_SNAPSHOT).where(snapshots.c.run_id == newest_id(target, WITH_SNAPSHOT))
    found = conn.execute(newest).mappings().first()
    return None if found is None else Snapshot(**found)


class ItemChangeGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Items with the same change in one run."""

    kind: str
    """`state`, `stage`, `removed` or `returned`."""
    old: str | None
    new: str | None
    count: int
    sample_ids: tuple[str, ...]


def item_changes_of_run(conn: Connection, run_id: int, *, samples: int = 3) -> list[ItemChangeGroup]:
    """The item changes of a run, grouped, most frequent first, each with up to `samples` (≥ 1) ids."""
    return [
        ItemChangeGroup(
            kind=row.kind,
            old=row.old,
            new=row.new,
            count=row.times,
            sample_ids=_sample(conn, run_id, (row.kind, row.old, row.new), samples),
        )
        for row in conn.execute(_change_groups(), {"of_run": run_id}).all()
    ]


def _sample(conn: Connection, run_id: int, change: tuple[str, str | None, str | None], limit: int) -> tuple[str, ...]:
    kind, old, new = change
    values = {"of_run": run_id, "of_kind": kind, "before": old, "after": new, "most": limit}
    return tuple(conn.execute(_changed_items(), values).scalars())


def _of_run() -> tuple[ColumnElement[bool], ...]:
    """The events of a run, by the index of its target's."""
    target = select(runs.c.target).where(runs.c.id == bindparam("of_run")).scalar_subquery()
    return item_events.c.target == target, item_events.c.run_id == bindparam("of_run")


@cache
def _change_groups() -> Select[Any]:
    change = (item_events.c.kind, item_events.c.old, item_events.c.new)
    grouped = select(*change, func.count().label("times")).where(*_of_run()).group_by(*change)
    return grouped.order_by(func.count().desc(), *change)


@cache
def _changed_items() -> Select[str]:
    change = item_events.c
    query = select(change.item_id).where(
        *_of_run(),
        change.kind == bindparam("of_kind"),
        change.old.is_not_distinct_from(bindparam("before", type_=change.old.type)),
        change.new.is_not_distinct_from(bindparam("after", type_=change.new.type)),
    )
    # an expression: for the order of the column, SQLite would walk all events of the target by the index on items
    return query.order_by(change.item_id.concat("")).limit(bindparam("most"))
