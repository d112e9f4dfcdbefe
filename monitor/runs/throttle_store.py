"""Stores the limits that clients learned, one row per origin and credential, for later runs and other processes."""

import json
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection, case, or_, select, text

from monitor.database.engine import in_chunks, insert
from monitor.database.tables import throttles
from monitor.database.text import to_column_text
from monitor.model import LearnedLimits, RunStatus

_ORIGIN, _CODE = 500, 200
_MAX_AHEAD = timedelta(hours=1)
"""The longest hint; times further ahead come from a wrong clock."""


_LEARNED = (
    "EXISTS (SELECT 1 FROM throttles WHERE origin = :origin "
    "AND (not_before IS NOT NULL OR rate_per_s IS NOT NULL OR concurrency IS NOT NULL OR down))"
)
_HAS_LIMITS = text(f"SELECT {_LEARNED}")
_NEWEST_OF_WANTED = " UNION ALL ".join(
    f"SELECT max(id) AS id FROM runs WHERE target = wanted.name AND status = '{status.value}'"  # noqa: S608  # our own names
    for status in RunStatus
)
_BOTH = (
    f"WITH wanted(name) AS ({{}}) SELECT min(throttle_factor) AS lowest, {_LEARNED} AS has_limits FROM runs "  # noqa: S608  # our own names
    f"WHERE id IN (SELECT (SELECT max(id) FROM ({_NEWEST_OF_WANTED}) AS newest) FROM wanted)"
)
_BOTH_IN = {
    "sqlite": text(_BOTH.format("SELECT value FROM json_each(:names)")),
    "postgresql": text(_BOTH.format("SELECT unnest(CAST(:names AS text[]))")),
}
"""As text, and with all names as one parameter: else it would be put together anew for each list of targets."""


def has_limits(conn: Connection, *, origin: str) -> bool:
    """Whether anything was learned at an origin, under whatever key; rows of earlier versions may say nothing."""
    return bool(conn.execute(_HAS_LIMITS, {"origin": to_column_text(origin, _ORIGIN)}).scalar())


def look_up(conn: Connection, *, origin: str, targets: Sequence[str]) -> tuple[bool, float]:
    """`has_limits`, and the smallest throttle factor of several targets (1 if none has run), in one statement."""
    names = json.dumps(targets) if conn.dialect.name == "sqlite" else list(targets)
    values = {"names": names, "origin": to_column_text(origin, _ORIGIN)}
    found = conn.execute(_BOTH_IN[conn.dialect.name], values).one()
    return bool(found.has_limits), 1.0 if found.lowest is None else float(found.lowest)


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
