"""The transaction for schema changes: locked against other upgrades, and retried while tables are in use.

The changes themselves are in `migrations/`.
"""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from monitor.database.engine import begin_immediate, connect, translate_errors
from monitor.database.postgres import shorten_timeouts
from monitor.database.postgres_faults import DatabaseFault
from monitor.database.urls import classify_fault, is_sqlite, location_of, parse
from monitor.errors import StoreError

LOCK_TIMEOUT_S = 60.0
_TABLE_LOCK_TIMEOUT_S = 2.0
"""While a change waits for a table, later queries queue up behind it: so it gives up soon and tries again."""
_RETRY_PAUSE_S = (1.0, 3.0)
_ADVISORY_KEY = 0x494D_4442  # must never change
_T = TypeVar("_T")


@contextlib.contextmanager
def migration_transaction(url: str, *, wait_s: float = LOCK_TIMEOUT_S) -> Iterator[Connection]:
    """One write transaction for a schema change. Raises StoreError if another one takes longer than `wait_s` (> 0).

    On SQLite foreign keys are off: rebuilding a table drops the old one, which would delete the rows that refer to it.
    """
    engine = connect(url, statement_timeout_s=None)
    try:
        with _migration_lock(url, wait_s), translate_errors(engine), engine.connect() as conn:
            if is_sqlite(engine.url):
                conn.connection.cursor().execute("PRAGMA foreign_keys=OFF")
            with begin_immediate(conn).begin():
                _lock_on_server(conn, wait_s)
                yield conn
                _check_foreign_keys(conn)
    finally:
        engine.dispose()


def retry_while_locked(url: str, attempt: Callable[[], _T], *, wait_s: float) -> _T:
    """Repeats a change while other sessions lock its tables, for `wait_s` (> 0), then raises StoreError.

    `attempt` is the whole change, in one `migration_transaction`.
    """
    ends_s = time.monotonic() + wait_s
    while True:
        try:
            return attempt()
        except StoreError as error:
            locked = (
                isinstance(error.__cause__, SQLAlchemyError) and classify_fault(error.__cause__) is DatabaseFault.LOCKED
            )
            if not locked or is_sqlite(parse(url)):
                raise
            if time.monotonic() >= ends_s:
                raise StoreError(
                    f"database {location_of(parse(url))} was not changed: a table was locked for {wait_s:.0f} s (by a "
                    "long query, a dump or an open transaction: see pg_stat_activity); end it, then run "
                    "`ingestion-monitor db upgrade` again"
                ) from error
        # queries that queued up behind this attempt run now
        time.sleep(random.uniform(*_RETRY_PAUSE_S))  # noqa: S311  # spreads attempts, no secret


def _lock_on_server(conn: Connection, wait_s: float) -> None:
    """An advisory lock of the transaction itself: behind a pooler, one connection to the server is enough.

    Then no time limit for the change, and a short one for table locks.
    """
    if conn.dialect.name != "postgresql":
        return
    conn.exec_driver_sql("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")
    conn.exec_driver_sql(f"SET LOCAL lock_timeout = {int(wait_s * 1000)}")  # milliseconds
    conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_KEY})
    conn.exec_driver_sql("SET LOCAL lock_timeout TO DEFAULT")
    conn.exec_driver_sql(shorten_timeouts({"lock_timeout": f"{int(_TABLE_LOCK_TIMEOUT_S * 1000)}ms"}))


@contextlib.contextmanager
def _migration_lock(url: str, wait_s: float) -> Iterator[None]:
    """The lock of a SQLite file, which is taken before the transaction begins."""
    parsed = parse(url)
    with _file_lock(str(parsed.database), wait_s) if is_sqlite(parsed) else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _file_lock(path: str, wait_s: float) -> Iterator[None]:
    from filelock import FileLock, Timeout  # loaded only if needed

    lock = FileLock(f"{path}.lock", timeout=wait_s)
    try:
        Path(path).parent.stat()  # FileLock would create the folder, which would hide a typo in its name
        lock.acquire()
    except Timeout as error:
        raise StoreError(
            f"database SQLite {path} is being upgraded by another process; wait for it, or end it"
        ) from error
    except OSError as error:
        raise StoreError(
            f"database SQLite {path} can't be locked for an upgrade ({error.strerror}); "
            "check that its folder exists and that this user may write there"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _check_foreign_keys(conn: Connection) -> None:
    if conn.dialect.name == "sqlite" and conn.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
        raise StoreError(
            f"database SQLite {location_of(conn.engine.url)} was not changed: the upgrade would break foreign keys; "
            "please report this"
        )
