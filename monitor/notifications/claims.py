"""What of the outbox can be sent now: found, locked and packed, but not yet claimed. It writes nothing."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, and_, exists, func, or_, select, text

from monitor.database.engine import end_when_idle, in_fews
from monitor.database.tables import channels, incidents, notifications
from monitor.model import IncidentState
from monitor.notifications.batching import Packed, Waiting, pack
from monitor.notifications.messages import Message, MessageKind

ABSURD = timedelta(hours=2)
"""Nothing is claimed, blocked or put off for so long: whoever wrote that had a clock that was ahead."""

_LEFT = {
    MessageKind.RESOLVED: (IncidentState.OPEN.value, IncidentState.ACKNOWLEDGED.value),
    MessageKind.ACKNOWLEDGED: (IncidentState.OPEN.value,),
}
"""The states of an incident that keep a receiver from taking the whole thread for ended, or acknowledged."""

_READ = 2000
"""Notifications that are looked at in one pass: beyond that, the next pass goes on."""
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(4720183650122911)")
"""Senders claim one after the other, so that what belongs together is seen together. It ends with the transaction."""


def find(conn: Connection, *, now: datetime, limit: int, threaded: Collection[str]) -> list[Packed]:
    """The parcels that can be sent now, oldest first; their notifications are locked until the transaction ends.

    Args:
        conn: a writing transaction.
        now: aware.
        limit: how many at the most (> 0).
        threaded: channels that file messages by thread.
    """
    if conn.dialect.name == "postgresql":
        end_when_idle(conn)
        conn.execute(_ONE_AT_A_TIME)
    chains = _chains(conn, _first(conn, now), now)
    threads = _threads(conn, {each[0].message.incident_id for each in chains})
    known = [[_filed(waiting, threads) for waiting in chain] for chain in chains]
    return [_counted(conn, parcel, threaded) for parcel in pack(known, threaded=threaded)[:limit]]


def _first(conn: Connection, now: datetime) -> Sequence[RowMapping]:
    """The oldest undelivered notification of each incident and channel, where it is due and free."""
    row, earlier = notifications, notifications.alias("earlier")
    waits = exists().where(
        earlier.c.incident_id == row.c.incident_id,
        earlier.c.channel == row.c.channel,
        earlier.c.status == "due",
        earlier.c.id < row.c.id,
    )
    closed = exists().where(
        channels.c.name == row.c.channel,
        or_(
            channels.c.parked_at.is_not(None),
            and_(channels.c.blocked_until > now, channels.c.blocked_until <= now + ABSURD),
        ),
    )
    due = _passed(row.c.next_attempt_at, now)
    free = or_(row.c.claimed_until.is_(None), _passed(row.c.claimed_until, now))
    query = select(row).where(row.c.status == "due", due, free, ~closed, ~waits).order_by(row.c.id).limit(_READ)
    # whoever has locked one is about to mark it: the next pass sees what became of it
    return conn.execute(query.with_for_update(skip_locked=True)).mappings().all()


def _passed(column: ColumnElement[datetime], now: datetime) -> ColumnElement[bool]:
    return or_(column <= now, column > now + ABSURD)


def _chains(conn: Connection, first: Sequence[RowMapping], now: datetime) -> list[list[Waiting]]:
    """Each of those with all that is undelivered after it."""
    chains = {(row["incident_id"], row["channel"]): [_waiting(row)] for row in first}
    for few in in_fews(list({row["incident_id"] for row in first})):
        undelivered = and_(notifications.c.incident_id.in_(few), notifications.c.status == "due")
        query = select(notifications).where(undelivered).order_by(notifications.c.id)
        for row in conn.execute(query.with_for_update(skip_locked=True)).mappings():
            key = row["incident_id"], row["channel"]
            if key not in chains or row["id"] <= chains[key][-1].id:
                continue
            if row["claimed_until"] is not None and now < row["claimed_until"] <= now + ABSURD:
                del chains[key]  # somebody is sending it: what came before it has to wait
            else:
                chains[key].append(_waiting(row))
    return list(chains.values())


def _waiting(row: RowMapping) -> Waiting:
    return Waiting(
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
    for few in in_fews(list(incident_ids)):
        opened = and_(notifications.c.incident_id.in_(few), notifications.c.thread.is_not(None))
        query = select(notifications.c.incident_id, notifications.c.channel, notifications.c.thread)
        for row in conn.execute(query.where(opened).order_by(notifications.c.id)):
            threads[row.incident_id, row.channel] = row.thread
    return threads


def _filed(waiting: Waiting, threads: dict[tuple[int, str], str]) -> Waiting:
    return replace(waiting, thread=waiting.thread or threads.get((waiting.message.incident_id, waiting.channel)))


def _counted(conn: Connection, parcel: Packed, threaded: Collection[str]) -> Packed:
    """With the number of other incidents of its thread of which what the message says does not hold yet."""
    left = _LEFT.get(parcel.message.kind)
    if parcel.channel not in threaded or left is None:
        return parcel
    same = and_(notifications.c.channel == parcel.channel, notifications.c.thread == parcel.thread)
    among = select(notifications.c.incident_id).where(same)
    is_open = and_(incidents.c.id.in_(among), incidents.c.state.in_(left))
    others = conn.execute(select(func.count()).select_from(incidents).where(is_open)).scalar_one()
    return replace(parcel, message=replace(parcel.message, others_open=others))
