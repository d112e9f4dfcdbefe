"""One statement for many rows: compiled once per database, and bound by ourselves.

SQLAlchemy's bookkeeping per row costs more than SQLite's work on it; the SQL is still its own.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Insert, Table, Update, text

from monitor.database.engine import begin_immediate
from monitor.database.tables import sqlite_timestamp, to_utc

TimestampEncoder = Callable[[datetime | None], object]

_Row = tuple[object, ...]
_RowShaper = Callable[[Any], object]


def timestamp_encoder(conn: Connection) -> TimestampEncoder:
    """Makes of an aware datetime what the driver is given for a `UtcDateTime`.

    Raises (when called):
        ValueError: it is naive.
    """
    if conn.dialect.name != "sqlite":
        return to_utc
    last: datetime | None = None
    text: str | None = None

    def encode(value: datetime | None) -> object:
        # one answer's time stands in up to four columns
        nonlocal last, text
        if value is not last:
            last, text = value, sqlite_timestamp(value)
        return text

    return encode


class Bulk:
    """A statement whose values are all bound by name.

    Args:
        statement: an INSERT or UPDATE with one `bindparam` per name.
        names: the names, in the order of each row's values; at least two.
    """

    def __init__(self, statement: Insert | Update, names: Sequence[str]) -> None:
        self._statement, self._names = statement, tuple(names)
        self._compiled: dict[str, tuple[str, _RowShaper]] = {}

    def execute(self, conn: Connection, rows: Iterable[_Row]) -> None:
        """Executes it once per row; times must have gone through `timestamp_encoder`."""
        sql, shape_row = self._compiled.get(conn.dialect.name) or self._compile(conn)
        conn.exec_driver_sql(sql, [shape_row(row) for row in rows])

    def _compile(self, conn: Connection) -> tuple[str, _RowShaper]:
        compiled = self._statement.compile(dialect=conn.dialect)
        shape_row: _RowShaper = self._as_mapping
        if compiled.positiontup is not None:
            shape_row = itemgetter(*(self._names.index(name) for name in compiled.positiontup))
        self._compiled[conn.dialect.name] = str(compiled), shape_row
        return self._compiled[conn.dialect.name]

    def _as_mapping(self, row: _Row) -> object:
        return dict(zip(self._names, row, strict=True))


def create_staging_table(conn: Connection, staged: Table) -> None:
    """Creates the temporary table, empty; on SQLite filling it locks nothing of ours, however slowly rows come."""
    if conn.dialect.name != "sqlite":
        staged.create(conn, checkfirst=False)
        return
    staged.drop(conn, checkfirst=True)  # from a use that failed on this pooled connection
    staged.create(conn, checkfirst=False)
    # looking the name up read our own schema: a transaction that goes on would keep the WAL from being cut
    conn.commit()


def begin_merge(conn: Connection, staged: Table) -> None:
    """From here on the connection's transaction writes our tables.

    SQLite's temporary table outlives the transaction that filled it, so the write lock is only taken now. PostgreSQL
    goes on in the same transaction: behind PgBouncer the next one might be another server session's.
    """
    if conn.dialect.name == "sqlite":
        conn.commit()
        begin_immediate(conn)
    else:
        conn.execute(text(f"ANALYZE {staged.name}"))
