"""What of the outbox can be sent now: found, locked and packed, but not yet claimed. It writes nothing."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, and_, exists, func, or_, select, text

from monitor.database.engine import in_chunks, limit_idle_transaction
from monitor.database.tables import channels, incidents, notifications
from monitor.model import IncidentState
from monitor.notifications.batching import Batch, Pending, make_batches
from monitor.notifications.messages import Message, MessageKind

CLOCK_SKEW_LIMIT = timedelta(hours=2)
"""Nothing is claimed, blocked or put off for so long: whoever wrote that had a clock that was ahead."""

_STATES_STILL_OPEN = {
    MessageKind.RESOLVED: (IncidentState.OPEN.value, IncidentState.ACKNOWLEDGED.value),
    MessageKind.ACKNOWLEDGED: (IncidentState.OPEN.value,),
}
"""The states of an incident that keep a receiver from taking the whole thread for ended, or acknowledged."""

_SCAN_LIMIT = 2000
"""Notifications that are looked at in one pass: beyond that, the next pass goes on."""
_CLAIM_LOCK = text("SELECT pg_advisory_xact_lock(4720183650122911)")
"""Senders claim one after the other, so that what belongs together is seen together. It ends with the transaction."""


def find_batches(conn: Connection, *, now: datetime, limit: int, threaded: Collection[str]) -> list[Batch]:
    """The parcels that can be sent now, oldest first; their notifications are locked until the transaction ends.

    Args:
        conn: a writing transaction.
        now: aware.
        limit: how many at the most (> 0).
        threaded: channels that file messages by thread.
    """
    if conn.dialect.name == "postgresql":
        limit_idle_transaction(conn)
        conn.execute(_CLAIM_LOCK)
    queues = _pending_by_incident(conn, _oldest_due(conn, now), now)
    threads = _threads(conn, {each[0].message.incident_id for each in queues})
    threaded_queues = [[_with_thread(pending, threads) for pending in queue] for queue in queues]
    return [
        _with_others_open(conn, batch, threaded) for batch in make_batches(threaded_queues, threaded=threaded)[:limit]
    ]


def _oldest_due(conn: Connection, now: datetime) -> Sequence[RowMapping]:
    """The oldest undelivered notification of each incident and channel, where it is due and free."""
    row, earlier = notifications, notifications.alias("earlier")
    has_earlier = exists().where(
        earlier.c.incident_id == row.c.incident_id,
        earlier.c.channel == row.c.channel,
        earlier.c.status == "due",
        earlier.c.id < row.c.id,
    )
    channel_unavailable = exists().where(
        channels.c.name == row.c.channel,
        or_(
            channels.c.suspended_at.is_not(None),
            and_(channels.c.blocked_until > now, channels.c.blocked_until <= now + CLOCK_SKEW_LIMIT),
        ),
    )
    due = _is_due(row.c.next_attempt_at, now)
    free = or_(row.c.claimed_until.is_(None), _is_due(row.c.claimed_until, now))
    query = (
        select(row)
        .where(row.c.status == "due", due, free, ~channel_unavailable, ~has_earlier)
        .order_by(row.c.id)
        .limit(_SCAN_LIMIT)
    )
    # whoever has locked one is about to mark it: the next pass sees what became of it
    return conn.execute(query.with_for_update(skip_locked=True)).mappings().all()


def _is_due(column: ColumnElement[datetime], now: datetime) -> ColumnElement[bool]:
    return or_(column <= now, column > now + CLOCK_SKEW_LIMIT)


def _pending_by_incident(conn: Connection, oldest: Sequence[RowMapping], now: datetime) -> list[list[Pending]]:
    """Each of those with all that is undelivered after it."""
    queues = {(row["incident_id"], row["channel"]): [_pending(row)] for row in oldest}
    for chunk in in_chunks(list({row["incident_id"] for row in oldest})):
        undelivered = and_(notifications.c.incident_id.in_(chunk), notifications.c.status == "due")
        query = select(notifications).where(undelivered).order_by(notifications.c.id)
        for row in conn.execute(query.with_for_update(skip_locked=True)).mappings():
            key = row["incident_id"], row["channel"]
            if key not in queues or row["id"] <= queues[key][-1].id:
                continue
            if row["claimed_until"] is not None and now < row["claimed_until"] <= now + CLOCK_SKEW_LIMIT:
                del queues[key]  # somebody is sending it: what came before it has to wait
            else:
                queues[key].append(_pending(row))
    return list(queues.values())


def _pending(row: RowMapping) -> Pending:
    return Pending(
        id=row["id"],
        key=row["key"],
        channel=row["channel"],
        message=msgspec.convert(row["message"], Message),
        thread=row["thread"],
        batch=row["batch"],
    )


def _threads(conn: Connection, incident_ids: Collection[int]) -> dict[tuple[int, str], str]:
    """What the newest opening of an incident was filed under, by channel."""
    threads: dict[tuple[int, str], str] = {}
    for chunk in in_chunks(list(incident_ids)):
        opened = and_(notifications.c.incident_id.in_(chunk), notifications.c.thread.is_not(None))
        query = select(notifications.c.incident_id, notifications.c.channel, notifications.c.thread)
        for row in conn.execute(query.where(opened).order_by(notifications.c.id)):
            threads[row.incident_id, row.channel] = row.thread
    return threads


def _with_thread(pending: Pending, threads: dict[tuple[int, str], str]) -> Pending:
    return replace(pending, thread=pending.thread or threads.get((pending.message.incident_id, pending.channel)))


def _with_others_open(conn: Connection, batch: Batch, threaded: Collection[str]) -> Batch:
    """With the number of other incidents of its thread of which what the message says does not hold yet."""
    still_open = _STATES_STILL_OPEN.get(batch.message.kind)
    if batch.channel not in threaded or still_open is None:
        return batch
    same = and_(notifications.c.channel == batch.channel, notifications.c.thread == batch.thread)
    among = select(notifications.c.incident_id).where(same)
    is_open = and_(incidents.c.id.in_(among), incidents.c.state.in_(still_open))
    others = conn.execute(select(func.count()).select_from(incidents).where(is_open)).scalar_one()
    return replace(batch, message=replace(batch.message, others_open=others))
