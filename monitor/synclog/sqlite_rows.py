"""Reads the rows of a SQLite table or view as of one moment.

- In WAL mode one read transaction sees one moment and blocks no writer: the rows are streamed.
- Otherwise a reader blocks its writers, or nothing protects it: one transaction copies the rows to a temporary table,
  which takes a second or two for a million rows, and the copy is streamed. A file that changed meanwhile is read again.
"""

import re
import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from itertools import groupby
from typing import Any, TypeVar, cast

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, bindparam, column, literal_column, select, table
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql.elements import quoted_name

from monitor.database.sqlite_files import SqliteConnection
from monitor.database.urls import location_of
from monitor.errors import SyncLogError, SyncLogUnavailableError
from monitor.synclog.catalog import ResolvedTable
from monitor.synclog.pages import PAGE_ROWS, Bound, LogPage, LogStart, Pager, in_ranges
from monitor.synclog.row_filter import row_filter
from monitor.synclog.watermark import Changes

_Rows = Iterator[Sequence[Sequence[Any]]]
_T = TypeVar("_T")
_FIRST_ROWID, _LAST_ROWID = -(1 << 63), (1 << 63) - 1
_INTEGER = re.compile(r"-?\d{1,19}", re.ASCII)
_COPIED_KEY = "copied_key"
_MIN_CHANGED, _CHANGED_SHARE = 10_000, 10
"""If more rows, and more than this part of all, may have changed, all pages are compared."""
_NO_UTF8 = "Could not decode to UTF-8"
_NO_COLLATION = re.compile("no such collation sequence: (.+)")


class FileChangedError(SyncLogUnavailableError):
    """The file was changed while it was copied; nothing was yielded."""


def read_sqlite(conn: Connection, resolved: ResolvedTable, query: Select[Any], batch: int) -> _Rows:
    """Yields the rows of `query` in batches of at most `batch` (> 0), in the table's order.

    Raises FileChangedError, SyncLogError, or SQLAlchemyError.
    """
    moment = _Moment(conn, resolved, query)
    moment.secure()
    return moment.stream(batch)


def read_sqlite_pages(
    conn: Connection, resolved: ResolvedTable, query: Select[Any], pager: Pager, changes: Changes | None = None
) -> Iterator[LogPage | LogStart]:
    """Yields the rows of `query` in pages, in the table's order; with `changes` as `read_pages` does.

    Raises as `read_sqlite` does.
    """
    moment = _Moment(conn, resolved, query)
    # the known pages may be those of another log, which the target had before
    known = (int(key) for key in pager.known if _INTEGER.fullmatch(key))
    starts = sorted(key for key in known if _FIRST_ROWID <= key <= _LAST_ROWID)
    runs = [_Run(pages=starts, is_read=True)]
    if changes is None:
        moment.secure()
    else:
        start, runs = moment.find_changes(changes, starts, pager)
        moment.secure([run for run in runs if run.is_read])
        yield start
    if moment.key is None:
        position = 0
        for rows in moment.stream(PAGE_ROWS):
            yield pager.page(position, [tuple(row) for row in rows])
            position += len(rows)
        return
    for run in runs:
        if not run.is_read:
            yield from map(pager.unread, run.pages)
            continue
        for key, found in in_ranges(moment.fetch, run.pages, size=PAGE_ROWS, after=run.after, end=run.end):
            yield pager.page(key, found, skip=1)


class _Run(msgspec.Struct, frozen=True, kw_only=True):
    """Known pages, one behind the other."""

    pages: Sequence[int]
    is_read: bool
    after: int | None = None
    end: int | None = None
    """Their rowids are between these two, exclusive; None: there is no limit."""


def _runs(starts: Sequence[int], changed: Container[int]) -> list[_Run]:
    """All pages; those are read whose number is among `changed`."""
    runs = []
    for is_read, numbers in groupby(range(len(starts)), key=lambda number: number in changed):
        first, *others = numbers
        last = others[-1] if others else first
        runs.append(
            _Run(
                pages=starts[first : last + 1],
                is_read=is_read,
                after=starts[first] - 1 if first else None,
                end=starts[last + 1] if last + 1 < len(starts) else None,
            )
        )
    return runs


class _Moment:
    """The rows of one moment: a read transaction, or a copy in a temporary table. It begins with a transaction."""

    def __init__(self, conn: Connection, resolved: ResolvedTable, query: Select[Any]) -> None:
        self._conn, self._query, self.key = conn, query, resolved.rowid
        self._table, self._copied = table(quoted_name(resolved.table, quote=True)), ""
        self._where = row_filter(resolved)
        self._file = cast("SqliteConnection", conn.connection.dbapi_connection)
        self._collations = _Collations(self._file, resolved)
        conn.exec_driver_sql("BEGIN")

    def find_changes(self, changes: Changes, starts: Sequence[int], pager: Pager) -> tuple[LogStart, list[_Run]]:
        """Which of the known pages have to be read: all of them if there is a doubt, or if very many rows are new."""
        query = select(*changes.facts).select_from(self._table).where(*self._where)
        facts = self._collations.run(lambda: self._conn.execute(query).one())
        start, every = changes.start(facts, file=self._file.inode), [_Run(pages=starts, is_read=True)]
        if start.rows is None or changes.since is None or not starts:
            return start, every
        most = max(_MIN_CHANGED, start.rows // _CHANGED_SHARE)
        for wanted in changes.may_have_changed(changes.since):
            rowids = self._rowids(wanted, most)
            if len(rowids) < most:
                changed = {max(0, bisect_right(starts, rowid) - 1) for rowid in rowids}
                changed.update(number for number, key in enumerate(starts) if not pager.known[str(key)])
                return start, _runs(starts, changed)
        return replace(start, rows=None, doubt="very many rows may have changed"), every

    def _rowids(self, wanted: ColumnElement[bool], most: int) -> Sequence[int]:
        key: ColumnElement[int] = literal_column(str(self.key))
        query = select(key).select_from(self._table).where(*self._where, wanted).limit(most)
        return self._collations.run(lambda: self._conn.execute(query).scalars().all())

    def secure(self, runs: Sequence[_Run] | None = None) -> None:
        """Copies the rows of these pages, or all, unless the transaction protects them and blocks nobody."""
        if not self._file.reads_snapshot:
            self._copy(runs)
            self._conn.exec_driver_sql("COMMIT")
            if not self._file.unchanged():
                raise FileChangedError(
                    f"sync log {location_of(self._conn.engine.url)} was changed while it was read; try again"
                )
        self._collations.check(self._conn)

    def stream(self, batch: int) -> _Rows:
        """All rows in batches."""
        query = self._query if self.key is None else self._query.order_by(literal_column(self.key))
        execute = self._conn.execution_options(yield_per=batch).execute
        with self._collations.run(lambda: execute(query)) as result:
            for rows in result.partitions():
                self._collations.check(self._conn)
                yield rows

    def fetch(self, after: Bound | None, before: Bound | None, limit: int) -> list[tuple[Any, ...]]:
        """The next rows after a key and before another, each with its key in front."""
        if after == _LAST_ROWID:
            return []
        values = {"low": _FIRST_ROWID if after is None else int(after) + 1, "most": limit}
        values["high"] = _LAST_ROWID if before is None else int(before) - 1
        sql, constants, names = self._statement
        rows = self._collations.run(lambda: self._rows(sql, [values.get(name, constants[name]) for name in names]))
        self._collations.check(self._conn)
        return rows

    @cached_property
    def _statement(self) -> tuple[str, Mapping[str, Any], Sequence[str]]:
        """The query of some rows, compiled once: its parameters by name, and their order."""
        if self._copied:
            return _of_copy(self._copied)
        key: ColumnElement[int] = literal_column(str(self.key))
        within = key.between(bindparam("low", 0), bindparam("high", 0))
        query = self._query.with_only_columns(key, *self._query.selected_columns).where(within).order_by(key)
        compiled = query.limit(bindparam("most", 0)).compile(self._conn)
        return str(compiled), compiled.params, compiled.positiontup or ()

    def _rows(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The driver's own rows: a tenth of the cost. Text that is no UTF-8 is decoded by us, at some cost."""
        decode, self._file.text_factory = self._file.text_factory, str
        try:
            return self._file.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            if not str(error).startswith(_NO_UTF8):
                raise OperationalError(None, None, error) from error
        finally:
            self._file.text_factory = decode
        return [tuple(row) for row in self._conn.exec_driver_sql(sql, tuple(values))]

    def _copy(self, runs: Sequence[_Run] | None) -> None:
        """Copies the rows; from then on the copy is read. It has their rowids if they have some, else numbers."""
        columns: list[ColumnElement[Any]] = [each.label(f"c{n}") for n, each in enumerate(self._query.selected_columns)]
        names = ", ".join(f"c{n}" for n in range(len(columns)))
        if self.key is None:
            self._copy_rows("CREATE TEMPORARY TABLE copied_log AS", self._query.with_only_columns(*columns))
        else:
            found: ColumnElement[int] = literal_column(self.key)
            source = self._query.with_only_columns(found, *columns).order_by(found)
            self._conn.exec_driver_sql(
                f"CREATE TEMPORARY TABLE copied_log ({_COPIED_KEY} INTEGER PRIMARY KEY, {names})"
            )
            for run in [_Run(pages=(), is_read=True)] if runs is None else runs:
                low = _FIRST_ROWID if run.after is None else run.after + 1
                high = _LAST_ROWID if run.end is None else run.end - 1
                self._copy_rows("INSERT INTO copied_log", source.where(found.between(low, high)))
        self.key, self._copied = "rowid", names
        copy: list[ColumnElement[Any]] = [column(f"c{n}") for n in range(len(columns))]
        self._query = select(*copy).select_from(table("copied_log"))

    def _copy_rows(self, creation: str, source: Select[Any]) -> None:
        compiled = source.compile(self._conn)
        values = tuple(compiled.params[name] for name in compiled.positiontup or ())
        self._collations.run(lambda: self._conn.exec_driver_sql(f"{creation} {compiled}", values))


@cache
def _of_copy(columns: str) -> tuple[str, Mapping[str, Any], Sequence[str]]:
    """`_Moment._statement` for the copy, which is the same for every log."""
    query = f"SELECT rowid, {columns} FROM copied_log WHERE rowid BETWEEN ? AND ? ORDER BY rowid LIMIT ?"  # noqa: S608  # our own names
    return query, dict.fromkeys(names := ("low", "high", "most")), names


class _Collations:
    """Stands in for collations of the user's application, without which SQLite does not even open a table.

    Reading a table's rows compares nothing, so any order will do. If one is used after all, the read is refused: its
    result could be wrong. A view may compare, so none stands in there.
    """

    def __init__(self, file: SqliteConnection, resolved: ResolvedTable) -> None:
        self._file, self._resolved = file, resolved
        self._names: set[str] = set()
        self._used: str | None = None

    def run(self, work: Callable[[], _T]) -> _T:
        """Runs work that SQLite may refuse for lack of a collation. Raises what the work raises."""
        while True:
            try:
                return work()
            except OperationalError as error:
                missing = _NO_COLLATION.fullmatch(str(error.orig))
                if missing is None or self._resolved.is_view or missing[1] in self._names:
                    raise
                self._stand_in(missing[1])

    def check(self, conn: Connection) -> None:
        """Raises SyncLogError if a collation was used."""
        if self._used is not None:
            raise SyncLogError(
                f'sync log {location_of(conn.engine.url)}, table "{self._resolved.table}": its content depends on the '
                f"collation {self._used} of the application that made it; read a table or view that does without it"
            )

    def _stand_in(self, name: str) -> None:
        def compare(_one: str, _other: str) -> int:
            self._used = name
            return 0

        self._names.add(name)
        self._file.create_collation(name, compare)
