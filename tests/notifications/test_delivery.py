import asyncio
import threading
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import event, select, text
from structlog.testing import capture_logs
from support.fakes import DELIVERED, FakeChannel, configured_channels
from support.receiver import Receiver
from support.samples import NOW, incident, message
from support.world import Clock

from monitor.app import send_once
from monitor.cli.signals import delivery_line
from monitor.database.engine import reading, writing
from monitor.database.tables import notifications
from monitor.errors import StoreError
from monitor.incidents import store as incident_store
from monitor.incidents.channel_failures import ChannelFailures
from monitor.incidents.rulebook import DEFAULT_RULES
from monitor.model import Cause, ChannelState
from monitor.notifications import channel_state, outbox
from monitor.notifications.channels import SendOutcome, SendResult
from monitor.notifications.channels.webhook import WebhookChannel
from monitor.notifications.delivery import CLAIM_LEASE, MIN_LEASE_LEFT, DeliveryReport, Sender
from monitor.notifications.messages import MessageKind
from monitor.notifications.routing import LOG_CHANNEL

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
RETRY = SendResult(outcome=SendOutcome.RETRY, reason="HTTP 503")
SUSPENDED = SendResult(outcome=SendOutcome.SUSPENDED, reason="HTTP 401")
REFUSED = SendResult(outcome=SendOutcome.REFUSED, reason="HTTP 400")


@pytest.fixture
def clock():
    made = Clock()
    made.now = NOW
    return made


@pytest.fixture
def put(engine, clock):
    """Enqueues messages of one new incident; returns its id. Unless `alike`, none can be merged."""

    def put(*kinds, channels=("oncall",), alike=False, **fields):
        with writing(engine) as conn:
            number = conn.execute(text("SELECT count(*) FROM incidents")).scalar_one()
            target, environment = f"target-{number}", "test" if alike else f"test-{number}"
            incident_id = incident_store.open_incident(conn, incident(target=target), evidence_id=None)
            for kind in kinds or (MessageKind.OPENED,):
                new_message = message(
                    incident_id, kind=kind, target=target, environment=environment, at=clock(), **fields
                )
                outbox.enqueue(conn, new_message, channels=channels, now=clock())
        return incident_id

    return put


@pytest.fixture
def sender(engine, clock):
    def sender(fingerprint="as configured", **channels):
        incident_hooks = ChannelFailures(
            environment="test", rule=DEFAULT_RULES[Cause.CHANNEL_FAILING], channels=list(channels),
            route=lambda _: tuple(channels),
        )  # fmt: skip
        return Sender(
            engine, configured_channels({LOG_CHANNEL: FakeChannel(), **channels}, fingerprint),
            incident_hooks=incident_hooks, holder="host:1", utcnow=clock, rand=lambda: 1.0,
        )  # fmt: skip

    return sender


def webhook(receiver, timeout_s=5.0):
    return WebhookChannel(lambda: receiver.url, partial(send_once, timeout_s=timeout_s))


def rows(engine):
    with reading(engine) as conn:
        return conn.execute(select(notifications).order_by(notifications.c.id)).all()


def status(engine):
    return [(row.channel, row.status, row.attempts, row.last_error) for row in rows(engine)]


def state_of(engine, channel):
    with reading(engine) as conn:
        return channel_state.load_all(conn).get(channel, ChannelState(name=channel))


async def test_a_pass_without_due_notifications_does_nothing(sender):
    report = await sender(oncall=FakeChannel()).deliver()
    assert report == DeliveryReport()
    assert not report.unreachable


@pytest.mark.slow_twice
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


async def test_an_opening_and_its_acknowledgement_go_out_in_that_order_in_one_pass(put, sender):
    put(MessageKind.OPENED, MessageKind.ACKNOWLEDGED)
    channel = FakeChannel()
    assert (await sender(oncall=channel).deliver()).sent == 2
    assert [sent.kind for sent in channel.sent] == [MessageKind.OPENED, MessageKind.ACKNOWLEDGED]


async def test_a_receiver_that_was_down_gets_the_message_with_the_same_key(engine, put, sender, clock):
    put()
    with Receiver() as receiver:
        receiver.stop()
        down = await sender(oncall=webhook(receiver)).deliver()
        assert down == DeliveryReport(deferred=1)
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
        assert await sender(oncall=webhook(receiver)).deliver() == DeliveryReport(deferred=30)
        assert len(receiver.got) == 1
        assert state_of(engine, "oncall").blocked_until == clock() + timedelta(seconds=600)
        clock.advance(seconds=599)
        await sender(oncall=webhook(receiver)).deliver()
        assert len(receiver.got) == 1
        clock.advance(seconds=1)
        assert await sender(oncall=webhook(receiver)).deliver() == DeliveryReport(sent=30)
    assert [row.attempts for row in rows(engine)] == [2] + [1] * 29


@pytest.mark.parametrize("refusal", [401, 404])
async def test_a_channel_that_refuses_the_sender_is_suspended_and_others_are_not_affected(
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
    assert report == DeliveryReport(sent=4, deferred=3), "the three, and that the other channel fails"
    assert not report.unreachable
    (failure_log,) = [log for log in logs if log["event"] == "notification_not_delivered"]
    assert (failure_log["log_level"], failure_log["channel"], failure_log["outcome"]) == (
        "error",
        "broken",
        "suspended",
    )
    assert failure_log["reason"] == f"HTTP {refusal}"
    assert "canary" not in str(logs)
    assert [row.attempts for row in rows(engine) if row.channel == "broken"] == [1, 0, 0]
    assert state_of(engine, "broken").suspended_at == clock()


async def test_a_refused_message_is_a_dead_letter_and_the_next_one_is_sent(engine, put, sender):
    put()
    put()
    with Receiver((400, {}, b""), (200, {}, b"")) as receiver:
        receiver.answers.insert(0, (422, {}, b""))
        report = await sender(oncall=webhook(receiver)).deliver()
        bodies = [body for _, _, body in receiver.got]
    assert report == DeliveryReport(sent=2, dead=1, refused=1), "the other, and to the log what was refused"
    assert ["text" in body for body in bodies] == [False, True, False], "the refused one was also tried as plain text"
    assert not DeliveryReport(dead=1, refused=1).unreachable, "the receiver was reached"
    assert DeliveryReport(dead=2, refused=1).unreachable
    assert status(engine) == [
        ("oncall", "dead", 1, "HTTP 400"), ("oncall", "sent", 1, None), ("log", "sent", 1, None),
    ]  # fmt: skip


async def test_a_receiver_that_hangs_times_out_and_is_retried(engine, put, sender):
    put()
    with Receiver() as receiver:
        receiver.hang = True
        async with asyncio.timeout(5):
            report = await sender(oncall=webhook(receiver, timeout_s=0.2)).deliver()
    assert report == DeliveryReport(deferred=1)
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


@pytest.mark.slow_twice
async def test_a_receiver_that_is_down_for_a_day_leaves_dead_letters_on_its_channel_only(engine, put, sender, clock):
    put(channels=("down", "audit"))
    down, audit = FakeChannel(RETRY), FakeChannel()
    while any(row.status == "due" for row in rows(engine)):
        clock.now = state_of(engine, "down").blocked_until or clock()
        await sender(down=down, audit=audit).deliver()
    assert NOW + DAY <= clock() < NOW + DAY + timedelta(minutes=15)
    assert {sent.cause for sent in audit.sent} == {Cause.UNAUTHORIZED, Cause.CHANNEL_FAILING}
    assert [sent.kind.value for sent in audit.sent] == ["opened", "opened"] + ["reminder"] * 5, "every four hours"
    assert 90 < len(down.sent) < 110, "a few quick attempts, then one each quarter of an hour"
    assert set(down.keys) == {rows(engine)[0].key}
    assert status(engine)[0][:2] == ("down", "dead")


async def test_messages_for_an_unknown_channel_wait_for_it(engine, put, sender, clock):
    put(channels=("renamed",))
    report = await sender(oncall=FakeChannel()).deliver()
    assert report == DeliveryReport(deferred=1)
    assert status(engine) == [("renamed", "due", 1, "no channel of this name is configured")]
    channel = FakeChannel()
    assert await sender(renamed=channel).deliver() == DeliveryReport(sent=1), "at once, when there is one"


async def test_a_message_that_was_sent_but_not_marked_is_sent_again_with_the_same_key(engine, put, sender, clock):
    """A sender killed between the receiver's answer and its mark leaves a claim that expires."""
    put()
    with writing(engine) as conn:
        (claimed,) = outbox.claim(conn, holder="killed:9", now=clock(), lease=CLAIM_LEASE, limit=20)
    channel = FakeChannel()
    await channel.send(claimed.message, key=claimed.key)
    assert await sender(oncall=channel).deliver() == DeliveryReport(), "while the claim lasts"
    clock.advance(seconds=CLAIM_LEASE.total_seconds())
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
    assert min(left_s) >= MIN_LEASE_LEFT.total_seconds()


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


async def test_a_sender_that_is_cancelled_while_it_claims_leaves_nothing_claimed(engine, put, sender):
    put()
    claiming, go_on = threading.Event(), threading.Event()

    def hold(conn, cursor, statement, parameters, context, executemany):
        if statement.startswith("UPDATE notifications"):
            claiming.set()
            assert go_on.wait(20)

    event.listen(engine, "before_cursor_execute", hold)
    channel = FakeChannel()
    delivering = asyncio.create_task(sender(oncall=channel).deliver())
    assert await asyncio.to_thread(claiming.wait, 20)
    delivering.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await delivering
    event.remove(engine, "before_cursor_execute", hold)
    assert [(row.status, row.claimed_by) for row in rows(engine)] == [("due", None)]
    assert channel.sent == []


async def test_other_channels_finish_if_the_database_fails_for_one(engine, put, sender):
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

    broken = FakeChannel(SendResult(outcome=SendOutcome.RETRY, reason="first broke"), before=drop)
    late = FakeChannel(DELIVERED, before=after_the_other)
    with pytest.raises(StoreError):
        await sender(first=broken, second=late).deliver()
    event.remove(engine, "before_cursor_execute", fail)
    assert [(row.channel, row.status) for row in rows(engine)] == [("first", "due"), ("second", "sent")]


REPORTS = [
    ("nothing was due", DeliveryReport(), False),
    ("all went out", DeliveryReport(sent=2), False),
    ("one channel of two failed", DeliveryReport(sent=1, deferred=1), False),
    ("all were put off", DeliveryReport(deferred=2), True),
    ("all were given up", DeliveryReport(dead=1), True),
    ("only the log could be notified of a failing channel", DeliveryReport(sent=1, logged=1, deferred=1), True),
    ("the log is notified, and another channel was reached", DeliveryReport(sent=2, logged=1, deferred=1), False),
    ("the log was notified, nothing else was due", DeliveryReport(sent=1, logged=1), False),
]


@pytest.mark.parametrize(("report", "unreachable"), [r[1:] for r in REPORTS], ids=[r[0] for r in REPORTS])
def test_when_no_channel_was_reached(report, unreachable):
    assert report.unreachable is unreachable


# --- a part of the recipients -----------------------------------------------------------------------------------------

PARTLY = SendResult(
    outcome=SendOutcome.DELIVERED,
    reason="deferred for 1 of 2 recipients: bo (SMTP 450)",
    complete=False,
    deferred=("bo",),
)


async def test_deferred_recipients_get_the_message_later_under_the_same_key_and_the_others_do_not(
    engine, put, sender, clock
):
    put()
    channel = FakeChannel(PARTLY, PARTLY, DELIVERED)
    first = await sender(mail=channel, oncall=channel).deliver()
    assert (first.sent, first.deferred, first.unreachable) == (1, 1, False)
    assert [(row.status, row.last_error) for row in rows(engine)] == [("due", PARTLY.reason)]
    assert (await sender(oncall=channel).deliver()).sent == 0, "not at once"
    clock.advance(minutes=1)
    again = await sender(oncall=channel).deliver()
    assert (again.sent, again.deferred, again.unreachable) == (0, 1, False)
    clock.advance(minutes=2)
    assert (await sender(oncall=channel).deliver()).sent == 1
    assert [sent.recipients for sent in channel.sent] == [(), ("bo",), ("bo",)]
    assert len(set(channel.keys)) == 1
    assert [row.status for row in rows(engine)] == ["sent"]


async def test_deferred_recipients_hold_up_no_other_message(put, sender):
    first, second = put(), put()
    channel = FakeChannel(PARTLY, DELIVERED)
    assert (await sender(oncall=channel).deliver()).sent == 2
    assert [sent.incident_id for sent in channel.sent] == [first, second]


async def test_a_later_message_of_the_incident_goes_to_all_at_once_and_replaces_what_was_deferred(
    engine, put, sender, clock
):
    incident_id = put()
    channel = FakeChannel(PARTLY, DELIVERED)
    await sender(oncall=channel).deliver()
    with writing(engine) as conn:
        resolved = message(incident_id, kind=MessageKind.RESOLVED, target="target-0", environment="test-0", at=clock())
        outbox.enqueue(conn, resolved, channels=["oncall"], now=clock())
    assert (await sender(oncall=channel).deliver()).sent == 1
    (_, last) = channel.sent
    assert (last.kind, last.recipients) == (MessageKind.RESOLVED, ())
    assert "not delivered until now" not in dict(last.facts)
    assert [row.status for row in rows(engine)] == ["superseded", "sent"]


async def test_a_merged_message_is_sent_again_as_it_was_to_the_deferred_recipients(put, sender, clock):
    for _ in range(3):
        put(alike=True)
    channel = FakeChannel(PARTLY, DELIVERED)
    await sender(oncall=channel).deliver()
    put(alike=True)
    clock.advance(minutes=1)
    await sender(oncall=channel).deliver()
    whole, *others = channel.sent
    assert sorted((len(each.parts), each.recipients) for each in others) == [(0, ()), (3, ("bo",))]
    assert whole.recipients == ()


async def test_recipients_that_are_deferred_for_a_day_are_a_dead_letter(engine, put, sender, clock):
    put()
    channel = FakeChannel(PARTLY)
    await sender(oncall=channel).deliver()
    clock.advance(days=1, minutes=1)
    report = await sender(oncall=channel).deliver()
    assert (report.dead, report.deferred) == (1, 0)
    ((_, state, _, error),) = status(engine)
    assert (state, error) == ("dead", PARTLY.reason)


async def test_refused_recipients_stay_visible(engine, put, sender):
    put()
    refused = SendResult(outcome=SendOutcome.DELIVERED, reason="refused for 1 of 2 recipients: al", complete=False)
    report = await sender(oncall=FakeChannel(refused)).deliver()
    assert status(engine) == [("oncall", "sent", 1, refused.reason)]
    assert delivery_line(report).startswith("Messages: 1 sent, 1 of them not to all recipients")


# --- whatever happens in a channel ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [RuntimeError("s3cret"), MemoryError(), RecursionError(), UnicodeError("s3cret")],
    ids=lambda each: str(type(each)),
)
async def test_an_error_inside_a_channel_ends_that_attempt_and_the_others_hear_of_it(engine, put, sender, clock, error):
    put(channels=("broken",))
    put(channels=("oncall",))
    working = FakeChannel()
    with capture_logs() as logs:
        report = await sender(broken=FakeChannel(error), oncall=working).deliver()
        clock.advance(minutes=16)
        await sender(broken=FakeChannel(error), oncall=working).deliver()
        await sender(broken=FakeChannel(error), oncall=working).deliver()
    assert (report.sent, report.deferred) == (1, 1)
    assert [sent.cause for sent in working.sent] == [Cause.UNAUTHORIZED, Cause.CHANNEL_FAILING]
    assert "channel_raised" in {entry["event"] for entry in logs}
    assert "s3cret" not in (state_of(engine, "broken").last_error or "")
