"""Parses database URLs, names databases in messages and classifies errors; for our own database and for sync logs."""

import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from monitor.database.postgres_faults import DatabaseFault, postgres_fault
from monitor.database.postgres_url import SCHEMES, describe_server, parse_postgres_url

_SQLITE = "sqlite:///"
_SQLITE_PARAMETERS = frozenset({"timeout", "mode", "cache", "check_same_thread"})
"""Harmless without effect: the monitor opens a file as it must. Others, such as `immutable`, would give wrong data."""


def parse(url: str) -> URL:
    """Parses `sqlite:///path`, `postgresql://…` or `postgres://…`, the only parser of database URLs.

    A SQLite URL loses its parameters, which have no effect. Raises ValueError with a predicate ("must …") that quotes
    neither the URL nor a part of it that may be secret.
    """
    scheme = url.partition("://")[0]
    if scheme in SCHEMES and "://" in url:
        return parse_postgres_url(url)
    if scheme != "sqlite":
        raise ValueError("must start with sqlite:/// or postgresql://; no other database is supported")
    path, _, query = url.removeprefix(_SQLITE).partition("?")
    if not url.startswith(_SQLITE) or path in {"", ":memory:"} or path.startswith("file:"):
        raise ValueError('must name a file, as in "sqlite:///monitor.db"')
    names = [pair.partition("=")[0] for pair in query.split("&")] if query else []
    for name in names:
        if name not in _SQLITE_PARAMETERS:
            shown = (
                f'the parameter "{name}", which' if re.fullmatch(r"\w{1,40}", name, re.ASCII) else "a parameter that"
            )
            raise ValueError(f"has {shown} has no effect here: remove it")
    return URL.create("sqlite+pysqlite", database=unquote(path))


def is_sqlite(url: URL) -> bool:
    """Whether it is SQLite."""
    return url.get_backend_name() == "sqlite"


def location_of(url: URL) -> str:
    """The database in messages: the file, or `host:port/name`; never with user or password."""
    return str(url.database) if is_sqlite(url) else describe_server(url)


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
    return postgres_fault(error)


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


def _sqlite_fault(error: sqlite3.Error) -> DatabaseFault:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return DatabaseFault.OTHER
    if code == sqlite3.SQLITE_ERROR and "no such table" in str(error):
        return DatabaseFault.NO_TABLE
    return _SQLITE_CODES.get(code & 0xFF, DatabaseFault.OTHER)
