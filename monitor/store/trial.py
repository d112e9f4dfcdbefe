"""Tries whether our own database can be written, without changing a row of it."""

from sqlalchemy import Engine, Table, delete, false, select, update

from monitor.store.engine import insert, writing
from monitor.store.tables import metadata

__all__ = ["try_writing"]


def try_writing(engine: Engine) -> None:
    """One transaction that inserts, updates and deletes no row of every table: it takes the lock and needs the rights.

    Raises:
        StoreError: the database is read-only, locked, or denies this user a table.
    """
    with writing(engine) as conn:
        for table in metadata.sorted_tables:
            first = next(iter(table.columns))
            conn.execute(insert(conn, table).from_select([first.name], select(first).where(false())))
            conn.execute(update(table).where(false()).values(_unchanged(table)))
            conn.execute(delete(table).where(false()))


def _unchanged(table: Table) -> dict[str, object]:
    first = next(iter(table.columns))
    return {first.name: first}
