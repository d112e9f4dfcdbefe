"""Queries about notifications: their delivery status, and what is undelivered per channel."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import datetime

import msgspec
from sqlalchemy import Connection, and_, case, func, or_, select

from monitor.database.lookups import count_rows
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
    conn: Connection, *, statuses: Collection[str] | None, channel: str | None = None, limit: int
) -> list[NotificationRow]:
    """Notifications, newest first, at most `limit` (> 0): with these statuses, and to one channel; None: any."""
    columns = (notifications.c[field.name] for field in fields(NotificationRow))
    query = select(*columns)
    if statuses is not None:
        query = query.where(notifications.c.status.in_(list(statuses)))
    if channel is not None:
        query = query.where(notifications.c.channel == channel)
    rows = conn.execute(query.order_by(notifications.c.id.desc()).limit(limit)).mappings()
    return [NotificationRow(**{**row, "message": msgspec.convert(row["message"], Message)}) for row in rows]


def count_notifications(
    conn: Connection, *, statuses: Collection[str] | None, channel: str | None = None, at_most: int | None = None
) -> int:
    """The number of notifications that `listing` would have without a limit, counted up to `at_most` (None: all)."""
    query = select(notifications.c.id)
    if statuses is not None:
        query = query.where(notifications.c.status.in_(list(statuses)))
    if channel is not None:
        query = query.where(notifications.c.channel == channel)
    return count_rows(conn, query, at_most=at_most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered:
    """Undelivered messages of one channel."""

    channel: str
    dead: int
    waiting: int
    """Messages that wait for another attempt."""


def undelivered(conn: Connection, *, since: datetime, target: str | None) -> list[Undelivered]:
    """Per channel, the dead letters created since a time, and all messages that wait for another attempt.

    With `target`, only messages about its incidents count.
    """
    dead = and_(notifications.c.status == "dead", notifications.c.created_at >= since)
    failing = or_(channels.c.suspended_at.is_not(None), channels.c.blocked_until.is_not(None))
    held_back = notifications.c.channel.in_(select(channels.c.name).where(failing))
    waiting = and_(notifications.c.status == "due", or_(notifications.c.attempts > 0, held_back))
    query = select(
        notifications.c.channel,
        func.sum(case((dead, 1), else_=0)).label("dead"),
        func.sum(case((waiting, 1), else_=0)).label("waiting"),
    ).where(notifications.c.status.in_(["due", "dead"]), or_(dead, waiting))
    if target is not None:
        query = query.join(incidents, incidents.c.id == notifications.c.incident_id).where(incidents.c.target == target)
    rows = conn.execute(query.group_by(notifications.c.channel).order_by(notifications.c.channel))
    return [Undelivered(channel=row.channel, dead=row.dead, waiting=row.waiting) for row in rows]
