"""Ids of items by their number, and sync logs that hold them."""

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["append", "item_id", "make", "touch"]

_TABLES = (
    "CREATE TABLE sync_log (item_id TEXT PRIMARY KEY, updated_at TEXT)",
    "CREATE TABLE elsewhere (number INTEGER)",
)
_UPDATED_AT = "2026-01-01 00:00:00"


def item_id(number: int) -> str:
    """A UUID's form, in no order."""
    digits = hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _rows(numbers: Sequence[int], updated_at: str) -> Iterator[tuple[str, str]]:
    return ((item_id(number), updated_at) for number in numbers)


def make(url: str, numbers: Sequence[int]) -> None:
    """Makes a sync log with these items, in a SQLite file or a PostgreSQL database. Its URL is SQLAlchemy's."""
    if url.startswith("sqlite"):
        with _sqlite(url) as conn:
            for table in _TABLES:
                conn.execute(table)
    else:
        import psycopg

        with psycopg.connect(url, autocommit=True) as conn:
            for table in _TABLES:
                conn.execute(table)
    append(url, numbers, updated_at=_UPDATED_AT)


def append(url: str, numbers: Sequence[int], *, updated_at: str) -> None:
    """Adds rows."""
    if url.startswith("sqlite"):
        with _sqlite(url) as conn:
            conn.executemany("INSERT INTO sync_log VALUES (?, ?)", _rows(numbers, updated_at))
        return
    import psycopg

    with psycopg.connect(url) as conn, conn.cursor().copy("COPY sync_log FROM STDIN") as copy:
        for row in _rows(numbers, updated_at):
            copy.write_row(row)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("ANALYZE sync_log")


def touch(url: str) -> None:
    """Writes into another table of the same database: the file changes, the sync log does not."""
    if url.startswith("sqlite"):
        with _sqlite(url) as conn:
            conn.execute("INSERT INTO elsewhere VALUES (1)")
        return
    import psycopg

    with psycopg.connect(url) as conn:
        conn.execute("INSERT INTO elsewhere VALUES (1)")


@contextlib.contextmanager
def _sqlite(url: str) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(Path(url.removeprefix("sqlite:///")))) as conn, conn:
        yield conn
