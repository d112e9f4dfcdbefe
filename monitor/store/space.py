"""Hands the space of deleted rows back to the disk, in steps that keep no writer waiting for long.

SQLite only: PostgreSQL's autovacuum makes the space of deleted rows usable again by itself.
"""

from enum import StrEnum
from pathlib import Path

from sqlalchemy import Connection, Engine, text

from monitor.database import is_sqlite, place
from monitor.store.engine import reading, translated

__all__ = ["Space", "checkpoint", "giving_back", "hand_back", "size"]

_INCREMENTAL = 2


class Space(StrEnum):
    """What becomes of the space of deleted rows."""

    SERVER = "server"
    """A server's own work."""
    RETURNED = "returned"
    KEPT = "kept"
    """The file was made without `auto_vacuum`: it keeps its size, and uses the space for new rows."""


def giving_back(engine: Engine) -> Space:
    """What can be done about it in this database."""
    if not is_sqlite(engine.url):
        return Space.SERVER
    with reading(engine) as conn:
        return Space.RETURNED if conn.scalar(text("PRAGMA auto_vacuum")) == _INCREMENTAL else Space.KEPT


def hand_back(conn: Connection, *, pages: int) -> int:
    """Cuts up to so many free pages (> 0) off the file; gives back how many are left. In a writing transaction."""
    # The driver's own cursor: each page is a row without columns, which SQLAlchemy can't fetch and which would not
    # move unfetched.
    conn.connection.cursor().execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
    return int(conn.exec_driver_sql("PRAGMA freelist_count").scalar_one())


def checkpoint(engine: Engine) -> bool:
    """Moves the write-ahead log into the file, which only then gets shorter, without waiting for anybody.

    Returns:
        Whether all of it was moved; false when somebody reads or writes: then it happens later by itself.
    """
    with translated(engine), engine.connect() as conn:
        cursor = conn.connection.cursor()
        waits = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
        try:
            # it would keep writers out while it waits for readers
            cursor.execute("PRAGMA busy_timeout=0")
            return bool(cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
        finally:
            cursor.execute(f"PRAGMA busy_timeout={waits}")


def size(engine: Engine) -> int:
    """Bytes that the database takes on the disk, its write-ahead log included; 0 for a server."""
    if not is_sqlite(engine.url):
        return 0
    file = Path(place(engine.url))
    parts = (file, file.with_name(f"{file.name}-wal"))
    return sum(each.stat().st_size for each in parts if each.exists())
