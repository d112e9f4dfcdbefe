"""Notifications as people ask for them: where each went, or why it did not."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy import Connection, select

from monitor.incidents.message import Message
from monitor.store.tables import notifications

__all__ = ["Letter", "listing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
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


def listing(conn: Connection, *, statuses: Collection[str], channel: str | None = None, limit: int) -> list[Letter]:
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
        Letter(
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
