"""What clients learned about an API, a row per origin and credential: later runs inherit it, other processes share it.

It does not say what a row is called, nor what follows from it for a run.
"""

from datetime import timedelta

from sqlalchemy import Connection, case, or_, select

from monitor.database.engine import insert
from monitor.database.tables import throttles
from monitor.database.text import to_column_text
from monitor.model import LearnedLimits

_ORIGIN, _CODE = 500, 200
_MAX_AHEAD = timedelta(hours=1)
"""No hint is longer, and nothing is learned in the future."""


def read(conn: Connection, *, key: str) -> LearnedLimits | None:
    """What is known under a key; None before the first write."""
    row = conn.execute(select(throttles).where(throttles.c.key == key)).one_or_none()
    if row is None:
        return None
    return LearnedLimits(
        at=row.updated_at,
        not_before=row.not_before,
        status=row.status,
        code=row.code,
        rate_per_s=row.rate_per_s,
        concurrency=row.concurrency,
        down=row.down,
    )


def write(conn: Connection, *, key: str, origin: str, limits: LearnedLimits) -> None:
    """Lays what one client learned over what is known; in one statement, so that no other writer's gets lost between.

    1. Of two hints the later instant stands, with its status and code, whoever wrote last: a client that never heard
       the hint must not wipe it out. One that lies in the past holds nobody back.
    2. Of the rest, what was learned last stands; of two that were learned at the same instant, the one written last.

    3. What lies more than an hour ahead was stored by a clock that was wrong, and gives way.

    So the order in which processes write does not matter. Must run in a writing transaction.

    Args:
        conn: the connection.
        key: of the origin and credential, up to 64 characters.
        origin: `scheme://host:port`, for people.
        limits: learned by this client.
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
    later = or_(replaceable, new.not_before > old.not_before)  # not true, should the new one be null
    newer = or_(new.updated_at >= old.updated_at, old.updated_at > latest_plausible)
    merged = {name: case((later, new[name]), else_=old[name]) for name in hint}
    merged |= {name: case((newer, new[name]), else_=old[name]) for name in rest}
    conn.execute(row.on_conflict_do_update(index_elements=[old.key], set_=merged))
