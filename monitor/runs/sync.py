"""Copies the ids of a sync log into the work list (table `items`).

The sync log is read outside our write locks. Only changed rows are written, in one short transaction.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import structlog
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from monitor.database import leases
from monitor.database.bulk import begin_merge, create_staging_table
from monitor.database.engine import insert as insert_or
from monitor.database.engine import translate_errors
from monitor.database.tables import UtcDateTime, canaries, items
from monitor.errors import SyncLogUnavailableError
from monitor.model import ItemState, Reason, SyncLogEntry, SyncReport
from monitor.model.durations import exponential_backoff_s
from monitor.rollups import indexing_store
from monitor.runs.worklist import add_events
from monitor.synclog.validation import MAX_GROUP_LENGTH, MAX_ID_LENGTH, MAX_SAMPLES, add_counts, validate_entries

_T = TypeVar("_T")

_staged = Table(
    "staged_ids",
    MetaData(),
    Column("item_id", String(MAX_ID_LENGTH), primary_key=True),
    Column("submitted_at", UtcDateTime),
    Column("group_name", String(MAX_GROUP_LENGTH)),
    Column("params", Text),
    Column("seen", Integer, nullable=False),  # rows with this id
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)


RETRIES = 2
FIRST_PAUSE_S, _MAX_PAUSE_S = 0.5, 1.0
_RETRY_SHARE = 0.5
"""Of the run's time: no retry begins later, so that time to ask about the items remains."""


def retry_unavailable_log(
    work: Callable[[], _T], *, started_s: float, deadline_s: float, should_stop: Callable[[], bool]
) -> _T:
    """Runs `work` again, at most twice, while the sync log can't be read for the moment.

    Times are on the monotonic clock: when the run started, and when it must end. `work` writes all or nothing.

    Raises:
        SyncLogError: the log can't be read, or still can't.
    """
    latest_s, failures = started_s + _RETRY_SHARE * (deadline_s - started_s), 0
    while True:
        try:
            return work()
        except SyncLogUnavailableError as error:
            pause_s = exponential_backoff_s(failures, initial_s=FIRST_PAUSE_S, max_s=_MAX_PAUSE_S, jitter=1)
            if failures >= RETRIES or should_stop() or time.monotonic() + pause_s >= latest_s:
                raise
            structlog.get_logger().info("sync_log_retried", reason=str(error), retry_in_s=pause_s)
        time.sleep(pause_s)
        failures += 1


def sync_worklist(
    engine: Engine,
    *,
    target: str,
    epoch: int,
    run_id: int,
    batches: Iterable[Sequence[SyncLogEntry]],
    now: datetime,
    keep_if_empty: bool = False,
    earliest: bool = False,
) -> SyncReport:
    """Updates the work list of a target from its sync log.

    1. Each batch is validated and loaded into a temporary table; on SQLite this locks nothing in our database.
    2. One write transaction verifies the lease, leaves out the documents of canaries, updates upload times, groups and
       parameters, marks ids that left the log as removed, restores ids that came back, and adds new ids as unknown.

    Of several rows with one id the first counts, or with `earliest` the one with the earliest upload time. A log
    without a usable id removes all items, or with `keep_if_empty` none; the report shows this. Upload times after `now`
    are counted and ignored. One batch is in memory at a time.

    Raises:
        LeaseLostError: the lease is no longer ours; nothing was written.
        StoreError: our database fails; nothing was written. The same holds if `batches` raises.
    """
    with translate_errors(engine), engine.connect() as conn:
        report = _stage(conn, batches, now, earliest=earliest)
        begin_merge(conn, _staged)
        leases.verify(conn, target=target, epoch=epoch)
        report = _merge(conn, report, target=target, run_id=run_id, now=now, keep_if_empty=keep_if_empty)
        _staged.drop(conn)
        conn.commit()
    return report


def _stage(conn: Connection, batches: Iterable[Sequence[SyncLogEntry]], now: datetime, *, earliest: bool) -> SyncReport:
    create_staging_table(conn, _staged)
    row = insert_or(conn, _staged)
    changes: dict[str, ColumnElement[Any]] = {"seen": _staged.c.seen + 1}
    if earliest:
        old, new = _staged.c, row.excluded
        is_earlier = or_(
            new.submitted_at < old.submitted_at, and_(old.submitted_at.is_(None), new.submitted_at.is_not(None))
        )
        changes |= {name: case((is_earlier, new[name]), else_=old[name]) for name in ("submitted_at", "group_name")}
    upsert = row.on_conflict_do_update(index_elements=[_staged.c.item_id], set_=changes)
    report = SyncReport()
    for batch in batches:
        usable, counts = validate_entries(batch, now=now)
        report = add_counts(report, counts)
        if usable:
            conn.execute(upsert, [_row(entry) for entry in usable])
    return report


def _row(entry: SyncLogEntry) -> dict[str, object]:
    return {
        "item_id": entry.item_id,
        "submitted_at": entry.submitted_at,
        "group_name": entry.group,
        "params": json.dumps(entry.params, sort_keys=True, ensure_ascii=False) if entry.params else None,
        "seen": 1,
    }


def _merge(
    conn: Connection, report: SyncReport, *, target: str, run_id: int, now: datetime, keep_if_empty: bool
) -> SyncReport:
    of_target = items.c.target == target
    _drop_canaries(conn, target)
    if keep_if_empty and conn.scalar(select(_staged.c.item_id).limit(1)) is None:
        kept = select(func.count()).where(of_target, items.c.removed_at.is_(None))
        return replace(report, kept=conn.execute(kept).scalar_one())
    in_log = exists().where(_staged.c.item_id == items.c.item_id)
    removed_items = and_(of_target, items.c.removed_at.is_(None), ~in_log)
    returned_items = and_(of_target, items.c.removed_at.is_not(None), in_log)
    if add_events(conn, returned_items, kind="returned", run_id=run_id, now=now):
        # before their upload times and groups change, by which they were counted
        indexing_store.count_lost(conn, returned_items, target=target, sign=-1)
    _update_changed(conn, target)
    if add_events(conn, removed_items, kind="removed", run_id=run_id, now=now):
        indexing_store.count_lost(conn, removed_items, target=target, sign=1)
    removed = conn.execute(update(items).where(removed_items).values(removed_at=now)).rowcount
    returned = conn.execute(update(items).where(returned_items).values(removed_at=None)).rowcount
    new = _insert_new(conn, target, now)
    tracked, rows = conn.execute(select(func.count(), func.coalesce(func.sum(_staged.c.seen), 0))).one()
    duplicates = select(_staged.c.item_id).where(_staged.c.seen > 1).order_by(_staged.c.item_id).limit(MAX_SAMPLES)
    return replace(
        report,
        tracked=tracked,
        new=new,
        removed=removed,
        returned=returned,
        duplicate=int(rows) - tracked,
        duplicate_ids=tuple(conn.execute(duplicates).scalars()),
    )


def _drop_canaries(conn: Connection, target: str) -> None:
    """Leaves out documents of the monitor's own canaries, which a pipeline may record as any other upload."""
    if conn.scalar(select(canaries.c.id).where(canaries.c.target == target).limit(1)) is not None:
        own = exists().where(canaries.c.target == target, canaries.c.item_id == _staged.c.item_id)
        conn.execute(delete(_staged).where(own))


def _update_changed(conn: Connection, target: str) -> None:
    """Updates upload times, groups and parameters of items, before those that are back in the log are restored.

    A time after the item was first seen in the log is no upload time, but that of a later change of the row, as tools
    write it that touch their rows again and again. The first one counts, so that a lost item grows old.
    """
    old, new = items.c, _staged.c
    moved = and_(new.submitted_at > old.first_seen_at, old.submitted_at.is_not(None), old.removed_at.is_(None))
    submitted_at = case((moved, old.submitted_at), else_=new.submitted_at)
    changed = or_(
        old.submitted_at.is_distinct_from(submitted_at),
        old.group_name.is_distinct_from(new.group_name),
        old.params.is_distinct_from(new.params),
    )
    same = and_(old.target == target, old.item_id == new.item_id)
    values = {"submitted_at": submitted_at, "group_name": new.group_name, "params": new.params}
    conn.execute(update(items).where(same, changed).values(values))


def _insert_new(conn: Connection, target: str, now: datetime) -> int:
    known = exists().where(items.c.target == target, items.c.item_id == _staged.c.item_id)
    new_item = {
        "target": literal(target),
        "item_id": _staged.c.item_id,
        "submitted_at": _staged.c.submitted_at,
        "group_name": _staged.c.group_name,
        "params": _staged.c.params,
        "first_seen_at": literal(now, UtcDateTime),
        "state": literal(ItemState.UNKNOWN.value),
        "reason": literal(Reason.NOT_ASKED.value),
    }
    rows = select(*new_item.values()).where(~known).order_by(_staged.c.item_id)
    added = insert(items).from_select(list(new_item), rows)
    return conn.execute(added, execution_options={"preserve_rowcount": True}).rowcount
