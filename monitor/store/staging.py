"""A temporary table for rows from outside: filled without any lock of ours, then merged in one short transaction."""

from sqlalchemy import Connection, Table, text

from monitor.store.engine import immediate

__all__ = ["begin_merging", "make_room"]


def make_room(conn: Connection, staged: Table) -> None:
    """Creates the temporary table, empty; on SQLite filling it locks nothing of ours, however slowly rows come."""
    if conn.dialect.name != "sqlite":
        staged.create(conn, checkfirst=False)
        return
    staged.drop(conn, checkfirst=True)  # from a use that failed on this pooled connection
    staged.create(conn, checkfirst=False)
    # looking the name up read our own schema: a transaction that goes on would keep the WAL from being cut
    conn.commit()


def begin_merging(conn: Connection, staged: Table) -> None:
    """From here on the connection's transaction writes our tables.

    SQLite's temporary table outlives the transaction that filled it, so the write lock is only taken now. PostgreSQL
    goes on in the same transaction: behind PgBouncer the next one might be another server session's.
    """
    if conn.dialect.name == "sqlite":
        conn.commit()
        immediate(conn)
    else:
        conn.execute(text(f"ANALYZE {staged.name}"))
