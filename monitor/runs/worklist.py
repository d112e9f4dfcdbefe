"""The work list while a run goes through it: what is due, what came of it, what it adds up to.

Which ids are on the list is `worklist`'s business; whether an item is well is `health`'s.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, and_, case, func, select, text, tuple_, update

from monitor.database.engine import CHUNK_SIZE, in_chunks
from monitor.database.retry import read_page
from monitor.database.tables import ITEM_IS_DUE, active, items, stuck
from monitor.model import ItemCompletion, ItemState, Reason
from monitor.model.items import TrackedItem

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
    items.c.asked_run_id,
)


_STATES: Mapping[str | None, ItemState | None] = {None: None} | {state.value: state for state in ItemState}


@dataclass(frozen=True, slots=True, kw_only=True)
class StateCounts:
    """What the work list of a target adds up to; removed and ignored items are not in it."""

    counts: Mapping[ItemState, int]
    """Every state, also those with no item."""
    stuck: int
    """Pending items that are so for longer than they may."""


def count_due(conn: Connection, *, target: str, recheck: int) -> int:
    """How many items a run asks about: all not known to be completed, and at most `recheck` (≥ 0) that are."""
    unfinished = select(func.count()).select_from(items).where(items.c.target == target, _is_due())
    completed = select(items.c.item_id).where(_completed(target)).limit(recheck).subquery()
    return (
        conn.execute(unfinished).scalar_one() + conn.execute(select(func.count()).select_from(completed)).scalar_one()
    )


def count_active(conn: Connection, *, target: str) -> int:
    """How many items of a target are tracked: neither removed nor ignored."""
    return conn.execute(select(func.count()).select_from(items).where(items.c.target == target, *active())).scalar_one()


def longest_unchecked(conn: Connection, *, target: str, run_id: int, limit: int) -> tuple[str, ...]:
    """The ids of the completed items that `iter_due_items` hands out with `recheck=limit`, as long as nothing is recorded."""
    page = conn.execute(_longest_unchecked(target, run_id, None).limit(limit)).mappings()
    return tuple(row["item_id"] for row in page)


def choose_first_items(conn: Connection, *, target: str, item_ids: Sequence[str], count: int) -> tuple[str, ...]:
    """A few of these items to begin a run with, spread over them: they tell how the API is.

    Those that the last run saw completed are taken before all others, so that what a run learns first is not what ails
    a few items that always fail.

    Args:
        conn: a connection.
        target: whose items.
        item_ids: ids to choose from.
        count: how many to choose (> 0).
    """
    healthy: set[str] = set()
    for chunk in in_chunks(item_ids):
        query = select(items.c.item_id).where(items.c.target == target, items.c.item_id.in_(chunk))
        healthy.update(conn.execute(query.where(items.c.state == ItemState.COMPLETED.value)).scalars())
    choice = [item_id for item_id in item_ids if item_id in healthy] or list(item_ids)
    return tuple(choice[:: max(1, len(choice) // count)][:count])


def probe_candidates(conn: Connection, *, target: str, run_id: int, item_ids: Sequence[str]) -> list[tuple[str, int]]:
    """Items of which one may be asked about before all others, each with the last run that has an outcome for it.

    They are some that were completed or pending when last anything was found out about them; if there is none, any.

    Args:
        conn: a connection.
        target: whose items.
        run_id: the run that asks.
        item_ids: ids of completed items to choose from; some that are not completed are added.
    """
    named = select(*_TRACKED).where(_completed(target), items.c.item_id.in_(item_ids[:CHUNK_SIZE]))
    rows = [
        *conn.execute(named).all(),
        *conn.execute(_unfinished(target, run_id, after=(-1, "")).limit(CHUNK_SIZE)).all(),
    ]
    healthy = [row for row in rows if row.known_state in {ItemState.COMPLETED.value, ItemState.PENDING.value}]
    return [(row.item_id, row.asked_run_id) for row in healthy or rows]


def iter_due_items(
    engine: Engine, *, target: str, run_id: int, recheck: int, first: Sequence[str] = (), batch: int = 1000
) -> Iterator[list[TrackedItem]]:
    """The items that a run asks about, each once, whatever is recorded meanwhile.

    First those named as `first`; then all that are not known to be completed, those that no run asked about for longest
    before the others, so that a run that is always cut short still gets round to each; then those completed ones that
    were not checked for longest. Each batch is a read transaction of its own, over before the batch is handed out.

    Args:
        engine: our own database.
        target: whose items.
        run_id: the run that asks: what it has an outcome for already is no longer due as completed.
        recheck: how many completed items to check again at most (≥ 0).
        first: ids of completed items to begin with.
        batch: items per batch (> 0).
    """
    if first and (page := read_page(engine, select(*_TRACKED).where(_completed(target), items.c.item_id.in_(first)))):
        yield [_tracked(row) for row in page]
    last = (-1, "")
    while page := read_page(engine, _unfinished(target, run_id, after=last).limit(batch)):
        yield [_tracked(row) for row in page]
        last = (page[-1].asked_run_id, page[-1].item_id)
    seen: tuple[datetime, str] | None = None
    while recheck > 0 and (
        page := read_page(engine, _longest_unchecked(target, run_id, seen).limit(min(batch, recheck)))
    ):
        # what came first may not be recorded yet
        yield [_tracked(row) for row in page if row.item_id not in first]
        recheck -= len(page)
        seen = (page[-1].checked_at, page[-1].item_id)


def load_items(engine: Engine, *, target: str, run_id: int, item_ids: Sequence[str]) -> list[TrackedItem]:
    """Those of some items (at most `CHUNK_SIZE`) that are tracked and that the run has no outcome for yet."""
    query = select(*_TRACKED).where(items.c.target == target, items.c.item_id.in_(item_ids[:CHUNK_SIZE]), *active())
    return [_tracked(row) for row in read_page(engine, query.where(items.c.asked_run_id.is_distinct_from(run_id)))]


def mark_unasked_unknown(
    conn: Connection, *, target: str, run_id: int, reason: Reason, recheck_ids: Sequence[str] = ()
) -> int:
    """Makes what this run has no outcome for unknown, with the reason; what was known of it stays, and so no event.

    Args:
        conn: a write transaction.
        target: whose items.
        run_id: the run that was cut short.
        reason: why it did not ask.
        recheck_ids: completed items that it meant to ask about again; other completed ones are carried over.

    Returns:
        How many items it left unknown.
    """
    unanswered = and_(items.c.target == target, items.c.asked_run_id.is_distinct_from(run_id))
    values = {"state": ItemState.UNKNOWN.value, "reason": reason.value}
    # what an earlier answer said does not belong to this reason
    mark_unknown = update(items).values(http_status=None, code=None, request_id=None, **values)
    count = conn.execute(mark_unknown.where(unanswered, _is_due())).rowcount
    for chunk in in_chunks(recheck_ids):
        count += conn.execute(mark_unknown.where(unanswered, _completed(target), items.c.item_id.in_(chunk))).rowcount
    return count


def count_states(conn: Connection, *, target: str, now: datetime, stuck_after: timedelta) -> StateCounts:
    """Counts a target's items by state, and the pending ones that are so for longer than `stuck_after`."""
    overdue = stuck(now - stuck_after)
    rows = conn.execute(
        select(items.c.state, func.count().label("items"), func.sum(case((overdue, 1), else_=0)).label("stuck"))
        .where(items.c.target == target, *active())
        .group_by(items.c.state)
    ).all()
    counts = dict.fromkeys(ItemState, 0) | {ItemState(row.state): row.items for row in rows}
    return StateCounts(counts=MappingProxyType(counts), stuck=sum(row.stuck for row in rows))


def count_unrecognised(conn: Connection, *, target: str) -> dict[str, int]:
    """Statuses that nobody has described, and how many tracked items are in each; the most frequent ten."""
    item_count = func.count()
    query = select(items.c.stage, item_count).where(items.c.target == target, items.c.recognised.is_(False), *active())
    rows = conn.execute(query.group_by(items.c.stage).order_by(item_count.desc(), items.c.stage).limit(10))
    return {stage: count for stage, count in rows if stage is not None}


def _is_due() -> ColumnElement[bool]:
    return text(ITEM_IS_DUE)  # type: ignore[return-value] # stands where a condition may stand


def _completed(target: str) -> ColumnElement[bool]:
    """Items that were completed when last anything was found out about them."""
    return and_(items.c.target == target, items.c.known_state == ItemState.COMPLETED.value, *active())


def _unfinished(target: str, run_id: int, *, after: tuple[int, str]) -> Select[tuple[Any, ...]]:
    order = tuple_(items.c.asked_run_id, items.c.item_id)
    query = select(*_TRACKED).where(items.c.target == target, items.c.asked_run_id < run_id, _is_due())
    return query.where(order > tuple_(*after)).order_by(items.c.asked_run_id, items.c.item_id)


def _longest_unchecked(target: str, run_id: int, after: tuple[datetime, str] | None) -> Select[tuple[Any, ...]]:
    order = tuple_(items.c.checked_at, items.c.item_id)
    query = select(*_TRACKED).where(_completed(target), items.c.checked_at.is_not(None))
    query = query.where(items.c.asked_run_id.is_distinct_from(run_id))
    if after is not None:
        query = query.where(order > tuple_(*after))
    return query.order_by(items.c.checked_at, items.c.item_id)


def _tracked(row: Row[tuple[Any, ...]]) -> TrackedItem:
    values: Any = tuple(row)  # by position, in the order of _TRACKED: made for every item
    item_id, first_seen_at, submitted_at, known_state, stage, recognised, since, pending_since, seen_at = values[:9]
    checked_at, regressed_at, incident_id, _ = values[9:]
    known, in_incident = _STATES[known_state], incident_id is not None
    return TrackedItem(
        item_id=item_id,
        first_seen_at=first_seen_at,
        submitted_at=submitted_at,
        known_state=known,
        stage=stage,
        recognised=recognised,
        since=since,
        pending_since=pending_since,
        seen_at=seen_at,
        checked_at=checked_at,
        regressed_at=regressed_at,
        in_incident=in_incident,
        known_missing=in_incident and known is ItemState.NOT_FOUND,
    )


def iter_completions(engine: Engine, *, target: str, batch: int = 5000) -> Iterator[list[ItemCompletion]]:
    """Every tracked item of a target, by id; each batch (> 0 items) is a read transaction of its own.

    Raises:
        StoreError: when the database can't be read.
    """
    columns = (items.c.item_id, items.c.known_state, items.c.state)
    query = select(*columns).where(items.c.target == target, *active()).order_by(items.c.item_id).limit(batch)
    last = ""
    completed = ItemState.COMPLETED.value
    while True:
        rows = read_page(engine, query.where(items.c.item_id > last))
        if not rows:
            return
        yield [
            ItemCompletion(item_id=item_id, known_completed=known == completed, last_seen_completed=state == completed)
            for item_id, known, state in rows
        ]
        last = rows[-1][0]


def load_states(engine: Engine, *, target: str, run_id: int, item_ids: Sequence[str]) -> list[ItemState]:
    """What a run found out about some items (at most `CHUNK_SIZE`), as far as it asked about them; in no order."""
    query = select(items.c.state).where(
        items.c.target == target, items.c.item_id.in_(item_ids[:CHUNK_SIZE]), items.c.asked_run_id == run_id
    )
    return [ItemState(row[0]) for row in read_page(engine, query)]
