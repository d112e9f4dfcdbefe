"""The outbox: a notification is written in the transaction that changes its incident, and sent later.

A sender claims a batch with a lease, sends it and marks it. If a sender dies, its claim expires and the batch is sent
again with the same key. `batching` decides what is sent as one message.
"""

import hashlib
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    RowMapping,
    and_,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from monitor.database.engine import in_chunks, limit_idle_transaction
from monitor.database.tables import channels, incidents, notifications
from monitor.database.text import to_column_text
from monitor.model import IncidentState
from monitor.notifications.batching import Batch, Pending, make_batches
from monitor.notifications.messages import Message, MessageKind

GIVE_UP_AFTER = timedelta(days=1)
"""A notification that can't be delivered for this long becomes a dead letter."""

CLOCK_SKEW_LIMIT = timedelta(hours=2)
"""A time further ahead than this was written by a clock that was ahead, and is ignored."""

_STATES_STILL_OPEN = {
    MessageKind.RESOLVED: (IncidentState.OPEN.value, IncidentState.ACKNOWLEDGED.value),
    MessageKind.ACKNOWLEDGED: (IncidentState.OPEN.value,),
}
"""Kind → states in which an incident keeps its thread from being resolved, or acknowledged, as a whole."""

_SCAN_LIMIT = 2000
"""Notifications per pass; the next pass takes the rest."""
_CLAIM_LOCK = text("SELECT pg_advisory_xact_lock(4720183650122911)")
"""Held until the end of the transaction: senders claim one after the other, or each would batch only a part."""


class ClaimedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one channel, claimed for sending."""

    ids: tuple[int, ...]
    key: str
    """The same on every attempt, so that a receiver can deduplicate."""
    channel: str
    message: Message
    claimed_until: datetime
    """The end of the claim. It also identifies the claim: a later claim ends later."""


def enqueue(
    conn: Connection, message: Message, *, channels: Sequence[str], now: datetime, wait: timedelta = timedelta(0)
) -> None:
    """Writes one notification per channel, due after `wait`, in which it may be merged with others."""
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
        _hasten_remainders(conn, message.incident_id, channels, until=now + wait)
        conn.execute(insert(notifications), rows)


def enqueue_report(conn: Connection, message: Message, *, channels: Sequence[str], name: str, now: datetime) -> None:
    """Writes a report for each channel, due now. `name` is of this report alone: their keys are made from it."""
    rows = [
        {
            "key": hashlib.sha256(f"report {name}\n{channel}".encode()).hexdigest()[:32],
            "incident_id": None,
            "channel": channel,
            "kind": message.kind.value,
            "message": msgspec.to_builtins(message),
            "status": "due",
            "created_at": now,
            "next_attempt_at": now,
        }
        for channel in channels
    ]
    conn.execute(insert(notifications), rows)


def drop_reports(conn: Connection, *, channel: str, environment: str, now: datetime) -> None:
    """Makes undelivered reports on an environment dead letters, if their channel is no longer configured there: no
    route leads elsewhere.
    """
    of_environment = notifications.c.message["environment"].as_string() == environment
    unknown = _DUE, notifications.c.incident_id.is_(None), notifications.c.channel == channel, of_environment
    values = {"status": "dead", "died_at": now, "last_error": "its channel is no longer configured", **_UNCLAIMED}
    conn.execute(update(notifications).where(*unknown, _is_free(now)).values(values))


def _hasten_remainders(conn: Connection, incident_id: int, channels: Sequence[str], *, until: datetime) -> None:
    """What waits for a part of the recipients must not hold up the next message for all, which supersedes it."""
    theirs = notifications.c.incident_id == incident_id, notifications.c.channel.in_(list(channels))
    waiting = (_DUE, notifications.c.sent_at.is_not(None), notifications.c.next_attempt_at > until)
    conn.execute(update(notifications).where(*theirs, *waiting).values(next_attempt_at=until))


def claim(
    conn: Connection, *, holder: str, now: datetime, lease: timedelta, limit: int, threaded: Collection[str] = ()
) -> list[ClaimedBatch]:
    """Claims up to `limit` batches that are due, oldest first, in a writing transaction.

    Notifications of one incident and channel are claimed in order: a resolution never overtakes its opening.
    """
    if conn.dialect.name == "postgresql":
        limit_idle_transaction(conn)
        conn.execute(_CLAIM_LOCK)
    queues = _with_threads(conn, _pending_by_incident(conn, _oldest_due(conn, now), now))
    until = now + lease
    claimed = []
    for unfinished in make_batches(queues, threaded=threaded)[:limit]:
        batch = _with_others_open(conn, unfinished, threaded)
        _write_claim(conn, batch, {"claimed_by": holder, "claimed_until": until})
        ids = tuple(entry.id for entry in batch.entries)
        claimed.append(
            ClaimedBatch(ids=ids, key=batch.key, channel=batch.channel, message=batch.message, claimed_until=until)
        )
    return claimed


def has_due(conn: Connection, *, now: datetime) -> bool:
    """Whether there is something to `claim`: a look that locks nothing."""
    return conn.execute(select(notifications.c.id).where(*_is_next(now)).limit(1)).first() is not None


def _oldest_due(conn: Connection, now: datetime) -> Sequence[RowMapping]:
    """The oldest undelivered notification of each incident and channel, if it is due and not claimed."""
    query = select(notifications).where(*_is_next(now)).order_by(notifications.c.id)
    # a locked row is about to be marked by another sender: the next pass sees the result
    return conn.execute(query.limit(_SCAN_LIMIT).with_for_update(skip_locked=True)).mappings().all()


def _is_next(now: datetime) -> tuple[ColumnElement[bool], ...]:
    row, earlier = notifications, notifications.alias("earlier")
    has_earlier = exists().where(_follows(row, earlier), earlier.c.status == "due")
    channel_unavailable = exists().where(
        channels.c.name == row.c.channel,
        or_(
            channels.c.suspended_at.is_not(None),
            and_(channels.c.blocked_until > now, channels.c.blocked_until <= now + CLOCK_SKEW_LIMIT),
        ),
    )
    return _DUE, _is_due(row.c.next_attempt_at, now), _is_free(now), ~channel_unavailable, ~has_earlier


def _follows(later: FromClause, earlier: FromClause) -> ColumnElement[bool]:
    """Whether it is a later notification of the same incident and channel."""
    same = (later.c[name] == earlier.c[name] for name in ("incident_id", "channel"))
    return and_(*same, later.c.id > earlier.c.id)


def _is_due(column: ColumnElement[datetime], now: datetime) -> ColumnElement[bool]:
    return or_(column <= now, column > now + CLOCK_SKEW_LIMIT)


def _is_free(now: datetime) -> ColumnElement[bool]:
    return or_(notifications.c.claimed_until.is_(None), _is_due(notifications.c.claimed_until, now))


def _pending_by_incident(conn: Connection, oldest: Sequence[RowMapping], now: datetime) -> list[list[Pending]]:
    """Each of these with the undelivered notifications that follow it."""
    # a report is followed by nothing
    reports = [[_pending(row)] for row in oldest if row["incident_id"] is None]
    about = [row for row in oldest if row["incident_id"] is not None]
    queues = {(row["incident_id"], row["channel"]): [_pending(row)] for row in about}
    for chunk in in_chunks(list({row["incident_id"] for row in about})):
        query = select(notifications).where(_DUE, notifications.c.incident_id.in_(chunk)).order_by(notifications.c.id)
        for row in conn.execute(query.with_for_update(skip_locked=True)).mappings():
            key = row["incident_id"], row["channel"]
            if key not in queues or row["id"] <= queues[key][-1].id:
                continue
            if row["claimed_until"] is not None and now < row["claimed_until"] <= now + CLOCK_SKEW_LIMIT:
                del queues[key]  # another sender has it: the older ones wait
            else:
                queues[key].append(_pending(row))
    return [*queues.values(), *reports]


def _pending(row: RowMapping) -> Pending:
    return Pending(
        id=row["id"],
        key=row["key"],
        channel=row["channel"],
        message=msgspec.convert(row["message"], Message),
        thread=row["thread"],
        batch=row["batch"],
    )


def _with_threads(conn: Connection, queues: list[list[Pending]]) -> list[list[Pending]]:
    """Those without a thread get the newest thread of their incident and channel."""
    threads: dict[tuple[int, str], str] = {}
    for chunk in in_chunks(list({queue[0].message.incident_id for queue in queues})):
        opened = and_(notifications.c.incident_id.in_(chunk), notifications.c.thread.is_not(None))
        query = select(notifications.c.incident_id, notifications.c.channel, notifications.c.thread)
        for row in conn.execute(query.where(opened).order_by(notifications.c.id)):
            threads[row.incident_id, row.channel] = row.thread
    return [
        [replace(each, thread=each.thread or threads.get((each.message.incident_id, each.channel))) for each in queue]
        for queue in queues
    ]


def _with_others_open(conn: Connection, batch: Batch, threaded: Collection[str]) -> Batch:
    """The batch with the number of other incidents of its thread that are not resolved, or acknowledged, yet."""
    still_open = _STATES_STILL_OPEN.get(batch.message.kind)
    if batch.channel not in threaded or still_open is None:
        return batch
    same = and_(notifications.c.channel == batch.channel, notifications.c.thread == batch.thread)
    among = select(notifications.c.incident_id).where(same)
    is_open = and_(incidents.c.id.in_(among), incidents.c.state.in_(still_open))
    others = conn.execute(select(func.count()).select_from(incidents).where(is_open)).scalar_one()
    return replace(batch, message=replace(batch.message, others_open=others))


def _write_claim(conn: Connection, batch: Batch, claim_values: dict[str, object]) -> None:
    """Stores the batch before it is sent."""
    for entry in batch.entries:
        new_values: dict[str, object] = {"batch": batch.key, "thread": entry.thread, **claim_values}
        if entry.superseded:
            new_values |= {"kind": entry.message.kind.value, "message": msgspec.to_builtins(entry.message)}
            superseded = {"status": "superseded", "superseded_by": entry.id, "thread": entry.thread, **_UNCLAIMED}
            conn.execute(update(notifications).where(notifications.c.id.in_(entry.superseded)).values(superseded))
        conn.execute(update(notifications).where(notifications.c.id == entry.id).values(new_values))


_UNCLAIMED: dict[str, object] = {"claimed_by": None, "claimed_until": None}
_ATTEMPTED: dict[str, object] = {"attempts": notifications.c.attempts + 1}
_DUE = notifications.c.status == "due"


def mark_sent(conn: Connection, batch: ClaimedBatch, *, now: datetime, error: str | None = None) -> None:
    """The receiver accepted the message: it is sent, even if another sender has claimed it by now.

    `error` says for which recipients it did not.
    """
    values = {"status": "sent", "sent_at": now, **_ATTEMPTED, "last_error": to_column_text(error, 500)}
    _update(conn, batch, _DUE, values)


def defer_recipients(
    conn: Connection,
    batch: ClaimedBatch,
    *,
    recipients: Sequence[str],
    until: Callable[[int], datetime],
    error: str,
    now: datetime,
) -> None:
    """Some recipients have it: the batch is due again for the others, at `until(attempts)`, under the same key.

    It waits as `due` with `sent_at`, the time of the first delivery. Nothing changes if another sender has it by now.
    """
    for chunk in in_chunks(batch.ids):
        columns = notifications.c.id, notifications.c.attempts, notifications.c.message, notifications.c.sent_at
        rows = conn.execute(select(*columns).where(notifications.c.id.in_(chunk), _is_ours(batch))).all()
        for row in rows:
            values = {
                "message": {**row.message, "recipients": list(recipients)},
                "next_attempt_at": until(row.attempts),
                "attempts": row.attempts + 1,
                "sent_at": row.sent_at or now,
                "last_error": to_column_text(error, 500),
                **_UNCLAIMED,
            }
            conn.execute(update(notifications).where(notifications.c.id == row.id).values(values))


def defer(conn: Connection, batch: ClaimedBatch, *, until: datetime, error: str, certain: bool) -> None:
    """The attempt failed: the batch is due again at `until`, unless another sender has claimed it by now.

    If it is `certain` that the receiver did not accept it, it may be merged with others next time.
    """
    values = {"next_attempt_at": until, **_ATTEMPTED, "last_error": to_column_text(error, 500)}
    _update(conn, batch, _is_ours(batch), values | ({"batch": None} if certain else {}))


def mark_dead(conn: Connection, batch: ClaimedBatch, *, error: str, now: datetime) -> None:
    """Makes the batch dead letters, unless another sender has claimed it by now."""
    values = {"status": "dead", "died_at": now, **_ATTEMPTED, "last_error": to_column_text(error, 500)}
    _update(conn, batch, _is_ours(batch), values)


def release(conn: Connection, batch: ClaimedBatch, *, unsent: bool = True) -> None:
    """Gives up a claim, unless another sender has it by now; `unsent`: the message can't have arrived."""
    _update(conn, batch, _is_ours(batch), {"batch": None} if unsent else {})


def count_pending(conn: Connection, *, channel: str) -> int:
    """Counts a channel's undelivered notifications."""
    query = select(func.count()).select_from(notifications).where(_DUE, notifications.c.channel == channel)
    return conn.execute(query).scalar_one()


def blocked(conn: Connection) -> int:
    """Counts undelivered notifications of channels that are suspended or back off."""
    unavailable = or_(channels.c.suspended_at.is_not(None), channels.c.blocked_until.is_not(None))
    theirs = notifications.c.channel.in_(select(channels.c.name).where(unavailable))
    return conn.execute(select(func.count()).select_from(notifications).where(_DUE, theirs)).scalar_one()


def messages(conn: Connection, ids: Collection[int]) -> list[Message]:
    """The messages of some notifications, oldest first."""
    query = select(notifications.c.message).where(notifications.c.id.in_(list(ids))).order_by(notifications.c.id)
    return [msgspec.convert(message, Message) for message in conn.execute(query).scalars()]


def unroutable(conn: Connection, *, known: Collection[str]) -> list[tuple[int | None, str]]:
    """Incident (None: a report) and channel of undelivered notifications whose channel is not among the known ones."""
    columns = notifications.c.incident_id, notifications.c.channel
    query = select(*columns).where(_DUE, notifications.c.channel.not_in(list(known))).distinct()
    return [(row.incident_id, row.channel) for row in conn.execute(query.order_by(notifications.c.incident_id))]


def move(conn: Connection, *, incident_id: int, channel: str, to: Sequence[str]) -> int:
    """Moves an incident's undelivered notifications from one channel to others (at least one); returns how many."""
    theirs = (_DUE, notifications.c.incident_id == incident_id, notifications.c.channel == channel)
    query = select(notifications).where(*theirs).order_by(notifications.c.id)
    rows = conn.execute(query.with_for_update()).mappings().all()
    first, *others = to
    new_values = {"channel": first, "batch": None, "thread": None, "sent_at": None, **_UNCLAIMED}
    for row in rows:
        message = replace(msgspec.convert(row["message"], Message), recipients=())
        values = {**new_values, "message": msgspec.to_builtins(message)}
        conn.execute(update(notifications).where(notifications.c.id == row["id"]).values(values))
        enqueue(conn, message, channels=others, now=row["created_at"])
    return len(rows)


def expire(conn: Connection, *, channels: Collection[str], now: datetime) -> dict[str, int]:
    """Makes notifications that waited for a day on these channels dead letters; returns how many by channel.

    A notification with a newer one of the same incident and channel stays: the newer one will supersede it.
    """
    row, newer_row = notifications, notifications.alias("later")
    newer = exists().where(_follows(newer_row, row), newer_row.c.status == "due")
    old = func.coalesce(row.c.retried_at, row.c.created_at) <= now - GIVE_UP_AFTER
    free = or_(row.c.claimed_until.is_(None), row.c.claimed_until <= now)
    expired = update(row).where(row.c.status == "due", row.c.channel.in_(list(channels)), old, free, ~newer)
    dead = conn.execute(expired.values(status="dead", died_at=now).returning(row.c.channel)).scalars().all()
    return {channel: dead.count(channel) for channel in dict.fromkeys(dead)}


def _is_ours(batch: ClaimedBatch) -> ColumnElement[bool]:
    return and_(_DUE, notifications.c.claimed_until == batch.claimed_until)


def _update(conn: Connection, batch: ClaimedBatch, where: ColumnElement[bool], values: dict[str, object]) -> None:
    for chunk in in_chunks(batch.ids):
        matching = update(notifications).where(notifications.c.id.in_(chunk), where)
        conn.execute(matching.values({**_UNCLAIMED, **values}))


def retry(conn: Connection, *, ids: Iterable[int] | None, channel: str | None, dead: bool, now: datetime) -> list[int]:
    """Makes undelivered notifications (these, dead letters included; None: all, `dead` letters too if wanted) of this
    channel (None: any) due now, for another day; returns their ids.
    """
    _supersede_outdated(conn)
    wanted = ("due", "dead") if dead or ids is not None else ("due",)
    conditions: list[ColumnElement[bool]] = [notifications.c.status.in_(wanted)]
    if ids is not None:
        conditions.append(notifications.c.id.in_(list(ids)))
    if channel is not None:
        conditions.append(notifications.c.channel == channel)
    new_values = {"status": "due", "next_attempt_at": now, "retried_at": now, "died_at": None, "batch": None}
    retried = update(notifications).where(*conditions, _is_free(now)).values(new_values).returning(notifications.c.id)
    return list(conn.execute(retried).scalars())


def _supersede_outdated(conn: Connection) -> None:
    """Marks dead letters as superseded if a later message of the same incident and channel was sent."""
    row, newer_row = notifications, notifications.alias("later")
    sent = _follows(newer_row, row), newer_row.c.status == "sent"
    newer = select(func.min(newer_row.c.id)).where(*sent).scalar_subquery()
    outdated = update(row).where(row.c.status == "dead", newer.is_not(None))
    conn.execute(outdated.values(status="superseded", superseded_by=newer))


def channels_tried(conn: Connection, *, incident_id: int) -> set[str]:
    """The channels that an incident has notifications for, in any state."""
    found = select(notifications.c.channel).where(notifications.c.incident_id == incident_id).distinct()
    return set(conn.execute(found).scalars())


def channels_of(conn: Connection, ids: Iterable[int]) -> set[str]:
    """The channels of some notifications."""
    found = select(notifications.c.channel).where(notifications.c.id.in_(list(ids))).distinct()
    return set(conn.execute(found).scalars())
