"""The table with the schema's revision. Its name is our own: `alembic_version` belongs to whatever shares the database.

Until schema 0005 it was called `alembic_version`; such a table is taken over once, if our tables stand beside it.
"""

from functools import cache

import msgspec
from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, insert, inspect, select

VERSION_TABLE = "ingestion_monitor_version"
FORMER_TABLE = "alembic_version"
_OURS = frozenset({"leases", "runs", "snapshots", "evidence", "incidents", "items", "item_events", "notifications"})
"""Tables of every revision."""


class StoredVersion(msgspec.Struct, frozen=True, kw_only=True):
    """What the database says of its schema."""

    revision: str | None = None
    """None: none of our revisions."""
    former: bool = False
    """It stands in `FORMER_TABLE`."""
    foreign: str | None = None
    """The revision of another program that uses Alembic."""


def read_version(conn: Connection, known: frozenset[str]) -> StoredVersion:
    """The stored version, from the schema in which our tables are created; `known` are our revisions.

    Tables in other schemas of the search_path are another program's business.
    """
    catalog = inspect(conn)
    # with a schema, SQLAlchemy reads the file's name on SQLite, which need not be UTF-8
    schema = None if conn.dialect.name == "sqlite" else catalog.default_schema_name
    if catalog.has_table(VERSION_TABLE, schema=schema):
        return StoredVersion(revision=_revision(conn, VERSION_TABLE))
    if not catalog.has_table(FORMER_TABLE, schema=schema):
        return StoredVersion()
    revision = _revision(conn, FORMER_TABLE)
    if revision in known and set(catalog.get_table_names(schema=schema)) >= _OURS:
        return StoredVersion(revision=revision, former=True)
    return StoredVersion(foreign=revision)


def take_over(conn: Connection, known: frozenset[str]) -> None:
    """Moves our revision from `FORMER_TABLE`, if it stands there, in the present transaction."""
    stored = read_version(conn, known)
    if not stored.former:
        return
    table = _table(VERSION_TABLE)
    table.create(conn)
    conn.execute(insert(table).values(version_num=stored.revision))
    _table(FORMER_TABLE).drop(conn)


def _revision(conn: Connection, table: str) -> str | None:
    return conn.scalar(select(_table(table).c.version_num))


@cache
def _table(name: str) -> Table:
    # Cached, since SQLAlchemy's caches would keep each table that is made. It is as Alembic creates it, except for the
    # name of the constraint, which must not stand in the way of another program's table.
    column = Column("version_num", String(32), nullable=False)
    return Table(name, MetaData(), column, PrimaryKeyConstraint("version_num", name=f"{name}_pkc"))
