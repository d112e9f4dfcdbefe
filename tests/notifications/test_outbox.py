import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select, text
from support.samples import NOW, incident, message

from monitor.database.engine import connect, reading, writing
from monitor.database.tables import notifications
from monitor.incidents import store as incident_store
from monitor.model import ChannelState
from monitor.notifications import channel_state, outbox
from monitor.notifications.messages import MessageKind

LEASE = timedelta(minutes=2)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def put(engine):
    """Enqueues messages of a new incident, one after the other; returns the incident's id."""

    def put(*kinds, channels=("oncall",), at=NOW):
        with writing(engine) as conn:
            number = len(incident_store.list_incidents(conn))
            incident_id = incident_store.open_incident(conn, incident(target=f"target-{number}"), evidence_id=None)
            for kind in kinds or (MessageKind.OPENED,):
                new_message = message(incident_id, kind=kind, environment=f"test-{number}")  # none can be merged
                outbox.enqueue(conn, new_message, channels=channels, now=at)
        return incident_id

    return put


@pytest.fixture
def claim(engine):
    def claim(*, now=NOW, limit=20, holder="host:1"):
        with writing(engine) as conn:
            return outbox.claim(conn, holder=holder, now=now, lease=LEASE, limit=limit)

    return claim


@pytest.fixture
def mark(engine):
    """Calls one of the outbox's marks in its own transaction."""

    def mark(how, *arguments, **options):
        with writing(engine) as conn:
            return how(conn, *arguments, **options)

    return mark


def rows(engine):
    with reading(engine) as conn:
        return conn.execute(select(notifications).order_by(notifications.c.id)).all()


def test_a_claimed_message_is_the_enqueued_one(engine, put, claim):
    incident_id = put()
    (claimed,) = claim()
    assert claimed.message == message(incident_id, environment="test-0", thread=claimed.key)
    assert (claimed.channel, claimed.ids, claimed.key) == ("oncall", (rows(engine)[0].id,), rows(engine)[0].key)
    assert claimed.claimed_until == NOW + LEASE
    assert rows(engine)[0].claimed_by == "host:1"


def test_each_channel_gets_a_notification_with_its_own_key(engine, put):
    put(channels=("oncall", "log", "audit"))
    put(channels=())
    assert [row.channel for row in rows(engine)] == ["oncall", "log", "audit"]
    assert len({row.key for row in rows(engine)}) == 3


def test_a_claimed_notification_is_not_claimed_again_until_the_claim_expires(put, claim):
    put()
    (first,) = claim()
    assert claim(now=NOW + LEASE - timedelta(microseconds=1)) == []
    (second,) = claim(now=NOW + LEASE)
    assert second.key == first.key
    assert second.claimed_until > first.claimed_until


@pytest.mark.slow_twice
def test_something_is_due_exactly_if_it_can_be_claimed(engine, put, claim):
    def due(now=NOW):
        with reading(engine) as conn:
            return outbox.has_due(conn, now=now)

    assert not due()
    put(MessageKind.OPENED, MessageKind.RESOLVED, at=NOW + MINUTE)
    assert [due(NOW + MINUTE - timedelta(microseconds=1)), due(NOW + MINUTE)] == [False, True]
    assert claim(now=NOW + MINUTE)
    assert [due(NOW + MINUTE), due(NOW + MINUTE + LEASE)] == [False, True], "while it is claimed it is not due"
    with writing(engine) as conn:
        channel_state.save(conn, ChannelState(name="oncall", suspended_at=NOW))
    assert not due(NOW + MINUTE + LEASE)
    put(channels=("log",))
    assert due()


def test_at_most_limit_batches_are_claimed_oldest_first(put, claim):
    incidents_in_order = [put() for _ in range(7)]
    handed = [claim(limit=3) for _ in range(4)]
    assert [len(batch) for batch in handed] == [3, 3, 1, 0]
    assert [each.message.incident_id for batch in handed for each in batch] == incidents_in_order


def test_a_locked_notification_is_skipped_without_waiting(new_postgres):
    """Only PostgreSQL locks rows: on SQLite there is one writer at a time."""
    engine = connect(new_postgres(migrated=True))
    try:
        with writing(engine) as conn:
            for name in "ab":
                incident_id = incident_store.open_incident(conn, incident(target=name), evidence_id=None)
                outbox.enqueue(conn, message(incident_id, environment=name), channels=("oncall",), now=NOW)
        first, second = (row.id for row in rows(engine))
        with writing(engine) as marking:
            marking.execute(select(notifications).where(notifications.c.id == first).with_for_update())
            with writing(engine) as conn:
                conn.execute(text("SET LOCAL lock_timeout = '5s'"))  # a wait is an error instead of a hang
                claimed = outbox.claim(conn, holder="host:1", now=NOW, lease=LEASE, limit=20)
            assert [each.ids for each in claimed] == [(second,)]
    finally:
        engine.dispose()


def test_a_notification_that_is_due_later_is_not_claimed(put, claim):
    put(at=NOW + MINUTE)
    assert claim() == []
    assert len(claim(now=NOW + MINUTE)) == 1


def test_an_acknowledgement_never_overtakes_its_undelivered_opening(put, claim, mark):
    put(MessageKind.OPENED, MessageKind.ACKNOWLEDGED)
    (opening,) = claim()
    assert opening.message.kind is MessageKind.OPENED
    assert claim() == []
    mark(outbox.defer, opening, until=NOW + 10 * MINUTE, error="HTTP 503", certain=True)
    assert claim(now=NOW + 9 * MINUTE) == [], "an opening that waits holds it back"
    (opening,) = claim(now=NOW + 10 * MINUTE)
    mark(outbox.mark_sent, opening, now=NOW + 10 * MINUTE)
    (acknowledgement,) = claim(now=NOW + 10 * MINUTE)
    assert acknowledgement.message.kind is MessageKind.ACKNOWLEDGED


def test_a_resolution_waits_for_an_opening_that_is_being_sent(put, claim, mark):
    put()
    (opening,) = claim()
    with_resolution(mark, opening)
    assert claim() == []
    mark(outbox.mark_sent, opening, now=NOW)
    (resolution,) = claim()
    assert (resolution.message.kind, resolution.message.thread) == (MessageKind.RESOLVED, opening.key)


def with_resolution(mark, opening):
    """The incident of that opening is resolved."""
    new_message = message(
        opening.message.incident_id, kind=MessageKind.RESOLVED, environment=opening.message.environment
    )
    mark(outbox.enqueue, new_message, channels=("oncall",), now=NOW)


def test_other_channels_and_incidents_are_not_delayed(put, claim, mark):
    put(MessageKind.OPENED, MessageKind.ACKNOWLEDGED, channels=("oncall", "audit"))
    other = put()
    by_channel = {(each.channel, each.message.incident_id): each for each in claim()}
    assert len(by_channel) == 3
    later = {"until": NOW + MINUTE, "error": "HTTP 503", "certain": True}
    mark(outbox.defer, by_channel["oncall", other - 1], **later)
    mark(outbox.mark_sent, by_channel["audit", other - 1], now=NOW)
    (next_one,) = claim()
    assert (next_one.channel, next_one.message.kind) == ("audit", MessageKind.ACKNOWLEDGED)


def test_the_resolution_of_a_dead_opening_is_claimed(put, claim, mark):
    put(MessageKind.OPENED)
    (opening,) = claim()
    mark(outbox.mark_dead, opening, error="HTTP 400", now=NOW)
    with_resolution(mark, opening)
    assert [each.message.kind for each in claim()] == [MessageKind.RESOLVED]


MARKS = [
    ("sent", outbox.mark_sent, {"now": NOW}, ("sent", 1, None, NOW, NOW)),
    (
        "put off", outbox.defer, {"until": NOW + MINUTE, "error": "503", "certain": True},
        ("due", 1, "503", None, NOW + MINUTE),
    ),
    ("dead", outbox.mark_dead, {"error": "HTTP 400", "now": NOW}, ("dead", 1, "HTTP 400", None, NOW)),
    ("released", outbox.release, {}, ("due", 0, None, None, NOW)),
]  # fmt: skip


@pytest.mark.parametrize(("how", "options", "stored"), [m[1:] for m in MARKS], ids=[m[0] for m in MARKS])
def test_each_mark_ends_the_claim_and_stores_the_result(engine, put, claim, mark, how, options, stored):
    put()
    (claimed,) = claim()
    mark(how, claimed, **options)
    (row,) = rows(engine)
    assert (row.status, row.attempts, row.last_error, row.sent_at, row.next_attempt_at) == stored
    assert (row.claimed_by, row.claimed_until) == (None, None)


@pytest.mark.parametrize(("how", "options"), [m[1:3] for m in MARKS], ids=[m[0] for m in MARKS])
def test_a_late_mark_changes_nothing_after_another_sender_sent_it(engine, put, claim, mark, how, options):
    put()
    (late,) = claim()
    (other,) = claim(now=NOW + LEASE, holder="host:2")
    mark(outbox.mark_sent, other, now=NOW + LEASE)
    before = rows(engine)
    mark(how, late, **options)
    assert rows(engine) == before


@pytest.mark.parametrize(
    ("how", "options"), [m[1:3] for m in MARKS if m[0] != "sent"], ids=[m[0] for m in MARKS if m[0] != "sent"]
)
def test_a_late_mark_does_not_change_the_next_senders_claim(engine, put, claim, mark, how, options):
    put()
    (late,) = claim()
    claim(now=NOW + LEASE, holder="host:1")
    before = rows(engine)
    mark(how, late, **options)
    assert rows(engine) == before


def test_a_late_delivery_counts_although_another_sender_has_claimed_it(engine, put, claim, mark):
    put()
    (late,) = claim()
    (other,) = claim(now=NOW + LEASE)
    mark(outbox.mark_sent, late, now=NOW + LEASE)
    mark(outbox.defer, other, until=NOW + 9 * MINUTE, error="HTTP 503", certain=True)
    (row,) = rows(engine)
    assert (row.status, row.attempts) == ("sent", 1)


BLOCKS = [
    ("suspended", {"suspended_at": NOW}, NOW + timedelta(days=3), False),
    ("waiting", {"blocked_until": NOW + MINUTE}, NOW, False),
    ("waited long enough", {"blocked_until": NOW + MINUTE}, NOW + MINUTE, True),
    ("waiting for a day, by a clock that was ahead", {"blocked_until": NOW + timedelta(days=1)}, NOW, True),
    ("failed once, and free", {"failures": 1}, NOW, True),
]


@pytest.mark.parametrize(("fields", "at", "open_"), [b[1:] for b in BLOCKS], ids=[b[0] for b in BLOCKS])
def test_notifications_of_an_unavailable_channel_are_not_claimed(put, claim, mark, fields, at, open_):
    put()
    put(channels=("audit",))
    mark(channel_state.save, ChannelState(name="oncall", **fields))
    assert {each.channel for each in claim(now=at)} == ({"oncall", "audit"} if open_ else {"audit"})


def test_concurrent_senders_claim_different_notifications(engine, put):
    for _ in range(60):
        put()
    start = threading.Barrier(6)

    def drain(number):
        start.wait(timeout=120)
        mine = []
        while True:
            with writing(engine) as conn:
                batch = outbox.claim(conn, holder=f"host:{number}", now=NOW, lease=LEASE, limit=4)
            if not batch:
                return mine
            mine += batch

    with ThreadPoolExecutor(6) as pool:
        handed = [each.key for mine in pool.map(drain, range(6)) for each in mine]
    # a sender may get nothing while another one holds the row locks, but each message is claimed only once
    assert max(Counter(handed).values()) == 1
    assert sorted(handed) == sorted(row.key for row in rows(engine))


def test_concurrent_senders_keep_the_order_of_each_incident(engine, put):
    kinds = (MessageKind.OPENED, MessageKind.ACKNOWLEDGED, MessageKind.UPDATED)
    for _ in range(12):
        put(*kinds)
    sent, lock = [], threading.Lock()

    def work(number):
        while any(row.status == "due" for row in rows(engine)):
            with writing(engine) as conn:
                batch = outbox.claim(conn, holder=f"host:{number}", now=NOW, lease=LEASE, limit=3)
            for each in batch:
                with lock:
                    sent.append((each.message.incident_id, each.message.kind))
                with writing(engine) as conn:
                    outbox.mark_sent(conn, each, now=NOW)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(sent) == 36
    for incident_id in {each[0] for each in sent}:
        assert tuple(kind for owner, kind in sent if owner == incident_id) == kinds
