import json
import re
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from support.receiver import Receiver
from support.samples import NOW, message

from monitor.app import send_once
from monitor.config.secret import Secret
from monitor.notifications.channels import SendOutcome, SendResult, send_with_fallback
from monitor.notifications.channels.webhook import PAYLOAD_VERSION, WebhookChannel, signature, signer
from monitor.notifications.messages import MessageKind

KEY = "3f1c0d5e8a2b4c6f9e7d1a0b2c3d4e5f"
DOCUMENT = Path(__file__).parents[3] / "docs" / "webhook.md"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
COMMANDS = (
    ("acknowledge", "ingestion-monitor incidents ack 1"),
    ("silence", "ingestion-monitor silences add --incident 1 --for 4h"),
)
ask_briefly = partial(send_once, timeout_s=5)


def documented():
    (example,) = re.findall(r"```json\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return json.loads(example)


async def sent(a_message):
    with Receiver() as receiver:
        outcome = await WebhookChannel(lambda: receiver.url, ask_briefly).send(a_message, key=KEY)
        assert outcome == SendResult(outcome=SendOutcome.DELIVERED, reason="accepted")
        ((path, headers, body),) = receiver.got
    assert path == "/hook"
    return headers, body


async def test_the_body_is_as_documented():
    headers, body = await sent(message(commands=COMMANDS, thread=KEY))
    example = documented()
    assert body == example
    assert list(body) == list(example), "in the documented order"
    assert headers["content-type"] == "application/json"
    assert headers["idempotency-key"] == KEY
    assert re.fullmatch(r"ingestion-monitor/\S+", headers["user-agent"])
    assert "authorization" not in headers


async def test_every_field_is_documented():
    table = re.findall(r"^\| `(\w+)` ", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    _, body = await sent(message())
    assert set(body) <= set(table)
    assert body["version"] == PAYLOAD_VERSION


async def test_a_resolution_has_its_time_and_no_checks():
    resolved_at = NOW + timedelta(minutes=7)
    resolution = message(
        kind=MessageKind.RESOLVED, what_to_check=(), facts=(("duration", "12 min"),), resolved_at=resolved_at
    )
    _, body = await sent(resolution)
    assert (body["kind"], body["what_to_check"], body["resolved_at"]) == ("resolved", [], "2026-03-01T12:07:00Z")


async def test_a_rotated_url_is_used_at_once(tmp_path):
    file = tmp_path / "url"
    channel = WebhookChannel(Secret.from_file(file).reveal, ask_briefly)
    with Receiver() as old, Receiver() as new:
        file.write_text(old.url + "\n", encoding="utf-8")
        await channel.send(message(), key=KEY)
        file.write_text(new.url + "\n", encoding="utf-8")
        await channel.send(message(), key=KEY)
        assert (len(old.got), len(new.got)) == (1, 1)


async def test_a_url_that_can_t_be_read_suspends_the_channel_and_names_the_file(tmp_path):
    file = tmp_path / "url"
    outcome = await WebhookChannel(Secret.from_file(file).reveal, ask_briefly).send(message(), key=KEY)
    assert outcome.outcome is SendOutcome.SUSPENDED
    assert outcome.reason.startswith("its URL can't be read: ")
    assert str(file) in outcome.reason


UNUSABLE = [
    "https://999.1.1.1/canary",
    "https://☃.example/canary",
    "https://[::1]canary/",
    "https://h/canary" + "x" * 66_000,
]


@pytest.mark.parametrize("url", UNUSABLE, ids=["no address", "no host name", "no port", "too long"])
async def test_an_invalid_url_suspends_the_channel_and_is_not_quoted(url):
    outcome = await WebhookChannel(lambda: url, ask_briefly).send(message(), key=KEY)
    assert outcome.outcome is SendOutcome.SUSPENDED
    assert "canary" not in outcome.reason
    assert "check the address" in outcome.reason


async def test_a_redirect_is_not_followed():
    with Receiver() as elsewhere, Receiver((307, {"Location": elsewhere.url}, b"")) as receiver:
        outcome = await WebhookChannel(lambda: receiver.url, ask_briefly).send(message(), key=KEY)
        assert elsewhere.got == []
    assert (outcome.outcome, outcome.reason) == (SendOutcome.RETRY, "HTTP 307")


async def test_the_reason_contains_neither_the_url_nor_the_receivers_text():
    canary = "T0K3N-canary"
    with Receiver((503, {"x-request-id": canary}, canary.encode())) as receiver:
        url = f"{receiver.url}/{canary}?token={canary}"
        answered = await WebhookChannel(lambda: url, ask_briefly).send(message(), key=KEY)
    silent = await WebhookChannel(lambda: url, ask_briefly).send(message(), key=KEY)
    assert [each.reason for each in (answered, silent)] == ["HTTP 503", "no answer (refused)"]


async def test_a_slow_receiver_times_out():
    with Receiver() as receiver:
        receiver.hang = True
        hasty = partial(send_once, timeout_s=0.2)
        outcome = await WebhookChannel(lambda: receiver.url, hasty).send(message(), key=KEY)
    assert (outcome.outcome, outcome.reason) == (SendOutcome.RETRY, "no answer (timeout)")
    assert not outcome.certain


async def test_a_refused_message_is_sent_once_more_as_text():
    with Receiver((422, {}, b""), (200, {}, b"")) as receiver:
        outcome = await send_with_fallback(WebhookChannel(lambda: receiver.url, ask_briefly), message(), key=KEY)
    _, (_, headers, body) = receiver.got
    assert outcome.outcome is SendOutcome.DELIVERED
    assert headers["idempotency-key"] == f"{KEY}-plain"
    assert list(body) == ["text"]
    assert body["text"].startswith("[critical] gloo-prod: the API rejects the credentials")


async def test_a_batch_contains_the_message_of_each_incident():
    parts = tuple(message(number, target=target, commands=COMMANDS) for number, target in ((1, "de"), (2, "fr")))
    _, alone = await sent(parts[1])
    _, body = await sent(message(title="2 targets", parts=parts))
    assert [part["target"] for part in body["parts"]] == ["de", "fr"]
    assert body["parts"][1] == {key: value for key, value in alone.items() if key not in {"version", "key"}}


# --- signatures ------------------------------------------------------------------------------------------------------


def test_the_signature_matches_the_example_of_the_standard():
    content = b'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}'
    assert signature(SECRET, content) == "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_é", "whsec_a"])
def test_a_malformed_signing_secret_raises_value_error(secret):
    with pytest.raises(ValueError, match=r"whsec_|base64|ASCII|padding|[Ii]ncorrect"):
        signature(secret, b"")


def verifier():
    """The function from the document."""
    (snippet,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(snippet, names)  # noqa: S102  # the documented code
    return names["is_genuine"]


async def signed(at):
    with Receiver() as receiver:
        channel = WebhookChannel(lambda: receiver.url, ask_briefly, sign=signer(lambda: SECRET, lambda: at))
        await channel.send(message(), key=KEY)
    ((_, headers, _),) = receiver.got
    return headers, receiver.raw[0]


async def test_the_documented_code_verifies_signatures():
    is_genuine = verifier()
    headers, body = await signed(datetime.now(UTC))
    assert headers["webhook-id"] == KEY
    assert is_genuine(SECRET, headers, body)
    assert not is_genuine(SECRET, headers, body.replace(b"critical", b"harmless"))
    assert not is_genuine(SECRET, {**headers, "webhook-id": "another"}, body)
    assert not is_genuine("whsec_" + "A" * 32, headers, body)


async def test_the_documented_code_rejects_old_messages():
    headers, body = await signed(datetime.now(UTC) - timedelta(minutes=6))
    assert not verifier()(SECRET, headers, body)


async def test_without_a_secret_nothing_is_signed():
    headers, _ = await sent(message())
    assert not [name for name in headers if name.startswith("webhook-")]


async def test_a_secret_that_can_t_be_read_suspends_the_channel(tmp_path):
    with Receiver() as receiver:
        missing = Secret.from_file(tmp_path / "secret").reveal
        outcome = await WebhookChannel(lambda: receiver.url, ask_briefly, sign=signer(missing, lambda: NOW)).send(
            message(), key=KEY
        )
    assert (outcome.outcome, receiver.got) == (SendOutcome.SUSPENDED, [])
    assert outcome.reason.startswith("its secret can't be read: ")
