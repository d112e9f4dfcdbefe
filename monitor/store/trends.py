"""How a target was over a period: its snapshots sampled evenly, how its last run ended.

Every question is answered by a few lookups in an index: nothing here takes longer as the history grows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from itertools import pairwise

from sqlalchemy import Connection, Integer, column, func, select, values

from monitor.model import RunStatus
from monitor.store.columns import UtcDateTime
from monitor.store.runs import HISTORY, HistoryRow, history, history_row
from monitor.store.tables import runs, snapshots

__all__ = ["LastRun", "last_run", "newest_snapshot", "samples", "under_way_since", "unread_since"]

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRun:
    """The newest finished run of a target, with or without a snapshot."""

    run_id: int
    status: RunStatus
    abort_reason: str | None
    error: str | None
    """Why it has no snapshot, in our own words."""
    started_at: datetime
    finished_at: datetime


def samples(conn: Connection, *, target: str, bounds: Sequence[datetime]) -> list[HistoryRow | None]:
    """The last snapshot of each span of a period: one seek in an index per span, however many runs there are.

    Args:
        conn: a connection.
        target: whose snapshots.
        bounds: where one span ends and the next begins (aware, ascending); n + 1 of them make n spans. A run belongs
            to the span after whose beginning, and not after whose end, it started.

    Returns:
        A row per span, oldest first; None where no run has a snapshot.
    """
    spans = (
        values(column("n", Integer), column("beginning", UtcDateTime), column("ending", UtcDateTime), name="spans")
        .data([(n, beginning, ending) for n, (beginning, ending) in enumerate(pairwise(bounds))])
        .cte("spans")
    )
    newest = (
        select(runs.c.id)
        .join(snapshots, snapshots.c.run_id == runs.c.id)
        .where(runs.c.target == target, runs.c.started_at > spans.c.beginning, runs.c.started_at <= spans.c.ending)
        .order_by(runs.c.started_at.desc(), runs.c.id.desc())
        .limit(1)
        .correlate(spans)
        .scalar_subquery()
    )
    chosen = conn.execute(select(spans.c.n, newest).order_by(spans.c.n)).all()
    query = select(HISTORY).where(HISTORY.c.run_id.in_([run_id for _, run_id in chosen if run_id is not None]))
    found = {row["run_id"]: history_row(row) for row in conn.execute(query).mappings()}
    return [found.get(run_id) for _, run_id in chosen]


def newest_snapshot(conn: Connection, *, target: str) -> HistoryRow | None:
    """The newest row of history of a target; None before its first."""
    return next(iter(history(conn, target=target, limit=1)), None)


def last_run(conn: Connection, *, target: str) -> LastRun | None:
    """How the newest finished run of a target ended; None before its first."""
    columns = [runs.c.id.label("run_id"), *(runs.c[field.name] for field in fields(LastRun)[1:])]
    finished = select(*columns).where(runs.c.target == target, runs.c.status != RunStatus.RUNNING.value)
    row = conn.execute(finished.order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(1)).mappings().first()
    return None if row is None else LastRun(**{**row, "status": RunStatus(row["status"])})


def unread_since(conn: Connection, *, target: str) -> datetime | None:
    """When the first of the runs started that could not read the sync log, one after the other, up to now."""
    other = (RunStatus.UNREAD.value, RunStatus.RUNNING.value)
    read = select(func.max(runs.c.started_at)).where(runs.c.target == target, runs.c.status.not_in(other))
    last_read = conn.execute(read).scalar() or _LONG_AGO
    unread = runs.c.target == target, runs.c.status == RunStatus.UNREAD.value, runs.c.started_at > last_read
    return conn.execute(select(func.min(runs.c.started_at)).where(*unread)).scalar()


def under_way_since(conn: Connection, *, target: str) -> datetime | None:
    """When the newest run of a target started, if it is not finished yet (or died, and was not cleared away yet)."""
    newest = select(runs.c.status, runs.c.started_at).where(runs.c.target == target)
    row = conn.execute(newest.order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(1)).first()
    return row.started_at if row is not None and row.status == RunStatus.RUNNING.value else None
