"""The newest runs of a target, the targets of a table, and counts up to a limit: they cost the same in a long history.

`… ORDER BY id DESC LIMIT 1` with a condition on the status would pass over every run of another status, for example a
year of runs that could not read their sync log.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    CTE,
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Row,
    ScalarSelect,
    Select,
    String,
    func,
    select,
    text,
    union_all,
)

from monitor.database.bulk import RowSet
from monitor.database.tables import ITEM_IS_COMPLETED, ITEM_IS_DUE, runs
from monitor.model import RunStatus

ENDED = tuple(status for status in RunStatus if status is not RunStatus.RUNNING)
"""Statuses of runs that are closed, whoever closed them."""
WITH_SNAPSHOT = (RunStatus.COMPLETE, RunStatus.PARTIAL, RunStatus.ABORTED)
"""Statuses of runs that asked the API."""


def count_rows(conn: Connection, query: Select[Any], *, at_most: int | None = None) -> int:
    """The number of rows of a query, counted up to `at_most`: the rest is not read. None: all of them."""
    return conn.execute(select(func.count()).select_from(query.limit(at_most).subquery())).scalar_one()


def has_status(statuses: Iterable[RunStatus]) -> ColumnElement[bool]:
    """The condition of a run with one of these statuses, as an IN list, which databases look up in the index."""
    return runs.c.status.in_([status.value for status in statuses])


def newest_id(
    target: str | ColumnElement[str],
    statuses: Iterable[RunStatus],
    *,
    upto: int | ColumnElement[int] | None = None,
    correlate: FromClause | None = None,
) -> ScalarSelect[int | None]:
    """The id of a target's newest run with one of these statuses and an id up to `upto`; null if there is none.

    `correlate`: the table or CTE of the enclosing query that the column `target` belongs to.
    """
    row = runs.alias("newest")
    seeks = [select(func.max(row.c.id).label("id")).where(*_of(row, target, status, upto)) for status in statuses]
    if correlate is not None:
        seeks = [seek.correlate(correlate) for seek in seeks]
    return select(func.max(union_all(*seeks).subquery("seeks").c.id)).scalar_subquery()


TARGETS = RowSet("targets", target=String())
"""The names of targets."""


def newest_of_each(
    conn: Connection, targets: Sequence[str], wanted: Mapping[str, Iterable[RunStatus]]
) -> dict[str, Row[Any]]:
    """Per target the ids of its newest runs: a column per name in `wanted`, of the runs with one of these statuses.

    One index seek per target and status, in one statement; null if there is no such run.
    """
    query = _newest_of_each(tuple((name, tuple(statuses)) for name, statuses in wanted.items()))
    rows = conn.execute(query, TARGETS.of(conn, [(name,) for name in targets]))
    return {row.target: row for row in rows}


@cache
def _newest_of_each(wanted: tuple[tuple[str, tuple[RunStatus, ...]], ...]) -> Select[Any]:
    # built once: that takes SQLAlchemy eight times as long as the databases need for it
    target, names = TARGETS.c.target, TARGETS.table
    return select(target, *(newest_id(target, each, correlate=names).label(name) for name, each in wanted))


def newest_ids(target: str, statuses: Iterable[RunStatus], *, limit: int) -> Select[tuple[int]]:
    """A query for ids among which are the `limit` (> 0) newest runs of a target with one of these statuses."""
    row = runs.alias("newest")
    newest = [
        select(row.c.id).where(*_of(row, target, status, None)).order_by(row.c.id.desc()).limit(limit).subquery()
        for status in statuses
    ]
    each = union_all(*(select(found.c.id) for found in newest)).subquery("newest_of_each")
    return select(each.c.id)


def _of(
    row: FromClause, target: str | ColumnElement[str], status: RunStatus, upto: int | ColumnElement[int] | None
) -> tuple[ColumnElement[bool], ...]:
    where = (row.c.target == target, row.c.status == status.value)
    return where if upto is None else (*where, row.c.id <= upto)


def is_due() -> tuple[ColumnElement[bool], ...]:
    """The conditions of an item that every run checks, looked up in the index of these."""
    due: Any = text(ITEM_IS_DUE)
    return (due,)


def is_completed() -> tuple[ColumnElement[bool], ...]:
    """The conditions of a tracked item last known as completed, looked up in the index of these."""
    completed: Any = text(ITEM_IS_COMPLETED)
    return (completed,)


def looked_up(
    dialect: str, of: Sequence[ColumnElement[Any]], columns: Sequence[Column[Any]], *which: ColumnElement[bool]
) -> Select[Any]:
    """A query for rows of a table that grows, each after the columns `of` the row set that asks: one look-up per row.

    For a join PostgreSQL might read the whole table, and compare every row of it with every row of the set.
    """
    if dialect == "sqlite":
        return select(*of, *columns).where(*which)
    found = select(*columns).where(*which).offset(0).lateral("found")
    return select(*of, *found.c)


def first_of_each(
    dialect: str,
    of: RowSet,
    key: Column[str],
    columns: Sequence[Column[Any]],
    which: Sequence[ColumnElement[bool]],
    *,
    order: Sequence[Column[Any]],
    limit: int,
) -> Select[Any]:
    """A query for the first `limit` (> 0) rows of each `target` of a row set.

    `key` identifies a row of a target. Only the first rows are kept while they are sorted: a window would sort all.
    """
    target = of.c.target
    if dialect != "sqlite":
        found = select(*columns).where(*which).order_by(*order).limit(limit).lateral("found")
        return select(target, *found.c).order_by(target, *(found.c[column.name] for column in order))
    rows = key.table.alias("each_row")
    first = select(key).where(*which).order_by(*order).limit(limit).correlate(of.table).scalar_subquery()
    query = select(target, *(rows.c[column.name] for column in columns))
    query = query.where(rows.c.target == target, rows.c[key.name].in_(first))
    return query.order_by(target, *(rows.c[column.name] for column in order))


def places(target: ColumnElement[str], order: Sequence[ColumnElement[Any]]) -> tuple[ColumnElement[int], ...]:
    """The place of a row among those of its target, and how many these are."""
    place = func.row_number().over(partition_by=target, order_by=order)
    return place.label("place"), func.count().over(partition_by=target).label("number")


def every_target(key: Column[str]) -> CTE:
    """The distinct values of a column `target` (`key`) that begins an index, as `target`; the last row is null.

    Each is found by one look-up after the one before it.
    """
    found = select(func.min(key).label("target")).cte("targets", recursive=True)
    following = select(func.min(key)).where(key > found.c.target).scalar_subquery()
    return found.union_all(select(following).where(found.c.target.is_not(None)))
