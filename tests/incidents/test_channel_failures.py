"""Channels that fail: what is told about them, where, and when it is over. Messages go through a real sender."""

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
    """A post office with channels of our choice, and an incident `unauthorized` that gives occasion to write."""

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
        """Writes to the channels and delivers all that is due; then an hour passes."""
        with writing(self.engine) as conn:
            outbox.enqueue(conn, message(self.occasion), channels=channels, now=self.clock())
        return await self.deliver()

    async def mend(self):
        """Somebody changes the settings of the channels, so that what was suspended is tried."""
        self.settings += "'"
        return await self.deliver()

    async def deliver(self):
        sender = Sender(
            self.engine, configured_channels({LOG_CHANNEL: LogChannel(), **self.channels}, self.settings), incident_hooks=self.incident_hooks,
            holder="host:1", utcnow=self.clock, rand=lambda: 1.0,
        )  # fmt: skip
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
    def told(self):
        """Messages about channels: which kind about which, and where."""
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


async def test_a_parked_channel_is_told_at_once_on_the_others_and_once(post):
    post.channels = {"oncall": FakeChannel(SUSPENDED), "audit": FakeChannel()}
    assert await post.write("oncall", "audit") == DeliveryReport(sent=2, deferred=1)
    (opened,) = post.incidents
    assert (opened.target, opened.channels, opened.team.value) == ("channel:oncall", ("audit",), "monitor")
    assert post.channels["audit"].sent[-1].title == "channel oncall: messages do not get through"
    assert ("last error", "HTTP 401") in post.channels["audit"].sent[-1].facts
    assert post.life() == [("opened", "messages can't be delivered: HTTP 401")]
    await post.write("oncall")
    await post.deliver()
    assert post.told == [("opened", "channel:oncall", "audit")]


async def test_it_is_over_once_something_is_delivered_there_again(post):
    post.channels = {"oncall": FakeChannel(SUSPENDED, DELIVERED), "audit": FakeChannel()}
    await post.write("oncall")
    await post.deliver()
    assert post.open == ["channel:oncall"]
    await post.mend()
    assert post.open == []
    assert post.life()[-1] == ("resolved", "a message was delivered there again")
    assert post.told == [("opened", "channel:oncall", "audit"), ("resolved", "channel:oncall", "audit")]
    await post.write("oncall")
    assert len(post.told) == 2


async def test_a_receiver_out_of_reach_is_told_of_after_a_while_not_at_once(post):
    post.channels = {"oncall": FakeChannel(RETRY), "audit": FakeChannel()}
    await post.write("oncall")
    assert post.open == [], "a receiver may be down for a moment"
    await post.deliver()
    assert post.open == ["channel:oncall"]
    assert post.life() == [("opened", "messages can't be delivered: HTTP 503")]


async def test_a_refused_message_says_nothing_against_its_channel_and_is_told_elsewhere_once(post):
    post.channels = {"oncall": FakeChannel(REFUSED), "audit": FakeChannel(REFUSED)}
    assert await post.write("oncall") == DeliveryReport(sent=1, dead=2, refused=2)
    assert post.open == []
    told = [dict(each.facts).get("refused by") for name in post.channels for each in post.channels[name].sent[:1]]
    assert told == [None, "oncall: HTTP 400"]
    with reading(post.engine) as conn:
        rows = conn.execute(select(notifications.c.channel, notifications.c.status).order_by(notifications.c.id)).all()
    assert rows == [("oncall", "dead"), ("audit", "dead"), ("log", "sent")], "and the last who can is the log"


async def test_what_another_channel_heard_too_is_not_passed_on(post):
    post.channels = {"oncall": FakeChannel(REFUSED), "audit": FakeChannel()}
    with writing(post.engine) as conn:
        heard_by_both = replace(incident(channels=("oncall", "audit")), id=post.occasion)
        incidents.save(conn, heard_by_both)
    assert await post.write("oncall", "audit") == DeliveryReport(sent=1, dead=1, refused=1)


async def test_what_waits_for_a_renamed_channel_goes_where_its_incident_is_routed_now(post):
    post.channels = {"oncall": FakeChannel(SUSPENDED)}
    await post.write("oncall")
    new = post.channels["on-call"] = FakeChannel()
    del post.channels["oncall"]
    await post.deliver()
    assert [each.kind.value for each in new.sent] == ["opened"]
    with reading(post.engine) as conn:
        assert incidents.find(conn, post.occasion).channels == ("on-call",), "reminders and the end go there, too"


async def test_news_of_a_channel_is_not_told_on_one_that_waits_itself(post):
    post.channels = {"chat": FakeChannel(RETRY), "oncall": FakeChannel(SUSPENDED), "audit": FakeChannel()}
    post.routes = ("chat",)
    await post.write("chat")
    post.clock.advance(hours=-1)
    await post.write("oncall")
    assert ("opened", "channel:oncall", "audit") in post.told
    assert ("opened", "channel:oncall", "chat") not in post.told


async def test_people_are_reminded_as_the_rule_says(post):
    post.channels = {"oncall": FakeChannel(SUSPENDED), "audit": FakeChannel()}
    for _ in range(6):
        await post.write("oncall")
    assert post.told == [("opened", "channel:oncall", "audit"), ("reminder", "channel:oncall", "audit")]
    assert post.life()[-1] == ("reminded", "a reminder is due: HTTP 401")


async def test_what_fails_again_soon_is_the_same_incident(post):
    post.channels = {"oncall": FakeChannel(SUSPENDED, DELIVERED, SUSPENDED), "audit": FakeChannel()}
    await post.write("oncall")
    await post.mend()
    post.clock.advance(minutes=-50)
    await post.write("oncall")
    assert [each.state for each in post.incidents] == [IncidentState.OPEN]
    assert post.life()[-1] == ("reopened", "it came back soon after its resolution: HTTP 401")


async def test_without_another_channel_the_log_is_told_and_nobody_counts_as_reached(post):
    post.channels = {"oncall": FakeChannel(SUSPENDED)}
    report = await post.write("oncall")
    assert report == DeliveryReport(sent=1, logged=1, deferred=1)
    assert report.unreachable
    assert post.told == [("opened", "channel:oncall", "log")]


async def test_two_channels_that_fail_one_after_the_other_are_told_where_it_can_be(post):
    post.channels = {
        "oncall": FakeChannel(SUSPENDED),
        "audit": FakeChannel(DELIVERED, SUSPENDED),
        "chat": FakeChannel(),
    }
    post.routes = ("oncall", "audit")
    await post.write("oncall")
    await post.write("audit")
    assert post.open == ["channel:oncall", "channel:audit"]
    assert post.told == [
        ("opened", "channel:oncall", "audit"),
        ("opened", "channel:audit", "chat"),
        ("opened", "channel:oncall", "chat"),
    ]
    assert [each.channels for each in post.incidents] == [("audit", "chat"), ("chat",)]
    assert post.life()[-1] == ("reminded", "the channels that were notified fail too: HTTP 401")


async def test_who_is_told_elsewhere_hears_of_the_beginning_before_the_end(post):
    post.channels = {
        "oncall": FakeChannel(SUSPENDED),
        "audit": FakeChannel(DELIVERED, SUSPENDED),
        "chat": FakeChannel(),
    }
    post.routes = ("oncall", "audit")
    await post.write("oncall")
    await post.write("audit")
    post.channels["oncall"] = FakeChannel()
    await post.mend()
    heard = [kind for kind, target, channel in post.told if (target, channel) == ("channel:oncall", "chat")]
    assert heard == ["opened", "resolved"]


async def test_when_all_channels_fail_at_once_each_is_in_the_log_and_it_ends(post):
    post.channels = {"oncall": FakeChannel(SUSPENDED), "audit": FakeChannel(SUSPENDED)}
    for _ in range(3):
        await post.write("oncall", "audit")
    assert sorted(post.open) == ["channel:audit", "channel:oncall"]
    assert {target for _, target, channel in post.told if channel == LOG_CHANNEL} == set(post.open)
    told = len(post.told)
    await post.deliver()
    assert len(post.told) == told, "no message about the messages about messages"


async def test_a_channel_that_took_the_logs_name_is_never_told_of_itself(post):
    post.channels = {LOG_CHANNEL: FakeChannel(SUSPENDED)}
    assert await post.write(LOG_CHANNEL) == DeliveryReport(deferred=1)
    assert (post.open, post.told) == (["channel:log"], [])


async def test_a_channel_that_is_taken_out_of_the_configuration_fails_no_longer(post):
    post.channels = {"oncall": FakeChannel(SUSPENDED), "audit": FakeChannel()}
    await post.write("oncall")
    del post.channels["oncall"]
    await post.write("oncall")
    assert post.open == []
    assert post.life()[-1] == ("resolved", "no channel of that name is configured any more")
    assert post.told[-1] == ("resolved", "channel:oncall", "audit")


async def test_a_channel_of_another_environment_is_left_to_its_own_senders(post):
    post.channels = {"oncall": FakeChannel(SUSPENDED), "audit": FakeChannel()}
    await post.write("oncall")
    elsewhere = replace(post.incident_hooks, environment="staging", channels=("audit",))
    with writing(post.engine) as conn:
        elsewhere.resolve_removed(conn, now=post.clock())
    assert post.open == ["channel:oncall"]


def test_of_two_senders_that_see_it_one_opens_it(post):
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
