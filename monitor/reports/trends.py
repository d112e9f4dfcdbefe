"""How a target was over a period: its snapshots sampled evenly, how its last run ended.

Every question is answered by a few lookups in an index: nothing here takes longer as the history grows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Integer,
    RowMapping,
    Subquery,
    case,
    column,
    exists,
    func,
    or_,
    select,
    values,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from monitor.database.tables import UtcDateTime, active, item_events, items, runs, snapshots, stuck
from monitor.model import ItemState, RunStatus
from monitor.runs.store import HISTORY, HistoryRow, history, history_row

_PROBLEM_STATES = (ItemState.FAILED, ItemState.NOT_FOUND, ItemState.INVALID)
_STAGED = tuple(state.value for state in (ItemState.COMPLETED, ItemState.PENDING, ItemState.FAILED))
"""States in which the provider shows an item, and with it a stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupHealth:
    """One group of a target: how many of its items are in each state."""

    name: str | None
    """None: the items that belong to no group."""
    counts: Mapping[ItemState, int]
    """Every state, also those with no item."""
    stuck: int

    @property
    def total(self) -> int:
        """Items of the group."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCount:
    """How many items were last seen in one of the provider's statuses."""

    state: ItemState
    stage: str | None
    """The status as the provider spells it."""
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckItem:
    """One item that is pending for longer than it may."""

    item_id: str
    group: str | None
    stage: str | None
    pending_since: datetime


def by_group(
    conn: Connection, *, target: str, as_of: datetime, stuck_after: timedelta, limit: int
) -> tuple[int, list[GroupHealth]]:
    """How many groups a target has, and the first of them: those with the most trouble, then the largest.

    Args:
        conn: a connection.
        target: whose items.
        as_of: aware; what `stuck` is measured against.
        stuck_after: how long an item may be pending.
        limit: how many groups to give back (> 0).
    """
    counts = {state: _count(items.c.state == state.value) for state in ItemState}
    stuck_count = _count(stuck(as_of - stuck_after))
    problems = sum((counts[state] for state in _PROBLEM_STATES), stuck_count)
    query = (
        select(
            items.c.group_name,
            func.count().over().label("groups"),
            stuck_count.label("stuck"),
            *(count.label(state.value) for state, count in counts.items()),
        )
        .where(items.c.target == target, *active())
        .group_by(items.c.group_name)
        .order_by(problems.desc(), func.count().desc(), items.c.group_name)
        .limit(limit)
    )
    rows = conn.execute(query).mappings().all()
    found = [
        GroupHealth(
            name=row["group_name"],
            counts=MappingProxyType({state: row[state.value] for state in ItemState}),
            stuck=row["stuck"],
        )
        for row in rows
    ]
    return (rows[0]["groups"] if rows else 0), found


def by_stage(conn: Connection, *, target: str, limit: int) -> tuple[int, list[StageCount]]:
    """How many stages the items of a target were last seen in, and the most frequent of them.

    An item that this run could not find out about stands where it was seen last; what the provider does not show
    (`not_found`, `invalid`) stands nowhere.

    Args:
        conn: a connection.
        target: whose items.
        limit: how many stages to give back (> 0).
    """
    kinds = (items.c.known_state, items.c.stage)
    how_many = func.count()
    query = select(*kinds, how_many.label("items"), func.count().over().label("stages"))
    query = query.where(items.c.target == target, *active(), items.c.known_state.in_(_STAGED))
    query = query.group_by(*kinds).order_by(how_many.desc(), *kinds).limit(limit)
    rows = conn.execute(query).mappings().all()
    found = [StageCount(state=ItemState(row["known_state"]), stage=row["stage"], items=row["items"]) for row in rows]
    return (rows[0]["stages"] if rows else 0), found


def longest_stuck(
    conn: Connection, *, target: str, as_of: datetime, stuck_after: timedelta, limit: int
) -> list[StuckItem]:
    """The stuck items that are pending the longest, at most `limit` (> 0); the arguments are those of `by_group`."""
    query = select(items.c.item_id, items.c.group_name, items.c.stage, items.c.pending_since)
    query = query.where(items.c.target == target, *active(), stuck(as_of - stuck_after))
    rows = conn.execute(query.order_by(items.c.pending_since, items.c.item_id).limit(limit))
    return [
        StuckItem(item_id=row.item_id, group=row.group_name, stage=row.stage, pending_since=row.pending_since)
        for row in rows
    ]


def _count(which: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((which, 1), else_=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestedItem:
    """One item and how long its ingestion took."""

    item_id: str
    group: str | None
    completed_at: datetime
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestionTimes:
    """How long the items of a target took that were completed in a period."""

    items: int
    median_s: float
    p95_s: float
    slowest: tuple[IngestedItem, ...]
    """The longest first."""


def ingestion_times(
    conn: Connection, *, target: str, start: datetime, end: datetime, slowest: int
) -> IngestionTimes | None:
    """How long the items took that were completed in a period; None when none was watched on its way.

    The upload is what the sync log says, or else the first reading of the id. Quantiles are by nearest rank.

    Args:
        conn: a connection.
        target: whose items.
        start: aware; when the period began.
        end: aware; when it ended.
        slowest: how many items to name (> 0).
    """
    timed = _timed(target, start, end)
    rank = func.row_number().over(order_by=(timed.c.seconds, timed.c.item_id)).label("rank")
    ranked = select(timed, rank, func.count().over().label("how_many")).subquery("ranked")
    median, p95 = _quantile_ranks(ranked.c.how_many)
    quoted = or_(ranked.c.rank == median, ranked.c.rank == p95, ranked.c.rank > ranked.c.how_many - slowest)
    rows = {row["rank"]: row for row in conn.execute(select(ranked).where(quoted)).mappings()}
    if not rows:
        return None
    count: int = next(iter(rows.values()))["how_many"]
    middle, high = _quantile_ranks(count)
    return IngestionTimes(
        items=count,
        median_s=rows[middle]["seconds"],
        p95_s=rows[high]["seconds"],
        slowest=tuple(_ingested_item(rows[rank]) for rank in sorted(rows, reverse=True)[:slowest]),
    )


def _quantile_ranks(count: Any) -> tuple[Any, Any]:  # noqa: ANN401  # a number, or the column that holds it
    """The places of the median and the 95th percentile among so many sorted values, the first being 1."""
    return (count + 1) // 2, (95 * count + 99) // 100


def _ingested_item(row: RowMapping) -> IngestedItem:
    return IngestedItem(
        item_id=row["item_id"], group=row["group_name"], completed_at=row["at"], duration_s=row["seconds"]
    )


class _Seconds(FunctionElement[float]):
    """Seconds from the second time to the first; the two databases spell it differently."""

    type = Float()
    inherit_cache = True
    name = "seconds_between"


@compiles(_Seconds, "sqlite")
def _on_sqlite(element: _Seconds, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  # SQLAlchemy's signature
    later, earlier = (compiler.process(clause, **options) for clause in element.clauses)
    return f"((julianday({later}) - julianday({earlier})) * 86400.0)"


@compiles(_Seconds, "postgresql")
def _on_postgresql(element: _Seconds, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  # SQLAlchemy's signature
    later, earlier = (compiler.process(clause, **options) for clause in element.clauses)
    return f"CAST(EXTRACT(EPOCH FROM {later} - {earlier}) AS DOUBLE PRECISION)"


def _timed(target: str, start: datetime, end: datetime) -> Subquery:
    """The items that were completed for the first time in the period, with the seconds that it took."""
    done, earlier = item_events.alias("done"), item_events.alias("earlier")
    uploaded = func.coalesce(items.c.submitted_at, items.c.first_seen_at)
    of_target = runs.c.target == target
    watched = select(func.min(runs.c.started_at)).where(of_target).scalar_subquery()
    # not by the target of the events: then SQLite would walk through all that it ever had
    in_period = select(runs.c.id).where(of_target, runs.c.started_at >= start, runs.c.started_at <= end)
    completed = ("state", ItemState.COMPLETED.value)
    before = exists().where(
        earlier.c.target == target,
        earlier.c.item_id == done.c.item_id,
        earlier.c.at < done.c.at,
        earlier.c.kind == completed[0],
        # leaving that state tells of an arrival that may have been pruned since
        or_(earlier.c.new == completed[1], earlier.c.old == completed[1]),
    )
    return (
        select(done.c.item_id, items.c.group_name, done.c.at, _Seconds(done.c.at, uploaded).label("seconds"))
        .join(items, (items.c.target == done.c.target) & (items.c.item_id == done.c.item_id))
        .where(
            done.c.run_id.in_(in_period),
            done.c.at <= end,
            done.c.kind == completed[0],
            done.c.new == completed[1],
            or_(done.c.old.is_not(None), items.c.submitted_at >= watched),
            uploaded <= done.c.at,
            ~before,
        )
        .subquery("timed")
    )


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


def snapshot_samples(conn: Connection, *, target: str, bounds: Sequence[datetime]) -> list[HistoryRow | None]:
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


def unreadable_since(conn: Connection, *, target: str) -> datetime | None:
    """When the first of the runs started that could not read the sync log, one after the other, up to now."""
    other = (RunStatus.FAILED.value, RunStatus.CRASHED.value, RunStatus.RUNNING.value)
    read = select(func.max(runs.c.started_at)).where(runs.c.target == target, runs.c.status.not_in(other))
    last_read = conn.execute(read).scalar() or _LONG_AGO
    unreadable = runs.c.target == target, runs.c.status == RunStatus.FAILED.value, runs.c.started_at > last_read
    return conn.execute(select(func.min(runs.c.started_at)).where(*unreadable)).scalar()


def running_since(conn: Connection, *, target: str) -> datetime | None:
    """When the newest run of a target started, if it is not finished yet (or died, and was not cleared away yet)."""
    newest = select(runs.c.status, runs.c.started_at).where(runs.c.target == target)
    row = conn.execute(newest.order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(1)).first()
    return row.started_at if row is not None and row.status == RunStatus.RUNNING.value else None
