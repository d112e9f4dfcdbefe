"""The rows of a sync log, batch by batch, without keeping its writers waiting.

A SQLite table is read in pages by rowid, each a statement of its own: in rollback-journal mode a reader locks writers
out, and so for no longer than one page. A view has no rowid, and a table without one has no cheap page either: those
stream from a single SELECT. PostgreSQL streams through a server-side cursor, since readers there block nobody.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import ColumnElement, Connection, Row, Select, Text, cast, column, literal_column, null, select, table
from sqlalchemy.sql.elements import quoted_name

from monitor.errors import SyncLogError
from monitor.model import LogEntry
from monitor.synclog.catalogue import Found, resolve
from monitor.synclog.moments import moment
from monitor.synclog.source import opened
from monitor.synclog.spec import SyncLogSpec

__all__ = ["read", "verify"]

_Rows = Sequence[Row[Any]]


def read(spec: SyncLogSpec, *, batch: int = 1000) -> Iterator[list[LogEntry]]:
    """Reads the log in batches of at most `batch` (> 0) rows; closes it at the end, or when it is left early.

    Ids that are numbers, UUIDs or bytes become text. Upload times that can't be read become None.

    Raises:
        SyncLogError: when the log can't be read; one sentence that says what to do.
    """
    zone = _zone(spec)
    with opened(spec) as conn:
        found = resolve(conn, spec)
        for rows in _pages(conn, found, batch):
            yield [_entry(row, zone) for row in rows]


def verify(spec: SyncLogSpec) -> None:
    """Tries for real whether the log can be read: the names, the rights, and one row.

    Raises:
        SyncLogError: when it can't.
    """
    for _rows in read(spec, batch=1):
        break


def _zone(spec: SyncLogSpec) -> tzinfo:
    try:
        return ZoneInfo(spec.timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise SyncLogError(
            f'sync log, table "{spec.table}": there is no time zone "{spec.timezone}"; name one like Europe/Paris'
        ) from error


def _pages(conn: Connection, found: Found, batch: int) -> Iterator[_Rows]:
    query = _select(found, as_text=conn.dialect.name != "sqlite")
    if found.row_number is None:
        with conn.execution_options(yield_per=batch).execute(query) as result:
            yield from result.partitions()
        return
    rowid: ColumnElement[int] = literal_column(found.row_number)
    query = query.add_columns(rowid).order_by(rowid).limit(batch)
    page: _Rows = conn.execute(query).all()
    while page:
        yield page
        page = conn.execute(query.where(rowid > page[-1][-1])).all()


def _select(found: Found, *, as_text: bool) -> Select[Any]:
    columns = [_column(name) for name in (found.id_column, found.submitted_at_column, found.group_column)]
    if as_text and found.submitted_at_column:
        # PostgreSQL knows times that Python does not: infinity, years before Christ
        columns[1] = cast(columns[1], Text())
    source = table(
        quoted_name(found.table, quote=True), schema=quoted_name(found.schema, quote=True) if found.schema else None
    )
    return select(*columns).select_from(source)


def _column(name: str | None) -> ColumnElement[Any]:
    return column(quoted_name(name, quote=True)) if name else null()


def _entry(row: Row[Any], zone: tzinfo) -> LogEntry:
    item_id, submitted_at, group = tuple(row)[:3]
    return LogEntry(item_id=_text(item_id), submitted_at=moment(submitted_at, zone), group=_text(group))


def _text(value: object) -> str | None:
    """An id as people would write it: 7 for 7.0, text for bytes that are text, hexadecimal digits for others."""
    match value:
        case None | str():
            return value
        case bytes() | memoryview():
            raw = bytes(value)
            try:
                return raw.decode("utf-8")
            except UnicodeDecodeError:
                return raw.hex()
        case float() | Decimal() if math.isfinite(value) and value == value // 1:
            return str(int(value))
        case _:
            return str(value)
