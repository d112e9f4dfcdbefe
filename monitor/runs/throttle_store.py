"""Stores the limits that clients learned, one row per origin and credential, for later runs and other processes."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection, case, or_, select

from monitor.database.engine import in_chunks, insert
from monitor.database.tables import throttles
from monitor.database.text import to_column_text
from monitor.model import LearnedLimits

_ORIGIN, _CODE = 500, 200
_MAX_AHEAD = timedelta(hours=1)
"""The longest hint; times further ahead come from a wrong clock."""


def has_limits(conn: Connection, *, origin: str) -> bool:
    """Whether anything was learned at an origin, under whatever key; rows of earlier versions may say nothing."""
    each = throttles.c
    learned = (each.not_before.is_not(None), each.rate_per_s.is_not(None), each.concurrency.is_not(None), each.down)
    of_origin = select(each.key).where(each.origin == to_column_text(origin, _ORIGIN), or_(*learned))
    return conn.execute(of_origin.limit(1)).first() is not None


def read(conn: Connection, *, key: str) -> LearnedLimits | None:
    """The limits under a key; None before the first write."""
    return read_all(conn, keys=[key]).get(key)


def read_all(conn: Connection, *, keys: Sequence[str]) -> dict[str, LearnedLimits]:
    """The limits by key, without those that were never written."""
    return {
        row.key: LearnedLimits(
            at=row.updated_at,
            not_before=row.not_before,
            status=row.status,
            code=row.code,
            rate_per_s=row.rate_per_s,
            concurrency=row.concurrency,
            down=row.down,
        )
        for chunk in in_chunks(keys)
        for row in conn.execute(select(throttles).where(throttles.c.key.in_(chunk)))
    }


def write(conn: Connection, *, key: str, origin: str, limits: LearnedLimits) -> None:
    """Merges newly learned limits into the row, in one statement, so that concurrent writers lose nothing.

    1. The later `not_before` wins, with its status and code. A client that did not get the hint must not delete it.
    2. For the other columns the newest `at` wins, and the last write of two with the same time.
    3. A stored time more than an hour ahead comes from a wrong clock and is replaced.

    So the order of the writes does not matter. `key` identifies origin and credential (up to 64 characters); `origin`
    (`scheme://host:port`) is for people.
    """
    hint = {"not_before": limits.not_before, "status": limits.status, "code": to_column_text(limits.code, _CODE)}
    rest = {
        "rate_per_s": limits.rate_per_s,
        "concurrency": limits.concurrency,
        "down": limits.down,
        "updated_at": limits.at,
    }
    row = insert(conn, throttles).values(key=key, origin=to_column_text(origin, _ORIGIN), **hint, **rest)
    new, old = row.excluded, throttles.c
    latest_plausible = limits.at + _MAX_AHEAD
    replaceable = or_(old.not_before.is_(None), old.not_before > latest_plausible)
    later = or_(replaceable, new.not_before > old.not_before)  # not true if the new one is null
    newer = or_(new.updated_at >= old.updated_at, old.updated_at > latest_plausible)
    merged = {name: case((later, new[name]), else_=old[name]) for name in hint}
    merged |= {name: case((newer, new[name]), else_=old[name]) for name in rest}
    conn.execute(row.on_conflict_do_update(index_elements=[old.key], set_=merged))
