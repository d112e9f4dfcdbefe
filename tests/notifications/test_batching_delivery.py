"""What is merged, what tells the whole story, and when a parked channel is tried again: through a real sender."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select
from support.fakes import DELIVERED, FakeChannel, outlets
from support.samples import NOW, incident, message
from support.world import Clock

from monitor.database.engine import reading, writing
from monitor.database.tables import incidents as incidents_table
from monitor.database.tables import notifications
from monitor.incidents import store as evidence
from monitor.incidents import store as incidents
from monitor.incidents.channel_failures import Reachability
from monitor.incidents.rulebook import DEFAULT_RULES
from monitor.model import Cause, Evidence, IncidentState
from monitor.notifications import channel_state as channel_store
from monitor.notifications import outbox
from monitor.notifications.channels import Ending, Verdict
from monitor.notifications.delivery import CLAIM, DeliveryReport, Sender
from monitor.notifications.messages import MessageKind, titled
from monitor.runs import store as runs

OPENED, UPDATED, RESOLVED = MessageKind.OPENED, MessageKind.UPDATED, MessageKind.RESOLVED
REMINDER, ACKNOWLEDGED = MessageKind.REMINDER, MessageKind.ACKNOWLEDGED
DOWN = Verdict(ending=Ending.RETRY, reason="HTTP 503")
SILENT = Verdict(ending=Ending.RETRY, reason="no answer (timeout)", certain=False)
PARKED = Verdict(ending=Ending.PARKED, reason="HTTP 401")


class Office:
    """One channel, `oncall`, with a receiver of our choice, and incidents that give occasion to write."""

    def __init__(self, engine):
        self.engine, self.clock, self.fingerprint = engine, Clock(), "first"
        self.clock.now = NOW
        self.channel, self.verbatim = FakeChannel(), False

    def open(self, target):
        with writing(self.engine) as conn:
            return incidents.open_new(conn, incident(target=target), evidence_id=None)

    def write(self, incident_id, kind, *, target="gloo", cause=Cause.UNAUTHORIZED, wait=timedelta(0)):
        subject = f"{target}: the API rejects the credentials"
        told = message(
            incident_id, kind=kind, target=target, cause=cause, subject=subject, title=titled(kind, subject),
            at=self.clock(), what_to_check=() if kind is RESOLVED else ("key rotation",),
        )  # fmt: skip
        with writing(self.engine) as conn:
            outbox.put(conn, told, channels=("oncall",), now=self.clock(), wait=wait)
            if kind is RESOLVED:
                over = incidents_table.update().where(incidents_table.c.id == incident_id)
                conn.execute(over.values(state=IncidentState.RESOLVED.value))

    @property
    def outlets(self):
        made = outlets({"oncall": self.channel, "log": FakeChannel()}, self.fingerprint)
        return {**made, "oncall": replace(made["oncall"], verbatim=self.verbatim)}

    def deliver(self):
        reach = Reachability(
            environment="test", rule=DEFAULT_RULES[Cause.CHANNEL_FAILING], channels=["oncall"], route=lambda _: ("log",)
        )
        sender = Sender(
            self.engine, self.outlets, reach=reach,
            holder="host:1", utcnow=self.clock, rand=lambda: 1.0,
        )  # fmt: skip
        return asyncio.run(sender.deliver())

    def recover(self, **span):
        self.channel.verdicts = [DELIVERED]
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
def office(engine):
    return Office(engine)


def test_two_hundred_targets_behind_one_cause_are_one_message(office):
    for number in range(200):
        office.write(office.open(f"gloo-{number:03}"), OPENED, target=f"gloo-{number:03}")
    assert office.deliver() == DeliveryReport(sent=1)
    (told,) = office.channel.sent
    assert told.title == "200 targets: the API rejects the credentials"
    assert told.target == "gloo-000, gloo-001, gloo-002 and 197 more"
    assert told.what_to_check == ("key rotation",)
    assert len(told.parts) == 200
    assert dict(told.facts)["about"].endswith("gloo-019 and 180 more")
    assert set(office.statuses()) == {"sent"}
    assert {row.thread for row in office.rows()} == {office.channel.keys[0]}


def test_other_causes_and_kinds_are_messages_of_their_own(office):
    one, two = office.open("a"), office.open("b")
    office.write(one, OPENED, target="a")
    office.write(two, OPENED, target="b", cause=Cause.OUTAGE)
    office.write(office.open("c"), REMINDER, target="c")
    assert office.deliver() == DeliveryReport(sent=3)
    assert [each.target for each in office.channel.sent] == ["a", "b", "c"]


def test_what_waits_for_others_like_it_goes_with_them(office):
    office.write(office.open("a"), OPENED, target="a", wait=timedelta(seconds=30))
    assert office.deliver() == DeliveryReport()
    office.clock.advance(seconds=20)
    office.write(office.open("b"), OPENED, target="b", wait=timedelta(seconds=30))
    office.clock.advance(seconds=30)
    assert office.deliver() == DeliveryReport(sent=1)
    assert office.sent == [(OPENED, "2 targets: the API rejects the credentials")]


def test_an_end_that_nobody_heard_the_beginning_of_tells_the_whole_story(office):
    number = office.open("gloo")
    office.channel.verdicts = [DOWN]
    office.clock.now = NOW.replace(hour=3, minute=10)
    office.write(number, OPENED)
    office.deliver()
    office.clock.now = NOW.replace(hour=5, minute=40)
    office.write(number, REMINDER)
    office.write(number, RESOLVED)
    assert office.recover() == DeliveryReport(sent=1)
    assert office.sent == [(RESOLVED, "gloo: the API rejects the credentials: opened 03:10, resolved 05:40")]
    facts = dict(office.channel.sent[0].facts)
    assert facts["not delivered until now"] == "opened 03:10, resolved 05:40 UTC"
    assert facts["evidence"] == "1 × 401 from the token endpoint"
    assert office.statuses() == ["superseded", "superseded", "sent"]
    assert {row.superseded_by for row in office.rows()} == {office.rows()[-1].id, None}


def test_an_opening_that_grew_meanwhile_is_told_as_an_opening_with_what_is_known_now(office):
    number = office.open("gloo")
    office.channel.verdicts = [DOWN]
    office.write(number, OPENED)
    office.deliver()
    office.write(number, UPDATED)
    assert office.recover() == DeliveryReport(sent=1)
    assert office.sent == [(OPENED, "gloo: the API rejects the credentials")]
    assert [(row.kind, row.status) for row in office.rows()] == [("opened", "superseded"), ("opened", "sent")]


def test_an_acknowledgement_waits_for_its_opening_and_both_are_told(office):
    number = office.open("gloo")
    office.channel.verdicts = [DOWN]
    office.write(number, OPENED)
    office.deliver()
    office.write(number, ACKNOWLEDGED)
    assert office.recover() == DeliveryReport(sent=2)
    assert [kind for kind, _ in office.sent] == [OPENED, ACKNOWLEDGED]


def test_a_receiver_that_was_down_for_a_night_gets_one_message_per_cause(office):
    office.channel.verdicts = [DOWN]
    for hour in range(10):
        number = office.open(f"gloo-{hour}")
        office.write(number, OPENED, target=f"gloo-{hour}")
        office.write(number, REMINDER, target=f"gloo-{hour}")
        office.deliver()
        office.clock.advance(hours=1)
    assert len(office.channel.sent) <= 41, "it was tried once a quarter of an hour at the most"
    assert office.recover() == DeliveryReport(sent=2, logged=1), "it, and that the channel is well again"
    assert office.sent == [(OPENED, "10 targets: the API rejects the credentials")]


def test_what_may_have_arrived_is_sent_again_as_it_was_and_under_its_key(office):
    for target in ("a", "b"):
        office.write(office.open(target), OPENED, target=target)
    office.channel.verdicts = [SILENT]
    office.deliver()
    office.write(office.open("c"), OPENED, target="c")
    first = office.channel.keys[0]
    assert office.recover() == DeliveryReport(sent=2)
    assert office.channel.keys[0] == first
    assert [len(each.parts) for each in office.channel.sent] == [2, 0]


def test_what_a_killed_sender_had_claimed_keeps_its_key_whatever_came_since(office):
    office.write(office.open("a"), OPENED, target="a")
    with writing(office.engine) as conn:
        (claimed,) = outbox.claim(conn, holder="killed:9", now=office.clock(), lease=CLAIM, limit=20)
    office.write(office.open("b"), OPENED, target="b")
    assert office.deliver() == DeliveryReport(sent=1), "the other does not wait for the dead sender"
    assert office.recover(minutes=2) == DeliveryReport(sent=1)
    assert office.channel.keys == [claimed.key]


def test_more_about_what_may_have_arrived_is_another_message(office):
    number = office.open("a")
    office.write(number, OPENED, target="a")
    office.channel.verdicts = [SILENT]
    office.deliver()
    first = office.channel.keys[0]
    office.write(number, RESOLVED, target="a")
    office.recover()
    assert office.channel.keys != [first], "a receiver that remembers keys must not take it for the opening"
    assert office.channel.sent[0].kind is RESOLVED
    assert office.channel.sent[0].thread == first, "but it belongs there"


def test_a_parked_channel_is_left_alone_until_its_settings_change(office):
    office.channel.verdicts = [PARKED]
    office.write(office.open("a"), OPENED, target="a")
    assert office.deliver() == DeliveryReport(put_off=1, sent=1, logged=1)
    office.write(office.open("b"), OPENED, target="b")
    office.clock.advance(hours=3)
    office.deliver()
    assert len(office.channel.sent) == 1
    office.fingerprint = "second"
    assert office.recover(minutes=1).sent == 2, "both at once, and that it is over"
    assert office.sent == [(OPENED, "2 targets: the API rejects the credentials")]


def test_what_waits_for_a_day_behind_a_parked_channel_is_given_up_and_stays_visible(office):
    office.channel.verdicts = [PARKED]
    office.write(office.open("a"), OPENED, target="a")
    office.deliver()
    office.clock.advance(hours=23, minutes=59)
    assert office.deliver().dead == 0
    office.clock.advance(minutes=1)
    assert office.deliver().dead == 1
    (row,) = office.rows()
    assert (row.status, row.died_at) == ("dead", office.clock())


def test_asked_for_anew_a_dead_letter_has_a_day_again_and_its_channel_is_tried(office):
    office.channel.verdicts = [PARKED]
    office.write(office.open("a"), OPENED, target="a")
    office.deliver()
    office.clock.advance(hours=25)
    office.deliver()
    with writing(office.engine) as conn:
        assert outbox.retry(conn, ids=None, channel=None, dead=False, now=office.clock()) == []
        assert len(outbox.retry(conn, ids=None, channel="oncall", dead=True, now=office.clock())) == 1
        assert channel_store.clear(conn, ["oncall"]) == 1
    office.channel.verdicts = [DOWN]
    assert office.deliver().dead == 0
    assert office.recover().sent >= 1
    assert office.statuses() == ["sent"]


def test_a_channel_out_of_reach_for_a_quarter_of_an_hour_is_told_of(office):
    office.channel.verdicts = [DOWN]
    office.write(office.open("a"), OPENED, target="a")
    sent = [office.deliver().sent]
    for _ in range(10):
        office.clock.advance(minutes=2)
        sent.append(office.deliver().sent)
    assert sum(sent) == 1, "one message about it, on the log"
    with reading(office.engine) as conn:
        failing = select(func.min(incidents_table.c.opened_at)).where(incidents_table.c.cause == "channel_failing")
        assert conn.execute(failing).scalar() >= NOW + timedelta(minutes=15)


def test_a_thread_says_how_many_of_it_are_open_still(office):
    office.channel.threaded = True
    one, two = office.open("a"), office.open("b")
    for number, target in ((one, "a"), (two, "b")):
        office.write(number, OPENED, target=target)
    office.deliver()
    office.write(one, RESOLVED, target="a")
    office.deliver()
    office.write(two, RESOLVED, target="b")
    office.deliver()
    opening, first, last = office.channel.sent
    assert opening.thread == first.thread == last.thread == office.channel.keys[0]
    assert (first.others_open, last.others_open) == (1, 0)


@pytest.mark.parametrize(("threaded", "messages"), [(False, 1), (True, 2)], ids=["any channel", "by thread"])
def test_ends_of_different_threads_are_merged_where_nothing_is_filed_by_thread(office, threaded, messages):
    office.channel.threaded = threaded
    numbers = {}
    for target in ("a", "b"):
        numbers[target] = office.open(target)
        office.write(numbers[target], OPENED, target=target)
        office.deliver()
    for target, number in numbers.items():
        office.write(number, RESOLVED, target=target)
    assert office.deliver() == DeliveryReport(sent=messages)


@pytest.mark.parametrize("step", [timedelta(days=1), timedelta(days=-1)], ids=["ahead", "back"])
def test_a_clock_that_jumps_by_a_day_loses_nothing_and_repeats_nothing(office, step):
    office.write(office.open("a"), OPENED, target="a")
    office.channel.verdicts = [DOWN]
    office.deliver()
    office.write(office.open("b"), OPENED, target="b", wait=timedelta(seconds=30))
    with writing(office.engine) as conn:
        outbox.put(conn, message(1), channels=("log",), now=office.clock())
    office.clock.now += step
    office.channel.verdicts = [DELIVERED]
    office.deliver()
    office.clock.advance(minutes=1)
    office.deliver()
    assert office.statuses() == ["sent", "sent"]


def test_the_api_s_words_go_only_where_somebody_asked_for_them(engine, office):
    number = office.open("a")
    with writing(engine) as conn:
        run_id = runs.start(conn, target="a", environment="test", slot=None, epoch=1, started_at=NOW)
        piece = Evidence(cause=Cause.UNAUTHORIZED, count=1, api_message="client sermon-bot is disabled")
        ids = evidence.write(conn, target="a", run_id=run_id, at=NOW, pieces=[piece])
        told = incidents_table.update().where(incidents_table.c.id == number)
        conn.execute(told.values(evidence_id=ids[Cause.UNAUTHORIZED, ""]))
    office.write(number, OPENED, target="a")
    office.write(office.open("b"), OPENED, target="b")
    office.deliver()
    assert "sermon-bot" not in repr(office.channel.sent)
    office.verbatim = True
    office.write(number, REMINDER, target="a")
    office.write(office.open("c"), REMINDER, target="c")
    office.deliver()
    merged = office.channel.sent[-1]
    assert ("the API said", "client sermon-bot is disabled") in merged.facts
    assert ["the API said" in dict(part.facts) for part in merged.parts] == [True, False]
    assert "sermon-bot" not in str([row.message for row in office.rows()]), "not even in the outbox"


def test_a_pass_says_how_much_waits_behind_a_channel_that_fails(office):
    office.channel.verdicts = [PARKED]
    for target in ("a", "b"):
        office.write(office.open(target), OPENED, target=target)
    assert office.deliver().kept_back == 2
    assert office.deliver().kept_back == 2, "also when nothing was tried"
    office.fingerprint = "second"
    assert office.recover().kept_back == 0


def test_a_dead_opening_is_no_news_once_its_end_was_told(office):
    number = office.open("a")
    office.channel.verdicts = [Verdict(ending=Ending.REFUSED, reason="HTTP 400")]
    office.write(number, OPENED, target="a")
    office.deliver()
    office.channel.verdicts = [DELIVERED]
    office.write(number, RESOLVED, target="a")
    office.deliver()
    with writing(office.engine) as conn:
        assert outbox.retry(conn, ids=None, channel=None, dead=True, now=office.clock()) == []
    assert office.statuses() == ["superseded", "sent"]


def test_a_thread_is_acknowledged_once_all_of_it_is(office):
    office.channel.threaded = True
    numbers = [office.open(target) for target in ("a", "b")]
    for number, target in zip(numbers, ("a", "b"), strict=True):
        office.write(number, OPENED, target=target)
    office.deliver()
    for number, target in zip(numbers, ("a", "b"), strict=True):
        with writing(office.engine) as conn:
            taken = incidents_table.update().where(incidents_table.c.id == number)
            conn.execute(taken.values(state=IncidentState.ACKNOWLEDGED.value))
        office.write(number, ACKNOWLEDGED, target=target)
        office.deliver()
    assert [each.others_open for each in office.channel.sent] == [0, 1, 0]


def test_a_chain_of_which_something_is_being_sent_is_left_alone(office):
    number = office.open("a")
    office.write(number, OPENED, target="a")
    office.deliver()
    office.write(number, UPDATED, target="a")
    with writing(office.engine) as conn:
        (under_way,) = outbox.claim(conn, holder="other:2", now=office.clock(), lease=CLAIM, limit=5)
        outbox.retry(conn, ids=[1], channel=None, dead=True, now=office.clock())
        revived = notifications.update().where(notifications.c.id == 1)
        conn.execute(revived.values(status="due", next_attempt_at=office.clock()))
        assert outbox.claim(conn, holder="host:1", now=office.clock(), lease=CLAIM, limit=5) == []
        outbox.mark_sent(conn, under_way, now=office.clock())
        (later,) = outbox.claim(conn, holder="host:1", now=office.clock(), lease=CLAIM, limit=5)
    assert later.message.kind is OPENED
