"""Reads the rows of a sync log in batches, as of one moment, without blocking its writers for long.

PostgreSQL: one statement with a server-side cursor; its readers block no writer. SQLite: see `sqlite_rows`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import ColumnElement, Connection, Select, Text, cast, column, func, null, select, table, text
from sqlalchemy.sql.elements import quoted_name

from monitor.errors import SyncLogError
from monitor.model import SyncLogEntry
from monitor.synclog.catalog import ResolvedTable, resolve_table
from monitor.synclog.connection import SyncLogSpec, connect_read_only
from monitor.synclog.sqlite_rows import FileChangedError, read_sqlite
from monitor.synclog.time_limit import interrupted_from
from monitor.synclog.timestamps import parse_timestamp, unreadable_sample

_ATTEMPTS = 5
"""Reads of a file that its writer keeps opening, changing and closing."""


def read(spec: SyncLogSpec, *, batch: int = 1000, ends_s: float | None = None) -> Iterator[list[SyncLogEntry]]:
    """Yields the log in batches of at most `batch` (> 0) rows, all of one moment, and closes it at the end.

    Ids that are numbers, UUIDs or bytes become text. Upload times that can't be read become None, with a sample. A
    statement that still runs at `ends_s` (monotonic) is interrupted. Raises SyncLogError, which says what to do;
    SyncLogUnavailableError if a retry may succeed.
    """
    zone, params = _zone(spec), tuple(spec.param_columns)
    for rows in _read(spec, batch, ends_s):
        yield [_entry(row, zone, params) for row in rows]


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


def _read(spec: SyncLogSpec, batch: int, ends_s: float | None) -> Iterator[Sequence[Sequence[Any]]]:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with connect_read_only(spec) as conn, interrupted_from(conn, ends_s):
                resolved = resolve_table(conn, spec)
                if conn.dialect.name == "sqlite":
                    yield from read_sqlite(conn, resolved, _select(resolved), batch)
                else:
                    yield from _read_postgres(conn, resolved, batch)
        except FileChangedError:
            # nothing was yielded yet
            if attempt == _ATTEMPTS:
                raise
        else:
            return


def _read_postgres(conn: Connection, resolved: ResolvedTable, batch: int) -> Iterator[Sequence[Sequence[Any]]]:
    # such a database may hold any bytes: one text that is no UTF-8 must not end the read
    as_bytes = conn.scalar(text("SELECT current_setting('server_encoding')")) == "SQL_ASCII"
    query, decode = _select(resolved, as_bytes=as_bytes), _decoder(resolved, as_bytes=as_bytes)
    with conn.execution_options(yield_per=batch).execute(query) as result:
        for rows in result.partitions():
            yield [decode(row) for row in rows]


def _decoder(resolved: ResolvedTable, *, as_bytes: bool) -> Callable[[Sequence[Any]], Sequence[Any]]:
    if not as_bytes:
        return lambda row: row
    raw = [_kind(resolved, name) == "raw" for name in _names(resolved)]
    raw[1] = False  # a time is always read as text
    return lambda row: [
        value if is_raw or value is None else bytes(value).decode("utf-8", "surrogateescape")
        for value, is_raw in zip(row, raw, strict=True)
    ]


def _names(resolved: ResolvedTable) -> tuple[str | None, ...]:
    return resolved.id_column, resolved.submitted_at_column, resolved.group_column, *resolved.param_columns.values()


def _kind(resolved: ResolvedTable, name: str | None) -> str:
    return "raw" if name is None else resolved.types[name]


def _select(resolved: ResolvedTable, *, as_bytes: bool = False) -> Select[Any]:
    kinds = [_kind(resolved, name) for name in _names(resolved)]
    if resolved.schema is not None and resolved.submitted_at_column:
        kinds[1] = "text"
    columns = [_column(name, kind, as_bytes=as_bytes) for name, kind in zip(_names(resolved), kinds, strict=True)]
    source = table(
        quoted_name(resolved.table, quote=True),
        schema=quoted_name(resolved.schema, quote=True) if resolved.schema else None,
    )
    return select(*columns).select_from(source)


def _column(name: str | None, kind: str, *, as_bytes: bool) -> ColumnElement[Any]:
    """A column as it is selected.

    The server makes the text of most types: it has dates that Python lacks (infinity, BC), and knows that the blanks at
    the end of a char(n) mean nothing.
    """
    if name is None:
        return null()
    found: ColumnElement[Any] = column(quoted_name(name, quote=True))
    if kind == "raw":
        return found
    written = found.op("#>>")(text("'{}'")) if kind == "json" else cast(found, Text())
    return func.convert_to(written, "SQL_ASCII") if as_bytes else written


def _entry(row: Sequence[Any], zone: tzinfo, params: Sequence[str]) -> SyncLogEntry:
    item_id, submitted_at, group = row[0], row[1], row[2]
    read_at = parse_timestamp(submitted_at, zone)
    return SyncLogEntry(
        item_id=_text(item_id),
        submitted_at=read_at,
        group=_text(group),
        unreadable_time=unreadable_sample(submitted_at) if read_at is None and submitted_at is not None else None,
        params=dict(zip(params, map(_text, row[3:]), strict=True)) if params else None,
    )


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
        case float() if math.isfinite(value) and value.is_integer():
            return str(int(value))
        case Decimal() if value.is_finite():
            # not by way of int or division: PostgreSQL has 131,072 digits, Python divides 28 and prints 4,300
            whole, _, fraction = format(value, "f").partition(".")
            return whole if not fraction.strip("0") else str(value)
        case _:
            return str(value)
