import re
from datetime import datetime, timedelta
from functools import partial

import pytest
from support.receiver import Receiver
from support.samples import NOW, message

from monitor.app import send_once
from monitor.config.secret import Secret
from monitor.model import Cause
from monitor.notifications.channels import SendOutcome, SendResult, send_with_fallback
from monitor.notifications.channels.alertmanager import AlertmanagerChannel, as_alert, basic_auth, bearer_auth
from monitor.notifications.messages import MessageKind

KEY = "3f1c0d5e8a2b4c6f9e7d1a0b2c3d4e5f"
RESOLVE_TIMEOUT = timedelta(minutes=15)
ask_briefly = partial(send_once, timeout_s=5)


def to(url, **settings):
    return AlertmanagerChannel(lambda: url, ask_briefly, resolve_timeout=RESOLVE_TIMEOUT, **settings)


def alert(**fields):
    return as_alert(message(**fields), resolve_timeout=RESOLVE_TIMEOUT)


def ends(made):
    return datetime.fromisoformat(made["endsAt"])


@pytest.mark.parametrize("address", ["{}", "{}/", "{}/api/v2/alerts", "{}/api/v2/alerts/"])
async def test_alerts_are_posted_to_the_api_path_below_the_url(address):
    with Receiver() as receiver:
        result = await to(address.format(receiver.url.removesuffix("/hook"))).send(message(), key=KEY)
        ((path, headers, (one,)),) = receiver.got
    assert result == SendResult(outcome=SendOutcome.DELIVERED, reason="accepted")
    assert (path, headers["content-type"]) == ("/api/v2/alerts", "application/json")
    assert one == alert()


STORY = {
    "opened": {"kind": MessageKind.OPENED},
    "updated": {"kind": MessageKind.UPDATED, "title": "more of them", "at": NOW + timedelta(minutes=30)},
    "reminder": {"kind": MessageKind.REMINDER, "facts": (), "at": NOW + timedelta(hours=4)},
    "resolved": {
        "kind": MessageKind.RESOLVED, "at": NOW + timedelta(hours=5), "resolved_at": NOW + timedelta(hours=5)
    },
}  # fmt: skip


def test_an_alert_keeps_its_labels_and_start_time_until_its_resolution():
    alerts = [alert(**fields) for fields in STORY.values()]
    assert len({tuple(sorted(each["labels"].items())) for each in alerts}) == 1
    assert {each["startsAt"] for each in alerts} == {NOW.isoformat()}
    assert "incident" not in " ".join(alerts[0]["labels"])


@pytest.mark.parametrize("kind", [kind for kind in STORY if kind != "resolved"])
def test_an_open_alert_ends_after_its_time_unless_it_is_resent(kind):
    assert ends(alert(**STORY[kind])) == STORY[kind].get("at", NOW) + RESOLVE_TIMEOUT


def test_a_resolved_alert_has_an_end_time():
    assert ends(alert(**STORY["resolved"])) == STORY["resolved"]["resolved_at"]
    assert ends(alert(kind=MessageKind.RESOLVED, resolved_at=NOW - timedelta(days=1))) == NOW, (
        "not before its beginning"
    )


def test_two_incidents_are_two_alerts():
    different = [{}, {"target": "other"}, {"cause": Cause.OUTAGE}, {"environment": "test"}, {"group": "contracts"}]
    assert len({tuple(sorted(alert(**fields)["labels"].items())) for fields in different}) == len(different)


@pytest.mark.parametrize("cause", Cause)
def test_an_alert_is_named_after_its_cause(cause):
    labels = alert(cause=cause)["labels"]
    assert re.fullmatch(r"Ingestion[A-Z][A-Za-z]+", labels["alertname"])
    assert labels["cause"] == cause.value


def test_names_of_labels_and_annotations_are_valid_in_every_version():
    made = alert(group="contracts", commands=(("silence", "x"),))
    names = [*made["labels"], *made["annotations"]]
    assert [name for name in names if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name)] == []
    assert all(made["labels"].values()), "an empty label is none"


async def test_a_message_for_several_targets_is_an_alert_for_each():
    parts = tuple(message(number, target=target) for number, target in ((1, "de"), (2, "fr")))
    with Receiver() as receiver:
        await to(receiver.url).send(message(title="2 targets", parts=parts), key=KEY)
        ((_, _, alerts),) = receiver.got
    assert [each["labels"]["target"] for each in alerts] == ["de", "fr"]


async def test_an_acknowledgement_changes_no_alert():
    with Receiver() as receiver:
        result = await to(receiver.url).send(message(kind=MessageKind.ACKNOWLEDGED), key=KEY)
        assert receiver.got == []
    assert result.outcome is SendOutcome.DELIVERED


async def test_open_alerts_are_resent_with_a_later_end():
    later = NOW + timedelta(minutes=10)
    parts = tuple(message(number, target=target) for number, target in ((1, "de"), (2, "fr")))
    with Receiver() as receiver:
        open_messages = [message(parts=parts), message(3, target="fr", kind=MessageKind.REMINDER, title="still open")]
        result = await to(receiver.url).resend(open_messages, at=later)
        ((_, headers, alerts),) = receiver.got
    assert result.outcome is SendOutcome.DELIVERED
    assert [(each["labels"]["target"], ends(each)) for each in alerts] == [
        ("de", later + RESOLVE_TIMEOUT), ("fr", later + RESOLVE_TIMEOUT)
    ]  # fmt: skip
    assert alerts[1]["annotations"]["summary"] == "still open", "of one alert the last that was said"
    assert headers["idempotency-key"] == "refresh-20260301T121000"


async def test_without_open_alerts_nothing_is_resent():
    with Receiver() as receiver:
        assert (await to(receiver.url).resend([], at=NOW)).outcome is SendOutcome.DELIVERED
        assert receiver.got == []


async def test_a_test_alert_is_marked_as_a_test():
    assert alert(kind=MessageKind.TEST)["labels"]["alertname"] == "IngestionMonitorTest"


@pytest.mark.parametrize(
    ("value", "header"),
    [
        (lambda: bearer_auth("t0k3n"), "Bearer t0k3n"),
        (lambda: basic_auth("me", "pä:ss"), "Basic bWU6cMOkOnNz"),
        (None, None),
    ],
    ids=["token", "user", "nobody"],
)
async def test_the_configured_authorization_is_sent(value, header):
    with Receiver() as receiver:
        await to(receiver.url, authorization=value).send(message(), key=KEY)
        ((_, headers, _),) = receiver.got
    assert headers.get("authorization") == header


async def test_a_refused_alert_is_sent_once_more_with_its_title_alone():
    with Receiver((400, {}, b""), (200, {}, b"")) as receiver:
        result = await send_with_fallback(to(receiver.url), message(), key=KEY)
        _, (_, _, (second,)) = receiver.got
    assert result.outcome is SendOutcome.DELIVERED
    assert second["annotations"] == {"summary": message().title}
    assert second["labels"] == alert()["labels"]


async def test_a_token_that_can_t_be_read_suspends_the_channel(tmp_path):
    token = Secret.from_file(tmp_path / "token")
    with Receiver() as receiver:
        result = await to(receiver.url, authorization=lambda: bearer_auth(token.reveal())).send(message(), key=KEY)
        assert receiver.got == []
    assert result.outcome is SendOutcome.SUSPENDED
    assert str(tmp_path / "token") in result.reason
