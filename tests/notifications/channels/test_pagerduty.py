from datetime import timedelta
from functools import partial

import pytest
from support.receiver import Receiver
from support.samples import NOW, message

from monitor.app import send_once
from monitor.config.secret import Secret
from monitor.model import Severity
from monitor.notifications.channels import SendOutcome, SendResult, send_with_fallback
from monitor.notifications.channels.pagerduty import PagerDutyChannel, as_event, dedup_key
from monitor.notifications.messages import MessageKind

KEY = "3f1c0d5e8a2b4c6f9e7d1a0b2c3d4e5f"
THREAD = "9b74c9897bac770ffc029102a200c5de"
ROUTING_KEY = "0123456789abcdef0123456789ABCDEF"
ACCEPTED = (202, {}, b'{"status":"success","message":"Event processed","dedup_key":"x"}')
BAD_EVENT = (400, {}, b'{"status":"invalid event","message":"Event object is invalid","errors":["bad"]}')
ask_briefly = partial(send_once, timeout_s=5)


async def sent(*answers, given=None, fitting=False):
    """Sends a message; returns the result and the events that PagerDuty got."""
    with Receiver(*(answers or [ACCEPTED])) as receiver:
        channel = PagerDutyChannel(lambda: receiver.url, lambda: ROUTING_KEY, ask_briefly)
        send = partial(send_with_fallback, channel) if fitting else channel.send
        result = await send(given or message(), key=KEY)
        return result, [body for _, _, body in receiver.got]


ACTIONS = {
    MessageKind.OPENED: "trigger", MessageKind.UPDATED: "trigger", MessageKind.REMINDER: "trigger",
    MessageKind.ACKNOWLEDGED: "acknowledge", MessageKind.RESOLVED: "resolve", MessageKind.TEST: "trigger",
}  # fmt: skip


@pytest.mark.parametrize(("kind", "action"), ACTIONS.items())
async def test_every_kind_of_message_is_an_event_of_the_same_alert(kind, action):
    result, (event,) = await sent(given=message(kind=kind, thread=THREAD))
    assert result == SendResult(outcome=SendOutcome.DELIVERED, reason="accepted")
    assert (event["routing_key"], event["event_action"]) == (ROUTING_KEY, action)
    assert event["dedup_key"] == (KEY if kind is MessageKind.TEST else THREAD)
    assert ("payload" in event) == (action == "trigger")


async def test_an_alert_stays_open_while_other_incidents_of_its_thread_are_open():
    result, events = await sent(given=message(kind=MessageKind.RESOLVED, thread=THREAD, others_open=2))
    assert result == SendResult(outcome=SendOutcome.DELIVERED, reason="others of the same alert are still open")
    assert events == []


def test_an_incident_without_a_thread_has_its_own_key():
    keys = {
        dedup_key(message(number, environment=environment), key=KEY)
        for number in (1, 2)
        for environment in ("test", "production", "p" * 200)
    }
    assert len(keys) == 6
    assert dedup_key(message(1), key="a") == dedup_key(message(1, kind=MessageKind.RESOLVED), key="b")


@pytest.mark.parametrize("thread", ["x" * 255, "x" * 256])
def test_a_key_is_within_pagerdutys_limits(thread):
    assert len(dedup_key(message(thread=thread), key=KEY)) <= 255


@pytest.mark.parametrize("severity", Severity)
def test_a_severity_is_one_of_pagerdutys(severity):
    assert as_event(message(severity=severity), key=KEY)["payload"]["severity"] in {"critical", "warning", "info"}


def test_a_title_is_cut_where_pagerduty_would_refuse_it():
    summary = as_event(message(title="t" * 2000), key=KEY)["payload"]["summary"]
    assert (len(summary), summary[-2:]) == (1024, "t…")


def test_an_event_says_where_and_when():
    payload = as_event(message(group="contracts", at=NOW + timedelta(hours=1)), key=KEY)["payload"]
    assert {name: payload[name] for name in ("source", "group", "class", "component", "timestamp")} == {
        "source": "gloo-prod", "group": "production", "class": "unauthorized", "component": "contracts",
        "timestamp": "2026-03-01T13:00:00+00:00",
    }  # fmt: skip


async def test_a_refused_event_is_sent_once_more_without_details():
    result, (first, second) = await sent(BAD_EVENT, ACCEPTED, fitting=True)
    assert result.outcome is SendOutcome.DELIVERED
    assert "custom_details" in first["payload"]
    assert "custom_details" not in second["payload"]
    assert first["dedup_key"] == second["dedup_key"]


async def test_refusing_the_simplest_event_suspends_the_channel():
    result, events = await sent(BAD_EVENT, fitting=True)
    assert result == SendResult(outcome=SendOutcome.SUSPENDED, reason="HTTP 400: check the routing key")
    assert len(events) == 2


async def test_retry_after_of_pagerduty_is_respected():
    result, _ = await sent((429, {"Retry-After": "60"}, b""))
    assert result == SendResult(outcome=SendOutcome.RETRY, reason="HTTP 429", retry_after=timedelta(minutes=1))


async def test_a_key_that_can_t_be_read_suspends_the_channel_and_names_the_file(tmp_path):
    missing = Secret.from_file(tmp_path / "key").reveal
    with Receiver() as receiver:
        result = await PagerDutyChannel(lambda: receiver.url, missing, ask_briefly).send(message(), key=KEY)
        assert receiver.got == []
    assert result.outcome is SendOutcome.SUSPENDED
    assert str(tmp_path / "key") in result.reason
