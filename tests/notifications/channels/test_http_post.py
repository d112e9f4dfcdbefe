import tracemalloc
from datetime import timedelta

import pytest
from support.receiver import Receiver
from support.samples import message
from support.talker import repeat, talking

from monitor.app import send_once
from monitor.model.http import DEADLINE_EXCEEDED, ApiError, CallResult, NetworkFault, Reply
from monitor.notifications.channels import SendOutcome, SendResult
from monitor.notifications.channels.alertmanager import AlertmanagerChannel
from monitor.notifications.channels.http_post import classify_response, read_api, read_receiver
from monitor.notifications.channels.pagerduty import PagerDutyChannel
from monitor.notifications.channels.slack import SlackChannel
from monitor.notifications.channels.webhook import WebhookChannel

OUTCOMES = [
    *[(str(code), ApiError(status=code), SendOutcome.SUSPENDED, f"HTTP {code}") for code in (401, 403, 404, 410)],
    *[(f"{status}", ApiError(status=status), SendOutcome.REFUSED, f"HTTP {status}") for status in (400, 413, 422)],
    *[(f"{status}", ApiError(status=status), SendOutcome.RETRY, f"HTTP {status}") for status in (302, 408, 429, 500)],
    ("no name", ApiError(status=None, network=NetworkFault.DNS), SendOutcome.RETRY, "no answer (dns)"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "outcome", "reason"), [e[1:] for e in OUTCOMES], ids=[e[0] for e in OUTCOMES])
def test_what_http_answers_mean(error, outcome, reason):
    assert classify_response(CallResult(error=error)) == SendResult(outcome=outcome, reason=reason)


FAULTS = {
    **{fault: (fault, True) for fault in (NetworkFault.DNS, NetworkFault.REFUSED, NetworkFault.TLS)},
    **{
        fault: (fault, False)
        for fault in (NetworkFault.TIMEOUT, NetworkFault.RESET, NetworkFault.PROTOCOL, NetworkFault.TOO_LARGE)
    },
    "our own deadline": (None, False),
}


@pytest.mark.parametrize(("fault", "certain"), FAULTS.values(), ids=FAULTS)
def test_only_a_failure_before_sending_proves_that_nothing_was_delivered(fault, certain):
    code = None if fault else DEADLINE_EXCEEDED
    taken = classify_response(CallResult(error=ApiError(status=None, code=code, network=fault)))
    assert (taken.outcome, taken.certain) == (SendOutcome.RETRY, certain)


def test_any_2xx_is_a_delivery():
    assert classify_response(CallResult(reply=Reply(status=204, headers={}, body=b""))).outcome is SendOutcome.DELIVERED


SAYS_NO = [
    b'{"ok": false}', b'\xef\xbb\xbf {"OK" : false, "error": "T0K3N-canary"}', b'{"ok": "false"}', b'{"ok": 0}',
    b'{"success": false, "message": "T0K3N-canary"}', b'{"status": "error"}', b'{"status": "Failed"}',
    b'{"status": "invalid event", "errors": ["T0K3N-canary"]}', b'{"error": "T0K3N-canary"}', b'{"error": {"code": 7}}',
]  # fmt: skip
SAYS_NOTHING = [
    b"", b"ok", b"1", b"null", b"false", b"[]", b'[{"ok": false}]', b"{", b"\xff", b'{"ok": true}',
    b'{"status": "success"}',
    b'{"ok": true, "error": "none"}', b'{"error": null}', b'{"error": ""}', b'{"errors": []}', b"[" * 100_000,
]  # fmt: skip
PAGES = [b"<html>login</html>", b'\xef\xbb\xbf\n<?xml version="1.0"?><html/>', b"<!-- a --><title>T0K3N-canary</title>"]


@pytest.mark.parametrize("body", SAYS_NO)
@pytest.mark.parametrize("read", [read_receiver, read_api])
def test_a_2xx_whose_body_says_no_is_tried_again(read, body):
    said = read(Reply(status=200, headers={"retry-after": "30"}, body=body))
    assert (said.outcome, said.retry_after) == (SendOutcome.RETRY, timedelta(seconds=30))
    assert "T0K3N" not in said.reason


@pytest.mark.parametrize("body", SAYS_NOTHING)
@pytest.mark.parametrize("read", [read_receiver, read_api])
def test_a_2xx_that_does_not_say_no_is_left_as_it_is(read, body):
    assert read(Reply(status=200, headers={}, body=body)) is None


@pytest.mark.parametrize("body", PAGES)
def test_a_web_page_is_no_answer_of_an_api(body):
    reply = Reply(status=200, headers={}, body=body)
    assert read_receiver(reply) is None
    assert read_api(reply).outcome is SendOutcome.RETRY
    assert "web page" in read_api(reply).reason


def test_retry_after_is_returned():
    hint = timedelta(minutes=3)
    assert classify_response(CallResult(error=ApiError(status=429, retry_after=hint))).retry_after == hint


def test_known_answers_of_receivers_are_explained_and_never_quoted():
    explanations = {"no_service": "the webhook is gone"}
    assert classify_response(CallResult(error=ApiError(status=404, message="no_service")), explanations).reason == (
        "HTTP 404: the webhook is gone"
    )
    assert (
        classify_response(CallResult(error=ApiError(status=404, message="no_service of T0K3N")), explanations).reason
        == "HTTP 404"
    )


BUILDERS = {
    "webhook": lambda url: WebhookChannel(lambda: url, send_once),
    "slack": lambda url: SlackChannel(lambda: url, send_once),
    "pagerduty": lambda url: PagerDutyChannel(lambda: url, lambda: "a" * 32, send_once),
    "alertmanager": lambda url: AlertmanagerChannel(lambda: url, send_once, resolve_timeout=timedelta(minutes=15)),
}


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
async def test_an_answer_without_end_is_cut_off(build):
    async def talk(_reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        await repeat(writer, b"x" * (1 << 16))

    tracemalloc.start()
    try:
        async with talking(talk) as port:
            result = await build(f"http://127.0.0.1:{port}/x").send(message(), key="3f1c0d5e8a2b4c6f9e7d1a0b2c3d4e5f")
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert (result.outcome, result.certain) == (SendOutcome.RETRY, False)
    assert "timeout" not in result.reason


@pytest.mark.parametrize(
    ("name", "body", "outcome"),
    [
        *((name, b'{"ok": false, "error": "nope"}', SendOutcome.RETRY) for name in BUILDERS),
        *((name, PAGES[0], SendOutcome.RETRY) for name in BUILDERS if name != "webhook"),
        ("webhook", PAGES[0], SendOutcome.DELIVERED),
        *((name, b'{"status": "success"}', SendOutcome.DELIVERED) for name in BUILDERS),
    ],
)
async def test_every_channel_reads_what_a_200_says(name, body, outcome):
    with Receiver((200, {}, body)) as receiver:
        result = await BUILDERS[name](receiver.url).send(message(), key="3f1c0d5e8a2b4c6f9e7d1a0b2c3d4e5f")
    assert result.outcome is outcome
