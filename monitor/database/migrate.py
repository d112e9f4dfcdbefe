"""The one transaction in which a schema is changed: under a lock, and giving way to whoever uses the tables.

What is changed, and whether that is called for, is not known here.
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
from monitor.database.urls import DatabaseFault, classify_fault, is_sqlite, location_of, parse
from monitor.errors import StoreError

LOCK_TIMEOUT_S = 60.0
_TABLE_LOCK_TIMEOUT_S = 2.0
"""A change that waits for a table keeps everybody out who comes after it: it gives way, and tries again later."""
_RETRY_PAUSE_S = (1.0, 3.0)
_ADVISORY_KEY = 0x494D_4442  # any number will do, as long as it never changes
_T = TypeVar("_T")


@contextlib.contextmanager
def migration_transaction(url: str, *, wait_s: float = LOCK_TIMEOUT_S) -> Iterator[Connection]:
    """One write transaction for changing the schema, alone: other processes wait for its end.

    On SQLite foreign keys are off in it, since rebuilding a table there drops the old one and would take the rows that
    point to it along.

    Args:
        url: of the database.
        wait_s: seconds (> 0) to wait for another process's change of the schema.

    Raises:
        StoreError: when the database can't be written, or another process kept the lock for longer.
    """
    engine = connect(url, statement_timeout_s=None)  # a change of large tables takes its time
    try:
        with _migration_lock(url, wait_s), translate_errors(engine), engine.connect() as conn:
            if is_sqlite(engine.url):
                conn.connection.cursor().execute("PRAGMA foreign_keys=OFF")
            with begin_immediate(conn).begin():
                _set_timeouts(conn)
                yield conn
                _check_foreign_keys(conn)
    finally:
        engine.dispose()


def retry_while_locked(url: str, attempt: Callable[[], _T], *, wait_s: float) -> _T:
    """Attempts a change until no table is locked by others any more; nothing is half done in between.

    Args:
        url: of the database.
        attempt: the whole change, in a transaction of `migration_transaction`.
        wait_s: seconds (> 0) after which it is given up.

    Raises:
        StoreError: somebody kept a table locked for so long.
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
                    f"database {location_of(parse(url))} was left as it was: somebody kept a table locked for {wait_s:.0f} s "
                    "(a long query, a dump, an open transaction: see pg_stat_activity); end it, then run "
                    "`ingestion-monitor db upgrade` again"
                ) from error
        # whoever queued up behind us gets in meanwhile
        time.sleep(random.uniform(*_RETRY_PAUSE_S))  # noqa: S311  # spreads attempts, no secret


def _set_timeouts(conn: Connection) -> None:
    """A server may end what takes long, which a change of the schema may; for a table it waits briefly, though."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("SET LOCAL statement_timeout = 0"))
        conn.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        conn.execute(text(f"SET LOCAL lock_timeout = {int(_TABLE_LOCK_TIMEOUT_S * 1000)}"))  # milliseconds


@contextlib.contextmanager
def _migration_lock(url: str, wait_s: float) -> Iterator[None]:
    parsed = parse(url)
    with _file_lock(location_of(parsed), wait_s) if is_sqlite(parsed) else _server_lock(url, wait_s):
        yield


@contextlib.contextmanager
def _file_lock(path: str, wait_s: float) -> Iterator[None]:
    from filelock import FileLock, Timeout  # loaded only where there is something to upgrade

    lock = FileLock(f"{path}.lock", timeout=wait_s)
    try:
        Path(path).parent.stat()  # the lock would make the folder, and so hide a slip in its name
        lock.acquire()
    except Timeout as error:
        raise StoreError(
            f"database SQLite {path} is still being upgraded by another process; wait for it, or end it"
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


@contextlib.contextmanager
def _server_lock(url: str, wait_s: float) -> Iterator[None]:
    """An advisory lock on a connection of its own, bound to a transaction so that PgBouncer can't misplace it."""
    engine = connect(url, statement_timeout_s=None)
    try:
        with translate_errors(engine), engine.connect() as conn:
            conn.execute(text(f"SET LOCAL lock_timeout = {int(wait_s * 1000)}"))  # milliseconds
            conn.execute(text("SET LOCAL statement_timeout = 0"))
            conn.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_KEY})
            yield
    finally:
        engine.dispose()


def _check_foreign_keys(conn: Connection) -> None:
    if conn.dialect.name == "sqlite" and conn.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
        raise StoreError(
            f"database SQLite {location_of(conn.engine.url)} was left as it was: the change of its schema would leave rows "
            "that point nowhere; please report this"
        )
