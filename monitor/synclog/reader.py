"""Reads the rows of a sync log in batches, without blocking its writers for long.

A SQLite table is read in pages by rowid or primary key, one statement per page: in rollback mode a reader blocks
writers, so only for one page. Rows written in between are read now or in the next run. A view cannot be paged cheaply,
so one statement copies it, and the copy is read. PostgreSQL uses a server-side cursor; its readers block no writer.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Text,
    cast,
    column,
    literal,
    literal_column,
    null,
    select,
    table,
    tuple_,
)
from sqlalchemy.sql.elements import quoted_name

from monitor.errors import SyncLogError
from monitor.model import SyncLogEntry
from monitor.synclog.catalog import ResolvedTable, resolve_table
from monitor.synclog.connection import SyncLogSpec, connect_read_only
from monitor.synclog.timestamps import parse_timestamp

_Rows = Sequence[Row[Any]]


def read(spec: SyncLogSpec, *, batch: int = 1000) -> Iterator[list[SyncLogEntry]]:
    """Yields the log in batches of at most `batch` (> 0) rows, and closes it at the end.

    Ids that are numbers, UUIDs or bytes become text. Unreadable upload times become None. SyncLogError says what to do.
    """
    zone = _zone(spec)
    with connect_read_only(spec) as conn:
        resolved = resolve_table(conn, spec)
        for rows in _read_pages(conn, resolved, batch):
            yield [_entry(row, zone) for row in rows]


def verify(spec: SyncLogSpec) -> None:
    """Checks names, permissions and one row by reading. Raises SyncLogError if the log can't be read."""
    for _rows in read(spec, batch=1):
        break


def _zone(spec: SyncLogSpec) -> tzinfo:
    try:
        return ZoneInfo(spec.timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise SyncLogError(
            f'sync log, table "{spec.table}": there is no time zone "{spec.timezone}"; name one like Europe/Paris'
        ) from error


def _read_pages(conn: Connection, resolved: ResolvedTable, batch: int) -> Iterator[_Rows]:
    query = _select(resolved, as_text=conn.dialect.name != "sqlite")
    if conn.dialect.name != "sqlite":
        with conn.execution_options(yield_per=batch).execute(query) as result:
            yield from result.partitions()
        return
    key: Sequence[ColumnElement[Any]] = [_column(name) for name in resolved.key]
    if resolved.rowid is not None:
        key = [literal_column(resolved.rowid)]
    elif not key:
        query, key = _copy_view(conn, query), [literal_column("rowid")]
    query = query.add_columns(*key).order_by(*key).limit(batch)
    page: _Rows = conn.execute(query).all()
    while page:
        yield page
        if len(page) < batch:
            return  # otherwise a writer that keeps adding rows would keep us reading
        page = conn.execute(query.where(tuple_(*key) > tuple_(*map(_key_parameter, page[-1][-len(key) :])))).all()


def _copy_view(conn: Connection, query: Select[Any]) -> Select[Any]:
    """Copies a view to a temporary table, so that writers wait only for the copy."""
    named = query.with_only_columns(*(each.label(f"c{n}") for n, each in enumerate(query.selected_columns)))
    conn.exec_driver_sql(f"CREATE TEMPORARY TABLE copied_log AS {named.compile(conn)}")
    columns: list[ColumnElement[Any]] = [column(f"c{n}") for n in range(len(query.selected_columns))]
    copied: Select[Any] = select(*columns).select_from(table("copied_log"))
    return copied


def _key_parameter(value: object) -> ColumnElement[Any]:
    """A key value as a parameter; text as bytes, since it may not be UTF-8."""
    if isinstance(value, str):
        return cast(literal(value.encode("utf-8", "surrogateescape")), Text())
    return literal(value)


def _select(resolved: ResolvedTable, *, as_text: bool) -> Select[Any]:
    columns = [_column(name) for name in (resolved.id_column, resolved.submitted_at_column, resolved.group_column)]
    if as_text and resolved.submitted_at_column:
        # PostgreSQL has times that Python lacks: infinity, years BC
        columns[1] = cast(columns[1], Text())
    source = table(
        quoted_name(resolved.table, quote=True),
        schema=quoted_name(resolved.schema, quote=True) if resolved.schema else None,
    )
    return select(*columns).select_from(source)


def _column(name: str | None) -> ColumnElement[Any]:
    return column(quoted_name(name, quote=True)) if name else null()


def _entry(row: Row[Any], zone: tzinfo) -> SyncLogEntry:
    item_id, submitted_at, group = tuple(row)[:3]
    return SyncLogEntry(item_id=_text(item_id), submitted_at=parse_timestamp(submitted_at, zone), group=_text(group))


def _text(value: object) -> str | None:
    """An id as text: 7 for 7.0, decoded bytes if they are UTF-8, else hexadecimal digits."""
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
