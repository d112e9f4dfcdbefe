"""The built-in sync log: ids that were imported, by target. Runs read it like any other sync log."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    update,
)

from monitor.database.bulk import begin_merge, create_staging_table, drop_staging_table
from monitor.database.engine import in_chunks, reading, translate_errors, writing
from monitor.database.engine import insert as insert_or
from monitor.database.tables import UtcDateTime, tracked_items
from monitor.database.text import to_column_text
from monitor.model import SyncLogEntry
from monitor.synclog.pages import Bound, Known, LogPage, LogStart, Pager, Row, in_ranges, seed, whole_log
from monitor.synclog.postgres_pages import IncomparableError, read_postgres_pages
from monitor.synclog.validation import MAX_GROUP_LENGTH, MAX_ID_LENGTH

MAX_NAMED_IDS = 20

_staged = Table(
    "staged_imports",
    MetaData(),
    Column("item_id", String(MAX_ID_LENGTH), primary_key=True),
    Column("submitted_at", UtcDateTime),
    Column("group_name", String(MAX_GROUP_LENGTH)),
    prefixes=["TEMPORARY"],
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """The result of an import: `read = new + known + updated + duplicate`."""

    read: int
    new: int
    known: int
    """In the log before, without a difference."""
    updated: int
    """In the log before, with another upload time or group."""
    duplicate: int
    """Further rows with an id of the same import; the first one counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalResult:
    """The result of a removal."""

    removed: int
    unknown: int
    unknown_ids: tuple[str, ...]
    """The first `MAX_NAMED_IDS` ids that are not in the log."""


def add(engine: Engine, *, target: str, batches: Iterable[Sequence[SyncLogEntry]], now: datetime) -> ImportResult:
    """Adds ids to the log of a target, all or none; a second call changes nothing.

    1. Batches (of valid ids) are loaded into a temporary table; on SQLite this locks nothing in our database.
    2. One short write transaction adds new ids and updates upload times and groups. Missing values change nothing.

    Raises:
        StoreError: our database fails; nothing was written. The same holds if `batches` raises.
    """
    with translate_errors(engine), engine.connect() as conn:
        rows = _stage(conn, batches)
        begin_merge(conn, _staged)
        imported = _merge(conn, rows, target=target, now=now)
        drop_staging_table(conn, _staged)
        conn.commit()
    return imported


def _stage(conn: Connection, batches: Iterable[Sequence[SyncLogEntry]]) -> int:
    create_staging_table(conn, _staged)
    insert_first = insert_or(conn, _staged).on_conflict_do_nothing()
    rows = 0
    for batch in batches:
        if batch:
            conn.execute(insert_first, [_row(entry) for entry in batch])
            rows += len(batch)
    return rows


def _row(entry: SyncLogEntry) -> dict[str, object]:
    group = to_column_text(entry.group, MAX_GROUP_LENGTH)
    return {"item_id": entry.item_id, "submitted_at": entry.submitted_at, "group_name": group}


def _merge(conn: Connection, rows: int, *, target: str, now: datetime) -> ImportResult:
    distinct = conn.execute(select(func.count()).select_from(_staged)).scalar_one()
    updated = _update_changed(conn, target)
    new = _insert_new(conn, target, now)
    return ImportResult(read=rows, new=new, known=distinct - new - updated, updated=updated, duplicate=rows - distinct)


def _update_changed(conn: Connection, target: str) -> int:
    log, staged = tracked_items.c, _staged.c
    same = log.target == target, log.item_id == staged.item_id
    pairs = ((log.submitted_at, staged.submitted_at), (log.group_name, staged.group_name))
    changed = or_(*(new.is_not(None) & old.is_distinct_from(new) for old, new in pairs))
    values = {old.name: func.coalesce(new, old) for old, new in pairs}
    return conn.execute(update(tracked_items).where(*same, changed).values(values)).rowcount


def _insert_new(conn: Connection, target: str, now: datetime) -> int:
    known = exists().where(tracked_items.c.target == target, tracked_items.c.item_id == _staged.c.item_id)
    new_entry = {
        "target": literal(target),
        "item_id": _staged.c.item_id,
        "submitted_at": _staged.c.submitted_at,
        "group_name": _staged.c.group_name,
        "added_at": literal(now, UtcDateTime),
    }
    rows = select(*new_entry.values()).where(~known).order_by(_staged.c.item_id)
    # another import may add the same id concurrently
    added = insert_or(conn, tracked_items).from_select(list(new_entry), rows).on_conflict_do_nothing()
    return conn.execute(added, execution_options={"preserve_rowcount": True}).rowcount


def remove(engine: Engine, *, target: str, batches: Iterable[Sequence[str]]) -> RemovalResult:
    """Removes ids from the log of a target, each batch in its own transaction; the next run removes the items.

    Raises StoreError if our database fails; earlier batches are removed.
    """
    removed, unknown = 0, 0
    unknown_ids: list[str] = []
    for batch in batches:
        distinct = list(dict.fromkeys(batch))
        with writing(engine) as conn:
            known = _known(conn, target, distinct)
            for chunk in in_chunks(list(known)):
                these = tracked_items.c.target == target, tracked_items.c.item_id.in_(chunk)
                removed += conn.execute(delete(tracked_items).where(*these)).rowcount
        missing = [item_id for item_id in distinct if item_id not in known]
        unknown += len(missing)
        unknown_ids += missing[: MAX_NAMED_IDS - len(unknown_ids)]
    return RemovalResult(removed=removed, unknown=unknown, unknown_ids=tuple(unknown_ids))


def _known(conn: Connection, target: str, item_ids: Sequence[str]) -> dict[str, None]:
    known: dict[str, None] = {}
    for chunk in in_chunks(item_ids):
        query = select(tracked_items.c.item_id).where(
            tracked_items.c.target == target, tracked_items.c.item_id.in_(chunk)
        )
        known |= dict.fromkeys(conn.execute(query).scalars())
    return known


def count(conn: Connection, *, target: str) -> int:
    """The number of ids in the log of a target."""
    query = select(func.count()).select_from(tracked_items).where(tracked_items.c.target == target)
    return conn.execute(query).scalar_one()


def added_at(conn: Connection, *, item_id: str) -> dict[str, datetime]:
    """When an id was added, by target; empty if no log has it."""
    query = select(tracked_items.c.target, tracked_items.c.added_at).where(tracked_items.c.item_id == item_id)
    return {row.target: row.added_at for row in conn.execute(query.order_by(tracked_items.c.target))}


def read(engine: Engine, *, target: str, batch: int = 1000) -> Iterator[list[SyncLogEntry]]:
    """Yields the log of a target in batches of at most `batch` (> 0) rows, all of one moment."""
    log = tracked_items.c
    query = select(log.item_id, log.submitted_at, log.group_name).where(log.target == target).order_by(log.item_id)
    with reading(engine) as conn, conn.execution_options(yield_per=batch).execute(query) as result:
        for rows in result.partitions():
            yield [
                SyncLogEntry(item_id=row.item_id, submitted_at=row.submitted_at, group=row.group_name) for row in rows
            ]


def read_pages(engine: Engine, *, target: str, known: Known | None) -> Iterator[LogPage | LogStart]:
    """Yields the log of a target in pages, all of one moment; pages that are `known` without entries.

    On PostgreSQL the engine's transactions have to be REPEATABLE READ. With `known=None`, or if the server can't
    compare pages, they have no digests.
    """
    if known is not None:
        try:
            with reading(engine) as conn:
                yield from _pages(conn, target, Pager(known=known, seed=seed("built-in"), entry=_entry))
        except IncomparableError:
            known = None
    if known is None:
        yield from whole_log(read(engine, target=target))


def _pages(conn: Connection, target: str, pager: Pager) -> Iterator[LogPage | LogStart]:
    log = tracked_items.c
    if conn.dialect.name != "sqlite":
        query = select(log.item_id, log.submitted_at, log.group_name).where(log.target == target)
        yield from read_postgres_pages(conn, query, lambda row: row, pager)
        return
    conn.exec_driver_sql("SELECT 1")  # begins a transaction, unless the engine leaves that to us
    if not cast("sqlite3.Connection", conn.connection.dbapi_connection).in_transaction:
        conn.exec_driver_sql("BEGIN")

    def fetch(after: Bound | None, before: Bound | None, limit: int) -> list[tuple[Any, ...]]:
        # no id is empty; an id is the key, so it comes first
        values = [target, after or "", *([] if before is None else [before]), limit]
        found = conn.exec_driver_sql(_ROWS if before is None else _ROWS_BEFORE, tuple(values))
        return [tuple(row) for row in found]

    for key, rows in in_ranges(fetch, sorted(pager.known), size=BUILTIN_PAGE_ROWS):
        yield pager.page(key, rows)


BUILTIN_PAGE_ROWS = 100
"""Few, because new ids lie anywhere between the others."""
_ROWS = (
    "SELECT item_id, submitted_at, group_name FROM tracked_items WHERE target = ? AND item_id > ? "
    "ORDER BY item_id LIMIT ?"
)
_ROWS_BEFORE = _ROWS.replace(" ORDER", " AND item_id < ? ORDER")


def _entry(row: Row) -> SyncLogEntry:
    at = row[1]
    if isinstance(at, str):  # as SQLite stores it
        at = datetime.fromisoformat(at).replace(tzinfo=UTC)
    return SyncLogEntry(item_id=row[0], submitted_at=at, group=row[2])
