"""Messages that did not get through: those that were given up, and those that wait for another attempt."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, case, func, or_, select

from monitor.store.tables import channels, incidents, notifications

__all__ = ["Undelivered", "undelivered"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered:
    """How many messages of one channel did not get through."""

    channel: str
    dead: int
    """Given up."""
    waiting: int
    """Kept back until the channel can be reached again."""


def undelivered(conn: Connection, *, since: datetime, target: str | None) -> list[Undelivered]:
    """Per channel, the messages that were given up since a moment, and all that wait for another attempt.

    Args:
        conn: a connection.
        since: aware; older dead letters do not count.
        target: only messages about its incidents; None: about all.
    """
    dead = and_(notifications.c.status == "dead", notifications.c.created_at >= since)
    ailing = or_(channels.c.parked_at.is_not(None), channels.c.blocked_until.is_not(None))
    kept_back = notifications.c.channel.in_(select(channels.c.name).where(ailing))
    waiting = and_(notifications.c.status == "due", or_(notifications.c.attempts > 0, kept_back))
    query = select(
        notifications.c.channel,
        func.sum(case((dead, 1), else_=0)).label("dead"),
        func.sum(case((waiting, 1), else_=0)).label("waiting"),
    ).where(or_(dead, waiting))
    if target is not None:
        query = query.join(incidents, incidents.c.id == notifications.c.incident_id).where(incidents.c.target == target)
    rows = conn.execute(query.group_by(notifications.c.channel).order_by(notifications.c.channel))
    return [Undelivered(channel=row.channel, dead=row.dead, waiting=row.waiting) for row in rows]
