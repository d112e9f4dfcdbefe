"""Reads the rows of a sync log in batches, as of one moment, without blocking its writers for long.

PostgreSQL: one statement with a server-side cursor; its readers block no writer. SQLite: see `sqlite_rows`.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import tzinfo
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Text,
    TextClause,
    cast,
    column,
    func,
    null,
    select,
    table,
    text,
)
from sqlalchemy.sql.elements import quoted_name

from monitor.database.urls import location_of
from monitor.errors import SyncLogError
from monitor.model import SyncLogEntry
from monitor.model.json_path import JsonPath, parse_json_path
from monitor.synclog.catalog import ResolvedTable, resolve_table
from monitor.synclog.connection import SERVER_ZONE, SyncLogSpec, connect_read_only
from monitor.synclog.ids import IdFormat, IdReader, NotAnId, id_reader, read_text
from monitor.synclog.pages import PAGE_ROWS, Known, LogPage, LogStart, Pager, Row, Watermark, seed, whole_log
from monitor.synclog.postgres_pages import IncomparableError, read_postgres_pages
from monitor.synclog.row_filter import check_filter, row_filter
from monitor.synclog.server import server_zone
from monitor.synclog.sqlite_rows import FileChangedError, read_sqlite, read_sqlite_pages
from monitor.synclog.time_limit import interrupted_from
from monitor.synclog.timestamps import TimeReader, time_reader, unreadable_sample
from monitor.synclog.watermark import changes_of, check_column

_ATTEMPTS = 5
"""Reads of a file that its writer keeps opening, changing and closing."""

_Rows = Iterator[Sequence[Sequence[Any]]]
_T = TypeVar("_T")


def read(spec: SyncLogSpec, *, batch: int = 1000, ends_s: float | None = None) -> Iterator[list[SyncLogEntry]]:
    """Yields the log in batches of at most `batch` (> 0) rows, all of one moment, and closes it at the end.

    Ids that are numbers, UUIDs or bytes become text. Upload times that can't be read become None, with a sample. A
    statement that still runs at `ends_s` (monotonic) is interrupted. Raises SyncLogError, which says what to do;
    SyncLogUnavailableError if a retry may succeed.
    """

    def batches() -> Iterator[list[SyncLogEntry]]:
        with connect_read_only(spec) as conn, interrupted_from(conn, ends_s):
            resolved = resolve_table(conn, spec)
            check_column(conn, resolved)
            entry = _entry_reader(spec, resolved, _zone(conn, spec))
            for rows in _read(conn, resolved, batch):
                yield [entry(row) for row in rows]

    return _of_a_quiet_file(batches)


def read_pages(
    spec: SyncLogSpec,
    *,
    known: Known | None,
    since: Watermark | None = None,
    merged_as: Sequence[object] = (),
    ends_s: float | None = None,
) -> Iterator[LogPage | LogStart]:
    """Yields the log in pages, all of one moment, and closes it at the end; pages that are `known` without entries.

    `merged_as` is what else decides what becomes of the rows: if it changes, no page is known. With `known=None`, or if
    the server can't compare pages, they have no digests. With an `updated_at_column` a `LogStart` comes first, and
    known pages in which no row may have changed since the watermark are not read. Otherwise as `read`.
    """

    def pages() -> Iterator[LogPage | LogStart]:
        with connect_read_only(spec) as conn, interrupted_from(conn, ends_s):
            resolved = resolve_table(conn, spec)
            zone = _zone(conn, spec)
            columns = resolved.types[resolved.id_column], _columns(resolved)
            facts = seed(*columns, resolved.where, _reading(spec), str(zone), *merged_as)
            pager = Pager(known=known or {}, seed=facts, entry=_entry_reader(spec, resolved, zone))
            changes = changes_of(conn, resolved, since, time_format=spec.time_format, zone=zone, seed=facts)
            if conn.dialect.name == "sqlite":
                yield from read_sqlite_pages(conn, resolved, _select(resolved), pager, changes)
                return
            query, decode = _postgres_query(conn, resolved)
            yield from read_postgres_pages(conn, query, decode, pager, changes)

    if known is not None:
        try:
            yield from _of_a_quiet_file(pages)
        except IncomparableError:
            known = None
    if known is None:
        yield from whole_log(read(spec, batch=PAGE_ROWS, ends_s=ends_s))


def _of_a_quiet_file(read_all: Callable[[], Iterator[_T]]) -> Iterator[_T]:
    """What `read_all` yields. It begins again if the file was changed before anything was yielded."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            yield from read_all()
        except FileChangedError:
            if attempt == _ATTEMPTS:
                raise
        else:
            return


def _reading(spec: SyncLogSpec) -> tuple[object, ...]:
    """The settings that decide what is made of a row."""
    return spec.id_path, spec.id_format, spec.uuid_ids, spec.time_format, tuple(spec.param_columns)


def verify(spec: SyncLogSpec) -> None:
    """Checks names, permissions and one row by reading. Raises SyncLogError if the log can't be read."""
    for _rows in read(spec, batch=1):
        break


def _zone(conn: Connection, spec: SyncLogSpec) -> tzinfo:
    where = f'sync log {location_of(conn.engine.url)}, table "{spec.table}"'
    name = server_zone(conn) if spec.timezone == SERVER_ZONE else spec.timezone
    if name is None:
        raise SyncLogError(f'{where}: SQLite has no server, so timezone can\'t be "server"; name one like Europe/Paris')
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        whose = "the server's time zone" if spec.timezone == SERVER_ZONE else "there is no time zone"
        known = " is not known here" if spec.timezone == SERVER_ZONE else ""
        raise SyncLogError(f'{where}: {whose} "{name}"{known}; name one like Europe/Paris') from error


def _read(conn: Connection, resolved: ResolvedTable, batch: int) -> _Rows:
    if conn.dialect.name == "sqlite":
        return read_sqlite(conn, resolved, _select(resolved), batch)
    return _read_postgres(conn, resolved, batch)


def _read_postgres(conn: Connection, resolved: ResolvedTable, batch: int) -> _Rows:
    query, decode = _postgres_query(conn, resolved)
    with conn.execution_options(yield_per=batch).execute(query) as result:
        for rows in result.partitions():
            yield [decode(row) for row in rows]


def _postgres_query(conn: Connection, resolved: ResolvedTable) -> tuple[Select[Any], Callable[[Row], Row]]:
    """The query of a log, and what decodes a row of it. Raises SyncLogError if `where` can't be compared."""
    # such a database may hold any bytes: one text that is no UTF-8 must not end the read
    as_bytes = conn.scalar(text("SELECT current_setting('server_encoding')")) == "SQL_ASCII"
    query, decode = _select(resolved, as_bytes=as_bytes), _decoder(resolved, as_bytes=as_bytes)
    check_filter(conn, resolved, _select(resolved, filtered=False))
    return query, decode


def _decoder(resolved: ResolvedTable, *, as_bytes: bool) -> Callable[[Sequence[Any]], Sequence[Any]]:
    if not as_bytes:
        return lambda row: row
    raw = [kind == "raw" for _, kind in _columns(resolved)]
    return lambda row: [
        value if is_raw or value is None else bytes(value).decode("utf-8", "surrogateescape")
        for value, is_raw in zip(row, raw, strict=True)
    ]


def _columns(resolved: ResolvedTable) -> tuple[tuple[str | None, str], ...]:
    """The columns that are read, each with how its values become text."""
    wanted = resolved.id_column, resolved.submitted_at_column, resolved.group_column, *resolved.param_columns.values()
    of_id, of_time, *of_others = ("raw" if name is None else resolved.types[name] for name in wanted)
    if resolved.schema is not None:
        # JSON as it is, so that a number, a text and an object stay apart; a time always as text
        of_id = "text" if of_id == "json" else of_id
        of_time = of_time if resolved.submitted_at_column is None or of_time == "json" else "text"
    return tuple(zip(wanted, (of_id, of_time, *of_others), strict=True))


def _select(resolved: ResolvedTable, *, as_bytes: bool = False, filtered: bool = True) -> Select[Any]:
    source: FromClause | TextClause = table(
        quoted_name(resolved.table, quote=True),
        schema=quoted_name(resolved.schema, quote=True) if resolved.schema else None,
    )
    if resolved.rowid is not None:
        # its rows are read in the order of their rowids: an index of a column of `where` must not win
        name = resolved.table.replace('"', '""').replace(":", "\\:")
        source = text(f'"{name}" NOT INDEXED')
    columns = [_column(name, kind, as_bytes=as_bytes) for name, kind in _columns(resolved)]
    query = select(*columns).select_from(source)
    return query.where(*row_filter(resolved)) if filtered else query


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


def _entry_reader(spec: SyncLogSpec, resolved: ResolvedTable, zone: tzinfo) -> Callable[[Sequence[Any]], SyncLogEntry]:
    read_time = time_reader(spec.time_format, zone)
    read_id = id_reader(id_format=IdFormat(spec.id_format), uuid_ids=spec.uuid_ids, path=_json_path(spec, resolved))
    params = tuple(spec.param_columns)
    return lambda row: _entry(row, read_id, read_time, params)


def _json_path(spec: SyncLogSpec, resolved: ResolvedTable) -> JsonPath | None:
    if spec.id_path is not None:
        try:
            return parse_json_path(spec.id_path)
        except ValueError as error:
            raise SyncLogError(f'sync log, table "{spec.table}": id_path {error}') from None
    # of a column of this type the whole document is the id, if it is a text or a number
    return () if resolved.types[resolved.id_column] == "json" else None


def _entry(row: Sequence[Any], read_id: IdReader, read_time: TimeReader, params: Sequence[str]) -> SyncLogEntry:
    item_id, written = read_id(row[0]), row[1]
    submitted_at = None if written is None else read_time(written)
    unreadable = unreadable_sample(written) if written is not None and submitted_at is None else None
    group = _words(row[2])
    if isinstance(item_id, NotAnId):
        return SyncLogEntry(item_id=item_id.text, group=group, not_an_id=item_id.kind)
    return SyncLogEntry(
        item_id=item_id,
        submitted_at=submitted_at,
        group=group,
        unreadable_time=unreadable,
        params=dict(zip(params, map(_words, row[3:]), strict=True)) if params else None,
    )


def _words(value: object) -> str | None:
    """A group or a parameter as text."""
    if value is None or isinstance(value, str):
        return value
    found = read_text(value)
    return str(value) if isinstance(found, NotAnId) else found
