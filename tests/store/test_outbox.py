import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from samples import NOW, incident, message
from sqlalchemy import select

from monitor.incidents.message import MessageKind
from monitor.store import incidents, outbox
from monitor.store.engine import reading, writing
from monitor.store.tables import notifications

LEASE = timedelta(minutes=2)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def put(engine):
    """Writes messages of a new incident to channels, one after the other; gives back the incident's id."""

    def put(*kinds, channels=("oncall",), at=NOW):
        with writing(engine) as conn:
            number = len(incidents.listing(conn))
            incident_id = incidents.open_new(conn, incident(target=f"target-{number}"), evidence_id=None)
            for kind in kinds or (MessageKind.OPENED,):
                outbox.put(conn, message(incident_id, kind=kind), channels=channels, now=at)
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
    """Calls one of the outbox's marks in a transaction of its own."""

    def mark(how, *arguments, **options):
        with writing(engine) as conn:
            return how(conn, *arguments, **options)

    return mark


def rows(engine):
    with reading(engine) as conn:
        return conn.execute(select(notifications).order_by(notifications.c.id)).all()


def test_a_message_comes_out_as_it_was_put_in(engine, put, claim):
    incident_id = put()
    (claimed,) = claim()
    assert claimed.message == message(incident_id)
    assert (claimed.channel, claimed.attempts, claimed.created_at) == ("oncall", 0, NOW)
    assert claimed.claimed_until == NOW + LEASE
    assert rows(engine)[0].claimed_by == "host:1"


def test_each_channel_gets_a_notification_with_a_key_of_its_own(engine, put):
    put(channels=("oncall", "log", "audit"))
    put(channels=())
    assert [row.channel for row in rows(engine)] == ["oncall", "log", "audit"]
    assert len({row.key for row in rows(engine)}) == 3


def test_what_is_claimed_is_not_handed_out_again_until_the_claim_expires(put, claim):
    put()
    (first,) = claim()
    assert claim(now=NOW + LEASE - timedelta(microseconds=1)) == []
    (second,) = claim(now=NOW + LEASE)
    assert second.key == first.key
    assert second.claimed_until > first.claimed_until


def test_no_more_than_the_limit_are_handed_out_the_oldest_first(put, claim):
    incidents_in_order = [put() for _ in range(7)]
    handed = [claim(limit=3) for _ in range(4)]
    assert [len(batch) for batch in handed] == [3, 3, 1, 0]
    assert [each.message.incident_id for batch in handed for each in batch] == incidents_in_order


def test_what_is_due_later_waits(put, claim):
    put(at=NOW + MINUTE)
    assert claim() == []
    assert len(claim(now=NOW + MINUTE)) == 1


def test_a_resolution_never_overtakes_its_undelivered_opening(put, claim, mark):
    put(MessageKind.OPENED, MessageKind.RESOLVED)
    (opening,) = claim()
    assert opening.message.kind is MessageKind.OPENED
    assert claim() == []
    mark(outbox.put_off, opening, until=NOW + 10 * MINUTE, error="HTTP 503")
    assert claim(now=NOW + 9 * MINUTE) == [], "an opening that waits holds its resolution back"
    (opening,) = claim(now=NOW + 10 * MINUTE)
    mark(outbox.mark_sent, opening, now=NOW + 10 * MINUTE)
    (resolution,) = claim(now=NOW + 10 * MINUTE)
    assert resolution.message.kind is MessageKind.RESOLVED


def test_neither_another_channel_nor_another_incident_is_held_up(put, claim, mark):
    put(MessageKind.OPENED, MessageKind.RESOLVED, channels=("oncall", "audit"))
    other = put()
    by_channel = {(each.channel, each.message.incident_id): each for each in claim()}
    assert len(by_channel) == 3
    mark(outbox.put_off, by_channel["oncall", other - 1], until=NOW + MINUTE, error="HTTP 503")
    mark(outbox.mark_sent, by_channel["audit", other - 1], now=NOW)
    (resolution,) = claim()
    assert (resolution.channel, resolution.message.kind) == ("audit", MessageKind.RESOLVED)


def test_a_dead_opening_lets_its_resolution_pass(put, claim, mark):
    put(MessageKind.OPENED, MessageKind.RESOLVED)
    (opening,) = claim()
    mark(outbox.mark_dead, opening, error="HTTP 400")
    assert [each.message.kind for each in claim()] == [MessageKind.RESOLVED]


MARKS = [
    ("sent", outbox.mark_sent, {"now": NOW}, ("sent", 1, None, NOW, NOW)),
    ("put off", outbox.put_off, {"until": NOW + MINUTE, "error": "503"}, ("due", 1, "503", None, NOW + MINUTE)),
    ("dead", outbox.mark_dead, {"error": "HTTP 400"}, ("dead", 1, "HTTP 400", None, NOW)),
    ("released", outbox.release, {}, ("due", 0, None, None, NOW)),
]  # fmt: skip


@pytest.mark.parametrize(("how", "options", "stored"), [m[1:] for m in MARKS], ids=[m[0] for m in MARKS])
def test_each_mark_gives_the_claim_back_and_says_what_became_of_it(engine, put, claim, mark, how, options, stored):
    put()
    (claimed,) = claim()
    mark(how, claimed, **options)
    (row,) = rows(engine)
    assert (row.status, row.attempts, row.last_error, row.sent_at, row.next_attempt_at) == stored
    assert (row.claimed_by, row.claimed_until) == (None, None)


@pytest.mark.parametrize(("how", "options"), [m[1:3] for m in MARKS], ids=[m[0] for m in MARKS])
def test_a_late_mark_changes_nothing_when_someone_else_has_sent_it(engine, put, claim, mark, how, options):
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
def test_a_late_mark_leaves_the_next_senders_claim_alone(engine, put, claim, mark, how, options):
    put()
    (late,) = claim()
    claim(now=NOW + LEASE, holder="host:1")
    before = rows(engine)
    mark(how, late, **options)
    assert rows(engine) == before


def test_a_late_delivery_counts_even_while_the_next_sender_holds_it(engine, put, claim, mark):
    put()
    (late,) = claim()
    (other,) = claim(now=NOW + LEASE)
    mark(outbox.mark_sent, late, now=NOW + LEASE)
    mark(outbox.put_off, other, until=NOW + 9 * MINUTE, error="HTTP 503")
    (row,) = rows(engine)
    assert (row.status, row.attempts) == ("sent", 1)


def test_holding_a_channel_keeps_back_what_nobody_claimed_and_counts_no_attempt(engine, put, claim, mark):
    for channel in ("oncall", "oncall", "oncall", "audit"):
        put(channels=(channel,))
    later = put(at=NOW + MINUTE)
    claim(limit=1, holder="elsewhere:1")
    assert mark(outbox.hold, channel="oncall", now=NOW, until=NOW + 10 * MINUTE) == 2
    assert [(each.channel, each.message.incident_id) for each in claim(now=NOW + MINUTE)] == [
        ("audit", later - 1), ("oncall", later),
    ]  # fmt: skip
    assert {row.attempts for row in rows(engine)} == {0}
    assert len(claim(now=NOW + 10 * MINUTE)) == 5


def test_many_senders_at_once_share_the_work_and_none_gets_what_another_has(engine, put):
    for _ in range(60):
        put()
    start = threading.Barrier(6)

    def drain(number):
        start.wait(timeout=30)
        mine = []
        while True:
            with writing(engine) as conn:
                batch = outbox.claim(conn, holder=f"host:{number}", now=NOW, lease=LEASE, limit=4)
            if not batch:
                return mine
            mine += batch

    with ThreadPoolExecutor(6) as pool:
        handed = [each.key for mine in pool.map(drain, range(6)) for each in mine]
    # a sender may come away empty while another holds the rows' locks, but what is handed out is handed out once
    assert max(Counter(handed).values()) == 1
    assert sorted(handed) == sorted(row.key for row in rows(engine))


def test_many_senders_at_once_keep_the_order_within_each_incident(engine, put):
    kinds = (MessageKind.OPENED, MessageKind.UPDATED, MessageKind.RESOLVED)
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
