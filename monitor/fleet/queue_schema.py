"""The tables of the queue, in a PostgreSQL schema of their own: Procrastinate's files install and upgrade them.

Procrastinate itself stores no version, so we note the newest of its files that was applied. It is not imported here.
"""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, text

from monitor.database.engine import reading
from monitor.database.migrate import LOCK_TIMEOUT_S, migration_transaction, retry_while_locked
from monitor.database.schema import SchemaFit, fit_of
from monitor.database.urls import location_of, parse
from monitor.errors import SchemaError, StoreError

SCHEMA = "procrastinate"
_UPGRADE = "run `ingestion-monitor db upgrade`"

_FOUND = text(
    "SELECT to_regclass('procrastinate.monitor_version') IS NOT NULL, "
    "to_regclass('procrastinate.procrastinate_jobs') IS NOT NULL"
)
_NOTED = text("SELECT version FROM procrastinate.monitor_version")
_MAY_CREATE = text("""
    SELECT (SELECT has_schema_privilege(oid, 'CREATE') FROM pg_catalog.pg_namespace WHERE nspname = 'procrastinate'),
        has_database_privilege(current_database(), 'CREATE'), quote_ident(current_database())
""")
_OWN_TABLES = """
CREATE TABLE monitor_version (version text NOT NULL);
CREATE TABLE monitor_workers (
    worker_id bigint PRIMARY KEY REFERENCES procrastinate_workers (id) ON DELETE CASCADE,
    name text NOT NULL,
    queue text NOT NULL
);
"""
"""Beside Procrastinate's: the version, and the name and the queue of each of its numbered workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueVersion:
    """The newest of Procrastinate's files that was applied, and the newest that this program has."""

    current: str | None
    needed: str
    foreign: bool = False
    """There is a queue in the schema that this program did not create."""

    @property
    def fit(self) -> SchemaFit:
        """The comparison; an unknown version counts as newer."""
        return fit_of(self.current, self.needed, known=_versions, foreign=self.foreign)


def current(conn: Connection) -> QueueVersion:
    """The version of the queue in a PostgreSQL database."""
    noted, present = conn.execute(_FOUND).one()
    version = conn.execute(_NOTED).scalar_one() if noted else None
    return QueueVersion(current=version, needed=_versions()[-1], foreign=present and not noted)


def upgrade(url: str, *, wait_s: float = LOCK_TIMEOUT_S) -> list[str]:
    """Creates or upgrades the queue; returns the versions that were applied. Many processes may call this at once.

    Each step is a transaction under the lock of our own migrations, since a type's new value can be used only in the
    next one. Jobs stay where they are.

    Raises:
        SchemaError: it is newer than this program, or not ours. Nothing was written.
        StoreError: the database can't be written, or a lock was held for too long.
    """
    applied: list[str] = []
    while version := retry_while_locked(url, lambda: _step(url, wait_s), wait_s=wait_s):
        applied.append(version)
    return applied


def verify(engine: Engine) -> None:
    """Checks that the database has the queue that this program needs.

    Raises:
        SchemaError: it is missing, older, newer or not ours.
        StoreError: it can't be read.
    """
    with reading(engine) as conn:
        version = current(conn)
    if problem := describe(version, engine.url):
        needs_upgrade = version.fit in {SchemaFit.MISSING, SchemaFit.OLDER}
        raise SchemaError(problem, needs_upgrade=needs_upgrade)


def describe(version: QueueVersion, url: URL) -> str | None:
    """What is wrong with the queue, and what to do; None if it fits."""
    where = f"database {location_of(url)}"
    match version.fit:
        case SchemaFit.CURRENT:
            return None
        case SchemaFit.MISSING:
            return f"{where} has no queue for workers (fleet.workers); {_UPGRADE}"
        case SchemaFit.OLDER:
            return f"{where} has the older queue {version.current}, and workers need {version.needed}; {_UPGRADE}"
        case SchemaFit.NEWER:
            return (
                f"{where} has the queue {version.current}, which is newer than this program's ({version.needed}); "
                "install the newer ingestion-monitor, or name another database"
            )
        case SchemaFit.FOREIGN:
            return (
                f"{where} has a queue of another program in its schema {SCHEMA}; "
                "give ingestion-monitor a database of its own, or rename that schema"
            )


def _step(url: str, wait_s: float) -> str | None:
    """One step, as far as one is needed; returns the version that it made."""
    with migration_transaction(url, wait_s=wait_s) as conn:
        before = current(conn)
        if before.fit is SchemaFit.CURRENT:
            return None
        if before.fit in {SchemaFit.NEWER, SchemaFit.FOREIGN}:
            raise SchemaError(str(describe(before, parse(url))))
        if before.current is None:
            _create_schema(conn, parse(url))
            version, statements = before.needed, (_folder() / "schema.sql").read_text(encoding="utf-8") + _OWN_TABLES
        else:
            version = next(each for each in _versions() if each > before.current)
            statements = _file(version).read_text(encoding="utf-8")
        _execute_file(conn, statements)
        conn.execute(text("DELETE FROM monitor_version"))
        conn.execute(text("INSERT INTO monitor_version (version) VALUES (:version)"), {"version": version})
        return version


def _execute_file(conn: Connection, statements: str) -> None:
    conn.exec_driver_sql(f"SET LOCAL search_path TO {SCHEMA}")
    # SQLAlchemy would pass parameters, with which a message holds one statement alone
    conn.connection.cursor().execute(statements)


def _create_schema(conn: Connection, url: URL) -> None:
    """Creates the schema, unless an administrator has created it for this user, who then needs no right to do so."""
    in_schema, in_database, name = conn.execute(_MAY_CREATE).one()
    where = f"database PostgreSQL {location_of(url)}"
    if in_schema is False:
        raise StoreError(
            f"{where} has a schema {SCHEMA}, in which this user may create nothing: run as its owner: "
            f"grant create on schema {SCHEMA} to this user"
        )
    if in_schema is None and not in_database:
        raise StoreError(
            f"{where} refuses the schema {SCHEMA} of the queue: run as its owner: "
            f"grant create on database {name} to this user"
        )
    if in_schema is None:
        conn.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")


@cache
def _folder() -> Path:
    """Procrastinate's SQL files; the package is found without being imported."""
    spec = find_spec("procrastinate")
    if spec is None or spec.origin is None:
        raise StoreError("the package procrastinate, the queue of workers, is missing; install ingestion-monitor again")
    return Path(spec.origin).parent / "sql"


@cache
def _versions() -> list[str]:
    """The versions of Procrastinate's tables, oldest first: the names of its migrations."""
    return sorted(path.stem for path in (_folder() / "migrations").glob("[0-9]*.sql"))


def _file(version: str) -> Path:
    return _folder() / "migrations" / f"{version}.sql"
