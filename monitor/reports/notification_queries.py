"""Notifications as people ask for them: where each went, or why it did not."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy import Connection, and_, case, func, or_, select

from monitor.database.tables import channels, incidents, notifications
from monitor.notifications.messages import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationRow:
    """One notification: one message about one incident to one channel."""

    id: int
    key: str
    channel: str
    status: str
    """due, sent, superseded or dead."""
    message: Message
    created_at: datetime
    next_attempt_at: datetime
    attempts: int
    sent_at: datetime | None
    died_at: datetime | None
    superseded_by: int | None
    last_error: str | None
    claimed_by: str | None


def listing(
    conn: Connection, *, statuses: Collection[str], channel: str | None = None, limit: int
) -> list[NotificationRow]:
    """Notifications of these statuses, newest first.

    Args:
        conn: a connection.
        statuses: of due, sent, superseded and dead.
        channel: only those to this one; None: to all.
        limit: how many (> 0).
    """
    query = select(notifications).where(notifications.c.status.in_(list(statuses)))
    if channel is not None:
        query = query.where(notifications.c.channel == channel)
    rows = conn.execute(query.order_by(notifications.c.id.desc()).limit(limit)).mappings()
    return [
        NotificationRow(
            id=row["id"],
            key=row["key"],
            channel=row["channel"],
            status=row["status"],
            message=msgspec.convert(row["message"], Message),
            created_at=row["created_at"],
            next_attempt_at=row["next_attempt_at"],
            attempts=row["attempts"],
            sent_at=row["sent_at"],
            died_at=row["died_at"],
            superseded_by=row["superseded_by"],
            last_error=row["last_error"],
            claimed_by=row["claimed_by"],
        )
        for row in rows
    ]


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
    failing = or_(channels.c.suspended_at.is_not(None), channels.c.blocked_until.is_not(None))
    held_back = notifications.c.channel.in_(select(channels.c.name).where(failing))
    waiting = and_(notifications.c.status == "due", or_(notifications.c.attempts > 0, held_back))
    query = select(
        notifications.c.channel,
        func.sum(case((dead, 1), else_=0)).label("dead"),
        func.sum(case((waiting, 1), else_=0)).label("waiting"),
    ).where(or_(dead, waiting))
    if target is not None:
        query = query.join(incidents, incidents.c.id == notifications.c.incident_id).where(incidents.c.target == target)
    rows = conn.execute(query.group_by(notifications.c.channel).order_by(notifications.c.channel))
    return [Undelivered(channel=row.channel, dead=row.dead, waiting=row.waiting) for row in rows]
