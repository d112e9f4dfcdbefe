"""How long ingestion takes: from the upload of an item to the run that saw it completed for the first time.

Only items that were watched on their way count. One that was completed already when the monitor began to look says
nothing about how long that took.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Float, RowMapping, Subquery, exists, func, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from monitor.model import ItemState
from monitor.store.tables import item_events, items, runs

__all__ = ["Ingested", "IngestionTimes", "ingestion_times"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """One item and how long its ingestion took."""

    item_id: str
    group: str | None
    completed_at: datetime
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestionTimes:
    """How long the items of a target took that were completed in a period."""

    items: int
    median_s: float
    p95_s: float
    slowest: tuple[Ingested, ...]
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
    median, p95 = _ranks(ranked.c.how_many)
    quoted = or_(ranked.c.rank == median, ranked.c.rank == p95, ranked.c.rank > ranked.c.how_many - slowest)
    rows = {row["rank"]: row for row in conn.execute(select(ranked).where(quoted)).mappings()}
    if not rows:
        return None
    count: int = next(iter(rows.values()))["how_many"]
    middle, high = _ranks(count)
    return IngestionTimes(
        items=count,
        median_s=rows[middle]["seconds"],
        p95_s=rows[high]["seconds"],
        slowest=tuple(_ingested(rows[rank]) for rank in sorted(rows, reverse=True)[:slowest]),
    )


def _ranks(count: Any) -> tuple[Any, Any]:  # noqa: ANN401  # a number, or the column that holds it
    """The places of the median and the 95th percentile among so many sorted values, the first being 1."""
    return (count + 1) // 2, (95 * count + 99) // 100


def _ingested(row: RowMapping) -> Ingested:
    return Ingested(item_id=row["item_id"], group=row["group_name"], completed_at=row["at"], took_s=row["seconds"])


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
