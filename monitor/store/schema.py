"""Which schema a database has and which one this program wants, and the way from one to the other, under a lock.

The steps themselves are Alembic revisions in `migrations/`; Alembic is only loaded when there is something to do.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import URL, Connection, Engine, inspect, text

from monitor.database import is_sqlite, parse, place
from monitor.errors import SchemaError, StoreError
from monitor.store.engine import connect, connect_read_only, immediate, reading, translated
from monitor.store.tables import metadata

__all__ = ["SchemaFit", "SchemaVersion", "current", "ensure", "migrating", "upgrade"]

LOCK_TIMEOUT_S = 60.0
_ADVISORY_KEY = 0x494D_4442  # any number will do, as long as it never changes


class SchemaFit(StrEnum):
    """How a database's schema relates to the one that this program wants."""

    MISSING = "missing"
    OLDER = "older"
    CURRENT = "current"
    NEWER = "newer"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaVersion:
    """The revision that a database has, and the one that this program wants."""

    current: str | None
    """None before the first upgrade."""
    head: str

    @property
    def fit(self) -> SchemaFit:
        """How the two relate. A revision that this program has never heard of counts as newer."""
        if self.current is None:
            return SchemaFit.MISSING
        if self.current == self.head:
            return SchemaFit.CURRENT
        return SchemaFit.OLDER if self.current in _revisions() else SchemaFit.NEWER


def current(engine: Engine) -> SchemaVersion:
    """Reads which revision the database has; a SQLite file that does not exist is not created.

    Raises:
        StoreError: when the database can't be read.
    """
    if not _exists(engine):
        return _version(None)
    with reading(engine) as conn:
        return _version(conn)


def upgrade(url: str) -> list[str]:
    """Brings the database's schema up to this program's, creating it if need be. Safe for many processes at once.

    Returns:
        The revisions that were applied, oldest first; empty when there was nothing to do.

    Raises:
        SchemaError: when the schema is newer than this program, or the database holds someone else's tables. Nothing
            was written.
        StoreError: when the database can't be written, or another process kept the lock for a minute.
    """
    if _look(url).fit is SchemaFit.CURRENT:
        return []
    with migrating(url) as conn:
        before = _not_newer(_version(conn), conn.engine.url)
        if before.fit is SchemaFit.MISSING:
            _refuse_foreign_tables(conn)
        if before.fit is not SchemaFit.CURRENT:
            _run_alembic(conn)
    return [revision for revision in _revisions() if before.current is None or revision > before.current]


def ensure(url: str) -> Engine:
    """An engine on a database that has this program's schema. An embedded SQLite is brought up to it without asking.

    Raises:
        SchemaError: when the schema is newer, or when a server's is missing or older. Nothing was written.
        StoreError: when the database can't be used.
    """
    version = _look(url)
    if version.fit is not SchemaFit.CURRENT:
        if not is_sqlite(parse(url)):
            state = "is empty" if version.current is None else f"has the older schema {version.current}"
            raise SchemaError(f"database {place(parse(url))} {state}; run `ingestion-monitor db upgrade`")
        upgrade(url)
    return connect(url, create=False)


@contextlib.contextmanager
def migrating(url: str, *, wait_s: float = LOCK_TIMEOUT_S) -> Iterator[Connection]:
    """One write transaction for changing the schema, alone: other processes wait for its end.

    On SQLite foreign keys are off in it, since rebuilding a table there drops the old one and would take the rows that
    point to it along.

    Args:
        url: of the database.
        wait_s: seconds (> 0) to wait for another process's change of the schema.

    Raises:
        StoreError: when the database can't be written, or another process kept the lock for longer.
    """
    engine = connect(url, answer_s=None)  # a change of large tables takes its time
    try:
        with _locked(url, wait_s), translated(engine), engine.connect() as conn:
            if is_sqlite(engine.url):
                conn.connection.cursor().execute("PRAGMA foreign_keys=OFF")
            with immediate(conn).begin():
                yield conn
                _refuse_broken_references(conn)
    finally:
        engine.dispose()


def _folder() -> Path:
    """The migrations: inside the package when it was installed from a wheel, beside it in a clone."""
    inside = Path(__file__).parent.parent / "migrations"
    return inside if inside.is_dir() else inside.parent.parent / "migrations"


def _revisions() -> list[str]:
    return sorted(path.name.partition("_")[0] for path in (_folder() / "versions").glob("[0-9]*_*.py"))


def _exists(engine: Engine) -> bool:
    if not is_sqlite(engine.url):
        return True
    path = Path(str(engine.url.database))
    return path.exists() and (not path.is_file() or path.stat().st_size > 0)


def _version(conn: Connection | None) -> SchemaVersion:
    revision = None
    if conn is not None and inspect(conn).has_table("alembic_version"):
        revision = conn.scalar(text("SELECT version_num FROM alembic_version"))
    return SchemaVersion(current=revision, head=_revisions()[-1])


def _look(url: str) -> SchemaVersion:
    """Looks without being able to write."""
    engine = connect_read_only(url)
    try:
        return _not_newer(current(engine), engine.url)
    finally:
        engine.dispose()


def _not_newer(version: SchemaVersion, url: URL) -> SchemaVersion:
    if version.fit is SchemaFit.NEWER:
        raise SchemaError(
            f"database {place(url)} has the schema {version.current}, which is newer than this program's "
            f"({version.head}); install the newer ingestion-monitor, or name another database"
        )
    return version


@contextlib.contextmanager
def _locked(url: str, wait_s: float) -> Iterator[None]:
    parsed = parse(url)
    with _file_lock(place(parsed), wait_s) if is_sqlite(parsed) else _server_lock(url, wait_s):
        yield


@contextlib.contextmanager
def _file_lock(path: str, wait_s: float) -> Iterator[None]:
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
    engine = connect(url)
    try:
        with translated(engine), engine.connect() as conn:
            conn.execute(text(f"SET LOCAL lock_timeout = {int(wait_s * 1000)}"))  # milliseconds
            conn.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_KEY})
            yield
    finally:
        engine.dispose()


def _refuse_foreign_tables(conn: Connection) -> None:
    taken = sorted({*inspect(conn).get_table_names(), *inspect(conn).get_view_names()} & {*metadata.tables, "history"})
    if taken:
        raise SchemaError(
            f"database {place(conn.engine.url)} already holds {', '.join(taken)}, not made by this program; "
            "give ingestion-monitor a database of its own"
        )


def _refuse_broken_references(conn: Connection) -> None:
    if conn.dialect.name == "sqlite" and conn.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
        raise StoreError(
            f"database SQLite {place(conn.engine.url)} was left as it was: the change of its schema would leave rows "
            "that point nowhere; please report this"
        )


def _run_alembic(conn: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = conn
    command.upgrade(config, "head")
