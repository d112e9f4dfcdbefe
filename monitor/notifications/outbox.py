"""The outbox: notifications are written in the transaction of their incident's change, and sent later from here.

A sender claims with a lease, sends, then marks; a sender that dies leaves a claim that expires, and the same key.
What is claimed together is one message: `incidents.batches` says what that is.
"""

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from monitor.database.engine import in_chunks
from monitor.database.tables import channels, notifications
from monitor.database.text import to_column_text
from monitor.notifications.batching import Batch
from monitor.notifications.claims import CLOCK_SKEW_LIMIT, find_batches
from monitor.notifications.messages import Message

GIVE_UP_AFTER = timedelta(days=1)
"""What could not be delivered for so long becomes a dead letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedBatch:
    """One message to one channel, claimed for sending; it may stand for several notifications."""

    ids: tuple[int, ...]
    key: str
    """The same on every attempt, so that a receiver can make it once."""
    channel: str
    message: Message
    claimed_until: datetime
    """How long it is ours to send. Later claims end later, so that this tells a claim from any other."""


def enqueue(
    conn: Connection, message: Message, *, channels: Sequence[str], now: datetime, wait: timedelta = timedelta(0)
) -> None:
    """Writes one notification per channel, due at once or after a wait for others like it."""
    rows = [
        {
            "key": uuid.uuid4().hex,
            "incident_id": message.incident_id,
            "channel": channel,
            "kind": message.kind.value,
            "cause": message.cause.value,
            "message": msgspec.to_builtins(message),
            "status": "due",
            "created_at": now,
            "next_attempt_at": now + wait,
        }
        for channel in channels
    ]
    if rows:
        conn.execute(insert(notifications), rows)


def claim(
    conn: Connection, *, holder: str, now: datetime, lease: timedelta, limit: int, threaded: Collection[str] = ()
) -> list[ClaimedBatch]:
    """Claims what is due for one sender, oldest first. Must run in a writing transaction.

    Of one incident and channel, only the oldest undelivered notification is handed out, so that a resolution never
    overtakes its opening; what later ones supersede is marked so.

    Args:
        conn: a writing transaction.
        holder: who claims, as `host:pid`.
        now: aware.
        lease: how long the claim lasts.
        limit: how many parcels at the most (> 0).
        threaded: channels that file messages by thread.
    """
    until = now + lease
    claim_values = {"claimed_by": holder, "claimed_until": until}
    return [
        ClaimedBatch(ids=ids, key=batch.key, channel=batch.channel, message=batch.message, claimed_until=until)
        for batch in find_batches(conn, now=now, limit=limit, threaded=threaded)
        for ids in [_write_claim(conn, batch, claim_values)]
    ]


def _write_claim(conn: Connection, batch: Batch, claim_values: dict[str, object]) -> tuple[int, ...]:
    """Writes down what is sent together, before anything is."""
    for entry in batch.entries:
        new_values: dict[str, object] = {"batch": batch.key, "thread": entry.thread, **claim_values}
        if entry.superseded:
            content = {"kind": entry.message.kind.value, "message": msgspec.to_builtins(entry.message)}
            new_values |= content
            superseded = {"status": "superseded", "superseded_by": entry.id, "thread": entry.thread, **_UNCLAIMED}
            conn.execute(update(notifications).where(notifications.c.id.in_(entry.superseded)).values(superseded))
        conn.execute(update(notifications).where(notifications.c.id == entry.id).values(new_values))
    return tuple(entry.id for entry in batch.entries)


_UNCLAIMED: dict[str, object] = {"claimed_by": None, "claimed_until": None}


def mark_sent(conn: Connection, batch: ClaimedBatch, *, now: datetime) -> None:
    """The receiver answered: it is done, whoever has claimed it by now."""
    _update(conn, batch, _is_pending(), {"status": "sent", "sent_at": now, **_count_attempt(), "last_error": None})


def defer(conn: Connection, batch: ClaimedBatch, *, until: datetime, error: str, certain: bool) -> None:
    """It could not be sent: it is due again later. Nothing happens to what is no longer ours.

    Args:
        conn: a writing transaction.
        parcel: which.
        until: when it is due again.
        error: in our own words.
        certain: the receiver surely did not take it, so that it may go together with others next time.
    """
    newer_row = {"next_attempt_at": until, **_count_attempt(), "last_error": to_column_text(error, 500)}
    _update(conn, batch, _is_ours(batch), newer_row | ({"batch": None} if certain else {}))


def mark_dead(conn: Connection, batch: ClaimedBatch, *, error: str, now: datetime) -> None:
    """It is given up, and stays visible. Nothing happens to what is no longer ours."""
    expired = {"status": "dead", "died_at": now, **_count_attempt(), "last_error": to_column_text(error, 500)}
    _update(conn, batch, _is_ours(batch), expired)


def release(conn: Connection, batch: ClaimedBatch, *, unsent: bool = True) -> None:
    """Gives a claim back. Nothing happens when it is no longer ours.

    Args:
        conn: a writing transaction.
        parcel: which.
        unsent: whether nothing of it can have arrived.
    """
    _update(conn, batch, _is_ours(batch), {"batch": None} if unsent else {})


def count_pending(conn: Connection, *, channel: str) -> int:
    """How many notifications are undelivered on a channel."""
    due = (notifications.c.channel == channel, notifications.c.status == "due")
    return conn.execute(select(func.count()).select_from(notifications).where(*due)).scalar_one()


def blocked(conn: Connection) -> int:
    """How many notifications are undelivered on channels that are suspended, or that wait after a failure."""
    unavailable = or_(channels.c.suspended_at.is_not(None), channels.c.blocked_until.is_not(None))
    theirs = notifications.c.channel.in_(select(channels.c.name).where(unavailable))
    query = select(func.count()).select_from(notifications).where(notifications.c.status == "due", theirs)
    return conn.execute(query).scalar_one()


def messages(conn: Connection, ids: Collection[int]) -> list[Message]:
    """What notifications say, oldest first."""
    query = select(notifications.c.message).where(notifications.c.id.in_(list(ids))).order_by(notifications.c.id)
    return [msgspec.convert(message, Message) for message in conn.execute(query).scalars()]


def unroutable(conn: Connection, *, known: Collection[str]) -> list[tuple[int, str]]:
    """Incidents with undelivered notifications for channels that are none of these, and those channels."""
    unknown_channel = (notifications.c.status == "due", notifications.c.channel.not_in(list(known)))
    query = select(notifications.c.incident_id, notifications.c.channel).where(*unknown_channel).distinct()
    return [(row.incident_id, row.channel) for row in conn.execute(query.order_by(notifications.c.incident_id))]


def move(conn: Connection, *, incident_id: int, channel: str, to: Sequence[str]) -> int:
    """Addresses what is undelivered about an incident on one channel to others instead; gives back how many."""
    theirs = (notifications.c.incident_id == incident_id, notifications.c.channel == channel)
    query = select(notifications).where(*theirs, notifications.c.status == "due").order_by(notifications.c.id)
    rows = conn.execute(query.with_for_update()).mappings().all()
    first, *others = to
    new_values = {"channel": first, "batch": None, "thread": None, **_UNCLAIMED}
    conn.execute(update(notifications).where(notifications.c.id.in_([row["id"] for row in rows])).values(new_values))
    for row in rows:
        message = msgspec.convert(row["message"], Message)
        enqueue(conn, message, channels=others, now=row["created_at"])
    return len(rows)


def expire(conn: Connection, *, channels: Collection[str], now: datetime) -> dict[str, int]:
    """Gives up what could not be delivered for a day on channels that fail; gives back how many by channel.

    Of one incident and channel the newest notification lives for its own day, since it tells of the others too.
    """
    row, newer_row = notifications, notifications.alias("later")
    newer = select(newer_row.c.id).where(
        newer_row.c.incident_id == row.c.incident_id, newer_row.c.channel == row.c.channel, newer_row.c.status == "due",
        newer_row.c.id > row.c.id,
    )  # fmt: skip
    old = func.coalesce(row.c.retried_at, row.c.created_at) <= now - GIVE_UP_AFTER
    free = or_(row.c.claimed_until.is_(None), row.c.claimed_until <= now)
    expired = update(row).where(row.c.status == "due", row.c.channel.in_(list(channels)), old, free, ~newer.exists())
    dead = conn.execute(expired.values(status="dead", died_at=now).returning(row.c.channel)).scalars().all()
    return {channel: dead.count(channel) for channel in dict.fromkeys(dead)}


def _count_attempt() -> dict[str, object]:
    return {"attempts": notifications.c.attempts + 1}


def _is_pending() -> ColumnElement[bool]:
    return notifications.c.status == "due"


def _is_ours(batch: ClaimedBatch) -> ColumnElement[bool]:
    return and_(_is_pending(), notifications.c.claimed_until == batch.claimed_until)


def _update(conn: Connection, batch: ClaimedBatch, where: ColumnElement[bool], values: dict[str, object]) -> None:
    for chunk in in_chunks(batch.ids):
        matching = update(notifications).where(notifications.c.id.in_(chunk), where)
        conn.execute(matching.values({**_UNCLAIMED, **values}))


def retry(conn: Connection, *, ids: Iterable[int] | None, channel: str | None, dead: bool, now: datetime) -> list[int]:
    """Makes undelivered notifications due at once, and their day begin anew.

    Args:
        conn: a writing transaction.
        ids: only these, dead letters among them or not; None: all.
        channel: only those of this one; None: of all.
        dead: dead letters too, where no ids are named.
        now: aware.

    Returns:
        The ids of those that are due now.
    """
    _supersede_outdated(conn)
    wanted = ("due", "dead") if dead or ids is not None else ("due",)
    conditions: list[ColumnElement[bool]] = [notifications.c.status.in_(wanted)]
    if ids is not None:
        conditions.append(notifications.c.id.in_(list(ids)))
    if channel is not None:
        conditions.append(notifications.c.channel == channel)
    held_until = notifications.c.claimed_until
    free = or_(held_until.is_(None), held_until <= now, held_until > now + CLOCK_SKEW_LIMIT)
    new_values = {"status": "due", "next_attempt_at": now, "retried_at": now, "died_at": None, "batch": None}
    retried = update(notifications).where(*conditions, free).values(new_values).returning(notifications.c.id)
    return list(conn.execute(retried).scalars())


def _supersede_outdated(conn: Connection) -> None:
    """What was given up, and then told of by a later message about the same incident, is not news any more."""
    row, newer_row = notifications, notifications.alias("later")
    content = (
        newer_row.c.incident_id == row.c.incident_id,
        newer_row.c.channel == row.c.channel,
        newer_row.c.id > row.c.id,
    )
    newer = select(func.min(newer_row.c.id)).where(*content, newer_row.c.status == "sent").scalar_subquery()
    outdated = update(row).where(row.c.status == "dead", newer.is_not(None))
    conn.execute(outdated.values(status="superseded", superseded_by=newer))


def channels_of(conn: Connection, ids: Iterable[int]) -> set[str]:
    """The channels of some notifications."""
    found = select(notifications.c.channel).where(notifications.c.id.in_(list(ids))).distinct()
    return set(conn.execute(found).scalars())
