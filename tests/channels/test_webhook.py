import json
import re
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from receiver import Receiver
from samples import NOW, message

from monitor.channels import Ending, Verdict
from monitor.channels.webhook import VERSION, WebhookChannel
from monitor.config.secret import Secret
from monitor.incidents.message import MessageKind
from monitor.wiring import ask_once

KEY = "3f1c0d5e8a2b4c6f9e7d1a0b2c3d4e5f"
DOCUMENT = Path(__file__).parents[2] / "docs" / "webhook.md"
quickly = partial(ask_once, timeout_s=5)


def documented():
    (example,) = re.findall(r"```json\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return json.loads(example)


async def sent(a_message):
    with Receiver() as receiver:
        ending = await WebhookChannel(lambda: receiver.url, quickly).send(a_message, key=KEY)
        assert ending == Verdict(ending=Ending.DELIVERED, reason="accepted")
        ((path, headers, body),) = receiver.got
    assert path == "/hook"
    return headers, body


async def test_what_is_sent_is_what_is_documented():
    headers, body = await sent(message())
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
    assert body["version"] == VERSION


async def test_a_resolution_says_when_and_asks_to_check_nothing():
    resolved_at = NOW + timedelta(minutes=7)
    resolution = message(
        kind=MessageKind.RESOLVED, what_to_check=(), facts=(("lasted", "12 min"),), resolved_at=resolved_at
    )
    _, body = await sent(resolution)
    assert (body["kind"], body["what_to_check"], body["resolved_at"]) == ("resolved", [], "2026-03-01T12:07:00Z")


async def test_a_rotated_url_is_used_at_once(tmp_path):
    file = tmp_path / "url"
    channel = WebhookChannel(Secret.from_file(file).reveal, quickly)
    with Receiver() as old, Receiver() as new:
        file.write_text(old.url + "\n", encoding="utf-8")
        await channel.send(message(), key=KEY)
        file.write_text(new.url + "\n", encoding="utf-8")
        await channel.send(message(), key=KEY)
        assert (len(old.got), len(new.got)) == (1, 1)


async def test_a_url_that_can_t_be_read_parks_the_channel_and_names_the_file(tmp_path):
    file = tmp_path / "url"
    ending = await WebhookChannel(Secret.from_file(file).reveal, quickly).send(message(), key=KEY)
    assert ending.ending is Ending.PARKED
    assert ending.reason.startswith("its URL can't be read: ")
    assert str(file) in ending.reason


UNUSABLE = [
    "https://999.1.1.1/canary",
    "https://☃.example/canary",
    "https://[::1]canary/",
    "https://h/canary" + "x" * 66_000,
]


@pytest.mark.parametrize("url", UNUSABLE, ids=["no address", "no host name", "no port", "too long"])
async def test_a_url_that_can_t_be_taken_apart_parks_the_channel_and_is_not_quoted(url):
    ending = await WebhookChannel(lambda: url, quickly).send(message(), key=KEY)
    assert ending.ending is Ending.PARKED
    assert "canary" not in ending.reason
    assert "check the address" in ending.reason


async def test_a_redirect_is_not_followed():
    with Receiver() as elsewhere, Receiver((307, {"Location": elsewhere.url}, b"")) as receiver:
        ending = await WebhookChannel(lambda: receiver.url, quickly).send(message(), key=KEY)
        assert elsewhere.got == []
    assert (ending.ending, ending.reason) == (Ending.RETRY, "HTTP 307")


async def test_neither_the_url_nor_the_receivers_words_are_in_the_reason():
    canary = "T0K3N-canary"
    with Receiver((503, {"x-request-id": canary}, canary.encode())) as receiver:
        url = f"{receiver.url}/{canary}?token={canary}"
        answered = await WebhookChannel(lambda: url, quickly).send(message(), key=KEY)
    silent = await WebhookChannel(lambda: url, quickly).send(message(), key=KEY)
    assert [each.reason for each in (answered, silent)] == ["HTTP 503", "no answer (refused)"]


async def test_a_receiver_that_dawdles_is_given_up_in_time():
    with Receiver() as receiver:
        receiver.hang = True
        hasty = partial(ask_once, timeout_s=0.2)
        ending = await WebhookChannel(lambda: receiver.url, hasty).send(message(), key=KEY)
    assert (ending.ending, ending.reason) == (Ending.RETRY, "no answer (timeout)")
