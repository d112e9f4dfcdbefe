"""A read-only connection to the user's database; its errors become one sentence with a remedy."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine
from sqlalchemy.exc import SQLAlchemyError

from monitor.database.postgres import postgres_engine
from monitor.database.postgres_faults import DatabaseFault, connection_text
from monitor.database.urls import classify_fault, is_sqlite, location_of, open_read_only, parse
from monitor.errors import SyncLogConflictError, SyncLogError


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
    timezone: str = "UTC"
    busy_timeout_s: float = 5.0
    """How long a SQLite read waits for a writer (≥ 0)."""


STATEMENT_TIMEOUT_S = 60
_TRANSACTION_SETTINGS = {"datestyle": "ISO"}
_CONFLICTS = frozenset({"40001", "40P01"})


@contextmanager
def connect_read_only(spec: SyncLogSpec) -> Iterator[Connection]:
    """Opens the user's database read-only. Raises SyncLogError, without URL and SQL, for every error of the driver."""
    try:
        url = parse(spec.url)
    except ValueError as error:
        raise SyncLogError(f"sync log: its url {error}") from None
    try:
        with _engine(url, spec).connect() as conn:
            yield conn
    except SQLAlchemyError as error:
        sqlstate = getattr(getattr(error, "orig", None), "sqlstate", None)
        kind = SyncLogConflictError if sqlstate in _CONFLICTS else SyncLogError
        raise kind(_error_message(error, url, spec)) from error


def _engine(url: URL, spec: SyncLogSpec) -> Engine:
    if is_sqlite(url):
        path = Path(str(url.database))
        return create_engine(
            url,
            creator=lambda: open_read_only(path, busy_timeout_s=spec.busy_timeout_s),
            poolclass=NullPool,
            hide_parameters=True,
        )
    engine = postgres_engine(
        url, statement_timeout_s=STATEMENT_TIMEOUT_S, settings=_TRANSACTION_SETTINGS, poolclass=NullPool
    )
    return engine.execution_options(postgresql_readonly=True)


_ERROR_MESSAGES: Mapping[DatabaseFault, str] = {
    DatabaseFault.LOCKED: "is locked by a writer; end its long transaction, or wait for the next run",
    DatabaseFault.CONFLICT: (
        "is a replica that cancelled the read, to apply changes of its primary; set hot_standby_feedback = on there, "
        "raise max_standby_streaming_delay, or read the primary"
    ),
    DatabaseFault.NOT_READY: "can't be read yet; if it is a materialized view, refresh it once",
    DatabaseFault.FOREIGN_SERVER: "is a foreign table, and its server can't be reached; check that server",
    DatabaseFault.CANNOT_OPEN: "can't be opened; check that this user may read the file and its folder",
    DatabaseFault.READ_ONLY: (
        "can't be read without write access: while a writer has a SQLite file in WAL mode open, this user needs write "
        "permission on its folder; and a view must not change data"
    ),
    DatabaseFault.NOT_A_DATABASE: "is not a SQLite database, or is damaged; correct the path in the sync log's url",
    DatabaseFault.DISK: "can't be read from its disk; check that it is a file, and check the disk",
    DatabaseFault.UNREACHABLE: "can't be reached; check that the server runs, and check host and port",
    DatabaseFault.FULL: "is a view, and the temporary folder has no space for its copy; free some, or set TMPDIR",
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
    if fault is DatabaseFault.CANNOT_OPEN and not Path(location_of(url)).exists():
        return f"{where} does not exist; correct the path in the sync log's url, or start the pipeline that writes it"
    if fault is DatabaseFault.PERMISSION:
        return f'{where}, table "{spec.table}": this user may not read it; grant it SELECT'
    cause = getattr(error, "orig", None) or error
    what = connection_text(fault, cause) or _ERROR_MESSAGES.get(
        fault, f"failed with {type(cause).__name__}; see the log of the database"
    )
    return f"{where} {what}"
