"""Compares a database's schema with the one that this program needs, and upgrades it.

The steps are Alembic revisions in `migrations/`. Alembic is loaded only if there is something to do.
"""

import stat
from collections.abc import Callable, Collection
from enum import StrEnum
from pathlib import Path

import msgspec
from sqlalchemy import URL, Connection, Engine, Table, delete, false, inspect, select, text, update

from monitor.database.engine import connect, connect_read_only, insert, reading, writing
from monitor.database.migrate import LOCK_TIMEOUT_S, migration_transaction, retry_while_locked
from monitor.database.sync_tables import metadata
from monitor.database.urls import is_sqlite, location_of, parse
from monitor.database.version_table import StoredVersion, read_version
from monitor.errors import SchemaError, StoreError

FOREIGN_TEXT = "belongs to another program, whose table alembic_version it has"
FOREIGN_REMEDY = (
    "give ingestion-monitor a database of its own, or on PostgreSQL a schema of its own: "
    "?options=-csearch_path%3Dmonitor in the URL"
)


_MAY_CREATE = text(
    "SELECT quote_ident(current_schema()), quote_ident(current_user), has_schema_privilege(current_schema(), 'CREATE')"
)


class SchemaFit(StrEnum):
    """A database's schema compared with the one that this program needs."""

    MISSING = "missing"
    OLDER = "older"
    CURRENT = "current"
    NEWER = "newer"
    FOREIGN = "foreign"
    """Another program's, by its own Alembic revision."""


def fit_of(current: str | None, needed: str, *, known: Callable[[], Collection[str]], foreign: bool) -> SchemaFit:
    """Compares a version that a database has with the one that is needed; one that is not `known` counts as newer."""
    if foreign:
        return SchemaFit.FOREIGN
    if current is None:
        return SchemaFit.MISSING
    if current == needed:
        return SchemaFit.CURRENT
    return SchemaFit.OLDER if current in known() else SchemaFit.NEWER


class SchemaVersion(msgspec.Struct, frozen=True, kw_only=True):
    """The revision of a database, and the one that this program needs."""

    current: str | None
    head: str
    former: bool = False
    """The revision stands in the table of former versions, from which an upgrade takes it over."""
    foreign: bool = False

    @property
    def fit(self) -> SchemaFit:
        """The comparison. An unknown revision in our own table counts as newer."""
        return fit_of(self.current, self.head, known=_revisions, foreign=self.foreign)


def current(engine: Engine) -> SchemaVersion:
    """Reads the revision of the database; creates no missing SQLite file. Raises StoreError if it can't be read."""
    if not _exists(engine):
        return _version(None)
    with reading(engine) as conn:
        return _version(conn)


def upgrade(url: str, *, wait_s: float = LOCK_TIMEOUT_S) -> list[str]:
    """Creates or upgrades the schema; returns the applied revisions. Many processes may call this at once.

    On PostgreSQL it waits up to `wait_s` for locked tables, in short attempts, so that no queries queue up behind it.

    Raises:
        SchemaError: it is newer than this program or another program's. Nothing was written.
        StoreError: the database can't be written, or a lock was held for too long.
    """
    version = _read_version(url)
    if version.fit is SchemaFit.CURRENT and not version.former:
        return []
    before = retry_while_locked(url, lambda: _upgrade_once(url), wait_s=wait_s)
    return [revision for revision in _revisions() if before.current is None or revision > before.current]


def _upgrade_once(url: str) -> SchemaVersion:
    """One attempt; returns the version before it."""
    with migration_transaction(url) as conn:
        before = _reject_unusable(_version(conn), conn.engine.url)
        if before.fit is SchemaFit.MISSING:
            _reject_foreign_tables(conn)
            _require_create(conn)
        if before.fit is not SchemaFit.CURRENT or before.former:
            _run_alembic(conn)
    return before


def ensure(url: str) -> Engine:
    """An engine on a database with the right schema. SQLite is upgraded automatically, PostgreSQL is not.

    Raises:
        SchemaError: the schema is newer, or it is missing or older on PostgreSQL. Nothing was written.
        StoreError: the database can't be used.
    """
    version = _read_version(url)
    current = version.fit is SchemaFit.CURRENT
    if is_sqlite(parse(url)) and (not current or version.former):
        upgrade(url)
    elif not current:
        raise _outdated_error(version, parse(url))
    return connect(url, create=False)


def verify(engine: Engine) -> None:
    """Checks that a database in use still has the right schema.

    Raises:
        SchemaError: it was upgraded, replaced or emptied.
        StoreError: it can't be read.
    """
    with reading(engine) as conn:  # not `current`, which takes a deleted file for an empty database
        version = _reject_unusable(_version(conn), engine.url)
    if version.fit is not SchemaFit.CURRENT:
        raise _outdated_error(version, engine.url)


def _folder() -> Path:
    """The migrations: inside the package if installed from a wheel, beside it in a clone."""
    inside = Path(__file__).parent.parent / "migrations"
    return inside if inside.is_dir() else inside.parent.parent / "migrations"


def _revisions() -> list[str]:
    return sorted(path.name.partition("_")[0] for path in (_folder() / "versions").glob("[0-9]*_*.py"))


def _exists(engine: Engine) -> bool:
    if not is_sqlite(engine.url):
        return True
    path = Path(str(engine.url.database))
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    except OSError:  # a folder that may not be entered: to open the file gives the sentence about it
        return True
    return not stat.S_ISREG(found.st_mode) or found.st_size > 0


def _version(conn: Connection | None) -> SchemaVersion:
    known = _revisions()
    stored = StoredVersion() if conn is None else read_version(conn, frozenset(known))
    return SchemaVersion(
        current=stored.revision or stored.foreign,
        head=known[-1],
        former=stored.former,
        foreign=stored.foreign is not None,
    )


def _read_version(url: str) -> SchemaVersion:
    engine = connect_read_only(url)
    try:
        return _reject_unusable(current(engine), engine.url)
    finally:
        engine.dispose()


def _outdated_error(version: SchemaVersion, url: URL) -> SchemaError:
    state = "is empty" if version.current is None else f"has the older schema {version.current}"
    return SchemaError(f"database {location_of(url)} {state}; run `ingestion-monitor db upgrade`", needs_upgrade=True)


def _reject_unusable(version: SchemaVersion, url: URL) -> SchemaVersion:
    if version.fit is SchemaFit.NEWER:
        raise SchemaError(
            f"database {location_of(url)} has the schema {version.current}, which is newer than this program's "
            f"({version.head}); install the newer ingestion-monitor, or name another database"
        )
    if version.fit is SchemaFit.FOREIGN:
        raise SchemaError(f"database {location_of(url)} {FOREIGN_TEXT}; {FOREIGN_REMEDY}")
    return version


def _reject_foreign_tables(conn: Connection) -> None:
    catalog = inspect(conn)
    own = catalog.default_schema_name  # otherwise the tables of the whole search_path are listed
    existing = {*catalog.get_table_names(schema=own), *catalog.get_view_names(schema=own)}
    taken = sorted(existing & {*metadata.tables, "history"})
    if taken:
        raise SchemaError(
            f"database {location_of(conn.engine.url)} already has {', '.join(taken)}, not created by this program; "
            "use a separate database for ingestion-monitor"
        )


def missing_privilege(conn: Connection) -> str | None:
    """What a PostgreSQL user lacks to create our tables, and how to grant it; None if it may, or on SQLite."""
    if conn.dialect.name != "postgresql":
        return None
    schema, role, allowed = conn.execute(_MAY_CREATE).one()
    if schema is None:
        return "has no schema that this user may use; create one, or correct search_path in the URL's options"
    if allowed:
        return None
    return f"refuses new tables: run as its owner: grant create on schema {schema} to {role}"


def _require_create(conn: Connection) -> None:
    if lacking := missing_privilege(conn):
        raise StoreError(f"database PostgreSQL {location_of(conn.engine.url)} {lacking}")


def _run_alembic(conn: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = conn
    command.upgrade(config, "head")


def check_write_access(engine: Engine) -> None:
    """Changes zero rows of every table. Raises StoreError if the lock or a privilege can't be had."""
    with writing(engine) as conn:
        for table in metadata.sorted_tables:
            first = next(iter(table.columns))
            conn.execute(insert(conn, table).from_select([first.name], select(first).where(false())))
            conn.execute(update(table).where(false()).values(_same_value(table)))
            conn.execute(delete(table).where(false()))


def _same_value(table: Table) -> dict[str, object]:
    first = next(iter(table.columns))
    return {first.name: first}
