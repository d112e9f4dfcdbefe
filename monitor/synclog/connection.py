"""One connection to the user's database that can't write, and what goes wrong with it as a sentence."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from monitor.database.postgres import postgres_engine
from monitor.database.urls import DatabaseFault, classify_fault, is_sqlite, location_of, open_read_only, parse
from monitor.errors import SyncLogError


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncLogSpec:
    """One sync log as the user describes it."""

    url: str = field(repr=False)
    """`sqlite:///path` or `postgresql://…`: a secret."""
    table: str
    """A table or a view; on PostgreSQL also `schema.table`."""
    id_column: str
    submitted_at_column: str | None = None
    group_column: str | None = None
    timezone: str = "UTC"
    """The IANA zone that times without an offset are in."""
    busy_timeout_s: float = 5.0
    """Seconds (≥ 0) that a SQLite read waits for a writer."""


STATEMENT_TIMEOUT_S = 60


@contextmanager
def connect_read_only(spec: SyncLogSpec) -> Iterator[Connection]:
    """Opens the user's database so that nothing can be written, and closes it whatever happens.

    Raises:
        SyncLogError: in place of any error of SQLAlchemy or the driver, one sentence without URL or SQL.
    """
    try:
        url = parse(spec.url)
    except ValueError as error:
        raise SyncLogError(f"sync log: {error}") from None
    try:
        with _engine(url, spec).connect() as conn:
            if not is_sqlite(url):
                _configure_transaction(conn)
            yield conn
    except SQLAlchemyError as error:
        raise SyncLogError(_error_message(error, url, spec)) from error


def _engine(url: URL, spec: SyncLogSpec) -> Engine:
    if is_sqlite(url):
        path = Path(str(url.database))
        return create_engine(
            url,
            creator=lambda: open_read_only(path, busy_timeout_s=spec.busy_timeout_s),
            poolclass=NullPool,
            hide_parameters=True,
        )
    # no prepared statements: behind PgBouncer they may meet a session that does not know them
    engine = postgres_engine(
        url, statement_timeout_s=STATEMENT_TIMEOUT_S, connect_args={"prepare_threshold": None}, poolclass=NullPool
    )
    return engine.execution_options(postgresql_readonly=True)


def _configure_transaction(conn: Connection) -> None:
    """Settings for this one transaction, which the server itself holds to be read-only."""
    for setting in (f"statement_timeout = '{STATEMENT_TIMEOUT_S}s'", "TIME ZONE 'UTC'", "datestyle = 'ISO'"):
        conn.execute(text(f"SET LOCAL {setting}"))


_ERROR_MESSAGES: Mapping[DatabaseFault, str] = {
    DatabaseFault.LOCKED: "is locked by a writer; end its long transaction, or let the next run try again",
    DatabaseFault.CANNOT_OPEN: "can't be opened; check that this user may read it and its folder",
    DatabaseFault.READ_ONLY: (
        "can't be read without writing: a SQLite file in WAL mode with a writer needs a folder that this user may "
        "write to, and a view must not change anything"
    ),
    DatabaseFault.NOT_A_DATABASE: "is not a SQLite database, or is damaged; correct the path in the sync log's url",
    DatabaseFault.DISK: "can't be read from its disk; check that it is a file and that the disk is well",
    DatabaseFault.UNREACHABLE: "can't be reached; check that the server runs and that host and port are right",
    DatabaseFault.FULL: "is a view, and the temporary folder has no room for a copy of it; free some, or set TMPDIR",
    DatabaseFault.TOO_MANY_CONNECTIONS: "has no connection left for us; end some of its sessions, the next run tries again",
    DatabaseFault.LOST: "dropped the connection; check that the server runs, the next run tries again",
    DatabaseFault.LOGIN: "refused the user or the password; check the credentials in the sync log's url",
    DatabaseFault.NO_DATABASE: "does not exist on that server; correct the name in the sync log's url",
    DatabaseFault.TIMEOUT: f"did not answer within {STATEMENT_TIMEOUT_S} s; check its load and the view behind it",
}


def _error_message(error: SQLAlchemyError, url: URL, spec: SyncLogSpec) -> str:
    where = f"sync log {location_of(url)}"
    fault = classify_fault(error)
    if fault is DatabaseFault.CANNOT_OPEN and not Path(location_of(url)).exists():
        return f"{where} does not exist; correct the path in the sync log's url, or start the pipeline that writes it"
    if fault is DatabaseFault.PERMISSION:
        return f'{where}, table "{spec.table}": this user may not read it; grant it SELECT'
    cause = getattr(error, "orig", None) or error
    what = _ERROR_MESSAGES.get(fault, f"failed with {type(cause).__name__}; look at the database's own log")
    return f"{where} {what}"
