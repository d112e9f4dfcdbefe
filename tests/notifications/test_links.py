"""Links to the page in messages: added at sending, for each incident, within what receivers take."""

from dataclasses import replace

import pytest
from structlog.testing import capture_logs
from support.fakes import FakeAlerts, FakeChannel, configured_channels
from support.samples import NOW, incident, message
from support.world import Clock

from monitor.database.engine import writing
from monitor.incidents import store as incident_store
from monitor.incidents.channel_failures import ChannelFailures
from monitor.incidents.rulebook import DEFAULT_RULES
from monitor.model import Cause
from monitor.notifications import outbox
from monitor.notifications.batching import merge
from monitor.notifications.channels.alertmanager import as_alert
from monitor.notifications.channels.log import LogChannel
from monitor.notifications.channels.slack import as_blocks
from monitor.notifications.delivery import Sender
from monitor.notifications.messages import MessageKind, links, to_text, with_links
from monitor.notifications.routing import LOG_CHANNEL

PAGE = "https://monitor.example.com"


def merged(count, page=PAGE):
    return with_links(merge([message(number, target=f"t{number}") for number in range(1, count + 1)]), page)


def test_a_message_links_its_incident():
    assert links(with_links(message(7), PAGE)) == (("incident 7", f"{PAGE}/incidents/7"),)


def test_a_merged_message_links_the_first_incidents_and_the_list():
    found = links(merged(30))
    assert len(found) == 21
    assert found[0] == ("incident 1", f"{PAGE}/incidents/1")
    assert found[-1] == ("all incidents", f"{PAGE}/incidents")


@pytest.mark.parametrize(
    "unlinked",
    [with_links(message(7), None), with_links(message(0, kind=MessageKind.TEST), PAGE)],
    ids=["no-page", "test"],
)
def test_without_a_page_or_an_incident_there_is_no_link(unlinked):
    assert links(unlinked) == ()
    assert "http" not in to_text(unlinked)


def test_slack_gets_as_many_links_as_a_block_takes_and_always_the_list():
    long = f"https://{'.'.join(['a' * 60] * 4)}:8443"
    section = as_blocks(merged(30, long))["blocks"][-2]["text"]
    assert section["type"] == "mrkdwn"
    assert len(section["text"]) <= 3000
    assert section["text"].startswith(f"<{long}/incidents/1|Open incident 1> · ")
    assert section["text"].endswith(f"<{long}/incidents|Open all incidents>")


def test_an_alert_says_where_it_comes_from():
    linked = with_links(message(7), PAGE)
    assert as_alert(linked, resolve_timeout=NOW - NOW)["generatorURL"] == f"{PAGE}/incidents/7"
    assert "generatorURL" not in as_alert(linked, resolve_timeout=NOW - NOW, plain=True)


async def test_the_log_has_the_link():
    with capture_logs() as logs:
        await LogChannel().send(with_links(message(7), PAGE), key="k")
    assert logs[0]["url"] == f"{PAGE}/incidents/7"


class Outbox:
    """One stored message, and senders with one configuration each."""

    def __init__(self, engine):
        self.engine, self.clock, self.alerts = engine, Clock(), FakeAlerts()
        self.clock.now = NOW
        with writing(engine) as conn:
            self.number = incident_store.open_incident(conn, incident(channels=("alerts",)), evidence_id=None)
            outbox.enqueue(conn, message(self.number), channels=["alerts"], now=NOW)

    async def deliver(self, public_url):
        hooks = ChannelFailures(
            environment="test", rule=DEFAULT_RULES[Cause.CHANNEL_FAILING], channels=["alerts"],
            route=lambda _: ("alerts",), public_url=public_url,
        )  # fmt: skip
        channels = configured_channels({LOG_CHANNEL: FakeChannel(), "alerts": self.alerts})
        sender = Sender(
            self.engine, channels, incident_hooks=hooks, holder="host:1", utcnow=self.clock, rand=lambda: 1.0,
            public_url=public_url,
        )  # fmt: skip
        await sender.deliver()


async def test_a_stored_message_links_the_page_as_it_is_configured_when_it_is_sent(engine):
    box = Outbox(engine)
    await box.deliver(PAGE)
    (sent,) = box.alerts.sent
    assert sent == replace(message(box.number), url=f"{PAGE}/incidents/{box.number}", thread=sent.thread)
    assert [each.url for each in box.alerts.resent_messages] == [f"{PAGE}/incidents/{box.number}"]


async def test_a_stored_message_has_no_link_if_there_is_no_page(engine):
    box = Outbox(engine)
    await box.deliver(None)
    assert [each.url for each in (*box.alerts.sent, *box.alerts.resent_messages)] == [None, None]
