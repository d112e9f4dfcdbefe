"""Queries for the report, each for several targets in one statement; those about one target ask the same.

Snapshots and runs are looked up in an index, so they stay fast as the history grows.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cache
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Integer,
    RowMapping,
    Select,
    String,
    case,
    func,
    literal,
    null,
    or_,
    select,
    true,
    union_all,
)

from monitor.database.bulk import RowSet
from monitor.database.engine import in_chunks
from monitor.database.lookups import (
    ENDED,
    TARGETS,
    WITH_SNAPSHOT,
    first_of_each,
    has_status,
    is_completed,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """The items of one target by group and by stage."""

    group_count: int = 0
    groups: Sequence[GroupHealth] = ()
    """Most problems first, then the largest."""
    stage_count: int = 0
    stages: Sequence[StageCount] = ()
    """The most frequent first. Unknown items count under the stage they were last seen in; `not_found` and `invalid`
    items have none."""


def breakdowns(
    conn: Connection, *, stuck_before: Mapping[str, datetime], max_groups: int, max_stages: int
) -> dict[str, Breakdown]:
    """By target, its first groups and stages (limits > 0), and how many there are. Targets without items are left out.

    Items that are pending since before these times count as stuck. All items are read once, for both.
    """
    query = _breakdown(max_groups, max_stages)
    rows = conn.execute(query, _AS_OF.of(conn, list(stuck_before.items()))).mappings().all()
    of_groups = [row for row in rows if row["known_state"] is None]
    unknown = {(row["target"], row["name"]) for row in of_groups if row[ItemState.UNKNOWN.value]}
    last_known = _last_known_by_group(conn, unknown) if unknown else {}
    groups, stages = defaultdict[str, list[GroupHealth]](list), defaultdict[str, list[StageCount]](list)
    group_counts, stage_counts = dict[str, int](), dict[str, int]()
    for row in rows:
        target, name = row["target"], row["name"]
        if row["known_state"] is not None:
            stage_counts[target] = row["number"]
            stage = StageCount(state=ItemState(row["known_state"]), stage=name, items=int(row["items"]))
            stages[target].append(stage)
            continue
        group_counts[target] = row["number"]
        health = GroupHealth(
            name=name,
            # PostgreSQL's sums of counts are of no whole type
            counts=MappingProxyType({state: int(row[state.value]) for state in ItemState}),
            stuck=int(row["stuck"]),
            last_known=last_known.get((target, name), {}),
        )
        groups[target].append(health)
    return {
        target: Breakdown(
            group_count=count, groups=groups[target], stage_count=stage_counts.get(target, 0), stages=stages[target]
        )
        for target, count in group_counts.items()
    }


@cache
def _breakdown(max_groups: int, max_stages: int) -> Select[Any]:
    """Rows of groups (without `known_state`), then of stages, each by place."""
    tally = _tally().cte("tally").prefix_with("MATERIALIZED").c
    counts = {state: func.sum(case((tally.state == state.value, tally.tracked), else_=0)) for state in ItemState}
    problems = sum((counts[state] for state in PROBLEM_STATES), func.sum(tally.stuck))
    how_many, none = func.sum(tally.tracked), null().cast(String)
    groups = select(
        literal(0).label("kind"),
        tally.target,
        tally.group_name.label("name"),
        none.label("known_state"),
        *places(tally.target, (problems.desc(), how_many.desc(), tally.group_name)),
        how_many.label("items"),
        func.sum(tally.stuck).label("stuck"),
        *(count.label(state.value) for state, count in counts.items()),
    ).group_by(tally.target, tally.group_name)
    stages = (
        select(
            literal(1).label("kind"),
            tally.target,
            tally.stage.label("name"),
            tally.known_state,
            *places(tally.target, (how_many.desc(), tally.known_state, tally.stage)),
            how_many.label("items"),
            *(literal(0).label(name) for name in ("stuck", *(state.value for state in ItemState))),
        )
        .where(tally.known_state.in_(_STAGED))
        .group_by(tally.target, tally.known_state, tally.stage)
    )
    placed = union_all(groups, stages).subquery("placed")
    first = placed.c.place <= case((placed.c.kind == 0, max_groups), else_=max_stages)
    return select(placed).where(first).order_by(placed.c.kind, placed.c.target, placed.c.place)


def _tally() -> CompoundSelect[Any]:
    """Numbers of tracked items that are alike: completed ones, in the order of their index, and all others."""
    alike = (items.c.target, items.c.group_name, items.c.state, items.c.stage)
    of, completed = select(*alike, func.count().label("tracked")), literal(ItemState.COMPLETED.value)
    # not as a join: SQLite would sort them
    done = of.where(items.c.target.in_(select(_AS_OF.c.target)), *is_completed()).group_by(*alike)
    others = of.join_from(_AS_OF.table, items, items.c.target == _AS_OF.c.target).where(*is_due())
    stuck_count = func.sum(case((stuck(_AS_OF.c.stuck_before), 1), else_=0))
    return union_all(
        done.add_columns(completed.label("known_state"), literal(0).label("stuck")),
        others.add_columns(items.c.known_state, stuck_count.label("stuck")).group_by(*alike, items.c.known_state),
    )


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


def reasons_of_failures(
    conn: Connection, *, targets: Sequence[str], limit: int
) -> dict[str, tuple[int, list[ReasonCount]]]:
    """By target, the number of reasons of the items last known as failed, and the most frequent `limit` (> 0)."""
    reason, how_many = items.c.failure_reason, func.count()
    query = select(items.c.target, reason, how_many.label("items"), *places(items.c.target, (how_many.desc(), reason)))
    # by their present state, which the index has: not by that of all items that are not completed
    is_failed = in_state(ItemState.FAILED, ItemState.UNKNOWN), items.c.known_state == ItemState.FAILED.value
    query = query.where(items.c.target.in_(targets), *is_failed, *active()).group_by(items.c.target, reason)
    found: dict[str, tuple[int, list[ReasonCount]]] = {}
    for row in _first(conn, query, limit, {}):
        count = ReasonCount(reason=row["failure_reason"], items=row["items"])
        found.setdefault(row["target"], (row["number"], []))[1].append(count)
    return found


def stuck_items(conn: Connection, *, stuck_before: Mapping[str, datetime], limit: int) -> dict[str, list[StuckItem]]:
    """By target, the items stuck the longest, at most `limit` (> 0); arguments as in `breakdowns`."""
    rows = conn.execute(_stuck_longest(conn.dialect.name, limit), _AS_OF.of(conn, list(stuck_before.items())))
    found: dict[str, list[StuckItem]] = {}
    for target, item_id, group, stage, since in rows:
        each = StuckItem(item_id=item_id, group=group, stage=stage, pending_since=since)
        found.setdefault(target, []).append(each)
    return found


@cache
def _stuck_longest(dialect: str, limit: int) -> Select[Any]:
    order = (items.c.pending_since, items.c.item_id)
    shown = (items.c.item_id, items.c.group_name, items.c.stage, items.c.pending_since)
    which = (items.c.target == _AS_OF.c.target, *active(), stuck(_AS_OF.c.stuck_before))
    return first_of_each(dialect, _AS_OF, items.c.item_id, shown, which, order=order, limit=limit)


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
