"""The rollups of `history` per hour and day (tables `history_hourly` and `history_daily`): adding runs, and reading.

Each closed run is added once, in the transaction that closes it, to the hour and the day in which it started.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, Integer, RowMapping, TextClause, column, func, select, text, values

from monitor.database.bulk import timestamp_encoder
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
    for width, table in TABLES.items():
        row = period_values(run, width)
        row |= {name: encode(row[name]) for name in ("starts_at", "started_at", "finished_at")}
        conn.execute(_upsert(table.name), row)


def period_values(run: ClosedRun, width: timedelta) -> dict[str, Any]:
    """The row of an hour or a day in which this was the only run."""
    snapshot = run.snapshot
    row: dict[str, Any] = {"target": run.target, "starts_at": slot_start(run.started_at, width)}
    row |= {f"runs_{status.value}": int(status is run.status) for status in _STATUSES}
    row |= dict.fromkeys((*_LAST, "completed_min", *_MAXIMA)) | dict.fromkeys(_SUMS, 0)
    if snapshot is None:
        return row
    last = {name: getattr(run, name) for name in _LAST[:7]} | {"status": run.status.value}
    return (
        row
        | last
        | asdict(snapshot)
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


def last_runs(conn: Connection, *, target: str, bounds: Sequence[datetime]) -> list[RowMapping | None]:
    """The last run with a snapshot that is known of each span (start, end], oldest first, or None.

    The columns are those of `history`. `bounds` ascend: n + 1 for n spans. Only the last run of each hour is known.
    """
    spans = (
        values(
            column("n", Integer),
            column("earliest", UtcDateTime),
            column("beginning", UtcDateTime),
            column("ending", UtcDateTime),
            name="spans",
        )
        .data([(n, start - HOUR, start, end) for n, (start, end) in enumerate(pairwise(bounds))])
        .cte("spans")
    )
    row = history_hourly
    newest = (
        select(row.c.starts_at)
        .where(
            row.c.target == target,
            row.c.starts_at > spans.c.earliest,
            row.c.starts_at <= spans.c.ending,
            row.c.started_at > spans.c.beginning,
            row.c.started_at <= spans.c.ending,
        )
        .order_by(row.c.starts_at.desc())
        .limit(1)
        .correlate(spans)
        .scalar_subquery()
    )
    chosen = conn.execute(select(spans.c.n, newest).order_by(spans.c.n)).all()
    hours = [hour for _, hour in chosen if hour is not None]
    query = select(row.c.target, row.c.starts_at, *(row.c[name] for name in _LAST))
    found = {
        each["starts_at"]: each
        for each in conn.execute(query.where(row.c.target == target, row.c.starts_at.in_(hours))).mappings()
    }
    return [None if hour is None else found[hour] for _, hour in chosen]


def count_runs(conn: Connection, *, target: str, since: datetime, until: datetime) -> dict[RunStatus, int]:
    """The closed runs that started in the whole hours from `since` to before `until`, by status; only what occurred."""
    first, last = _whole(since, HOUR), slot_start(until, HOUR)
    first_day, last_day = _whole(since, DAY), slot_start(until, DAY)
    parts = [(history_hourly, first, last)]
    if first_day < last_day:
        parts = [(history_hourly, first, first_day), (history_daily, first_day, last_day)]
        parts.append((history_hourly, last_day, last))
    counts = Counter[RunStatus]()
    for table, start, end in parts:
        sums = [func.coalesce(func.sum(table.c[f"runs_{status.value}"]), 0) for status in _STATUSES]
        of_period = (table.c.target == target, table.c.starts_at >= start, table.c.starts_at < end)
        row = conn.execute(select(*sums).where(*of_period)).one()
        counts.update({status: int(count) for status, count in zip(_STATUSES, row, strict=True) if count})
    return dict(counts)


def count_pruned(conn: Connection, *, target: str, since: datetime, until: datetime) -> int:
    """How many of these runs are no longer stored: the rollups count them for good."""
    within = (runs.c.started_at >= _whole(since, HOUR), runs.c.started_at < slot_start(until, HOUR))
    closed = (runs.c.target == target, runs.c.status != RunStatus.RUNNING.value, *within)
    stored = conn.scalar(select(func.count()).select_from(runs).where(*closed)) or 0
    return max(0, sum(count_runs(conn, target=target, since=since, until=until).values()) - stored)


def _whole(at: datetime, width: timedelta) -> datetime:
    """The start of the first period that begins at a time or later."""
    start = slot_start(at, width)
    return start if start == at else start + width
