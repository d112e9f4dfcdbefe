"""The rollups of `history` per hour and day (tables `history_hourly` and `history_daily`): adding runs, and reading.

Each closed run is added once, in the transaction that closes it, to the hour and the day in which it started.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    Row,
    RowMapping,
    Select,
    String,
    Table,
    TextClause,
    func,
    select,
    text,
    true,
)

from monitor.database.bulk import RowSet, timestamp_encoder
from monitor.database.engine import in_chunks
from monitor.database.lookups import TARGETS, looked_up
from monitor.database.tables import ROLLED_UP_MAXIMA, UtcDateTime, history_daily, history_hourly, runs, snapshots
from monitor.model import RunStatus, Snapshot
from monitor.rollups.bounds import slot_start

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TABLES = {HOUR: history_hourly, DAY: history_daily}
_LAST = (
    "run_id", "environment", "run_key", "started_at", "finished_at", "status", "abort_reason",
    *(each.name for each in snapshots.c if each.name != "run_id"),
)  # fmt: skip
"""Columns of the last run with a snapshot."""
_SUMS = ("total_sum", "unknown_sum", "requests_sum", "retries_sum", "duration_sum_s")
_MAXIMA = (*(f"{name}_max" for name in ROLLED_UP_MAXIMA), "latency_p95_max_ms")
_STATUSES = tuple(status for status in RunStatus if status is not RunStatus.RUNNING)
_NOTHING: Mapping[str, Any] = {
    **{f"runs_{status.value}": 0 for status in _STATUSES},
    **dict.fromkeys((*_LAST, "completed_min", *_MAXIMA)),
    **dict.fromkeys(_SUMS, 0),
}
"""An hour or a day without a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedRun:
    """A run as it was closed."""

    run_id: int
    target: str
    environment: str
    run_key: str | None
    started_at: datetime
    finished_at: datetime
    status: RunStatus
    abort_reason: str | None
    snapshot: Snapshot | None


def add_run(conn: Connection, run: ClosedRun) -> None:
    """Adds a run to its hour and its day, in the transaction that closes it: only so it counts once."""
    encode = timestamp_encoder(conn)
    row = _values_alone(run)
    row |= {name: encode(row[name]) for name in ("started_at", "finished_at")}
    for width, table in TABLES.items():
        conn.execute(_upsert(table.name), row | {"starts_at": encode(slot_start(run.started_at, width))})


def _values_alone(run: ClosedRun) -> dict[str, Any]:
    """The row of an hour or a day in which this was the only run, without its start."""
    snapshot = run.snapshot
    row: dict[str, Any] = {"target": run.target, **_NOTHING, f"runs_{run.status.value}": 1}
    if snapshot is None:
        return row
    last = {name: getattr(run, name) for name in _LAST[:7]} | {"status": run.status.value}
    return (
        row
        | last
        | snapshot.values()
        | {
            "total": snapshot.total,
            "total_sum": snapshot.total,
            "unknown_sum": snapshot.unknown,
            "requests_sum": snapshot.requests,
            "retries_sum": snapshot.retries,
            "duration_sum_s": snapshot.duration_s,
            "completed_min": snapshot.completed,
            "latency_p95_max_ms": snapshot.latency_p95_ms,
            **{f"{name}_max": getattr(snapshot, name) for name in ROLLED_UP_MAXIMA},
        }
    )


@cache
def _upsert(name: str) -> TextClause:
    """The statement that adds a row to the one of the same period.

    As text: SQLAlchemy needs a hundredth of a second to put so many expressions together, in every `check`.
    """
    newer = f"{name}.run_id IS NULL OR excluded.run_id > {name}.run_id"
    changes = [f"{each} = CASE WHEN {newer} THEN excluded.{each} ELSE {name}.{each} END" for each in _LAST]
    added = (*(f"runs_{status.value}" for status in _STATUSES), *_SUMS)
    changes += [f"{each} = {name}.{each} + excluded.{each}" for each in added]
    for each, better in (*((each, ">") for each in _MAXIMA), ("completed_min", "<")):
        taken = f"{name}.{each} IS NULL OR excluded.{each} {better} {name}.{each}"
        changes.append(f"{each} = CASE WHEN {taken} THEN excluded.{each} ELSE {name}.{each} END")
    columns = ("target", "starts_at", *_LAST, *added, *_MAXIMA, "completed_min")
    return text(
        f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({', '.join(f':{each}' for each in columns)}) "  # noqa: S608  # our own names
        f"ON CONFLICT (target, starts_at) DO UPDATE SET {', '.join(changes)}"
    )


_SPANS = RowSet("hour_spans", n=Integer(), earliest=UtcDateTime(), beginning=UtcDateTime(), ending=UtcDateTime())


def last_runs(
    conn: Connection,
    *,
    targets: Sequence[str],
    bounds: Sequence[datetime],
    known: Mapping[tuple[str, int], tuple[datetime, int]],
) -> dict[tuple[str, int], RowMapping]:
    """The last run with a snapshot in each span (start, end], by target and number of the span.

    Without those that are no later than the start and the id of a run that is `known`. The columns are those of
    `history`. `bounds` ascend: n + 1 for n spans. Only the last run of each hour is found.
    """
    row = history_hourly.c
    parameters = TARGETS.of(conn, [(each,) for each in targets])
    parameters |= _SPANS.of(conn, [(n, start - HOUR, start, end) for n, (start, end) in enumerate(pairwise(bounds))])
    chosen = conn.execute(_newest_in_spans(), parameters).all()
    wanted = {
        (target, slot_start(at, HOUR)): n
        for target, n, at, run_id in chosen
        if at is not None and ((target, n) not in known or (at, run_id) > known[target, n])
    }
    found: dict[tuple[str, int], RowMapping] = {}
    columns = (row.target, row.starts_at, *(row[each] for each in _LAST))
    for chunk in in_chunks(list(wanted)):
        query = select(*columns).join_from(_HOURS.table, history_hourly, row.target == _HOURS.c.target)
        query = query.where(row.starts_at == _HOURS.c.starts_at)
        rows = conn.execute(query, _HOURS.of(conn, chunk)).mappings()
        found |= {(each["target"], wanted[each["target"], each["starts_at"]]): each for each in rows}
    return found


@cache
def _newest_in_spans() -> Select[Any]:
    row, spans, name = history_hourly.c, _SPANS.c, TARGETS.c.target
    both = (TARGETS.table, _SPANS.table)
    within = (
        row.target == name, row.starts_at > spans.earliest, row.starts_at <= spans.ending,
        row.started_at > spans.beginning, row.started_at <= spans.ending,
    )  # fmt: skip
    newest = [
        select(each).where(*within).order_by(row.starts_at.desc()).limit(1).correlate(*both).scalar_subquery()
        for each in (row.started_at, row.run_id)
    ]
    return select(name, spans.n, *newest).join_from(*both, true())


_HOURS = RowSet("hours", target=String(), starts_at=UtcDateTime())
_PERIODS = RowSet("periods", number=Integer(), target=String(), since=UtcDateTime(), until=UtcDateTime())


def count_runs(conn: Connection, periods: Sequence[tuple[str, datetime, datetime]]) -> list[dict[RunStatus, int]]:
    """The closed runs of each target that started in the whole hours from one time to before another, by status.

    Only statuses that occurred. Days are read where they are whole, hours at the ends.
    """
    sums: Sequence[Any]
    parts: dict[Table, list[tuple[int, str, datetime, datetime]]] = {history_hourly: [], history_daily: []}
    for number, (target, since, until) in enumerate(periods):
        first, last = _whole(since, HOUR), slot_start(until, HOUR)
        first_day, last_day = _whole(since, DAY), slot_start(until, DAY)
        if first_day < last_day:
            parts[history_hourly] += [(number, target, first, first_day), (number, target, last_day, last)]
            parts[history_daily].append((number, target, first_day, last_day))
        else:
            parts[history_hourly].append((number, target, first, last))
    counts = [Counter[RunStatus]() for _ in periods]
    for table, rows in parts.items():
        for number, *sums in _sums(conn, table, rows) if rows else ():
            counts[number].update({status: int(sum_) for status, sum_ in zip(_STATUSES, sums, strict=True) if sum_})
    return [dict(each) for each in counts]


def _sums(conn: Connection, table: Table, rows: Sequence[tuple[int, str, datetime, datetime]]) -> Iterable[Row[Any]]:
    return conn.execute(_summing(conn.dialect.name, table), _PERIODS.of(conn, rows))


@cache
def _summing(dialect: str, table: Table) -> Select[Any]:
    of = _PERIODS.c
    counts: list[Column[int]] = [table.c[f"runs_{status.value}"] for status in _STATUSES]
    of_period = (table.c.target == of.target, table.c.starts_at >= of.since, table.c.starts_at < of.until)
    each = looked_up(dialect, (of.number,), counts, *of_period).subquery("each").c
    return select(each.number, *(func.sum(each[count.name]) for count in counts)).group_by(each.number)


def count_pruned(conn: Connection, *, target: str, since: datetime, until: datetime) -> int:
    """How many of these runs are no longer stored: the rollups count them for good."""
    within = (runs.c.started_at >= _whole(since, HOUR), runs.c.started_at < slot_start(until, HOUR))
    closed = (runs.c.target == target, runs.c.status != RunStatus.RUNNING.value, *within)
    stored = conn.scalar(select(func.count()).select_from(runs).where(*closed)) or 0
    return max(0, sum(count_runs(conn, [(target, since, until)])[0].values()) - stored)


def _whole(at: datetime, width: timedelta) -> datetime:
    """The start of the first period that begins at a time or later."""
    start = slot_start(at, width)
    return start if start == at else start + width
