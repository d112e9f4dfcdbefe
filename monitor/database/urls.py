"""Parses database URLs, names databases in messages and classifies errors; for our own database and for sync logs."""

import sqlite3
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError


class DatabaseFault(StrEnum):
    """Kinds of database errors."""

    LOCKED = "locked"
    READ_ONLY = "read_only"
    FULL = "full"
    CANNOT_OPEN = "cannot_open"
    NOT_A_DATABASE = "not_a_database"
    DISK = "disk"
    UNREACHABLE = "unreachable"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    LOST = "lost"
    LOGIN = "login"
    NO_DATABASE = "no_database"
    PERMISSION = "permission"
    NO_TABLE = "no_table"
    TIMEOUT = "timeout"
    OTHER = "other"


def parse(url: str) -> URL:
    """Parses `sqlite:///path`, `postgresql://…` or `postgres://…`. Raises ValueError, without the URL, for others."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # the library's text contains the password
        raise ValueError("the database URL can't be read; it begins with sqlite:/// or postgresql://") from None
    kind = parsed.drivername.partition("+")[0]
    if kind == "sqlite":
        if parsed.database in {None, "", ":memory:"}:
            raise ValueError("a SQLite database needs a file: sqlite:///path/to/file.db")
        return parsed.set(drivername="sqlite+pysqlite")
    if kind in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+psycopg")
    raise ValueError("only SQLite and PostgreSQL are supported; the URL begins with sqlite:/// or postgresql://")


def is_sqlite(url: URL) -> bool:
    """Whether it is SQLite."""
    return url.get_backend_name() == "sqlite"


def location_of(url: URL) -> str:
    """The database in messages: the file, or `host:port/name`; never with user or password."""
    if is_sqlite(url):
        return str(url.database)
    host = url.host or url.query.get("host") or "localhost"
    return f"{host if isinstance(host, str) else ','.join(host)}:{url.port or 5432}/{url.database or ''}"


def open_read_only(path: Path, *, busy_timeout_s: float) -> sqlite3.Connection:
    """Opens an existing SQLite file read-only, or raises sqlite3.Error. Other text than UTF-8 has lone surrogates."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        return _open_and_read(uri, busy_timeout_s)
    except sqlite3.OperationalError as error:
        wal = path.with_name(f"{path.name}-wal")
        unopened = error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
        if not unopened or not path.is_file() or (wal.exists() and wal.stat().st_size):
            raise
        # In a read-only folder a WAL database can't be opened, since readers need to create an index file. If its WAL
        # is empty, the file has everything and can be opened as immutable.
        return _open_and_read(f"{uri}&immutable=1", busy_timeout_s)


def _open_and_read(uri: str, busy_timeout_s: float) -> sqlite3.Connection:
    # the first read opens the file, not connect
    connection = sqlite3.connect(uri, uri=True, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
    connection.text_factory = _decode_text
    try:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _decode_text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def classify_fault(error: BaseException) -> DatabaseFault:
    """Classifies an error of SQLAlchemy, sqlite3 or psycopg; `other` if unknown."""
    if isinstance(error, PoolTimeoutError):
        return DatabaseFault.TIMEOUT
    if isinstance(error, DBAPIError) and error.orig is not None:
        fault = classify_fault(error.orig)
        return DatabaseFault.LOST if fault is DatabaseFault.OTHER and error.connection_invalidated else fault
    if isinstance(error, sqlite3.Error):
        return _sqlite_fault(error)
    if isinstance(error, SQLAlchemyError):
        return DatabaseFault.OTHER
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str):
        return _SQLSTATES.get(sqlstate) or _SQLSTATE_CLASSES.get(sqlstate[:2], DatabaseFault.OTHER)
    return _postgres_fault_by_text(error)


_SQLITE_CODES: Mapping[int, DatabaseFault] = {
    sqlite3.SQLITE_BUSY: DatabaseFault.LOCKED,
    sqlite3.SQLITE_LOCKED: DatabaseFault.LOCKED,
    sqlite3.SQLITE_READONLY: DatabaseFault.READ_ONLY,
    sqlite3.SQLITE_FULL: DatabaseFault.FULL,
    sqlite3.SQLITE_CANTOPEN: DatabaseFault.CANNOT_OPEN,
    sqlite3.SQLITE_NOTADB: DatabaseFault.NOT_A_DATABASE,
    sqlite3.SQLITE_CORRUPT: DatabaseFault.NOT_A_DATABASE,
    sqlite3.SQLITE_IOERR: DatabaseFault.DISK,
    sqlite3.SQLITE_PERM: DatabaseFault.PERMISSION,
}

_SQLSTATES: Mapping[str, DatabaseFault] = {
    "25006": DatabaseFault.READ_ONLY,
    "25P03": DatabaseFault.LOST,
    "25P04": DatabaseFault.LOST,
    "3D000": DatabaseFault.NO_DATABASE,
    "40P01": DatabaseFault.LOCKED,
    "42501": DatabaseFault.PERMISSION,
    "42P01": DatabaseFault.NO_TABLE,
    "53100": DatabaseFault.FULL,
    "53300": DatabaseFault.TOO_MANY_CONNECTIONS,
    "55P03": DatabaseFault.LOCKED,
    "57014": DatabaseFault.TIMEOUT,
    "57P01": DatabaseFault.LOST,
    "57P02": DatabaseFault.LOST,
    "57P03": DatabaseFault.UNREACHABLE,
    "57P05": DatabaseFault.LOST,
    "58030": DatabaseFault.DISK,
}

_SQLSTATE_CLASSES: Mapping[str, DatabaseFault] = {"08": DatabaseFault.LOST, "28": DatabaseFault.LOGIN}

# libpq reports failed connects without an SQLSTATE
_POSTGRES_TEXTS: tuple[tuple[str, DatabaseFault], ...] = (
    ("password", DatabaseFault.LOGIN),
    ("authentication", DatabaseFault.LOGIN),
    ("pg_hba.conf", DatabaseFault.LOGIN),
    ("too many", DatabaseFault.TOO_MANY_CONNECTIONS),
    ("remaining connection slots", DatabaseFault.TOO_MANY_CONNECTIONS),
    ("role ", DatabaseFault.LOGIN),
    ("database system is", DatabaseFault.UNREACHABLE),
    ("not currently accepting connections", DatabaseFault.UNREACHABLE),
    ("database ", DatabaseFault.NO_DATABASE),
    ("server closed the connection", DatabaseFault.LOST),
    ("connection is lost", DatabaseFault.LOST),
    ("connection is closed", DatabaseFault.LOST),
    ("connection failed", DatabaseFault.UNREACHABLE),
    ("connection timeout", DatabaseFault.UNREACHABLE),
    ("timeout expired", DatabaseFault.UNREACHABLE),
    ("no answer within", DatabaseFault.TIMEOUT),
    ("failed to resolve", DatabaseFault.UNREACHABLE),
    ("could not translate host name", DatabaseFault.UNREACHABLE),
)


def _sqlite_fault(error: sqlite3.Error) -> DatabaseFault:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return DatabaseFault.OTHER
    if code == sqlite3.SQLITE_ERROR and "no such table" in str(error):
        return DatabaseFault.NO_TABLE
    return _SQLITE_CODES.get(code & 0xFF, DatabaseFault.OTHER)


def _postgres_fault_by_text(error: BaseException) -> DatabaseFault:
    text = str(error)
    fatal = text.partition("FATAL:")[2] or text
    return next((fault for phrase, fault in _POSTGRES_TEXTS if phrase in fatal), DatabaseFault.OTHER)
