"""Failing channels: which channels are notified, and when the incident resolves. A real sender sends the messages."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select
from support.fakes import DELIVERED, FakeChannel, configured_channels
from support.samples import NOW, incident, message
from support.world import Clock

from monitor.database.engine import reading, writing
from monitor.database.tables import notifications
from monitor.incidents import store as incidents
from monitor.incidents.channel_failures import ChannelFailures
from monitor.incidents.rulebook import DEFAULT_RULES
from monitor.model import Cause, IncidentState
from monitor.notifications import outbox
from monitor.notifications.channels import SendOutcome, SendResult
from monitor.notifications.channels.log import LogChannel
from monitor.notifications.delivery import DeliveryReport, Sender
from monitor.notifications.routing import LOG_CHANNEL

HOUR = timedelta(hours=1)
SUSPENDED = SendResult(outcome=SendOutcome.SUSPENDED, reason="HTTP 401")
RETRY = SendResult(outcome=SendOutcome.RETRY, reason="HTTP 503")
REFUSED = SendResult(outcome=SendOutcome.REFUSED, reason="HTTP 400")
RULE = DEFAULT_RULES[Cause.CHANNEL_FAILING]


class Post:
    """A sender with the given channels, and an incident `unauthorized` to write about."""

    def __init__(self, engine):
        self.engine, self.clock = engine, Clock()
        self.clock.now = NOW
        self.channels, self.routes, self.settings = {}, None, "first"
        with writing(engine) as conn:
            self.occasion = incidents.open_incident(conn, incident(), evidence_id=None)

    @property
    def incident_hooks(self):
        names = list(self.channels)
        routed = self.routes if self.routes is not None else tuple(names) or (LOG_CHANNEL,)
        return ChannelFailures(environment="test", rule=RULE, channels=names, route=lambda _: routed)

    async def write(self, *channels):
        """Enqueues a message for the channels and delivers all due ones; then an hour passes."""
        with writing(self.engine) as conn:
            outbox.enqueue(conn, message(self.occasion), channels=channels, now=self.clock())
        return await self.deliver()

    async def fix(self):
        """Changes the channels' settings, so suspended ones are tried again, and delivers."""
        self.settings += "'"
        return await self.deliver()

    async def deliver(self):
        sender = Sender(
            self.engine,
            configured_channels({LOG_CHANNEL: LogChannel(), **self.channels}, self.settings),
            incident_hooks=self.incident_hooks,
            holder="host:1",
            utcnow=self.clock,
            rand=lambda: 1.0,
        )
        report = await sender.deliver()
        self.clock.advance(hours=1)
        return report

    @property
    def incidents(self):
        with reading(self.engine) as conn:
            found = incidents.list_incidents(conn)
        return [each for each in reversed(found) if each.cause is Cause.CHANNEL_FAILING]

    @property
    def open(self):
        return [each.target for each in self.incidents if each.state is not IncidentState.RESOLVED]

    @property
    def notified(self):
        """Messages about channels: kind, target and channel."""
        with reading(self.engine) as conn:
            rows = conn.execute(select(notifications).order_by(notifications.c.id)).all()
        about = [row for row in rows if row.message["cause"] == "channel_failing"]
        return [(row.kind, row.message["target"], row.channel) for row in about]

    def life(self, number=0):
        with reading(self.engine) as conn:
            return [(each.kind, each.reason) for each in incidents.events(conn, self.incidents[number].id)]


@pytest.fixture
def post(engine):
    return Post(engine)


async def test_a_suspended_channel_is_notified_on_the_others_at_once_and_once(post):
    post.channels = {"oncall": FakeChannel(SUSPENDED), "audit": FakeChannel()}
    assert await post.write("oncall", "audit") == DeliveryReport(sent=2, deferred=1)
    (opened,) = post.incidents
    assert (opened.target, opened.channels, opened.team.value) == ("channel:oncall", ("audit",), "monitor")
    assert post.channels["audit"].sent[-1].title == "channel oncall: messages can't be delivered"
    assert ("last error", "HTTP 401") in post.channels["audit"].sent[-1].facts
    assert post.life() == [("opened", "messages can't be delivered: HTTP 401")]
    await post.write("oncall")
    await post.deliver()
    assert post.notified == [("opened", "channel:oncall", "audit")]


async def test_it_resolves_with_the_next_delivery(post):
    post.channels = {"oncall": FakeChannel(SUSPENDED, DELIVERED), "audit": FakeChannel()}
    await post.write("oncall")
    await post.deliver()
    assert post.open == ["channel:oncall"]
    await post.fix()
    assert post.open == []
    assert post.life()[-1] == ("resolved", "a message was delivered again")
    assert post.notified == [("opened", "channel:oncall", "audit"), ("resolved", "channel:oncall", "audit")]
    await post.write("oncall")
    assert len(post.notified) == 2


async def test_an_unreachable_receiver_opens_an_incident_after_a_while(post):
    post.channels = {"oncall": FakeChannel(RETRY), "audit": FakeChannel()}
    await post.write("oncall")
    assert post.open == [], "a receiver may be down for a short time"
    await post.deliver()
    assert post.open == ["channel:oncall"]
    assert post.life() == [("opened", "messages can't be delivered: HTTP 503")]


async def test_a_rejected_message_is_passed_on_once_and_opens_no_incident(post):
    post.channels = {"oncall": FakeChannel(REFUSED), "audit": FakeChannel(REFUSED)}
    assert await post.write("oncall") == DeliveryReport(sent=1, dead=2, refused=2)
    assert post.open == []
    passed_on = [dict(each.facts).get("refused by") for name in post.channels for each in post.channels[name].sent[:1]]
    assert passed_on == [None, "oncall: HTTP 400"]
    with reading(post.engine) as conn:
        rows = conn.execute(select(notifications.c.channel, notifications.c.status).order_by(notifications.c.id)).all()
    assert rows == [("oncall", "dead"), ("audit", "dead"), ("log", "sent")], "the last one is the log"


async def test_a_rejected_message_is_not_passed_on_if_another_channel_got_it(post):
    post.channels = {"oncall": FakeChannel(REFUSED), "audit": FakeChannel()}
    with writing(post.engine) as conn:
        sent_to_both = replace(incident(channels=("oncall", "audit")), id=post.occasion)
        incidents.save(conn, sent_to_both)
    assert await post.write("oncall", "audit") == DeliveryReport(sent=1, dead=1, refused=1)


async def test_notifications_of_a_renamed_channel_go_where_the_incident_is_routed_now(post):
    post.channels = {"oncall": FakeChannel(SUSPENDED)}
    await post.write("oncall")
    new = post.channels["on-call"] = FakeChannel()
    del post.channels["oncall"]
    await post.deliver()
    assert [each.kind.value for each in new.sent] == ["opened"]
    with reading(post.engine) as conn:
        assert incidents.find(conn, post.occasion).channels == ("on-call",), "reminders and the resolution go there too"


async def test_a_blocked_channel_is_not_notified_of_other_channels(post):
    post.channels = {"chat": FakeChannel(RETRY), "oncall": FakeChannel(SUSPENDED), "audit": FakeChannel()}
    post.routes = ("chat",)
    await post.write("chat")
    post.clock.advance(hours=-1)
    await post.write("oncall")
    assert ("opened", "channel:oncall", "audit") in post.notified
    assert ("opened", "channel:oncall", "chat") not in post.notified


async def test_reminders_follow_the_rule(post):
    post.channels = {"oncall": FakeChannel(SUSPENDED), "audit": FakeChannel()}
    for _ in range(6):
        await post.write("oncall")
    assert post.notified == [("opened", "channel:oncall", "audit"), ("reminder", "channel:oncall", "audit")]
    assert post.life()[-1] == ("reminded", "a reminder is due: HTTP 401")


async def test_a_failure_soon_after_the_resolution_reopens_the_incident(post):
    post.channels = {"oncall": FakeChannel(SUSPENDED, DELIVERED, SUSPENDED), "audit": FakeChannel()}
    await post.write("oncall")
    await post.fix()
    post.clock.advance(minutes=-50)
    await post.write("oncall")
    assert [each.state for each in post.incidents] == [IncidentState.OPEN]
    assert post.life()[-1] == ("reopened", "evidence again soon after the resolution: HTTP 401")


async def test_without_another_channel_only_the_log_is_notified(post):
    post.channels = {"oncall": FakeChannel(SUSPENDED)}
    report = await post.write("oncall")
    assert report == DeliveryReport(sent=1, logged=1, deferred=1)
    assert report.unreachable
    assert post.notified == [("opened", "channel:oncall", "log")]


async def test_when_the_notified_channel_fails_too_a_third_one_is_notified(post):
    post.channels = {
        "oncall": FakeChannel(SUSPENDED),
        "audit": FakeChannel(DELIVERED, SUSPENDED),
        "chat": FakeChannel(),
    }
    post.routes = ("oncall", "audit")
    await post.write("oncall")
    await post.write("audit")
    assert post.open == ["channel:oncall", "channel:audit"]
    assert post.notified == [
        ("opened", "channel:oncall", "audit"),
        ("opened", "channel:audit", "chat"),
        ("opened", "channel:oncall", "chat"),
    ]
    assert [each.channels for each in post.incidents] == [("audit", "chat"), ("chat",)]
    assert post.life()[-1] == ("reminded", "the notified channels fail too: HTTP 401")


async def test_the_third_channel_gets_the_opening_before_the_resolution(post):
    post.channels = {
        "oncall": FakeChannel(SUSPENDED),
        "audit": FakeChannel(DELIVERED, SUSPENDED),
        "chat": FakeChannel(),
    }
    post.routes = ("oncall", "audit")
    await post.write("oncall")
    await post.write("audit")
    post.channels["oncall"] = FakeChannel()
    await post.fix()
    received = [kind for kind, target, channel in post.notified if (target, channel) == ("channel:oncall", "chat")]
    assert received == ["opened", "resolved"]


async def test_if_all_channels_fail_each_is_logged_once(post):
    post.channels = {"oncall": FakeChannel(SUSPENDED), "audit": FakeChannel(SUSPENDED)}
    for _ in range(3):
        await post.write("oncall", "audit")
    assert sorted(post.open) == ["channel:audit", "channel:oncall"]
    assert {target for _, target, channel in post.notified if channel == LOG_CHANNEL} == set(post.open)
    before = len(post.notified)
    await post.deliver()
    assert len(post.notified) == before, "no messages about messages"


async def test_a_failing_channel_called_log_is_not_notified_of_itself(post):
    post.channels = {LOG_CHANNEL: FakeChannel(SUSPENDED)}
    assert await post.write(LOG_CHANNEL) == DeliveryReport(deferred=1)
    assert (post.open, post.notified) == (["channel:log"], [])


async def test_the_incident_of_a_removed_channel_resolves(post):
    post.channels = {"oncall": FakeChannel(SUSPENDED), "audit": FakeChannel()}
    await post.write("oncall")
    del post.channels["oncall"]
    await post.write("oncall")
    assert post.open == []
    assert post.life()[-1] == ("resolved", "the channel is no longer configured")
    assert post.notified[-1] == ("resolved", "channel:oncall", "audit")


async def test_channels_of_another_environment_are_ignored(post):
    post.channels = {"oncall": FakeChannel(SUSPENDED), "audit": FakeChannel()}
    await post.write("oncall")
    elsewhere = replace(post.incident_hooks, environment="staging", channels=("audit",))
    with writing(post.engine) as conn:
        elsewhere.resolve_removed(conn, now=post.clock())
    assert post.open == ["channel:oncall"]


def test_of_two_senders_one_opens_the_incident(post):
    twin = incident(target="channel:oncall", cause=Cause.CHANNEL_FAILING)
    with writing(post.engine) as conn:
        first = incidents.open_if_absent(conn, twin)
        assert incidents.open_if_absent(conn, twin) is None
        assert incidents.open_if_absent(conn, replace(twin, target="channel:audit")) is not None
        incidents.save(conn, replace(twin, id=first, state=IncidentState.RESOLVED))
        assert incidents.open_if_absent(conn, twin) is not None


async def test_a_long_error_fits_the_events(post):
    long = SendResult(outcome=SendOutcome.SUSPENDED, reason="x" * 900)
    post.channels = {"oncall": FakeChannel(long), "audit": FakeChannel()}
    await post.write("oncall")
    ((_, reason),) = post.life()
    assert len(reason) == 500
