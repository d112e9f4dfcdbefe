"""Queries for the report, each for several targets in one statement; those about one target ask the same.

Snapshots and runs are looked up in an index, so they stay fast as the history grows.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cache
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, RowMapping, Select, String, case, func, or_, select, true

from monitor.database.bulk import RowSet
from monitor.database.engine import in_chunks
from monitor.database.lookups import (
    ENDED,
    TARGETS,
    WITH_SNAPSHOT,
    has_status,
    is_due,
    newest_id,
    newest_of_each,
    places,
)
from monitor.database.tables import UtcDateTime, active, in_state, items, runs, snapshots, stuck
from monitor.model import EXISTING_STATES, PROBLEM_STATES, ItemState, RunStatus
from monitor.rollups.history import last_runs
from monitor.runs.store import HISTORY, HistoryRow, history_row

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


_AS_OF = RowSet("as_of", target=String(), stuck_before=UtcDateTime())


def by_groups(
    conn: Connection, *, stuck_before: Mapping[str, datetime], limit: int
) -> dict[str, tuple[int, list[GroupHealth]]]:
    """By target, the number of groups, and the first `limit` (> 0): most problems first, then the largest.

    Items that are pending since before these times count as stuck. Targets without items are left out.
    """
    counts = {state: _count(items.c.state == state.value) for state in ItemState}
    stuck_count = _count(stuck(_AS_OF.c.stuck_before))
    problems = sum((counts[state] for state in PROBLEM_STATES), stuck_count)
    order = (problems.desc(), func.count().desc(), items.c.group_name)
    grouped = (
        select(
            items.c.target,
            items.c.group_name,
            *places(items.c.target, order),
            stuck_count.label("stuck"),
            *(count.label(state.value) for state, count in counts.items()),
        )
        .join_from(_AS_OF.table, items, items.c.target == _AS_OF.c.target)
        .where(*active())
        .group_by(items.c.target, items.c.group_name)
    )
    rows = _first(conn, grouped, limit, _AS_OF.of(conn, list(stuck_before.items())))
    unknown = {(row["target"], row["group_name"]) for row in rows if row[ItemState.UNKNOWN.value]}
    last_known = _last_known_by_group(conn, unknown) if unknown else {}
    found: dict[str, tuple[int, list[GroupHealth]]] = {}
    for row in rows:
        health = GroupHealth(
            name=row["group_name"],
            counts=MappingProxyType({state: row[state.value] for state in ItemState}),
            stuck=row["stuck"],
            last_known=last_known.get((row["target"], row["group_name"]), {}),
        )
        found.setdefault(row["target"], (row["number"], []))[1].append(health)
    return found


def _first(conn: Connection, query: Select[Any], limit: int, parameters: Mapping[str, object]) -> Sequence[RowMapping]:
    """The rows with the first places of each target."""
    placed = query.subquery("placed")
    first = select(placed).where(placed.c.place <= limit).order_by(placed.c.target, placed.c.place)
    return conn.execute(first, parameters).mappings().all()


def _last_known_by_group(
    conn: Connection, groups: Collection[tuple[str, str | None]]
) -> dict[tuple[str, str | None], dict[str | None, int]]:
    """Of these groups of targets, the unknown items by their last known state."""
    kinds, how_many = (items.c.target, items.c.group_name, items.c.known_state), func.count()
    names = [name for _, name in groups if name is not None]
    named = or_(items.c.group_name.in_(names), items.c.group_name.is_(None))
    unknown = items.c.target.in_({target for target, _ in groups}), in_state(ItemState.UNKNOWN), named, *active()
    query = select(*kinds, how_many).where(*unknown).group_by(*kinds).order_by(how_many.desc(), items.c.known_state)
    found: dict[tuple[str, str | None], dict[str | None, int]] = {}
    for target, name, state, count in conn.execute(query):
        found.setdefault((target, name), {})[state] = count
    return found


def by_stages(conn: Connection, *, targets: Sequence[str], limit: int) -> dict[str, tuple[int, list[StageCount]]]:
    """By target, the number of stages, and the most frequent `limit` (> 0). Targets without any are left out.

    Unknown items count under the stage they were last seen in; `not_found` and `invalid` items have none.
    """
    kinds, how_many = (items.c.known_state, items.c.stage), func.count()
    query = select(items.c.target, *kinds, how_many.label("items"), *places(items.c.target, (how_many.desc(), *kinds)))
    query = query.where(items.c.target.in_(targets), *active(), items.c.known_state.in_(_STAGED))
    found: dict[str, tuple[int, list[StageCount]]] = {}
    for row in _first(conn, query.group_by(items.c.target, *kinds), limit, {}):
        stage = StageCount(state=ItemState(row["known_state"]), stage=row["stage"], items=row["items"])
        found.setdefault(row["target"], (row["number"], []))[1].append(stage)
    return found


def reasons_of_failures(
    conn: Connection, *, targets: Sequence[str], limit: int
) -> dict[str, tuple[int, list[ReasonCount]]]:
    """By target, the number of reasons of the items last known as failed, and the most frequent `limit` (> 0)."""
    reason, how_many = items.c.failure_reason, func.count()
    query = select(items.c.target, reason, how_many.label("items"), *places(items.c.target, (how_many.desc(), reason)))
    is_failed = items.c.known_state == ItemState.FAILED.value
    query = query.where(items.c.target.in_(targets), *is_due(), is_failed).group_by(items.c.target, reason)
    found: dict[str, tuple[int, list[ReasonCount]]] = {}
    for row in _first(conn, query, limit, {}):
        count = ReasonCount(reason=row["failure_reason"], items=row["items"])
        found.setdefault(row["target"], (row["number"], []))[1].append(count)
    return found


def stuck_items(conn: Connection, *, stuck_before: Mapping[str, datetime], limit: int) -> dict[str, list[StuckItem]]:
    """By target, the items stuck the longest, at most `limit` (> 0); arguments as in `by_groups`."""
    columns = (items.c.target, items.c.item_id, items.c.group_name, items.c.stage, items.c.pending_since)
    query = select(*columns, *places(items.c.target, (items.c.pending_since, items.c.item_id)))
    query = query.join_from(_AS_OF.table, items, items.c.target == _AS_OF.c.target)
    query = query.where(*active(), stuck(_AS_OF.c.stuck_before))
    found: dict[str, list[StuckItem]] = {}
    for row in _first(conn, query, limit, _AS_OF.of(conn, list(stuck_before.items()))):
        each = StuckItem(
            item_id=row["item_id"], group=row["group_name"], stage=row["stage"], pending_since=row["pending_since"]
        )
        found.setdefault(row["target"], []).append(each)
    return found


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


_SPANS = RowSet("spans", n=Integer(), beginning=UtcDateTime(), ending=UtcDateTime())


def samples(
    conn: Connection, *, targets: Sequence[str], bounds: Sequence[datetime]
) -> dict[str, list[HistoryRow | None]]:
    """By target, the last snapshot of each span (start, end], oldest first, or None.

    `bounds` ascend: n + 1 for n spans. Where runs were pruned it is the last one of the last hour with one, out of
    the rollups.
    """
    parameters = TARGETS.of(conn, [(each,) for each in targets])
    parameters |= _SPANS.of(conn, [(n, *span) for n, span in enumerate(pairwise(bounds))])
    chosen = {(target, n): run_id for target, n, run_id in conn.execute(_newest_in_spans(), parameters)}
    stored = _history_rows(conn, [run_id for run_id in chosen.values() if run_id is not None])
    found = {target: [stored.get(chosen[target, n]) for n in range(len(bounds) - 1)] for target in targets}
    known = {
        (target, n): (row.started_at, row.run_id)
        for target, rows in found.items()
        for n, row in enumerate(rows)
        if row is not None
    }
    for (target, n), later in last_runs(conn, targets=targets, bounds=bounds, known=known).items():
        found[target][n] = history_row(later)
    return found


@cache
def _newest_in_spans() -> Select[Any]:
    name, spans = TARGETS.c.target, _SPANS.c
    within = (runs.c.started_at > spans.beginning, runs.c.started_at <= spans.ending)
    newest = (
        select(runs.c.id)
        .join(snapshots, snapshots.c.run_id == runs.c.id)
        .where(runs.c.target == name, *within)
        .order_by(runs.c.started_at.desc(), runs.c.id.desc())
        .limit(1)
        .correlate(TARGETS.table, _SPANS.table)
        .scalar_subquery()
    )
    return select(name, spans.n, newest).join_from(TARGETS.table, _SPANS.table, true()).order_by(name, spans.n)


def _history_rows(conn: Connection, ids: Sequence[int]) -> dict[int | None, HistoryRow]:
    """Rows of history by the id of the run."""
    found: dict[int | None, HistoryRow] = {}
    for chunk in in_chunks(ids):
        rows = conn.execute(select(HISTORY).where(HISTORY.c.run_id.in_(chunk))).mappings()
        found |= {row["run_id"]: history_row(row) for row in rows}
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class NewestRuns:
    """The newest runs of a target."""

    last: LastRun | None = None
    """The newest finished one; None before the first."""
    snapshot: HistoryRow | None = None
    """The newest row of history; None before the first."""
    running_since: datetime | None = None
    """Start of the newest run, if it is not closed yet; it may have crashed."""
    unreadable_since: datetime | None = None
    """Start of the first of the latest runs in a row that could not read the sync log; None if there are none."""


def newest_runs(conn: Connection, *, targets: Sequence[str]) -> dict[str, NewestRuns]:
    """The newest runs by target."""
    wanted = {"ended": ENDED, "counted": WITH_SNAPSHOT, "newest": tuple(RunStatus)}
    chosen = newest_of_each(conn, targets, wanted)
    ids = {number for row in chosen.values() for number in (row.ended, row.newest) if number is not None}
    columns = [runs.c.id.label("run_id"), *(runs.c[field.name] for field in fields(LastRun)[1:])]
    found: dict[int | None, LastRun] = {}
    for chunk in in_chunks(sorted(ids)):
        rows = conn.execute(select(*columns).where(runs.c.id.in_(chunk))).mappings()
        found |= {row["run_id"]: LastRun(**{**row, "status": RunStatus(row["status"])}) for row in rows}
    counted = _history_rows(conn, [row.counted for row in chosen.values() if row.counted is not None])
    failed = [name for name, row in chosen.items() if _has(found.get(row.ended), RunStatus.FAILED)]
    unreadable = _unreadable_since(conn, failed) if failed else {}
    return {
        name: NewestRuns(
            last=found.get(row.ended),
            snapshot=counted.get(row.counted),
            running_since=found[row.newest].started_at if _has(found.get(row.newest), RunStatus.RUNNING) else None,
            unreadable_since=unreadable.get(name),
        )
        for name, row in chosen.items()
    }


def _has(run: LastRun | None, status: RunStatus) -> bool:
    return run is not None and run.status is status


def _unreadable_since(conn: Connection, targets: Sequence[str]) -> dict[str, datetime | None]:
    """Start of the first failed run of each target after the last one that asked the API."""
    name, names = TARGETS.c.target, TARGETS.table
    last_read = func.coalesce(newest_id(name, WITH_SNAPSHOT, correlate=names), 0)
    unreadable = runs.c.target == name, has_status([RunStatus.FAILED]), runs.c.id > last_read
    first = select(runs.c.started_at).where(*unreadable).order_by(runs.c.id).limit(1).correlate(names).scalar_subquery()
    rows = conn.execute(select(name, first.label("since")), TARGETS.of(conn, [(each,) for each in targets]))
    return {row.target: row.since for row in rows}


def first_run_at(conn: Connection, *, target: str | None = None) -> datetime | None:
    """When the oldest stored run began, of a target or of any; None without runs."""
    query = select(runs.c.started_at).order_by(runs.c.id).limit(1)
    if target is not None:
        query = select(func.min(runs.c.started_at)).where(runs.c.target == target)
    return conn.execute(query).scalar()
