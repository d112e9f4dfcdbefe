"""A read-only connection to the user's database; its errors become one sentence with a remedy."""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine
from sqlalchemy.exc import SQLAlchemyError

from monitor.database.postgres import postgres_engine
from monitor.database.postgres_faults import DatabaseFault, connection_text
from monitor.database.sqlite_files import open_read_only
from monitor.database.sqlite_names import find_name_with_journals
from monitor.database.urls import classify_fault, is_sqlite, location_of, parse, sqlite_phrase
from monitor.errors import MonitorError, SyncLogError, SyncLogUnavailableError
from monitor.synclog.ids import IdFormat
from monitor.synclog.timestamps import AUTO

Value = str | bool | int | float
Condition = Value | tuple[Value, ...]
"""Equal to the value, or to one of several; alone, the texts `null` and `not null` mean just that."""
SERVER_ZONE = "server"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncLogSpec:
    """A sync log as the user configured it."""

    url: str = field(repr=False)
    """`sqlite:///path` or `postgresql://…`: a secret."""
    table: str
    """A table or a view; on PostgreSQL also `schema.table`."""
    id_column: str
    submitted_at_column: str | None = None
    group_column: str | None = None
    updated_at_column: str | None = None
    """The column with the time of a row's last change, by which `read_pages` finds what changed."""
    param_columns: Mapping[str, str] = field(default_factory=dict)
    """The columns with path parameters, by parameter."""
    where: Mapping[str, Condition] = field(default_factory=dict)
    """By column, what the rows that count have in it; see `row_filter`."""
    id_path: str | None = None
    """Where the id is in the JSON that its column holds."""
    id_format: str = IdFormat.AUTO
    uuid_ids: bool = False
    """Whether the provider's ids are UUIDs."""
    time_format: str = AUTO
    """See `timestamps.time_reader`."""
    timezone: str = "UTC"
    """Of times without an offset; `server`: that of the PostgreSQL server, as its database or the role sets it."""
    busy_timeout_s: float = 5.0
    """How long a SQLite read waits for a writer (≥ 0)."""


STATEMENT_TIMEOUT_S = 60
_TRANSACTION_SETTINGS = {"datestyle": "ISO"}


@contextmanager
def connect_read_only(spec: SyncLogSpec) -> Iterator[Connection]:
    """Opens the user's database read-only. Raises SyncLogError, without URL and SQL, for every error.

    It is a SyncLogUnavailableError if the next try may succeed.
    """
    try:
        url = parse(spec.url)
    except ValueError as error:
        raise SyncLogError(f"sync log: its url {error}") from None
    try:
        with _engine(spec.url, spec.busy_timeout_s).connect() as conn:
            yield conn
    except SQLAlchemyError as error:
        kind = SyncLogUnavailableError if classify_fault(error) in _TRANSIENT else SyncLogError
        raise kind(_error_message(error, url, spec)) from error
    except MonitorError:
        raise
    except Exception as error:
        # one odd value, or a defect of ours or of the driver: this target's fault alone
        raise SyncLogError(f"sync log {location_of(url)} can't be read: {type(error).__name__}") from error


@lru_cache(maxsize=64)  # many targets may have one log; it keeps no connection, but the statements that it compiled
def _engine(text: str, busy_timeout_s: float) -> Engine:
    url = parse(text)
    if is_sqlite(url):
        path = Path(str(url.database))
        return create_engine(
            url,
            creator=lambda: open_read_only(find_name_with_journals(path), busy_timeout_s=busy_timeout_s),
            poolclass=NullPool,
            hide_parameters=True,
        )
    engine = postgres_engine(
        url,
        statement_timeout_s=STATEMENT_TIMEOUT_S,
        settings=_TRANSACTION_SETTINGS,
        isolation="REPEATABLE READ",  # all statements see one moment
        poolclass=NullPool,
    )
    return engine.execution_options(postgresql_readonly=True)


_TRANSIENT = frozenset({
    DatabaseFault.LOCKED, DatabaseFault.UNREACHABLE, DatabaseFault.TOO_MANY_CONNECTIONS, DatabaseFault.LOST,
    DatabaseFault.CONFLICT, DatabaseFault.REFUSED,
})  # fmt: skip
"""Faults of a restart, a failover, a busy moment or a standby, which end without help. A view that is slow stays so."""

_ERROR_MESSAGES: Mapping[DatabaseFault, str] = {
    DatabaseFault.LOCKED: (
        "is locked by a writer; end its long transaction, or its PRAGMA locking_mode = EXCLUSIVE, or wait for the next "
        "run"
    ),
    DatabaseFault.CONFLICT: (
        "is a replica that cancelled the read, to apply changes of its primary; set hot_standby_feedback = on there, "
        "raise max_standby_streaming_delay, or read the primary"
    ),
    DatabaseFault.NOT_READY: "can't be read yet; if it is a materialized view, refresh it once",
    DatabaseFault.FOREIGN_SERVER: "is a foreign table, and its server can't be reached; check that server",
    DatabaseFault.CANNOT_OPEN: (
        "can't be opened; check that this user may enter its folder, and may read it and the files beside it (-wal, "
        "-shm, -journal)"
    ),
    DatabaseFault.READ_ONLY: (
        "can't be read without a change; check that this user may read the files beside it (-wal, -shm)"
    ),
    DatabaseFault.HOT_JOURNAL: (
        "holds half a transaction: its last writer was cut off (there is a -journal beside it); let the pipeline open "
        "it once, which rolls the transaction back"
    ),
    DatabaseFault.OTHER_NAME: (
        "has another name, beside which its -journal or -wal may lie: it has a hard link, or it is mounted without its "
        "folder; remove the link or name the file as the pipeline does, and mount the folder"
    ),
    DatabaseFault.NOT_A_DATABASE: "is not a SQLite database, or is damaged; correct the path in the sync log's url",
    DatabaseFault.DISK: "can't be read from its disk; check that it is a file, and check the disk",
    DatabaseFault.UNREACHABLE: "can't be reached; check that the server runs, and check host and port",
    DatabaseFault.FULL: (
        "can't be copied to the temporary folder; free some space there, or set TMPDIR to a folder with enough"
    ),
    DatabaseFault.TOO_MANY_CONNECTIONS: "has no free connection; end some sessions, the next run tries again",
    DatabaseFault.LOST: "dropped the connection; check that the server runs, the next run tries again",
    DatabaseFault.LOGIN: "refused the user or the password; check the credentials in the sync log's url",
    DatabaseFault.NO_DATABASE: "does not exist on that server; correct the name in the sync log's url",
    DatabaseFault.TIMEOUT: (
        f"did not answer in time ({STATEMENT_TIMEOUT_S} s, or its role's shorter statement_timeout); check its load, "
        "and the query of the view"
    ),
}


def _error_message(error: SQLAlchemyError, url: URL, spec: SyncLogSpec) -> str:
    where = f"sync log {location_of(url)}"
    fault = classify_fault(error)
    if fault is DatabaseFault.CANNOT_OPEN and _is_missing(Path(str(url.database))):
        return f"{where} does not exist; correct the path in the sync log's url, or start the pipeline that writes it"
    if fault is DatabaseFault.HOT_JOURNAL and not os.access(f"{os.path.realpath(str(url.database))}-journal", os.R_OK):
        fault = DatabaseFault.CANNOT_OPEN  # SQLite takes a journal that it can't read for a hot one
    if fault is DatabaseFault.READ_ONLY and not is_sqlite(url):
        return f'{where}, table "{spec.table}": reading it changes data, which a view must not do; read another one'
    if fault is DatabaseFault.PERMISSION:
        return f'{where}, table "{spec.table}": this user may not read it; grant it SELECT'
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, sqlite3.Error) and fault not in _ERROR_MESSAGES:
        return f'{where}, table "{spec.table}", can\'t be read: {sqlite_phrase(cause)}'
    what = connection_text(fault, cause) or _ERROR_MESSAGES.get(
        fault, f"failed with {type(cause).__name__}; see the log of the database"
    )
    return f"{where} {what}"


def _is_missing(path: Path) -> bool:
    """Whether there is no such file. A folder that may not be entered hides that."""
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
