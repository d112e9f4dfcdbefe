"""Connections to our own database on SQLite and PostgreSQL: read and write transactions, and errors as sentences."""

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    NullPool,
    QueuePool,
    Table,
    create_engine,
    event,
    literal_column,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from monitor.database.postgres import STATEMENT_TIMEOUT_S, postgres_engine, shorten_timeouts
from monitor.database.postgres_faults import DatabaseFault, connection_text
from monitor.database.sqlite_files import open_file, open_read_only
from monitor.database.urls import classify_fault, is_sqlite, location_of, parse
from monitor.database.write_turns import WriteTurns
from monitor.errors import StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

BUSY_TIMEOUT_S = 10.0
CHUNK_SIZE = 500
"""Values in one IN list, far below the parameter limits of the databases."""
_UNLIMITED = -1
"""Overflow of the pool: the number of threads is bounded, and each uses one connection."""
_BEGIN_OPTION, _URGENT_OPTION = "sqlite_begin", "sqlite_urgent"
_TURN = "write_turn"
_T = TypeVar("_T")


def connect(
    url: str,
    *,
    busy_timeout_s: float = BUSY_TIMEOUT_S,
    statement_timeout_s: float | None = STATEMENT_TIMEOUT_S,
    create: bool = True,
) -> Engine:
    """Creates an engine, which connects at first use. Close it with `engine.dispose()`.

    Times are in seconds; `statement_timeout_s` is the limit on PostgreSQL, None for no limit.

    Raises:
        StoreError: the URL is neither `sqlite:///path` nor `postgresql://…`.
    """
    parsed = _parse_url(url)
    if is_sqlite(parsed):
        return _sqlite_engine(parsed, busy_timeout_s, create=create)
    return postgres_engine(parsed, statement_timeout_s=statement_timeout_s, pool_pre_ping=True, max_overflow=_UNLIMITED)


def connect_read_only(
    url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S, connect_args: Mapping[str, object] | None = None
) -> Engine:
    """An engine that can't write, not even the header of a SQLite file. Raises StoreError for any other URL.

    On PostgreSQL a transaction sees one moment. `connect_args` are parameters of libpq that the URL may set otherwise.
    """
    parsed = _parse_url(url)
    if not is_sqlite(parsed):
        engine = postgres_engine(
            parsed, isolation="REPEATABLE READ", pool_pre_ping=True, connect_args=connect_args or {}
        )
        return engine.execution_options(postgresql_readonly=True)
    path = Path(str(parsed.database))
    return create_engine(
        parsed, creator=lambda: open_read_only(path, busy_timeout_s=busy_timeout_s), poolclass=NullPool
    )


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One short read transaction. Raises StoreError if the database can't be used."""
    with translate_errors(engine), engine.connect() as connection:
        yield connection


@contextmanager
def writing(engine: Engine, *, urgent: bool = False) -> Iterator[Connection]:
    """One short write transaction: committed at the end, rolled back by an exception.

    On SQLite it takes the write lock at once: a transaction that reads first and writes later would fail without
    waiting. There `urgent` ones come before others of this process. Raises StoreError if the database can't be used.
    """
    with translate_errors(engine), engine.connect() as connection:
        if urgent:
            connection.execution_options(**{_URGENT_OPTION: True})
        with begin_immediate(connection).begin():
            yield connection


def begin_immediate(connection: Connection) -> Connection:
    """Makes later transactions of this connection take SQLite's write lock when they begin."""
    return connection.execution_options(**{_BEGIN_OPTION: "IMMEDIATE"})


def insert(connection: Connection, table: Table) -> "postgresql.Insert | sqlite.Insert":
    """An INSERT that takes `on_conflict_do_nothing` and `on_conflict_do_update`, in the connection's dialect."""
    return insert_in(connection.dialect.name, table)


def insert_in(dialect: str, table: Table) -> "postgresql.Insert | sqlite.Insert":
    """The same for statements that are put together once per dialect."""
    if dialect == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # 4% of the start of a command that works on SQLite

    return postgresql.insert(table)


def in_chunks(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """The values in chunks for one IN list each."""
    return (values[start : start + CHUNK_SIZE] for start in range(0, len(values), CHUNK_SIZE))


@contextmanager
def translate_errors(engine: Engine) -> Iterator[None]:
    """Turns errors of SQLAlchemy and the driver into a `StoreError` of one sentence without URL, SQL or values.

    It is a `StoreUnavailableError` if it may be temporary.
    """
    try:
        yield
    except SQLAlchemyError as error:
        raise store_error(error, engine.url) from error


def store_error(error: Exception, url: URL) -> StoreError:
    """What an error of SQLAlchemy, sqlite3 or psycopg means, in one sentence without URL, SQL or values."""
    fault = classify_fault(error)
    kind = StoreUnavailableError if fault in _TRANSIENT else StoreError
    return kind(_describe_fault(error, fault, url))


def _parse_url(url: str) -> URL:
    try:
        return parse(url)
    except ValueError as error:
        raise StoreError(f"database: the URL {error}") from None


def _sqlite_engine(url: URL, busy_timeout_s: float, *, create: bool) -> Engine:
    path = Path(str(url.database)).absolute()
    engine = create_engine(
        url,
        hide_parameters=True,
        poolclass=QueuePool,
        max_overflow=_UNLIMITED,
        creator=lambda: _open_sqlite(path, busy_timeout_s, create=create),
    )
    event.listen(engine, "connect", _prepare_sqlite)
    names = str(path), f"{path}-wal"
    event.listen(engine, "checkout", lambda _connection, record, _proxy: _reject_replaced_file(names, record))
    turns = WriteTurns()
    event.listen(engine, "begin", lambda connection: _begin_sqlite(connection, turns, busy_timeout_s))
    # whatever ended its transaction, the connection is given back or dropped
    event.listen(engine, "checkin", lambda _connection, record: _end_turn(record))
    event.listen(engine, "invalidate", lambda _connection, record, _error: _end_turn(record))
    event.listen(engine, "close", lambda _connection, record: _end_turn(record))
    return engine


def _open_sqlite(path: Path, busy_timeout_s: float, *, create: bool) -> sqlite3.Connection:
    uri = f"{path.as_uri()}?mode={'rwc' if create else 'rw'}"
    return open_file(uri, path, timeout=busy_timeout_s)


def _reject_replaced_file(names: Sequence[str], record: ConnectionPoolEntry) -> None:
    """Drops the connection if the file was deleted or replaced: SQLite would keep writing to the deleted file.

    Its WAL appears at the first use and disappears with the last connection.
    """
    files = [_file_identity(name) for name in names]
    known = record.info.setdefault("files", files)
    if any(before is not None and before != now for before, now in zip(known, files, strict=True)):
        raise DisconnectionError("the file or its WAL was replaced")
    known[:] = files


def _file_identity(name: str) -> tuple[int, int] | None:
    try:
        found = os.stat(name)  # noqa: PTH116  # before each transaction, at a third of the cost of a `Path`
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin transactions itself, never as IMMEDIATE
    # auto_vacuum works only in an empty file, before WAL mode writes its first page
    if connection.execute("PRAGMA page_count").fetchone() == (0,):
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection, turns: WriteTurns, busy_timeout_s: float) -> None:
    options = connection.get_execution_options()
    how, info = options.get(_BEGIN_OPTION, "DEFERRED"), connection.connection.info
    if how != "DEFERRED" and info.get(_TURN) is None:
        info[_TURN] = turns.take(urgent=bool(options.get(_URGENT_OPTION)), timeout_s=busy_timeout_s)
    begin = f"BEGIN {how}"
    try:  # by the driver: SQLAlchemy takes twenty times as long as SQLite
        _driver_of(connection).execute(begin)
    except sqlite3.Error as error:
        raise DBAPIError.instance(begin, None, error, sqlite3.Error, hide_parameters=True) from error


def _driver_of(connection: Connection) -> sqlite3.Connection:
    return cast("sqlite3.Connection", connection.connection.dbapi_connection)


def _end_turn(record: ConnectionPoolEntry) -> None:
    if (turn := record.info.pop(_TURN, None)) is not None:
        turn.release()


_FAULT_TEXTS: Mapping[DatabaseFault, str] = {
    DatabaseFault.LOCKED: "is locked by another process; try again, or end the process that holds it",
    DatabaseFault.CONFLICT: "undid the work, which conflicted with another session's; run again",
    DatabaseFault.HOT_JOURNAL: (
        "holds half a transaction: its last writer was cut off; run `ingestion-monitor db upgrade`, which rolls it back"
    ),
    DatabaseFault.READ_ONLY: "can't be written: it, its folder or its server is read-only; allow this user to write",
    DatabaseFault.FULL: "has no space left; free some and run again",
    DatabaseFault.CANNOT_OPEN: "can't be opened; check that its folder exists and that this user may write there",
    DatabaseFault.NOT_A_DATABASE: "is not a SQLite database, or is damaged; name another file, or restore a copy",
    DatabaseFault.DISK: (
        "can't be read or written on its disk; check that it is a file, that the disk has no errors and no quota for "
        "this user, and that nothing removes the files beside it (-wal, -shm)"
    ),
    DatabaseFault.UNREACHABLE: "can't be reached; check that the server runs and that host and port are right",
    DatabaseFault.TOO_MANY_CONNECTIONS: "has no connection left; end some sessions, or raise max_connections",
    DatabaseFault.LOST: "dropped the connection; check that the server runs, then run again",
    DatabaseFault.LOGIN: "refused the user or the password; check the credentials in the database URL",
    DatabaseFault.ENCODING: (
        "can't hold a character of an id, a group or an answer: its encoding is not UTF8; create a database with "
        "ENCODING 'UTF8' and name that"
    ),
    DatabaseFault.NO_DATABASE: "does not exist on that server; create it, or correct the name",
    DatabaseFault.PERMISSION: "refused access: this user lacks a privilege; grant it",
    DatabaseFault.NO_TABLE: "lacks a table of this program; run `ingestion-monitor db upgrade`",
    DatabaseFault.TIMEOUT: "did not answer in time; check its load, then run again",
}


_TRANSIENT = frozenset({
    DatabaseFault.LOCKED, DatabaseFault.CONFLICT, DatabaseFault.UNREACHABLE, DatabaseFault.TOO_MANY_CONNECTIONS,
    DatabaseFault.LOST, DatabaseFault.REFUSED, DatabaseFault.WRONG_SERVER, DatabaseFault.TIMEOUT,
})  # fmt: skip
"""Faults of a restart, a failover, a backup or high load, which end without help."""


def _describe_fault(error: Exception, fault: DatabaseFault, url: URL) -> str:
    kind = "SQLite" if is_sqlite(url) else "PostgreSQL"
    cause = getattr(error, "orig", None) or error
    known = connection_text(fault, cause) or _FAULT_TEXTS.get(fault)
    what = known or f"failed with {type(cause).__name__}; check the database's log, then run again"
    return f"database {kind} {location_of(url)} {what}"


IDLE_TRANSACTION_TIMEOUT = "30s"
"""The TTL of a lease."""


def limit_idle_transaction(conn: Connection) -> None:
    """Makes PostgreSQL roll this transaction back and end its session after 30 s idle."""
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql(_LIMIT_IDLE)


def limit_idle_columns(dialect: str) -> tuple[ColumnElement[Any], ...]:
    """The same as a column of a statement that returns a row, which saves a round trip; nothing on SQLite."""
    return _IDLE_LIMIT if dialect == "postgresql" else ()


_LIMIT_IDLE = shorten_timeouts({"idle_in_transaction_session_timeout": IDLE_TRANSACTION_TIMEOUT})
_IDLE_LIMIT: tuple[ColumnElement[Any], ...] = (literal_column(f"({_LIMIT_IDLE})").label("idle_limit"),)
