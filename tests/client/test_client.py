import asyncio
import json

import pytest
import structlog
from client import hostile
from client.scripted import NOW, Clock, ScriptedTransport, fault, reply

from monitor.client.auth import ApiKey
from monitor.client.client import Client
from monitor.client.throttle import Throttle
from monitor.client.transports import HttpxTransport
from monitor.model.http import NetworkFault, Operation, Request

CANARY = "s3cret-canary"
ITEM = Request(method="GET", path="/items/42", template="/items/{item_id}")
TIMEOUT = fault(NetworkFault.TIMEOUT)
OK = reply(200, b'{"status": "COMPLETED"}')


def make(transport, **kwargs):
    clock = transport.clock
    clocks = {"sleep": clock.sleep, "monotonic": clock, "utcnow": lambda: NOW}
    kwargs = {"rand": lambda: 0.5, "throttle": Throttle(**clocks), **clocks, **kwargs}
    return Client(transport=transport, **kwargs)


async def ask(transport, request=ITEM, *, deadline_s=2000.0, **kwargs):
    return await make(transport, **kwargs).send(request, deadline_s=deadline_s)


async def test_a_success_is_returned_at_once():
    answer = await ask(ScriptedTransport(OK, takes_s=0.25))
    assert (answer.reply, answer.error, answer.attempts, answer.latency_ms) == (OK, None, 1, 250)


@pytest.mark.parametrize(("status", "success"), [(199, False), (200, True), (204, True), (299, True), (300, False)])
async def test_only_2xx_is_a_success(status, success):
    answer = await ask(ScriptedTransport(reply(status)))
    assert (answer.reply is not None, answer.error is None) == (success, success)


async def test_transient_failures_are_retried_with_growing_waits():
    transport = ScriptedTransport(reply(503), TIMEOUT, reply(429), OK)
    answer = await ask(transport)
    assert (answer.reply, answer.attempts, answer.timed_out) == (OK, 4, False)
    assert transport.clock.slept == [0.5, 1.0, 2.0]


async def test_attempts_are_bounded_and_the_last_failure_is_returned():
    transport = ScriptedTransport(TIMEOUT, reply(503, b'{"code": "last"}'), OK)
    answer = await ask(transport, max_attempts=2)
    assert (answer.reply, answer.error.code, answer.attempts) == (None, "last", 2)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 501, 302, 402])
async def test_statuses_that_are_not_retried_are_sent_once(status):
    transport = ScriptedTransport(reply(status))
    answer = await ask(transport)
    assert (answer.error.status, answer.attempts, len(transport.sent), transport.clock.slept) == (status, 1, 1, [])


async def test_a_hint_is_waited_for():
    transport = ScriptedTransport(reply(429, retry_after="7"), OK)
    assert (await ask(transport)).reply == OK
    assert transport.clock.slept == [7]


async def test_a_hint_beyond_the_deadline_ends_the_call_at_once():
    transport = ScriptedTransport(reply(429, retry_after="700"), OK)
    answer = await ask(transport, deadline_s=1100.0)
    assert (answer.error.status, answer.error.retry_after.total_seconds(), transport.clock.slept) == (429, 700, [])


async def test_an_attempt_gets_only_the_remaining_time():
    transport = ScriptedTransport(TIMEOUT, takes_s=1000)
    answer = await ask(transport, deadline_s=1010.0, attempt_timeout_s=8.0, rand=lambda: 0.0)
    assert transport.timeouts_s == [8.0, 2.0]
    assert (answer.error.network, answer.error.code, answer.timed_out) == (NetworkFault.TIMEOUT, None, True)


async def test_an_attempt_cut_short_by_the_deadline_is_no_evidence_of_an_outage():
    transport = ScriptedTransport(TIMEOUT, takes_s=1000)
    client = make(transport, attempt_timeout_s=30.0)
    answers = [await client.send(ITEM, deadline_s=transport.clock.now_s + 10.0) for _ in range(6)]
    assert {(answer.error.network, answer.error.code, answer.attempts) for answer in answers} == {
        (None, "deadline_exceeded", 1)
    }
    assert not client.tripped


async def test_a_timeout_at_the_deadline_is_still_a_timeout():
    transport = ScriptedTransport(TIMEOUT, takes_s=1000)
    answer = await ask(transport, attempt_timeout_s=10.0, deadline_s=1009.99)
    assert (answer.error.network, answer.error.code) == (NetworkFault.TIMEOUT, None)


async def test_nothing_is_sent_after_the_deadline():
    transport = ScriptedTransport(OK)
    answer = await ask(transport, deadline_s=1000.0)
    assert (answer.error.code, answer.attempts, transport.sent) == ("deadline_exceeded", 0, [])
    assert (answer.error.status, answer.error.network) == (None, None)


async def test_nothing_is_sent_after_a_sleep_that_overshoots_the_deadline():
    transport = ScriptedTransport(reply(503, b'{"code": "down"}'))

    async def oversleep(seconds):
        transport.clock.now_s += 500

    answer = await ask(transport, deadline_s=1100.0, sleep=oversleep)
    assert (answer.error.code, answer.attempts) == ("down", 1)


async def test_an_outage_opens_the_breaker_and_stops_requests():
    transport = ScriptedTransport(reply(503))
    client = make(transport)
    answers = [await client.send(ITEM, deadline_s=2000.0) for _ in range(3)]
    assert client.tripped
    assert [(answer.error.code, answer.attempts) for answer in answers] == [
        (None, 4),  # the first attempt, and the minimum budget of three retries
        (None, 1),
        ("breaker_open", 0),
    ]
    assert len(transport.sent) == 5


async def test_a_total_outage_costs_few_requests_from_any_number_of_calls():
    transport = ScriptedTransport(fault(NetworkFault.REFUSED))
    client = make(transport)
    answers = await asyncio.gather(*(client.send(ITEM, deadline_s=2000.0) for _ in range(32)))
    assert len(transport.sent) == 32
    assert {answer.error.network for answer in answers} == {NetworkFault.REFUSED}
    assert (await client.send(ITEM, deadline_s=2000.0)).error.code == "breaker_open"


async def test_refusals_do_not_open_the_breaker():
    transport = ScriptedTransport(reply(404))
    client = make(transport)
    for _ in range(30):
        await client.send(ITEM, deadline_s=2000.0)
    assert not client.tripped


async def test_one_event_per_request_without_url_message_or_secret():
    body = json.dumps({"code": "busy", "message": CANARY, "error": CANARY}).encode()
    transport = ScriptedTransport(reply(500, body, x_request_id="r1"), reply(502, b"<html>", server="nginx"))
    with structlog.testing.capture_logs() as events:
        await ask(transport, max_attempts=1, auth=ApiKey(lambda: CANARY))
        await ask(transport, max_attempts=1)
    assert CANARY not in repr(events)
    assert "/items/42" not in repr(events)
    assert events[0] == {
        "event": "request_finished",
        "log_level": "debug",
        "endpoint": "/items/{item_id}",
        "http_status": 500,
        "code": "busy",
        "request_id": "r1",
        "retry_count": 0,
        "latency_ms": 0.0,
        "timed_out": False,
    }
    assert events[1]["gateway"] == {"server": "nginx"}


async def test_a_write_that_timed_out_is_not_repeated():
    transport = ScriptedTransport(TIMEOUT, OK)
    write = Request(method="POST", path="/x", template="/x", operation=Operation.WRITE)
    answer = await ask(transport, write)
    assert (answer.error.network, len(transport.sent)) == (NetworkFault.TIMEOUT, 1)


async def test_a_slowly_dripping_server_times_out():
    loop = asyncio.get_running_loop()
    async with hostile.serving(hostile.drip(b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n")) as server:
        client = Client(transport=HttpxTransport(base_url=server.url), attempt_timeout_s=0.1)
        started = loop.time()
        answer = await client.send(ITEM, deadline_s=client.monotonic() + 0.3)
        took_s = loop.time() - started
        await client.transport.close()
    assert answer.error.network is NetworkFault.TIMEOUT
    assert took_s < 60  # the drip never ends


async def test_the_default_clock_has_a_time_zone():
    assert Client(transport=ScriptedTransport(OK)).utcnow().tzinfo is not None


def test_the_scripted_clock_does_not_move():
    assert Clock()() == 1000.0


async def test_a_credential_that_the_api_repeats_is_masked():
    kwargs = json.dumps({"message": f"Incorrect API key provided: {CANARY}", "code": f"bad {CANARY}"}).encode()
    transport = ScriptedTransport(reply(403, kwargs, x_request_id=f"req-{CANARY}"))
    answer = await ask(transport, auth=ApiKey(lambda: CANARY))
    assert transport.sent[0].headers["authorization"] == f"Bearer {CANARY}"
    error = answer.error
    assert CANARY not in f"{error.message} {error.code} {error.request_id}"
    assert error.message == "Incorrect API key provided: **********"


async def test_secrets_of_the_caller_are_masked_too():
    transport = ScriptedTransport(reply(404, b'{"message": "no tenant hush-hush"}'))
    answer = await ask(transport, mask=lambda text: text.replace("hush-hush", "*"))
    assert answer.error.message == "no tenant *"


@pytest.mark.parametrize(
    "code", ["deadline_exceeded", "retry_budget_exhausted", "breaker_open", "unusable_credentials"]
)
async def test_an_api_that_sends_one_of_our_codes_is_still_an_api_error(code):
    transport = ScriptedTransport(reply(503, json.dumps({"code": code}).encode()))
    client = make(transport, max_attempts=1)
    answers = [await client.send(ITEM, deadline_s=2000.0) for _ in range(5)]
    assert [(answer.error.status, answer.error.code) for answer in answers] == [(503, code)] * 5
    assert client.tripped
    assert [(each["http_status"], each["count"]) for each in client.failure_summary.report()] == [(503, 5)]


async def test_the_first_attempt_of_a_repeated_call_uses_the_budget():
    transport = ScriptedTransport(OK)
    client = make(transport)
    answers = [await client.send(ITEM, deadline_s=2000.0, is_repeat=True) for _ in range(4)]
    assert [answer.attempts for answer in answers] == [1, 1, 1, 0]
    assert answers[-1].error.is_local("retry_budget_exhausted")
    assert len(transport.sent) == 3


async def test_a_request_that_was_never_sent_adds_no_retry_budget():
    transport = ScriptedTransport(OK)
    client = make(transport)
    for _ in range(100):
        await client.send(ITEM, deadline_s=0.0)
    assert client.budget.remaining == 3
