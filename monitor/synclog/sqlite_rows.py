"""Reads the rows of a SQLite table or view as of one moment.

- In WAL mode one read transaction sees one moment and blocks no writer: the rows are streamed.
- Otherwise a reader blocks its writers, or nothing protects it: one statement copies the rows to a temporary table,
  which takes a second or two for a million rows, and the copy is streamed. A file that changed meanwhile is read again.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

from sqlalchemy import ColumnElement, Connection, Select, column, literal_column, select, table
from sqlalchemy.exc import OperationalError

from monitor.database.sqlite_files import SqliteConnection
from monitor.database.urls import location_of
from monitor.errors import SyncLogError, SyncLogUnavailableError
from monitor.synclog.catalog import ResolvedTable

_Rows = Iterator[Sequence[Sequence[Any]]]
_T = TypeVar("_T")
_NO_COLLATION = re.compile("no such collation sequence: (.+)")


class FileChangedError(SyncLogUnavailableError):
    """The file was changed while it was copied; nothing was yielded."""


def read_sqlite(conn: Connection, resolved: ResolvedTable, query: Select[Any], batch: int) -> _Rows:
    """Yields the rows of `query` in batches of at most `batch` (> 0), in the table's order.

    Raises FileChangedError, SyncLogError, or SQLAlchemyError.
    """
    file = cast("SqliteConnection", conn.connection.dbapi_connection)
    collations = _Collations(file, resolved)
    if resolved.rowid is not None:
        query = query.order_by(literal_column(resolved.rowid))
    if file.reads_snapshot:
        conn.exec_driver_sql("BEGIN")
    else:
        query = collations.run(lambda: _copy(conn, query))
        if not file.unchanged():
            raise FileChangedError(f"sync log {location_of(conn.engine.url)} was changed while it was read; try again")
    collations.check(conn)
    with collations.run(lambda: conn.execution_options(yield_per=batch).execute(query)) as result:
        for rows in result.partitions():
            collations.check(conn)
            yield rows


def _copy(conn: Connection, query: Select[Any]) -> Select[Any]:
    """Copies the rows to a temporary table; returns the query of the copy."""
    named = query.with_only_columns(*(each.label(f"c{n}") for n, each in enumerate(query.selected_columns)))
    compiled = named.compile(conn)
    values = tuple(compiled.params[name] for name in compiled.positiontup or ())
    conn.exec_driver_sql(f"CREATE TEMPORARY TABLE copied_log AS {compiled}", values)
    columns: list[ColumnElement[Any]] = [column(f"c{n}") for n in range(len(query.selected_columns))]
    copied: Select[Any] = select(*columns).select_from(table("copied_log"))
    return copied.order_by(literal_column("rowid"))


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
