"""Merged and superseding messages, and retries of a suspended channel, through a real sender."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select
from support.fakes import DELIVERED, FakeChannel, configured_channels
from support.samples import NOW, incident, message
from support.world import Clock

from monitor.database.engine import reading, writing
from monitor.database.tables import incidents as incidents_table
from monitor.database.tables import notifications
from monitor.incidents import store as incident_store
from monitor.incidents.channel_failures import ChannelFailures
from monitor.incidents.rulebook import DEFAULT_RULES
from monitor.model import Cause, Evidence, IncidentState
from monitor.notifications import channel_state, outbox
from monitor.notifications.channels import SendOutcome, SendResult
from monitor.notifications.delivery import CLAIM_LEASE, DeliveryReport, Sender
from monitor.notifications.messages import MessageKind, make_title
from monitor.runs import store as run_store

OPENED, UPDATED, RESOLVED = MessageKind.OPENED, MessageKind.UPDATED, MessageKind.RESOLVED
REMINDER, ACKNOWLEDGED = MessageKind.REMINDER, MessageKind.ACKNOWLEDGED
DOWN = SendResult(outcome=SendOutcome.RETRY, reason="HTTP 503")
SILENT = SendResult(outcome=SendOutcome.RETRY, reason="no answer (timeout)", certain=False)
SUSPENDED = SendResult(outcome=SendOutcome.SUSPENDED, reason="HTTP 401")


class DeliveryHarness:
    """One channel, `oncall`, with a chosen receiver, and incidents with messages."""

    def __init__(self, engine):
        self.engine, self.clock, self.fingerprint = engine, Clock(), "first"
        self.clock.now = NOW
        self.channel, self.include_api_message = FakeChannel(), False

    def open(self, target):
        with writing(self.engine) as conn:
            return incident_store.open_incident(conn, incident(target=target), evidence_id=None)

    def write(self, incident_id, kind, *, target="gloo", cause=Cause.UNAUTHORIZED, wait=timedelta(0)):
        subject = f"{target}: the API rejects the credentials"
        new_message = message(
            incident_id, kind=kind, target=target, cause=cause, subject=subject,
            title=make_title(kind, subject, cause=cause), at=self.clock(),
            what_to_check=() if kind is RESOLVED else ("key rotation",),
        )  # fmt: skip
        with writing(self.engine) as conn:
            outbox.enqueue(conn, new_message, channels=("oncall",), now=self.clock(), wait=wait)
            if kind is RESOLVED:
                over = incidents_table.update().where(incidents_table.c.id == incident_id)
                conn.execute(over.values(state=IncidentState.RESOLVED.value))

    @property
    def configured_channels(self):
        made = configured_channels({"oncall": self.channel, "log": FakeChannel()}, self.fingerprint)
        return {**made, "oncall": replace(made["oncall"], include_api_message=self.include_api_message)}

    def deliver(self):
        incident_hooks = ChannelFailures(
            environment="test", rule=DEFAULT_RULES[Cause.CHANNEL_FAILING], channels=["oncall"], route=lambda _: ("log",)
        )
        sender = Sender(
            self.engine, self.configured_channels, incident_hooks=incident_hooks,
            holder="host:1", utcnow=self.clock, rand=lambda: 1.0,
        )  # fmt: skip
        return asyncio.run(sender.deliver())

    def recover(self, **span):
        self.channel.results = [DELIVERED]
        self.channel.sent.clear()
        self.channel.keys.clear()
        self.clock.advance(**(span or {"hours": 1}))
        return self.deliver()

    @property
    def sent(self):
        return [(each.kind, each.title) for each in self.channel.sent]

    def rows(self):
        with reading(self.engine) as conn:
            return conn.execute(
                select(notifications).where(notifications.c.channel == "oncall").order_by(notifications.c.id)
            ).all()

    def statuses(self):
        return [row.status for row in self.rows()]


@pytest.fixture
def harness(engine):
    return DeliveryHarness(engine)


def test_two_hundred_targets_with_one_cause_are_one_message(harness):
    for number in range(200):
        harness.write(harness.open(f"gloo-{number:03}"), OPENED, target=f"gloo-{number:03}")
    assert harness.deliver() == DeliveryReport(sent=1)
    (sent,) = harness.channel.sent
    assert sent.title == "200 targets: the API rejects the credentials"
    assert sent.target == "gloo-000, gloo-001, gloo-002 and 197 more"
    assert sent.what_to_check == ("key rotation",)
    assert len(sent.parts) == 200
    assert dict(sent.facts)["affected"].endswith("gloo-019 and 180 more")
    assert set(harness.statuses()) == {"sent"}
    assert {row.thread for row in harness.rows()} == {harness.channel.keys[0]}


def test_other_causes_and_kinds_are_separate_messages(harness):
    one, two = harness.open("a"), harness.open("b")
    harness.write(one, OPENED, target="a")
    harness.write(two, OPENED, target="b", cause=Cause.OUTAGE)
    harness.write(harness.open("c"), REMINDER, target="c")
    assert harness.deliver() == DeliveryReport(sent=3)
    assert [each.target for each in harness.channel.sent] == ["a", "b", "c"]


def test_notifications_in_the_group_wait_are_merged(harness):
    harness.write(harness.open("a"), OPENED, target="a", wait=timedelta(seconds=30))
    assert harness.deliver() == DeliveryReport()
    harness.clock.advance(seconds=20)
    harness.write(harness.open("b"), OPENED, target="b", wait=timedelta(seconds=30))
    harness.clock.advance(seconds=30)
    assert harness.deliver() == DeliveryReport(sent=1)
    assert harness.sent == [(OPENED, "2 targets: the API rejects the credentials")]


def test_a_resolution_lists_its_undelivered_opening(harness):
    number = harness.open("gloo")
    harness.channel.results = [DOWN]
    harness.clock.now = NOW.replace(hour=3, minute=10)
    harness.write(number, OPENED)
    harness.deliver()
    harness.clock.now = NOW.replace(hour=5, minute=40)
    harness.write(number, REMINDER)
    harness.write(number, RESOLVED)
    assert harness.recover() == DeliveryReport(sent=1)
    assert harness.sent == [(RESOLVED, "gloo: the API rejects the credentials: opened 03:10, resolved 05:40")]
    facts = dict(harness.channel.sent[0].facts)
    assert facts["not delivered until now"] == "opened 03:10, resolved 05:40 UTC"
    assert facts["evidence"] == "1 × 401 from the token endpoint"
    assert harness.statuses() == ["superseded", "superseded", "sent"]
    assert {row.superseded_by for row in harness.rows()} == {harness.rows()[-1].id, None}


def test_an_undelivered_opening_and_its_update_are_one_opening(harness):
    number = harness.open("gloo")
    harness.channel.results = [DOWN]
    harness.write(number, OPENED)
    harness.deliver()
    harness.write(number, UPDATED)
    assert harness.recover() == DeliveryReport(sent=1)
    assert harness.sent == [(OPENED, "gloo: the API rejects the credentials")]
    assert [(row.kind, row.status) for row in harness.rows()] == [("opened", "superseded"), ("opened", "sent")]


def test_an_acknowledgement_is_sent_after_its_opening(harness):
    number = harness.open("gloo")
    harness.channel.results = [DOWN]
    harness.write(number, OPENED)
    harness.deliver()
    harness.write(number, ACKNOWLEDGED)
    assert harness.recover() == DeliveryReport(sent=2)
    assert [kind for kind, _ in harness.sent] == [OPENED, ACKNOWLEDGED]


def test_a_receiver_that_was_down_for_a_night_gets_one_message_per_cause(harness):
    harness.channel.results = [DOWN]
    for hour in range(10):
        number = harness.open(f"gloo-{hour}")
        harness.write(number, OPENED, target=f"gloo-{hour}")
        harness.write(number, REMINDER, target=f"gloo-{hour}")
        harness.deliver()
        harness.clock.advance(hours=1)
    assert len(harness.channel.sent) <= 41, "it was tried once a quarter of an hour at the most"
    assert harness.recover() == DeliveryReport(sent=2, logged=1), "it, and that the channel is well again"
    assert harness.sent == [(OPENED, "10 targets: the API rejects the credentials")]


def test_a_message_that_may_have_arrived_is_sent_again_with_its_key(harness):
    for target in ("a", "b"):
        harness.write(harness.open(target), OPENED, target=target)
    harness.channel.results = [SILENT]
    harness.deliver()
    harness.write(harness.open("c"), OPENED, target="c")
    first = harness.channel.keys[0]
    assert harness.recover() == DeliveryReport(sent=2)
    assert harness.channel.keys[0] == first
    assert [len(each.parts) for each in harness.channel.sent] == [2, 0]


def test_the_batch_of_a_killed_sender_keeps_its_key(harness):
    harness.write(harness.open("a"), OPENED, target="a")
    with writing(harness.engine) as conn:
        (claimed,) = outbox.claim(conn, holder="killed:9", now=harness.clock(), lease=CLAIM_LEASE, limit=20)
    harness.write(harness.open("b"), OPENED, target="b")
    assert harness.deliver() == DeliveryReport(sent=1), "the other does not wait for the dead sender"
    assert harness.recover(minutes=2) == DeliveryReport(sent=1)
    assert harness.channel.keys == [claimed.key]


def test_a_superseding_message_has_another_key(harness):
    number = harness.open("a")
    harness.write(number, OPENED, target="a")
    harness.channel.results = [SILENT]
    harness.deliver()
    first = harness.channel.keys[0]
    harness.write(number, RESOLVED, target="a")
    harness.recover()
    assert harness.channel.keys != [first], "a receiver that remembers keys must not take it for the opening"
    assert harness.channel.sent[0].kind is RESOLVED
    assert harness.channel.sent[0].thread == first, "but it belongs there"


def test_a_suspended_channel_gets_nothing_until_its_settings_change(harness):
    harness.channel.results = [SUSPENDED]
    harness.write(harness.open("a"), OPENED, target="a")
    assert harness.deliver() == DeliveryReport(deferred=1, sent=1, logged=1)
    harness.write(harness.open("b"), OPENED, target="b")
    harness.clock.advance(hours=3)
    harness.deliver()
    assert len(harness.channel.sent) == 1
    harness.fingerprint = "second"
    assert harness.recover(minutes=1).sent == 2, "both at once, and that it is over"
    assert harness.sent == [(OPENED, "2 targets: the API rejects the credentials")]


def test_a_notification_that_waits_a_day_for_a_suspended_channel_is_a_dead_letter(harness):
    harness.channel.results = [SUSPENDED]
    harness.write(harness.open("a"), OPENED, target="a")
    harness.deliver()
    harness.clock.advance(hours=23, minutes=59)
    assert harness.deliver().dead == 0
    harness.clock.advance(minutes=1)
    assert harness.deliver().dead == 1
    (row,) = harness.rows()
    assert (row.status, row.died_at) == ("dead", harness.clock())


def test_a_retried_dead_letter_has_another_day(harness):
    harness.channel.results = [SUSPENDED]
    harness.write(harness.open("a"), OPENED, target="a")
    harness.deliver()
    harness.clock.advance(hours=25)
    harness.deliver()
    with writing(harness.engine) as conn:
        assert outbox.retry(conn, ids=None, channel=None, dead=False, now=harness.clock()) == []
        assert len(outbox.retry(conn, ids=None, channel="oncall", dead=True, now=harness.clock())) == 1
        assert channel_state.reset(conn, ["oncall"]) == 1
    harness.channel.results = [DOWN]
    assert harness.deliver().dead == 0
    assert harness.recover().sent >= 1
    assert harness.statuses() == ["sent"]


def test_a_channel_that_is_unreachable_for_15_minutes_opens_an_incident(harness):
    harness.channel.results = [DOWN]
    harness.write(harness.open("a"), OPENED, target="a")
    sent = [harness.deliver().sent]
    for _ in range(10):
        harness.clock.advance(minutes=2)
        sent.append(harness.deliver().sent)
    assert sum(sent) == 1, "one message about it, on the log"
    with reading(harness.engine) as conn:
        failing = select(func.min(incidents_table.c.opened_at)).where(incidents_table.c.cause == "channel_failing")
        assert conn.execute(failing).scalar() >= NOW + timedelta(minutes=15)


def test_a_resolution_counts_the_open_incidents_of_its_thread(harness):
    harness.channel.threaded = True
    one, two = harness.open("a"), harness.open("b")
    for number, target in ((one, "a"), (two, "b")):
        harness.write(number, OPENED, target=target)
    harness.deliver()
    harness.write(one, RESOLVED, target="a")
    harness.deliver()
    harness.write(two, RESOLVED, target="b")
    harness.deliver()
    opening, first, last = harness.channel.sent
    assert opening.thread == first.thread == last.thread == harness.channel.keys[0]
    assert (first.others_open, last.others_open) == (1, 0)


@pytest.mark.parametrize(("threaded", "messages"), [(False, 1), (True, 2)], ids=["any channel", "by thread"])
def test_resolutions_of_different_threads_are_merged_unless_the_channel_is_threaded(harness, threaded, messages):
    harness.channel.threaded = threaded
    numbers = {}
    for target in ("a", "b"):
        numbers[target] = harness.open(target)
        harness.write(numbers[target], OPENED, target=target)
        harness.deliver()
    for target, number in numbers.items():
        harness.write(number, RESOLVED, target=target)
    assert harness.deliver() == DeliveryReport(sent=messages)


@pytest.mark.parametrize("step", [timedelta(days=1), timedelta(days=-1)], ids=["ahead", "back"])
def test_a_clock_that_jumps_by_a_day_loses_and_repeats_nothing(harness, step):
    harness.write(harness.open("a"), OPENED, target="a")
    harness.channel.results = [DOWN]
    harness.deliver()
    harness.write(harness.open("b"), OPENED, target="b", wait=timedelta(seconds=30))
    with writing(harness.engine) as conn:
        outbox.enqueue(conn, message(1), channels=("log",), now=harness.clock())
    harness.clock.now += step
    harness.channel.results = [DELIVERED]
    harness.deliver()
    harness.clock.advance(minutes=1)
    harness.deliver()
    assert harness.statuses() == ["sent", "sent"]


def test_the_apis_own_text_goes_only_to_channels_that_include_it(engine, harness):
    number = harness.open("a")
    with writing(engine) as conn:
        run_id = run_store.start(conn, target="a", environment="test", run_key=None, epoch=1, started_at=NOW)
        piece = Evidence(cause=Cause.UNAUTHORIZED, count=1, api_message="client sermon-bot is disabled")
        ids = incident_store.add_evidence(conn, target="a", run_id=run_id, at=NOW, pieces=[piece])
        row = incidents_table.update().where(incidents_table.c.id == number)
        conn.execute(row.values(evidence_id=ids[Cause.UNAUTHORIZED, ""]))
    harness.write(number, OPENED, target="a")
    harness.write(harness.open("b"), OPENED, target="b")
    harness.deliver()
    assert "sermon-bot" not in repr(harness.channel.sent)
    harness.include_api_message = True
    harness.write(number, REMINDER, target="a")
    harness.write(harness.open("c"), REMINDER, target="c")
    harness.deliver()
    merged = harness.channel.sent[-1]
    assert ("API message", "client sermon-bot is disabled") in merged.facts
    assert ["API message" in dict(part.facts) for part in merged.parts] == [True, False]
    assert "sermon-bot" not in str([row.message for row in harness.rows()]), "not even in the outbox"


def test_a_report_counts_notifications_of_failing_channels(harness):
    harness.channel.results = [SUSPENDED]
    for target in ("a", "b"):
        harness.write(harness.open(target), OPENED, target=target)
    assert harness.deliver().blocked == 2
    assert harness.deliver().blocked == 2, "also when nothing was tried"
    harness.fingerprint = "second"
    assert harness.recover().blocked == 0


def test_a_dead_opening_is_superseded_by_its_sent_resolution(harness):
    number = harness.open("a")
    harness.channel.results = [SendResult(outcome=SendOutcome.REFUSED, reason="HTTP 400")]
    harness.write(number, OPENED, target="a")
    harness.deliver()
    harness.channel.results = [DELIVERED]
    harness.write(number, RESOLVED, target="a")
    harness.deliver()
    with writing(harness.engine) as conn:
        assert outbox.retry(conn, ids=None, channel=None, dead=True, now=harness.clock()) == []
    assert harness.statuses() == ["superseded", "sent"]


def test_an_acknowledgement_counts_the_unacknowledged_incidents_of_its_thread(harness):
    harness.channel.threaded = True
    numbers = [harness.open(target) for target in ("a", "b")]
    for number, target in zip(numbers, ("a", "b"), strict=True):
        harness.write(number, OPENED, target=target)
    harness.deliver()
    for number, target in zip(numbers, ("a", "b"), strict=True):
        with writing(harness.engine) as conn:
            taken = incidents_table.update().where(incidents_table.c.id == number)
            conn.execute(taken.values(state=IncidentState.ACKNOWLEDGED.value))
        harness.write(number, ACKNOWLEDGED, target=target)
        harness.deliver()
    assert [each.others_open for each in harness.channel.sent] == [0, 1, 0]


def test_an_incident_with_a_claimed_notification_is_not_claimed(harness):
    number = harness.open("a")
    harness.write(number, OPENED, target="a")
    harness.deliver()
    harness.write(number, UPDATED, target="a")
    with writing(harness.engine) as conn:
        (under_way,) = outbox.claim(conn, holder="other:2", now=harness.clock(), lease=CLAIM_LEASE, limit=5)
        outbox.retry(conn, ids=[1], channel=None, dead=True, now=harness.clock())
        revived = notifications.update().where(notifications.c.id == 1)
        conn.execute(revived.values(status="due", next_attempt_at=harness.clock()))
        assert outbox.claim(conn, holder="host:1", now=harness.clock(), lease=CLAIM_LEASE, limit=5) == []
        outbox.mark_sent(conn, under_way, now=harness.clock())
        (later,) = outbox.claim(conn, holder="host:1", now=harness.clock(), lease=CLAIM_LEASE, limit=5)
    assert later.message.kind is OPENED
