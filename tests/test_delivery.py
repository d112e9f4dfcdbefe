import asyncio
from datetime import timedelta
from functools import partial

import pytest
from fakes import DELIVERED, FakeChannel
from hypothesis import given
from hypothesis import strategies as st
from receiver import Receiver
from samples import NOW, incident, message
from sqlalchemy import event, select, text
from structlog.testing import capture_logs
from world import Clock

from monitor.channels import Ending, Verdict
from monitor.channels.webhook import WebhookChannel
from monitor.delivery import CLAIM, GIVE_UP_AFTER, LAST_START, DeliveryReport, Sender, next_attempt
from monitor.errors import StoreError
from monitor.incidents.message import MessageKind
from monitor.incidents.routing import LOG_CHANNEL
from monitor.incidents.rulebook import DEFAULT_RULES
from monitor.model import Cause
from monitor.reachability import Reachability
from monitor.store import incidents, outbox
from monitor.store.engine import reading, writing
from monitor.store.tables import notifications
from monitor.wiring import ask_once

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
RETRY = Verdict(ending=Ending.RETRY, reason="HTTP 503")
PARKED = Verdict(ending=Ending.PARKED, reason="HTTP 401")
REFUSED = Verdict(ending=Ending.REFUSED, reason="HTTP 400")


def hinted(**span):
    return Verdict(ending=Ending.RETRY, reason="HTTP 429", retry_after=timedelta(**span))


NEXT = [
    ("the first failure waits half a minute", RETRY, 1, 0, 1, timedelta(seconds=30)),
    ("jitter takes away half at the most", RETRY, 1, 0, 0, timedelta(seconds=15)),
    ("each failure doubles it", RETRY, 3, 0, 1, timedelta(minutes=2)),
    ("the fifth", RETRY, 5, 0, 1, timedelta(minutes=8)),
    ("up to a quarter of an hour", RETRY, 6, 0, 1, timedelta(minutes=15)),
    ("however many there were", RETRY, 10_000, 0, 1, timedelta(minutes=15)),
    ("a longer hint is obeyed", hinted(minutes=40), 1, 0, 1, timedelta(minutes=40)),
    ("a shorter hint does not hurry", hinted(seconds=1), 1, 0, 1, timedelta(seconds=30)),
    ("a parked channel is tried every hour", PARKED, 1, 0, 0, timedelta(hours=1)),
    ("however often", PARKED, 20, 0, 1, timedelta(hours=1)),
    ("a refused message is given up at once", REFUSED, 1, 0, 1, None),
    ("the last attempt of the day", RETRY, 50, 24 * 60 - 15, 1, timedelta(minutes=15)),
    ("none after the day", RETRY, 50, 24 * 60 - 14, 1, None),
    ("a parked one ends after a day too", PARKED, 24, 23 * 60 + 1, 1, None),
    ("a hint beyond the day is not waited for", hinted(hours=1), 3, 23 * 60 + 30, 1, None),
]


@pytest.mark.parametrize(
    ("verdict", "attempts", "age_min", "rand", "wait"), [n[1:] for n in NEXT], ids=[n[0] for n in NEXT]
)
def test_when_the_next_attempt_is_made(verdict, attempts, age_min, rand, wait):
    created_at = NOW - age_min * MINUTE
    again = next_attempt(verdict, attempts=attempts, created_at=created_at, now=NOW, rand=rand)
    assert again == (None if wait is None else NOW + wait)


SPANS = st.timedeltas(timedelta(0), timedelta(hours=30))
HINTS = st.floats(0, 3600).map(lambda seconds: hinted(seconds=seconds))
FAILURES = st.one_of(st.just(RETRY), st.just(PARKED), HINTS)


@given(FAILURES, st.integers(1, 2000), SPANS, st.floats(0, 1))
def test_the_next_attempt_lies_ahead_and_never_beyond_the_day(verdict, attempts, age, rand):
    again = next_attempt(verdict, attempts=attempts, created_at=NOW - age, now=NOW, rand=rand)
    assert again is None or NOW < again <= NOW - age + GIVE_UP_AFTER
    assert again is None or verdict.retry_after is None or again >= NOW + verdict.retry_after
    if age > DAY:
        assert again is None


@given(FAILURES, st.integers(1, 100), st.integers(0, 100), SPANS, st.floats(0, 1))
def test_more_attempts_and_a_later_end_never_bring_the_next_one_forward(verdict, attempts, more, later, rand):
    first = next_attempt(verdict, attempts=attempts, created_at=NOW, now=NOW, rand=rand)
    second = next_attempt(verdict, attempts=attempts + more, created_at=NOW, now=NOW + later, rand=rand)
    assert first is not None
    assert second is None or second >= first


@pytest.fixture
def clock():
    made = Clock()
    made.now = NOW
    return made


@pytest.fixture
def put(engine, clock):
    """Writes messages of one new incident to channels; gives back the incident's id."""

    def put(*kinds, channels=("oncall",)):
        with writing(engine) as conn:
            number = conn.execute(text("SELECT count(*) FROM incidents")).scalar_one()
            incident_id = incidents.open_new(conn, incident(target=f"target-{number}"), evidence_id=None)
            for kind in kinds or (MessageKind.OPENED,):
                outbox.put(conn, message(incident_id, kind=kind), channels=channels, now=clock())
        return incident_id

    return put


@pytest.fixture
def sender(engine, clock):
    def sender(**channels):
        reach = Reachability(
            environment="test", rule=DEFAULT_RULES[Cause.CHANNEL_FAILING], channels=list(channels),
            route=lambda _: tuple(channels),
        )  # fmt: skip
        return Sender(
            engine, {LOG_CHANNEL: FakeChannel(), **channels}, reach=reach, holder="host:1", utcnow=clock,
            rand=lambda: 1.0,
        )  # fmt: skip

    return sender


def webhook(receiver, timeout_s=5.0):
    return WebhookChannel(lambda: receiver.url, partial(ask_once, timeout_s=timeout_s))


def rows(engine):
    with reading(engine) as conn:
        return conn.execute(select(notifications).order_by(notifications.c.id)).all()


def status(engine):
    return [(row.channel, row.status, row.attempts, row.last_error) for row in rows(engine)]


async def test_nothing_due_is_nothing_done(sender):
    report = await sender(oncall=FakeChannel()).deliver()
    assert report == DeliveryReport()
    assert not report.unreachable


async def test_a_hundred_due_messages_go_out_in_batches_in_order_and_once(engine, put, sender, clock):
    expected = [put() for _ in range(100)]
    claimed_at_once = []

    async def look():
        claimed_at_once.append(sum(row.claimed_by is not None for row in rows(engine)))

    channel = FakeChannel(before=look)
    report = await sender(oncall=channel).deliver()
    assert report == DeliveryReport(sent=100)
    assert [sent.incident_id for sent in channel.sent] == expected
    assert len(set(channel.keys)) == 100
    assert max(claimed_at_once) == 20
    assert {(row.status, row.sent_at, row.claimed_by) for row in rows(engine)} == {("sent", clock(), None)}


async def test_an_opening_and_its_resolution_go_out_in_that_order_in_one_pass(put, sender):
    put(MessageKind.OPENED, MessageKind.RESOLVED)
    channel = FakeChannel()
    assert (await sender(oncall=channel).deliver()).sent == 2
    assert [sent.kind for sent in channel.sent] == [MessageKind.OPENED, MessageKind.RESOLVED]


async def test_a_receiver_that_is_down_gets_it_once_it_is_back_with_the_same_key(engine, put, sender, clock):
    put()
    with Receiver() as receiver:
        receiver.stop()
        down = await sender(oncall=webhook(receiver)).deliver()
        assert down == DeliveryReport(put_off=1)
        assert down.unreachable
        assert status(engine) == [("oncall", "due", 1, "no answer (refused)")]
        receiver.start()
        clock.advance(seconds=29)
        assert await sender(oncall=webhook(receiver)).deliver() == DeliveryReport(), "not before its time"
        clock.advance(seconds=1)
        assert await sender(oncall=webhook(receiver)).deliver() == DeliveryReport(sent=1)
        ((_, headers, body),) = receiver.got
    (row,) = rows(engine)
    assert headers["idempotency-key"] == body["key"] == row.key
    assert (row.status, row.attempts, row.last_error) == ("sent", 2, None)


async def test_retry_after_is_honoured_for_the_whole_channel(engine, put, sender, clock):
    for _ in range(30):
        put()
    with Receiver((429, {"Retry-After": "600"}, b""), (200, {}, b"")) as receiver:
        assert await sender(oncall=webhook(receiver)).deliver() == DeliveryReport(put_off=30)
        assert len(receiver.got) == 1
        assert {row.next_attempt_at for row in rows(engine)} == {clock() + timedelta(seconds=600)}
        clock.advance(seconds=599)
        await sender(oncall=webhook(receiver)).deliver()
        assert len(receiver.got) == 1
        clock.advance(seconds=1)
        assert await sender(oncall=webhook(receiver)).deliver() == DeliveryReport(sent=30)
    assert [row.attempts for row in rows(engine)] == [2] + [1] * 29


@pytest.mark.parametrize("refusal", [401, 404])
async def test_a_channel_that_refuses_us_is_parked_loudly_and_leaves_the_other_alone(
    engine, put, sender, clock, refusal
):
    for _ in range(3):
        put(channels=("broken", "audit"))
    with (
        Receiver((refusal, {}, b'{"error": "token xoxb-canary"}')) as broken,
        Receiver() as audit,
        capture_logs() as logs,
    ):
        report = await sender(broken=webhook(broken), audit=webhook(audit)).deliver()
        assert (len(broken.got), len(audit.got)) == (1, 4)
    assert report == DeliveryReport(sent=4, put_off=3), "the three, and that the other channel fails"
    assert not report.unreachable
    (loud,) = [log for log in logs if log["event"] == "notification_not_delivered"]
    assert (loud["log_level"], loud["channel"], loud["ending"]) == ("error", "broken", "parked")
    assert loud["reason"] == f"HTTP {refusal}"
    assert "canary" not in str(logs)
    waiting = [row for row in rows(engine) if row.channel == "broken"]
    assert {row.next_attempt_at for row in waiting} == {clock() + timedelta(hours=1)}
    assert [row.attempts for row in waiting] == [1, 0, 0]


async def test_a_refused_message_is_a_dead_letter_and_the_next_goes_on(engine, put, sender):
    put()
    put()
    with Receiver((400, {}, b""), (200, {}, b"")) as receiver:
        report = await sender(oncall=webhook(receiver)).deliver()
    assert report == DeliveryReport(sent=1, dead=1, refused=1)
    assert not DeliveryReport(dead=1, refused=1).unreachable, "the receiver was reached"
    assert DeliveryReport(dead=2, refused=1).unreachable
    assert status(engine) == [("oncall", "dead", 1, "HTTP 400"), ("oncall", "sent", 1, None)]


async def test_a_receiver_that_dawdles_is_given_up_in_time_and_tried_again(engine, put, sender):
    put()
    with Receiver() as receiver:
        receiver.hang = True
        async with asyncio.timeout(5):
            report = await sender(oncall=webhook(receiver, timeout_s=0.2)).deliver()
    assert report == DeliveryReport(put_off=1)
    assert status(engine) == [("oncall", "due", 1, "no answer (timeout)")]


async def test_a_slow_channel_does_not_delay_another(put, sender):
    put(channels=("slow", "quick"))
    quick_began = asyncio.Event()

    async def begin():
        quick_began.set()

    async def until_the_other_began():
        async with asyncio.timeout(10):
            await quick_began.wait()

    channels = {"slow": FakeChannel(before=until_the_other_began), "quick": FakeChannel(before=begin)}
    report = await sender(**channels).deliver()
    assert report == DeliveryReport(sent=2)


async def test_a_receiver_down_for_a_day_leaves_dead_letters_and_the_others_unharmed(engine, put, sender, clock):
    put(channels=("down", "audit"))
    down, audit = FakeChannel(RETRY), FakeChannel()
    while due := [row.next_attempt_at for row in rows(engine) if row.status == "due"]:
        clock.now = min(due)
        await sender(down=down, audit=audit).deliver()
    assert NOW + DAY - timedelta(minutes=15) < clock() <= NOW + DAY
    assert [sent.cause for sent in audit.sent] == [Cause.UNAUTHORIZED, Cause.CHANNEL_FAILING]
    assert 90 < len(down.sent) < 110, "a few quick attempts, then one each quarter of an hour"
    assert set(down.keys) == {rows(engine)[0].key}
    assert status(engine)[0][:2] == ("down", "dead")


async def test_messages_for_a_channel_nobody_configured_wait_for_it(engine, put, sender, clock):
    put(channels=("renamed",))
    report = await sender(oncall=FakeChannel()).deliver()
    assert report == DeliveryReport(put_off=1)
    assert status(engine) == [("renamed", "due", 1, "no channel of this name is configured")]
    clock.advance(hours=1)
    channel = FakeChannel()
    assert await sender(renamed=channel).deliver() == DeliveryReport(sent=1)


async def test_what_was_sent_but_not_marked_is_sent_again_under_the_same_key(engine, put, sender, clock):
    """A sender killed between the receiver's answer and its mark leaves a claim that expires."""
    put()
    with writing(engine) as conn:
        (claimed,) = outbox.claim(conn, holder="killed:9", now=clock(), lease=CLAIM, limit=20)
    channel = FakeChannel()
    await channel.send(claimed.message, key=claimed.key)
    assert await sender(oncall=channel).deliver() == DeliveryReport(), "while the claim lasts"
    clock.advance(seconds=CLAIM.total_seconds())
    assert await sender(oncall=channel).deliver() == DeliveryReport(sent=1)
    assert channel.keys == [claimed.key] * 2


async def test_no_send_starts_when_the_claim_is_about_to_end(engine, put, sender, clock):
    for _ in range(4):
        put()
    left_s = []

    async def look():
        held = [row.claimed_until for row in rows(engine) if row.claimed_until is not None]
        left_s.append((min(held) - clock()).total_seconds())
        clock.advance(seconds=50)

    assert await sender(oncall=FakeChannel(before=look)).deliver() == DeliveryReport(sent=4)
    assert left_s == [120, 70, 120, 70]
    assert min(left_s) >= LAST_START.total_seconds()


async def test_a_cancelled_sender_leaves_nothing_claimed(engine, put, sender):
    for _ in range(5):
        put()
    under_way = asyncio.Event()

    async def hang_at_the_third():
        if len(channel.sent) == 2:
            under_way.set()
            await asyncio.Event().wait()

    channel = FakeChannel(before=hang_at_the_third)
    delivering = asyncio.create_task(sender(oncall=channel).deliver())
    async with asyncio.timeout(20):
        await under_way.wait()
    delivering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await delivering
    assert [row.status for row in rows(engine)] == ["sent", "sent", "due", "due", "due"]
    assert {row.claimed_by for row in rows(engine)} == {None}


async def test_a_database_that_fails_under_one_channel_lets_the_others_end_first(engine, put, sender):
    put(channels=("first", "second"))
    dropped = asyncio.Event()

    def fail(conn, cursor, statement, parameters, context, executemany):
        if statement.startswith("UPDATE") and "first broke" in str(parameters):
            cursor.execute("SELECT * FROM no_such_table")

    event.listen(engine, "before_cursor_execute", fail)

    async def after_the_other():
        async with asyncio.timeout(10):
            await dropped.wait()

    async def drop():
        asyncio.get_running_loop().call_later(0.05, dropped.set)

    broken = FakeChannel(Verdict(ending=Ending.RETRY, reason="first broke"), before=drop)
    late = FakeChannel(DELIVERED, before=after_the_other)
    with pytest.raises(StoreError):
        await sender(first=broken, second=late).deliver()
    event.remove(engine, "before_cursor_execute", fail)
    assert [(row.channel, row.status) for row in rows(engine)] == [("first", "due"), ("second", "sent")]


REPORTS = [
    ("nothing was due", DeliveryReport(), False),
    ("all went out", DeliveryReport(sent=2), False),
    ("one channel of two failed", DeliveryReport(sent=1, put_off=1), False),
    ("all were put off", DeliveryReport(put_off=2), True),
    ("all were given up", DeliveryReport(dead=1), True),
    ("only the log could be told that a channel fails", DeliveryReport(sent=1, logged=1, put_off=1), True),
    ("the log is told, and another channel was reached", DeliveryReport(sent=2, logged=1, put_off=1), False),
    ("the log was told of it, nothing else was due", DeliveryReport(sent=1, logged=1), False),
]


@pytest.mark.parametrize(("report", "unreachable"), [r[1:] for r in REPORTS], ids=[r[0] for r in REPORTS])
def test_whether_no_channel_could_be_reached(report, unreachable):
    assert report.unreachable is unreachable
