"""Queries and writes of silences. They are never deleted, so they can explain later why nothing was sent."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, RowMapping, insert, select, update

from monitor.database.lookups import count_rows
from monitor.database.tables import silences
from monitor.database.text import to_single_line
from monitor.model import Silence

MAX_COMMENT_LENGTH = 500
MAX_AUTHOR_LENGTH = 200


def add(
    conn: Connection,
    *,
    matchers: Mapping[str, tuple[str, ...]],
    starts_at: datetime,
    ends_at: datetime,
    comment: str,
    author: str,
    now: datetime,
) -> Silence:
    """Stores a new silence. `matchers` are not empty, times are aware, and texts are made printable and cut."""
    row = {
        "matchers": {name: list(patterns) for name, patterns in matchers.items()},
        "starts_at": starts_at,
        "ends_at": ends_at,
        "comment": to_single_line(comment, MAX_COMMENT_LENGTH),
        "author": to_single_line(author, MAX_AUTHOR_LENGTH),
        "created_at": now,
    }
    return _silence(conn.execute(insert(silences).values(row).returning(silences)).mappings().one())


def expire(conn: Connection, silence_id: int, *, by: str, now: datetime) -> None:
    """Ends a silence now and stores who did it; no effect on one that has ended."""
    lasting = (silences.c.id == silence_id, silences.c.ends_at > now)
    conn.execute(update(silences).where(*lasting).values(ends_at=now, expired_by=to_single_line(by, MAX_AUTHOR_LENGTH)))


def find(conn: Connection, silence_id: int, *, lock: bool = False) -> Silence | None:
    """One silence, or None; `lock` holds it until the writing transaction ends."""
    query = select(silences).where(silences.c.id == silence_id)
    row = conn.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    return None if row is None else _silence(row)


def active(conn: Connection, *, now: datetime) -> tuple[Silence, ...]:
    """The silences that are active at a moment, oldest first."""
    where = (silences.c.starts_at <= now, silences.c.ends_at > now)
    rows = conn.execute(select(silences).where(*where)).mappings()
    # sorted here: to have them in order, SQLite would pass over all that have ended
    return tuple(sorted((_silence(row) for row in rows), key=lambda silence: silence.id))


def list_silences(conn: Connection, *, ending_after: datetime | None = None, limit: int = 10_000) -> list[Silence]:
    """Silences, newest first: all, or those that end after a moment."""
    if ending_after is None:
        newest = select(silences).order_by(silences.c.id.desc()).limit(limit)
        return [_silence(row) for row in conn.execute(newest).mappings()]
    rows = conn.execute(select(silences).where(silences.c.ends_at > ending_after)).mappings()
    return sorted((_silence(row) for row in rows), key=lambda silence: silence.id, reverse=True)[:limit]


def count_silences(conn: Connection, *, ending_after: datetime | None = None, at_most: int | None = None) -> int:
    """The number of silences, or of those that end after a moment, counted up to `at_most` (None: all)."""
    query = select(silences.c.id)
    if ending_after is not None:
        query = query.where(silences.c.ends_at > ending_after)
    return count_rows(conn, query, at_most=at_most)


def _silence(row: RowMapping) -> Silence:
    return Silence(
        id=row["id"],
        matchers={name: tuple(patterns) for name, patterns in row["matchers"].items()},
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        comment=row["comment"],
        author=row["author"],
        expired_by=row["expired_by"],
    )
