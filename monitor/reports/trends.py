"""Queries for the report. Snapshots and runs are looked up in an index, so they stay fast as the history grows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from itertools import pairwise
from types import MappingProxyType

from sqlalchemy import ColumnElement, Connection, Integer, case, column, func, or_, select, values

from monitor.database.lookups import ENDED, WITH_SNAPSHOT, has_status, newest_id
from monitor.database.tables import UtcDateTime, active, in_state, items, runs, snapshots, stuck
from monitor.model import EXISTING_STATES, PROBLEM_STATES, ItemState, RunStatus
from monitor.rollups.history import last_runs
from monitor.runs.store import HISTORY, HistoryRow, history, history_row

_STAGED = tuple(state.value for state in EXISTING_STATES)
"""States in which the provider returns an item, and with it a stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupHealth:
    """The items of one group by state."""

    name: str | None
    """None: items without a group."""
    counts: Mapping[ItemState, int]
    """All states, including those without items."""
    stuck: int
    last_known: Mapping[str | None, int] = field(default_factory=dict)
    """Its unknown items by their last known state, most frequent first; None: never answered."""

    @property
    def total(self) -> int:
        """Items of the group."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCount:
    """Number of items last seen in one of the provider's statuses."""

    state: ItemState
    stage: str | None
    """The status as spelled by the provider."""
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonCount:
    """Number of items that failed for one reason."""

    reason: str | None
    """The provider's code; None: it gave none."""
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckItem:
    """One stuck item."""

    item_id: str
    group: str | None
    stage: str | None
    pending_since: datetime


def by_group(
    conn: Connection, *, target: str, as_of: datetime, stuck_after: timedelta, limit: int
) -> tuple[int, list[GroupHealth]]:
    """The number of groups, and the first `limit` (> 0): most problems first, then the largest.

    Items pending for longer than `stuck_after` at `as_of` count as stuck.
    """
    counts = {state: _count(items.c.state == state.value) for state in ItemState}
    stuck_count = _count(stuck(as_of - stuck_after))
    problems = sum((counts[state] for state in PROBLEM_STATES), stuck_count)
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
    with_unknown = [row["group_name"] for row in rows if row[ItemState.UNKNOWN.value]]
    last_known = _last_known_by_group(conn, target, with_unknown) if with_unknown else {}
    found = [
        GroupHealth(
            name=row["group_name"],
            counts=MappingProxyType({state: row[state.value] for state in ItemState}),
            stuck=row["stuck"],
            last_known=last_known.get(row["group_name"], {}),
        )
        for row in rows
    ]
    return (rows[0]["groups"] if rows else 0), found


def _last_known_by_group(
    conn: Connection, target: str, names: Sequence[str | None]
) -> dict[str | None, dict[str | None, int]]:
    """Of these groups, the unknown items by their last known state."""
    kinds, how_many = (items.c.group_name, items.c.known_state), func.count()
    named = or_(items.c.group_name.in_([name for name in names if name is not None]), items.c.group_name.is_(None))
    unknown = items.c.target == target, in_state(ItemState.UNKNOWN), named, *active()
    query = select(*kinds, how_many).where(*unknown).group_by(*kinds).order_by(how_many.desc(), items.c.known_state)
    found: dict[str | None, dict[str | None, int]] = {}
    for name, state, count in conn.execute(query):
        found.setdefault(name, {})[state] = count
    return found


def by_stage(conn: Connection, *, target: str, limit: int) -> tuple[int, list[StageCount]]:
    """The number of stages, and the most frequent `limit` (> 0).

    Unknown items count under the stage they were last seen in; `not_found` and `invalid` items have none.
    """
    kinds = (items.c.known_state, items.c.stage)
    how_many = func.count()
    query = select(*kinds, how_many.label("items"), func.count().over().label("stages"))
    query = query.where(items.c.target == target, *active(), items.c.known_state.in_(_STAGED))
    query = query.group_by(*kinds).order_by(how_many.desc(), *kinds).limit(limit)
    rows = conn.execute(query).mappings().all()
    found = [StageCount(state=ItemState(row["known_state"]), stage=row["stage"], items=row["items"]) for row in rows]
    return (rows[0]["stages"] if rows else 0), found


def failure_reasons(conn: Connection, *, target: str, limit: int) -> tuple[int, list[ReasonCount]]:
    """The number of reasons of the items last known as failed, and the most frequent `limit` (> 0)."""
    reason, how_many = items.c.failure_reason, func.count()
    query = select(reason, how_many.label("items"), func.count().over().label("reasons"))
    query = query.where(items.c.target == target, *active(), items.c.known_state == ItemState.FAILED.value)
    query = query.group_by(reason).order_by(how_many.desc(), reason).limit(limit)
    rows = conn.execute(query).mappings().all()
    found = [ReasonCount(reason=row["failure_reason"], items=row["items"]) for row in rows]
    return (rows[0]["reasons"] if rows else 0), found


def longest_stuck(
    conn: Connection, *, target: str, as_of: datetime, stuck_after: timedelta, limit: int
) -> list[StuckItem]:
    """The items stuck the longest, at most `limit` (> 0); arguments as in `by_group`."""
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
class LastRun:
    """The newest finished run of a target, with or without a snapshot."""

    run_id: int
    status: RunStatus
    abort_reason: str | None
    error: str | None
    """Why it has no snapshot."""
    started_at: datetime
    finished_at: datetime


def snapshot_samples(conn: Connection, *, target: str, bounds: Sequence[datetime]) -> list[HistoryRow | None]:
    """The last snapshot of each span (start, end], oldest first, or None. `bounds` ascend: n + 1 for n spans.

    Where runs were pruned it is the last one of the last hour with one, out of the rollups.
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
    rolled_up = [None if row is None else history_row(row) for row in last_runs(conn, target=target, bounds=bounds)]
    return [_later(found.get(run_id), row) for (_, run_id), row in zip(chosen, rolled_up, strict=True)]


def _later(one: HistoryRow | None, other: HistoryRow | None) -> HistoryRow | None:
    known = [row for row in (one, other) if row is not None]
    return max(known, key=lambda row: (row.started_at, row.run_id), default=None)


def newest_snapshot(conn: Connection, *, target: str) -> HistoryRow | None:
    """A target's newest row of history; None before the first."""
    return next(iter(history(conn, target=target, limit=1)), None)


def last_run(conn: Connection, *, target: str) -> LastRun | None:
    """A target's newest finished run; None before the first."""
    columns = [runs.c.id.label("run_id"), *(runs.c[field.name] for field in fields(LastRun)[1:])]
    row = conn.execute(select(*columns).where(runs.c.id == newest_id(target, ENDED))).mappings().first()
    return None if row is None else LastRun(**{**row, "status": RunStatus(row["status"])})


def unreadable_since(conn: Connection, *, target: str) -> datetime | None:
    """Start of the first of the latest runs in a row that could not read the sync log; None if there are none."""
    last_read = func.coalesce(newest_id(target, WITH_SNAPSHOT), 0)
    unreadable = runs.c.target == target, has_status([RunStatus.FAILED]), runs.c.id > last_read
    return conn.execute(select(runs.c.started_at).where(*unreadable).order_by(runs.c.id).limit(1)).scalar()


def running_since(conn: Connection, *, target: str) -> datetime | None:
    """Start of a target's newest run, if it is not closed yet; it may have crashed."""
    newest = select(runs.c.status, runs.c.started_at).where(runs.c.id == newest_id(target, RunStatus))
    row = conn.execute(newest).first()
    return row.started_at if row is not None and row.status == RunStatus.RUNNING.value else None
