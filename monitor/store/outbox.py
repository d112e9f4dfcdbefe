"""The outbox: notifications are written in the transaction of their incident's change, and sent later from here.

A sender claims with a lease, sends, then marks; a sender that dies leaves a claim that expires, and the same key.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, exists, insert, or_, select, update

from monitor.incidents.message import Message
from monitor.store.tables import notifications
from monitor.store.text import storable

__all__ = ["Notification", "claim", "hold", "mark_dead", "mark_sent", "put", "put_off", "release"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One message to one channel, claimed for sending."""

    id: int
    key: str
    """The same on every attempt, so that a receiver can make it once."""
    channel: str
    message: Message
    created_at: datetime
    attempts: int
    """Attempts made before this one."""
    claimed_until: datetime
    """How long it is ours to send. Later claims end later, so that this tells a claim from any other."""


def put(conn: Connection, message: Message, *, channels: Sequence[str], now: datetime) -> None:
    """Writes one notification per channel, due at once."""
    rows = [
        {
            "key": uuid.uuid4().hex,
            "incident_id": message.incident_id,
            "channel": channel,
            "kind": message.kind.value,
            "message": msgspec.to_builtins(message),
            "status": "due",
            "created_at": now,
            "next_attempt_at": now,
        }
        for channel in channels
    ]
    if rows:
        conn.execute(insert(notifications), rows)


def claim(conn: Connection, *, holder: str, now: datetime, lease: timedelta, limit: int) -> list[Notification]:
    """Claims due notifications for one sender, oldest first.

    Of one incident and channel only the oldest undelivered one is handed out, so that a resolution never overtakes
    its opening. Must run in a writing transaction.
    """
    row, earlier = notifications.alias("row"), notifications.alias("earlier")
    waits = exists().where(
        earlier.c.incident_id == row.c.incident_id,
        earlier.c.channel == row.c.channel,
        earlier.c.status == "due",
        earlier.c.id < row.c.id,
    )
    free = or_(row.c.claimed_until.is_(None), row.c.claimed_until <= now)
    due = and_(row.c.status == "due", row.c.next_attempt_at <= now, free, ~waits)
    query = select(row).where(due).order_by(row.c.id).limit(limit).with_for_update(of=row, skip_locked=True)
    found = conn.execute(query).all()
    ids = [each.id for each in found]
    until = now + lease
    mine = {"claimed_by": holder, "claimed_until": until}
    conn.execute(update(notifications).where(notifications.c.id.in_(ids)).values(mine))
    return [
        Notification(
            id=each.id,
            key=each.key,
            channel=each.channel,
            message=msgspec.convert(each.message, Message),
            created_at=each.created_at,
            attempts=each.attempts,
            claimed_until=until,
        )
        for each in found
    ]


_UNCLAIMED = {"claimed_by": None, "claimed_until": None}


def mark_sent(conn: Connection, notification: Notification, *, now: datetime) -> None:
    """The receiver answered: it is done, whoever has claimed it by now."""
    done = {"status": "sent", "sent_at": now, "attempts": notification.attempts + 1, "last_error": None}
    _set(conn, _undelivered(notification), done)


def put_off(conn: Connection, notification: Notification, *, until: datetime, error: str) -> None:
    """It could not be sent: it is due again later. Nothing happens when the claim is no longer ours."""
    later = {"next_attempt_at": until, "attempts": notification.attempts + 1, "last_error": storable(error, 500)}
    _set(conn, _ours(notification), later)


def mark_dead(conn: Connection, notification: Notification, *, error: str) -> None:
    """It is given up, and stays visible. Nothing happens when the claim is no longer ours."""
    given_up = {"status": "dead", "attempts": notification.attempts + 1, "last_error": storable(error, 500)}
    _set(conn, _ours(notification), given_up)


def release(conn: Connection, notification: Notification) -> None:
    """Gives a claim back unsent. Nothing happens when it is no longer ours."""
    _set(conn, _ours(notification), {})


def hold(conn: Connection, *, channel: str, now: datetime, until: datetime) -> int:
    """Keeps back what is due on a channel that just failed, without counting an attempt: one failure speaks for all.

    What another sender has claimed is left to it.

    Returns:
        How many were kept back.
    """
    free = or_(notifications.c.claimed_until.is_(None), notifications.c.claimed_until <= now)
    due = and_(notifications.c.status == "due", notifications.c.next_attempt_at <= now, free)
    kept_back = update(notifications).where(notifications.c.channel == channel, due)
    return conn.execute(kept_back.values(next_attempt_at=until)).rowcount


def _undelivered(notification: Notification) -> ColumnElement[bool]:
    return and_(notifications.c.id == notification.id, notifications.c.status == "due")


def _ours(notification: Notification) -> ColumnElement[bool]:
    return and_(_undelivered(notification), notifications.c.claimed_until == notification.claimed_until)


def _set(conn: Connection, where: ColumnElement[bool], values: dict[str, object]) -> None:
    conn.execute(update(notifications).where(where).values({**_UNCLAIMED, **values}))
