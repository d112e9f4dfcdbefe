"""Queries of the work list (table `items`): what is due, what it adds up to, and which items are ignored.

`sync` adds and removes ids; `outcomes` stores what a run found out.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from types import MappingProxyType
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Engine,
    Integer,
    Row,
    Select,
    String,
    and_,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal,
    literal_column,
    null,
    select,
    text,
    tuple_,
    union_all,
    update,
)

from monitor.database.bulk import id_set, ids_of
from monitor.database.engine import CHUNK_SIZE, in_chunks
from monitor.database.retry import NO_VALUES, read_page, read_shaped
from monitor.database.tables import (
    ITEM_IS_COMPLETED,
    ITEM_IS_DUE,
    ITEM_IS_INACTIVE,
    ITEM_IS_UNVERIFIED,
    Key,
    UtcDateTime,
    active,
    in_state,
    incidents,
    is_open,
    item_events,
    items,
    stuck,
)
from monitor.model import Cause, ItemState, Reason
from monitor.model.items import NO_PARAMS, TrackedItem
from monitor.rollups import indexing_store
from monitor.runs.first_items import CompletedItem

_TRACKED = (
    items.c.item_id,
    items.c.first_seen_at,
    items.c.submitted_at,
    items.c.known_state,
    items.c.stage,
    items.c.recognised,
    items.c.since,
    items.c.pending_since,
    items.c.seen_at,
    items.c.checked_at,
    items.c.regressed_at,
    items.c.incident_id,
    items.c.unverified_runs,
    items.c.failure_reason,
    items.c.failure_message,
    items.c.params,
    items.c.group_name,
    items.c.indexed_at,
    items.c.state,
    # as one value, which is seldom there: these are written with each error, and seldom read
    func.coalesce(items.c.reason, items.c.request_id, items.c.code, items.c.page, cast(items.c.http_status, String)),
    items.c.asked_run_id,
)


_STATES: Mapping[str | None, ItemState | None] = {None: None} | {state.value: state for state in ItemState}
_NO_RUN_ID = 0
_TARGET = bindparam("target", type_=String)
"""Of statements that are put together once."""
_RUN = bindparam("run", type_=Key)
_SPREAD = 4000
"""Items of one run among which rechecks are spread."""


class StateCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of a target's work list, without removed and ignored items."""

    counts: Mapping[ItemState, int]
    """By state; states without items included."""
    stuck: int
    """Pending items older than `stuck_after`."""
    unrecognised: int
    """Items whose last status is not described."""

    @property
    def all_completed(self) -> bool:
        """Whether the last run saw every item completed, or there is none."""
        return not any(count for state, count in self.counts.items() if state is not ItemState.COMPLETED)


class WorkCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What a target tracks, that is neither removed nor ignored."""

    due: int
    """Items that every run asks about: not completed when last answered, never answered, or unverified."""
    tracked: int
    """All; the rest is completed."""
    rows: int
    """All rows of the target, those of removed and ignored items with them."""
    has_members: bool
    """Whether `iter_due_items` has members of open incidents to ask about first."""
    in_incident: bool
    """Whether any incident of the target is open."""
    has_unverified: bool
    """Whether `iter_unverified` has items."""


def count_work(conn: Connection, *, target: str) -> WorkCounts:
    """Counts the items of a target, and looks for what else a plan depends on, in one statement."""
    row = conn.execute(_work_counts(), {"target": target}).one()
    return WorkCounts(
        due=row[0] + row[1],
        tracked=row[2] - row[3],
        rows=row[2],
        has_members=bool(row[4]),
        in_incident=bool(row[5]),
        has_unverified=bool(row[6]),
    )


@cache
def _work_counts() -> Select[tuple[Any, ...]]:
    # put together once: that costs more than to execute it
    of_target = select(func.count()).select_from(items).where(items.c.target == _TARGET)
    return select(
        of_target.where(_is_due()).scalar_subquery(),
        select(func.count()).select_from(items).where(*_unverified(_TARGET), _was_completed()).scalar_subquery(),
        *_row_counts(),
        select(items.c.item_id).where(*_members(_TARGET)).exists(),
        select(incidents.c.id).where(incidents.c.target == _TARGET, *is_open()).exists(),
        select(items.c.item_id).where(*_unverified(_TARGET)).exists(),
    )


def _row_counts() -> tuple[ColumnElement[int], ColumnElement[int]]:
    """All rows, which only a sync adds and nothing deletes, and the removed and ignored ones.

    Both counts are in indexes, without the rows of a million items.
    """
    of_target = select(func.count()).select_from(items).where(items.c.target == _TARGET)
    inactive: ColumnElement[bool] = text(ITEM_IS_INACTIVE)  # type: ignore[assignment] # used as a condition
    return of_target.scalar_subquery(), of_target.where(inactive).scalar_subquery()


class KeyRange(msgspec.Struct, frozen=True, kw_only=True):
    """Items by their ids, in the order of the database."""

    first_id: str
    before_id: str | None
    """The first id that is not in it; None: it has no end."""

    def condition(self) -> ColumnElement[bool]:
        """The condition of its items."""
        begins = items.c.item_id >= self.first_id
        return begins if self.before_id is None else and_(begins, items.c.item_id < self.before_id)


def longest_unasked(conn: Connection, *, target: str, run_id: int, limit: int) -> list[CompletedItem]:
    """The completed items (at most `limit`) to ask about again: those whose last outcome is unknown, then those that
    were not asked about for longest.

    Of those that one run asked about, of thousands as after a first run, some are chosen evenly: neighbours often fail
    together, which must not look like an outage of the whole service.
    """
    values = {"target": target, "run_id": run_id, "lost": limit, "known": max(limit, _SPREAD)}
    found = conn.execute(_unasked(), values).all() if limit else []
    first = [(run, item_id) for run, item_id, lost in found if lost]
    left = limit - len(first)
    oldest = sorted((run, item_id) for run, item_id, lost in found if not lost) if left > 0 else []
    if left < len(oldest):
        newest = oldest[max(0, left - 1)][0]
        older = [row for row in oldest if row[0] < newest]
        alike = [row for row in oldest if row[0] == newest]
        count = left - len(older)
        oldest = [*older, *(alike[len(alike) * position // count] for position in range(count))]
    return [*_completed_items(sorted(first), seen_completed=False), *_completed_items(oldest, seen_completed=True)]


@cache
def _unasked() -> CompoundSelect[tuple[Any, ...]]:
    """The completed items that were not asked about for longest, first those whose last outcome is unknown."""
    order = items.c.asked_run_id, items.c.item_id
    unasked = select(order[0].label("run"), order[1]).where(items.c.asked_run_id < bindparam("run_id"), _is_verified())
    # an expression: else SQLite looks for the few lost ones among all completed ones, by the index of these
    was_completed = items.c.target == _TARGET, items.c.known_state.concat("") == ItemState.COMPLETED.value, *active()
    lost = unasked.where(*was_completed, in_state(ItemState.UNKNOWN)).order_by(*order).limit(bindparam("lost"))
    is_completed = _completed(_TARGET), items.c.state == ItemState.COMPLETED.value
    known = unasked.where(*is_completed).order_by(order[0]).limit(bindparam("known"))
    parts = [
        select(each.subquery(name), literal(int(name == "of_lost")).label("lost"))
        for each, name in ((lost, "of_lost"), (known, "of_known"))
    ]
    return union_all(*parts)


def _completed_items(rows: Iterable[tuple[int, str]], *, seen_completed: bool) -> list[CompletedItem]:
    return [
        CompletedItem(item_id=item_id, seen_completed=seen_completed, asked_run_id=run_id) for run_id, item_id in rows
    ]


def probe_candidates(conn: Connection, *, target: str, run_id: int, item_ids: Sequence[str]) -> list[tuple[str, int]]:
    """Candidates for a probe among `item_ids` and unfinished items, each with the last run that has its outcome.

    Only items last known as completed or pending are returned, or all if there are none.
    """
    named = select(*_TRACKED).where(_completed_among(target, item_ids[:CHUNK_SIZE]))
    rows = [
        *conn.execute(named).all(),
        *conn.execute(*_unfinished(target, run_id, after=(-1, ""), limit=CHUNK_SIZE)).all(),
    ]
    healthy = [row for row in rows if row.known_state in {ItemState.COMPLETED.value, ItemState.PENDING.value}]
    return [(row.item_id, row.asked_run_id) for row in healthy or rows]


def iter_due_items(  # noqa: PLR0913  # keyword arguments, each of which leaves items out or orders them
    engine: Engine,
    *,
    target: str,
    run_id: int,
    recheck: Sequence[str] = (),
    first: Sequence[str] = (),
    members: int = 0,
    batch: int = 1000,
    only_rechecks: bool = False,
    within: KeyRange | None = None,
) -> Iterator[list[TrackedItem]]:
    """Yields the items that a run asks about, each once, even if outcomes are stored in between.

    1. The completed items named in `first`.
    2. Up to `members` (≥ 0) members of open incidents, so that even a run that is cut short can resolve one.
    3. All items that are not completed, those not asked about for longest first. So even runs that are always cut short
       reach every item.
    4. The completed items named in `recheck`, without those of 1.

    Items that are unverified are left out: `iter_unverified` has them, for the end. `only_rechecks`: there are none but
    completed ones, so nothing else is looked for.

    Each batch (> 0 items) has its own read transaction, which ends before the batch is yielded. `within`: only these
    items are asked about, of which those of `first` and `recheck` are.
    """
    before = frozenset(first)
    others = [item_id for item_id in recheck if item_id not in before]
    if only_rechecks and len(first) + len(others) <= batch:
        again = _load_again(engine, target, run_id, [*first, *others])
        begin, rest = ([item for item in again if (item.item_id in before) is begins] for begins in (True, False))
        yield from filter(None, (begin, rest))
        return
    if first and (page := _read_items(engine, select(*_TRACKED).where(_completed_among(target, first)))):
        yield page
    asked: set[str] = set()
    if members and (page := _read_items(engine, _in_incidents(target, run_id, within).limit(members))):
        asked = {item.item_id for item in page}
        yield page
    last = (-1, "")
    while page := _read_items(engine, *_unfinished(target, run_id, after=last, limit=batch, within=within)):
        is_last, last = len(page) < batch, (page[-1].asked_run_id, page[-1].item_id)
        # the outcomes of the members may not be stored yet
        if rest := [item for item in page if item.item_id not in asked] if asked else page:
            yield rest
        if is_last:
            break
    for start in range(0, len(others), batch):
        if again := _load_again(engine, target, run_id, others[start : start + batch]):
            yield again


def _load_again(engine: Engine, target: str, run_id: int, item_ids: Sequence[str]) -> list[TrackedItem]:
    values = {"target": target, "run": run_id, "ids": id_set(engine, item_ids)}
    return _read_items(engine, _again(), values)


def _read_items(engine: Engine, query: Select[Any], values: Mapping[str, object] = NO_VALUES) -> list[TrackedItem]:
    return read_shaped(engine, query, _tracked, values)


def iter_unanswered(
    engine: Engine, *, target: str, run_id: int, batch: int = 1000
) -> Iterator[Sequence[tuple[str, str | None, datetime, datetime | None]]]:
    """Yields those due items about which no run has had an answer, for `first_completion`: a first run has a million.

    As id, group, first time seen, and upload time. Batches are as in `iter_due_items`.
    """
    columns = (items.c.item_id, items.c.group_name, items.c.first_seen_at, items.c.submitted_at)
    unanswered = items.c.known_state.is_(None), in_state(ItemState.UNKNOWN), items.c.incident_id.is_(None)
    last = (-1, "")
    while True:
        query, values = _unfinished(target, run_id, after=last, limit=batch)
        unseen: Select[Any] = query.where(*unanswered).with_only_columns(*columns, items.c.asked_run_id)
        if not (page := read_page(engine, unseen, values)):
            return
        yield [row[:4] for row in page]
        last = (page[-1][4], page[-1][0])


def iter_unverified(
    engine: Engine, *, target: str, run_id: int, batch: int = 1000, within: KeyRange | None = None
) -> Iterator[list[TrackedItem]]:
    """Yields the items that earlier runs found a trouble of their own in, by id: a run asks about them last."""
    query = select(*_TRACKED).where(*_unverified(target), items.c.asked_run_id.is_distinct_from(run_id))
    query = query if within is None else query.where(within.condition())
    last = ""
    while page := _read_items(engine, query.where(items.c.item_id > last).order_by(items.c.item_id).limit(batch)):
        last = page[-1].item_id
        yield page


def count_unverified_run(conn: Connection, *, target: str, run_id: int, causes: Collection[Cause]) -> None:
    """Counts a run for the items that one of these causes left unknown in it, while others were answered."""
    if not causes:
        return
    of_run = (items.c.target == target, items.c.asked_run_id == run_id, in_state(ItemState.UNKNOWN), *active())
    named = items.c.reason.in_(sorted(cause.value for cause in causes))
    conn.execute(update(items).where(*of_run, named).values(unverified_runs=items.c.unverified_runs + 1))


def load_items(engine: Engine, *, target: str, run_id: int, item_ids: Sequence[str]) -> list[TrackedItem]:
    """Of these items (at most `CHUNK_SIZE`) those that are tracked and have no outcome in this run."""
    query = select(*_TRACKED).where(items.c.target == target, items.c.item_id.in_(item_ids[:CHUNK_SIZE]), *active())
    return _read_items(engine, query.where(items.c.asked_run_id.is_distinct_from(run_id)))


def mark_unasked_unknown(
    conn: Connection, *, target: str, run_id: int, reason: Cause | Reason, recheck_ids: Sequence[str] = ()
) -> int:
    """Sets due items without an outcome in this run to unknown, with the reason; returns how many.

    Their last known state stays, and no event is stored. Completed items that are not in `recheck_ids` are carried
    over.
    """
    unanswered = and_(items.c.target == target, items.c.asked_run_id.is_distinct_from(run_id))
    values = {"state": ItemState.UNKNOWN.value, "reason": reason.value}
    # the details of an earlier response do not belong to this reason
    mark_unknown = update(items).values(http_status=None, code=None, request_id=None, page=None, **values)
    count = conn.execute(mark_unknown.where(unanswered, _is_due())).rowcount
    count += conn.execute(mark_unknown.where(unanswered, *_unverified(target), _was_completed())).rowcount
    for chunk in in_chunks(recheck_ids):
        count += conn.execute(mark_unknown.where(unanswered, _completed_among(target, chunk))).rowcount
    return count


def count_states(
    conn: Connection, *, target: str, now: datetime, stuck_after: timedelta, known_rows: int = 0
) -> StateCounts:
    """Counts the items of a target by state, and the stuck ones. `known_rows`: how many rows it has, if over 0."""
    values = {"target": target, "since": now - stuck_after} | ({"known_rows": known_rows} if known_rows else {})
    rows = conn.execute(_state_counts(is_known=known_rows > 0), values).all()
    counts = dict.fromkeys(ItemState, 0)
    counts |= {ItemState(row.state): row.items for row in rows if row.state is not None}
    [tracked] = [row.items for row in rows if row.state is None]
    counts[ItemState.COMPLETED] = tracked - sum(counts.values())
    return StateCounts(
        counts=MappingProxyType(counts),
        stuck=sum(row.stuck for row in rows),
        unrecognised=sum(row.unrecognised for row in rows),
    )


@cache
def _state_counts(*, is_known: bool) -> CompoundSelect[tuple[Any, ...]]:
    # one statement: what a command ignores meanwhile must not be missing from one count alone
    of_target, overdue = items.c.target == _TARGET, stuck(bindparam("since", type_=UtcDateTime))
    sums = (func.sum(case((each, 1), else_=0)) for each in (overdue, items.c.recognised.is_(False)))
    others = select(items.c.state, func.count(), *sums).where(of_target, _is_not_completed(), *active())
    rows, inactive = _row_counts()
    if is_known:
        rows = bindparam("known_rows", type_=Integer)
    all_of_them = select(
        null().label("state"),
        (rows - inactive).label("items"),
        literal(0).label("stuck"),
        literal(0).label("unrecognised"),
    )
    return union_all(all_of_them, others.group_by(items.c.state))


def count_last_known(conn: Connection, *, target: str) -> dict[str | None, int]:
    """The unknown items of a target by their last known state, most frequent first; None: never answered."""
    return count_all_last_known(conn, targets=[target]).get(target, {})


def count_all_last_known(conn: Connection, *, targets: Sequence[str]) -> dict[str, dict[str | None, int]]:
    """The same by target, where there are any."""
    kinds, item_count = (items.c.target, items.c.known_state), func.count()
    unknown = items.c.target.in_(targets), in_state(ItemState.UNKNOWN), *active()
    query = select(*kinds, item_count).where(*unknown).group_by(*kinds)
    found: dict[str, dict[str | None, int]] = {}
    for target, state, count in conn.execute(query.order_by(item_count.desc(), items.c.known_state)):
        found.setdefault(target, {})[state] = count
    return found


def count_unrecognised(conn: Connection, *, target: str) -> dict[str, int]:
    """The statuses that are not described, most frequent first, with their number of tracked items; at most 1000."""
    item_count = func.count()
    odd = items.c.target == target, _is_not_completed(), items.c.recognised.is_(False), *active()
    query = select(items.c.stage, item_count).where(*odd)
    rows = conn.execute(query.group_by(items.c.stage).order_by(item_count.desc(), items.c.stage).limit(1000))
    return {stage: count for stage, count in rows if stage is not None}


def _is_due() -> ColumnElement[bool]:
    return text(ITEM_IS_DUE)  # type: ignore[return-value] # used as a condition


def _is_not_completed() -> ColumnElement[bool]:
    return items.c.state != literal_column("'completed'")


def _is_verified() -> ColumnElement[bool]:
    return items.c.unverified_runs == 0


def _is_unverified() -> ColumnElement[bool]:
    return text(ITEM_IS_UNVERIFIED)  # type: ignore[return-value] # used as a condition


def _unverified(target: str | ColumnElement[str]) -> tuple[ColumnElement[bool], ...]:
    """Tracked items that the API fails for, and not for others."""
    return items.c.target == target, _is_unverified(), *active()


def _completed(target: str | ColumnElement[str]) -> ColumnElement[bool]:
    """Tracked items whose last known state is completed."""
    is_completed: ColumnElement[bool] = text(ITEM_IS_COMPLETED)  # type: ignore[assignment] # used as a condition
    return and_(items.c.target == target, is_completed)


def _completed_among(target: str, item_ids: Sequence[str]) -> ColumnElement[bool]:
    """The same of these ids."""
    return and_(items.c.target == target, items.c.item_id.in_(item_ids), _was_completed(), *active())


def _was_completed() -> ColumnElement[bool]:
    """For the few that another condition finds; as in `_completed`, SQLite would rather read the index of all."""
    return func.coalesce(items.c.known_state, "") == ItemState.COMPLETED.value


def _unfinished(
    target: str, run_id: int, *, after: tuple[int, str], limit: int, within: KeyRange | None = None
) -> tuple[Select[Any], Mapping[str, object]]:
    """The query, and its parameters."""
    query = _all_unfinished(in_range=within is not None)
    values = {"target": target, "run": run_id, "after_run": after[0], "after_id": after[1], "most": limit}
    return query if within is None else query.where(within.condition()), values


@cache
def _all_unfinished(*, in_range: bool) -> Select[Any]:
    # of a range the key finds the items: an expression keeps PostgreSQL from walking the index of all due items
    asked = items.c.asked_run_id + 0 if in_range else items.c.asked_run_id
    query = select(*_TRACKED).where(items.c.target == _TARGET, asked < _RUN, _is_due(), _is_verified())
    place = tuple_(bindparam("after_run", type_=Key), bindparam("after_id", type_=String))
    return query.where(tuple_(asked, items.c.item_id) > place).order_by(asked, items.c.item_id).limit(bindparam("most"))


def _in_incidents(target: str, run_id: int, within: KeyRange | None) -> Select[tuple[Any, ...]]:
    in_range = () if within is None else (within.condition(),)
    query = select(*_TRACKED).where(*_members(target), items.c.asked_run_id < run_id, *in_range)
    return query.order_by(items.c.asked_run_id, items.c.item_id)


def _members(target: str | ColumnElement[str]) -> tuple[ColumnElement[bool], ...]:
    """Unfinished members of open incidents."""
    return items.c.target == target, items.c.incident_id.is_not(None), _is_due(), _is_verified()


@cache
def _again() -> Select[tuple[Any, ...]]:
    """The completed items of the parameter `ids`: the same text for any number of them."""
    named = select(*_TRACKED).where(items.c.target == _TARGET, items.c.item_id.in_(ids_of("ids")), _was_completed())
    unasked = named.where(*active(), _is_verified(), items.c.asked_run_id < _RUN)
    return unasked.order_by(items.c.item_id)


def _tracked(row: Row[tuple[Any, ...]]) -> TrackedItem:
    values: Any = tuple(row)  # by position, in the order of _TRACKED: called for every item
    item_id, first_seen_at, submitted_at, known_state, stage, recognised, since, pending_since, seen_at = values[:9]
    checked_at, regressed_at, incident_id, unverified_runs, failure_reason, failure_message, params = values[9:16]
    known, in_incident = _STATES[known_state], incident_id is not None
    return TrackedItem(
        item_id=item_id,
        first_seen_at=first_seen_at,
        submitted_at=submitted_at,
        state=_STATES[values[18]],
        known_state=known,
        has_details=values[19] is not None,
        stage=stage,
        recognised=recognised,
        since=since,
        pending_since=pending_since,
        seen_at=seen_at,
        checked_at=checked_at,
        regressed_at=regressed_at,
        in_incident=in_incident,
        known_missing=in_incident and known is ItemState.NOT_FOUND,
        unverified_runs=unverified_runs,
        failure_reason=failure_reason,
        failure_message=failure_message,
        params=NO_PARAMS if params is None else json.loads(params),
        group=values[16],
        indexed_at=values[17],
        asked_run_id=values[20],
    )


def load_states(engine: Engine, *, target: str, run_id: int, item_ids: Sequence[str]) -> list[ItemState]:
    """The states that a run found for these items (at most `CHUNK_SIZE`), in no order; others are left out."""
    named = items.c.target == target, items.c.item_id.in_(item_ids[:CHUNK_SIZE]), items.c.asked_run_id == run_id
    return [ItemState(row[0]) for row in read_page(engine, select(items.c.state).where(*named))]


class IgnoreResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `ignore` or `unignore`."""

    changed: int
    unchanged: int


def not_on_worklist(conn: Connection, *, target: str, item_ids: Sequence[str]) -> list[str]:
    """The given ids that are not on the work list of a target, in their order."""
    known_ids: set[str] = set()
    for chunk in in_chunks(item_ids):
        query = select(items.c.item_id).where(items.c.target == target, items.c.item_id.in_(chunk))
        known_ids.update(conn.execute(query).scalars())
    return [item_id for item_id in item_ids if item_id not in known_ids]


def ignore(conn: Connection, *, target: str, item_ids: Sequence[str], reason: str, now: datetime) -> IgnoreResult:
    """Excludes items (distinct ids) from counts and checks; their incidents release them in the next run.

    An item that is already ignored gets the new reason (at most 500 characters).
    """
    changed = 0
    for chunk in in_chunks(item_ids):
        named = (items.c.target == target, items.c.item_id.in_(chunk))
        newly = (*named, items.c.ignored_at.is_(None))
        changed += add_events(conn, *newly, kind="ignored", now=now, new=reason[:200])
        indexing_store.count_lost(conn, *newly, items.c.removed_at.is_not(None), target=target, sign=-1, now=now)
        values = {"ignored_at": func.coalesce(items.c.ignored_at, now), "ignore_reason": reason}
        conn.execute(update(items).where(*named).values(values))
    return IgnoreResult(changed=changed, unchanged=len(item_ids) - changed)


def unignore(conn: Connection, *, target: str, item_ids: Sequence[str], now: datetime) -> IgnoreResult:
    """Includes ignored items in counts and checks again."""
    changed = 0
    for chunk in in_chunks(item_ids):
        ignored = (items.c.target == target, items.c.item_id.in_(chunk), items.c.ignored_at.is_not(None))
        newly = conn.execute(select(items.c.item_id).where(*ignored)).scalars().all()
        changed += add_events(conn, *ignored, kind="unignored", now=now)
        conn.execute(update(items).where(*ignored).values(ignored_at=None, ignore_reason=None))
        gone = (items.c.target == target, items.c.item_id.in_(newly), items.c.removed_at.is_not(None))
        indexing_store.count_lost(conn, *gone, target=target, sign=1, now=now)
    return IgnoreResult(changed=changed, unchanged=len(item_ids) - changed)


def add_events(
    conn: Connection,
    *which: ColumnElement[bool],
    kind: str,
    now: datetime,
    run_id: int = _NO_RUN_ID,
    new: str | None = None,
) -> int:
    """Stores an event for each item that meets the conditions; returns how many."""
    event = {
        "run_id": literal(run_id),
        "at": literal(now, UtcDateTime),
        "kind": literal(kind),
        "new": literal(new, String),
    }
    found = select(items.c.target, items.c.item_id, *event.values()).where(*which)
    added = insert(item_events).from_select(["target", "item_id", *event], found)
    return conn.execute(added, execution_options={"preserve_rowcount": True}).rowcount
