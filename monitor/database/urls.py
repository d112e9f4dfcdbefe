"""Parses database URLs, names databases in messages and classifies errors; for our own database and for sync logs."""

import re
import sqlite3
from collections.abc import Mapping
from urllib.parse import unquote

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from monitor.database.postgres_faults import DatabaseFault, postgres_fault
from monitor.database.postgres_url import SCHEMES, describe_server, parse_postgres_url
from monitor.database.text import escape_unprintable, to_single_line

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
    return URL.create("sqlite+pysqlite", database=unquote(path, errors="surrogateescape"))


def is_sqlite(url: URL) -> bool:
    """Whether it is SQLite."""
    return url.get_backend_name() == "sqlite"


def location_of(url: URL) -> str:
    """The database in messages: the file, or `host:port/name`; never with user or password."""
    return escape_unprintable(str(url.database)) if is_sqlite(url) else describe_server(url)


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


_BAD_SCHEMA = "malformed database schema"
"""A view or trigger that this SQLite can't parse, or a damaged schema."""


def sqlite_phrase(error: sqlite3.Error) -> str:
    """What SQLite itself says, with a remedy; it names objects of the schema, and holds neither data nor a path."""
    phrase = to_single_line(str(error), _MAX_PHRASE_LENGTH)
    if phrase.startswith(_BAD_SCHEMA):
        return (
            f"{phrase}; SQLite {sqlite3.sqlite_version} here may be older than the one that made it: give the sync log "
            "a file without it"
        )
    for missing, remedy in _MISSING:
        if phrase.startswith(missing):
            return f"{phrase}; {remedy}"
    return phrase


_MAX_PHRASE_LENGTH = 300
_MISSING = (
    ("no such collation", "it belongs to the application that made the file: read a table that does without it"),
    ("no such function", "it belongs to the application that made the file: read a table or view that does without it"),
    ("no such table", "correct the view, or the table in the sync log's settings"),
    ("no such column", "correct the view, or the columns in the sync log's settings"),
    ("no such module", "it belongs to the application that made the file: read a table that does without it"),
)


def _sqlite_fault(error: sqlite3.Error) -> DatabaseFault:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return DatabaseFault.OTHER
    if code == sqlite3.SQLITE_ERROR and "no such table" in str(error):
        return DatabaseFault.NO_TABLE
    if code == sqlite3.SQLITE_IOERR_GETTEMPPATH:  # no temporary folder can be written
        return DatabaseFault.FULL
    if code == sqlite3.SQLITE_READONLY_ROLLBACK:
        return DatabaseFault.HOT_JOURNAL
    if code == sqlite3.SQLITE_READONLY_DBMOVED:
        return DatabaseFault.OTHER_NAME
    if str(error).startswith(_BAD_SCHEMA):
        return DatabaseFault.OTHER
    return _SQLITE_CODES.get(code & 0xFF, DatabaseFault.OTHER)
