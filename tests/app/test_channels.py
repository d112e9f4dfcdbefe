"""Configured channels: the class of each type, a delivery by each, and fingerprints of settings."""

import json
import re
from datetime import timedelta

import pytest
import trustme
from pydantic import TypeAdapter
from support.mailserver import MailServer
from support.receiver import Receiver
from support.samples import NOW, message

from monitor.app import build_channel, fingerprint, validate_channels
from monitor.config.channel_settings import CHANNEL_TYPES, AnyChannelConfig
from monitor.errors import ConfigError
from monitor.notifications.channels import SendOutcome
from monitor.notifications.channels.alertmanager import AlertmanagerChannel
from monitor.notifications.channels.apprise import AppriseChannel
from monitor.notifications.channels.email import EmailChannel
from monitor.notifications.channels.log import LogChannel
from monitor.notifications.channels.pagerduty import PagerDutyChannel
from monitor.notifications.channels.slack import SlackChannel
from monitor.notifications.channels.webhook import WebhookChannel

KEY = "3f1c0d5e8a2b4c6f9e7d1a0b2c3d4e5f"
CANARY = "canary-s3cret-0451"
ROUTING_KEY = "0123456789abcdef0123456789ABCDEF"
SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def configured(**settings):
    return TypeAdapter(AnyChannelConfig).validate_python({"name": "oncall"} | settings)


WHOLE = {
    "log": {},
    "webhook": {"url": "https://hooks.example/x", "secret": SIGNING},
    "slack": {"url": "https://hooks.example/x"},
    "email": {
        "host": "mail.example", "user": "me", "password": CANARY, "from": "monitor@example.com", "to": ["a@b.example"]
    },
    "pagerduty": {"routing_key": ROUTING_KEY},
    "alertmanager": {"url": "https://alertmanager:9093", "token": CANARY},
    "apprise": {"url": "ntfy://topic"},
}  # fmt: skip
MADE = {
    "log": LogChannel, "webhook": WebhookChannel, "slack": SlackChannel, "email": EmailChannel,
    "pagerduty": PagerDutyChannel, "alertmanager": AlertmanagerChannel, "apprise": AppriseChannel,
}  # fmt: skip
FILES_BY_THREAD = {"email", "pagerduty"}


@pytest.mark.parametrize("type_", CHANNEL_TYPES)
def test_each_type_makes_its_channel(type_):
    channel = build_channel(configured(type=type_, **WHOLE[type_]))
    assert type(channel) is MADE[type_]
    assert channel.threaded is (type_ in FILES_BY_THREAD)


@pytest.mark.parametrize("type_", CHANNEL_TYPES)
def test_no_channel_includes_api_messages_unless_configured(type_):
    assert configured(type=type_, **WHOLE[type_]).include_api_message is False
    if type_ != "log":
        assert configured(type=type_, include_api_message=True, **WHOLE[type_]).include_api_message is True


def settings_for(receiver):
    base = receiver.url.removesuffix("/hook")
    return {
        "webhook": {"url": receiver.url, "secret": SIGNING},
        "slack": {"url": receiver.url},
        "pagerduty": {"url": receiver.url, "routing_key": ROUTING_KEY},
        "alertmanager": {"url": base, "user": "me", "password": "right"},
        "apprise": {"url": receiver.url.replace("http:", "json:")},
    }


@pytest.mark.parametrize("type_", ["webhook", "slack", "pagerduty", "alertmanager", "apprise"])
async def test_a_configured_channel_reaches_its_receiver(type_):
    with Receiver() as receiver:
        result = await build_channel(configured(type=type_, **settings_for(receiver)[type_])).send(message(), key=KEY)
        ((_, headers, body),) = receiver.got
    assert result.outcome is SendOutcome.DELIVERED
    assert message().title in json.dumps(body)
    assert headers.get("authorization") == ("Basic bWU6cmlnaHQ=" if type_ == "alertmanager" else None)
    assert ("webhook-signature" in headers) == (type_ == "webhook")


async def test_a_configured_email_channel_reaches_its_server():
    with MailServer() as server:
        there = {"host": "127.0.0.1", "port": server.port, "security": "none"}
        mail = configured(type="email", **{**WHOLE["email"], **there, "user": None, "password": None})
        assert (await build_channel(mail).send(message(), key=KEY)).outcome is SendOutcome.DELIVERED
        assert server.envelopes == [("monitor@example.com", ("a@b.example",))]


async def test_an_alert_ends_after_the_configured_time():
    with Receiver() as receiver:
        alerts = configured(type="alertmanager", url=receiver.url)
        for resolve_timeout in ({}, {"resolve_timeout": timedelta(hours=1)}):
            await build_channel(alerts, **resolve_timeout).send(message(), key=KEY)
        (_, _, (usual,)), (_, _, (longer,)) = receiver.got
    ends = [(NOW + timedelta(minutes=15)).isoformat(), (NOW + timedelta(hours=1)).isoformat()]
    assert [usual["endsAt"], longer["endsAt"]] == ends


@pytest.mark.parametrize(("security", "port"), [("starttls", 587), ("tls", 465), ("none", 25)])
def test_the_default_smtp_port_depends_on_the_encryption(security, port):
    there = {**WHOLE["email"], "security": security, "allow_plain": True}
    assert configured(type="email", **there).port == port
    assert configured(type="email", **there, port=2525).port == 2525


ADDRESSES = {
    "bare": "monitor@example.com",
    "named": "Ingestion Monitor <monitor@example.com>",
    "tagged": "monitor+x@mail.example.co.uk",
    "local": "root@localhost",
}


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
def test_a_valid_address_is_unchanged(address):
    assert configured(type="email", **{**WHOLE["email"], "from": address}).from_ == address


BAD_ADDRESSES = {
    "no domain": "monitor", "two": "a@b.example, c@d.example", "header": "a@b.example\r\nBcc: c@d.example",
    "space": "a b@c.example", "quoted": '"a b"@c.example', "beyond ASCII": "ü@b.example", "empty label": "a@b..example",
    "two dots": "a..b@c.example", "bracket": "a@b.example>", "group": "x:a@b.example;",
}  # fmt: skip


@pytest.mark.parametrize("address", BAD_ADDRESSES.values(), ids=BAD_ADDRESSES)
@pytest.mark.parametrize("where", ["from", "to"])
def test_an_invalid_address_is_refused(address, where):
    value = address if where == "from" else ["a@b.example", address]
    with pytest.raises(ValueError, match=r"mail address|printable"):
        configured(type="email", **{**WHOLE["email"], where: value})


# --- Apprise ---------------------------------------------------------------------------------------------------------


def test_a_service_that_apprise_does_not_know_is_refused():
    validate_channels([configured(type=type_, **WHOLE[type_]) for type_ in CHANNEL_TYPES])
    with pytest.raises(ConfigError) as caught:
        validate_channels([configured(type="apprise", url=f"nonsense://{CANARY}"), configured(type="log")])
    (problem,) = caught.value.problems
    assert problem.startswith("channels.oncall.url names no service that Apprise knows")
    assert CANARY not in problem


# --- fingerprints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", CHANNEL_TYPES)
def test_a_fingerprint_is_the_same_for_the_same_settings(type_):
    one, again = (fingerprint(configured(type=type_, **WHOLE[type_])) for _ in range(2))
    assert one == again
    assert re.fullmatch(r"[0-9a-f]{32}", one)


CHANGES = [
    ("webhook", {"url": "https://hooks.example/y"}), ("webhook", {"secret": None}),
    ("webhook", {"include_api_message": True}), ("slack", {"url": "https://hooks.example/y"}),
    ("email", {"host": "other.example"}), ("email", {"password": "another"}), ("email", {"to": ["c@d.example"]}),
    ("email", {"security": "tls"}), ("pagerduty", {"routing_key": ROUTING_KEY.lower()}),
    ("pagerduty", {"url": "https://events.eu.pagerduty.com/v2/enqueue"}), ("alertmanager", {"token": "another"}),
    ("apprise", {"url": "ntfy://other"}), ("log", {"name": "other"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("type_", "change"), CHANGES, ids=[f"{type_}-{next(iter(change))}" for type_, change in CHANGES]
)
def test_a_fingerprint_changes_with_every_setting(type_, change):
    before = configured(type=type_, **WHOLE[type_])
    assert fingerprint(before) != fingerprint(configured(type=type_, **{**WHOLE[type_], **change}))


def test_a_fingerprint_follows_a_secret_file(tmp_path):
    file = tmp_path / "url"
    file.write_text("https://hooks.example/x")
    channel = configured(type="slack", url_file=str(file))
    first = fingerprint(channel)
    assert first == fingerprint(configured(type="slack", url="https://hooks.example/x"))
    file.write_text("https://hooks.example/y")
    second = fingerprint(channel)
    file.unlink()
    gone = fingerprint(channel)
    assert len({first, second, gone}) == 3
    assert gone == fingerprint(channel), "a secret that can't be read is one that is not there"


def test_a_fingerprint_follows_the_certificates(tmp_path):
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(file)
    channel = configured(type="email", **WHOLE["email"], ca_file=str(file))
    before = fingerprint(channel)
    trustme.CA().cert_pem.write_to_path(file)
    replaced = fingerprint(channel)
    file.unlink()
    assert len({before, replaced, fingerprint(channel)}) == 3


def test_a_fingerprint_does_not_reveal_a_secret():
    made = fingerprint(configured(type="email", **WHOLE["email"]))
    assert CANARY not in made
    assert made != fingerprint(configured(name="other", type="email", **WHOLE["email"])), "each channel has its salt"
