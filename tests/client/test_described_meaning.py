"""What a provider's description says of an answer wins over its status, wherever a status decides."""

import json

import pytest
from client.scripted import ScriptedTransport, reply
from client.test_client import ITEM, OK, ask, make
from support.samples import NOW

from monitor.client.auth import ApiKey
from monitor.client.classify import accepts_credentials, cause_of, is_absent, is_invalid_id, rejects_credentials
from monitor.client.limits import Breaker, ServerBackoff, is_outage, is_overload, is_rate_limit
from monitor.client.retry import is_transient
from monitor.client.throttle import Throttle
from monitor.incidents.evidence import EvidenceCollector
from monitor.model import Cause, ItemState
from monitor.model.http import ApiError, Meaning, Operation, Request
from monitor.model.items import TrackedItem
from monitor.runs.outcomes import outcome_from_error, outcome_from_status

MEANINGS = {
    Meaning.NOT_FOUND: (Cause.WRONG_SCOPE, ItemState.NOT_FOUND),
    Meaning.INVALID: (Cause.BAD_REQUEST, ItemState.INVALID),
    Meaning.SPENDING_LIMIT: (Cause.SPENDING_LIMIT, ItemState.UNKNOWN),
    Meaning.UNAUTHORIZED: (Cause.UNAUTHORIZED, ItemState.UNKNOWN),
    Meaning.FORBIDDEN: (Cause.FORBIDDEN, ItemState.UNKNOWN),
    Meaning.WRONG_SCOPE: (Cause.WRONG_SCOPE, ItemState.UNKNOWN),
    Meaning.RATE_LIMITED: (Cause.RATE_LIMITED, ItemState.UNKNOWN),
    Meaning.OUTAGE: (Cause.OUTAGE, ItemState.UNKNOWN),
    Meaning.BAD_REQUEST: (Cause.BAD_REQUEST, ItemState.UNKNOWN),
}


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 410, 422, 429, 500, 503])
@pytest.mark.parametrize("meaning", Meaning)
def test_a_meaning_decides_whatever_the_status(meaning, status):
    error = ApiError(status=status, meaning=meaning)
    cause, state = MEANINGS[meaning]
    assert cause_of(error) is cause
    outcome = outcome_from_error("a", error, NOW)
    assert (outcome.state, outcome.answered) == (state, state is not ItemState.UNKNOWN)
    assert outcome.reason is (cause if state is ItemState.UNKNOWN else None)
    assert is_absent(error) is (meaning is Meaning.NOT_FOUND)
    assert is_invalid_id(error) is (meaning is Meaning.INVALID)
    assert rejects_credentials(error) is (meaning is Meaning.UNAUTHORIZED)
    assert accepts_credentials(error) is (state is not ItemState.UNKNOWN)
    assert is_rate_limit(error) is (meaning is Meaning.RATE_LIMITED)
    assert is_outage(error) is (meaning is Meaning.OUTAGE)
    assert is_transient(error) is is_overload(error) is (meaning in {Meaning.RATE_LIMITED, Meaning.OUTAGE})


def test_every_meaning_but_two_is_a_cause():
    for meaning in set(Meaning) - {Meaning.NOT_FOUND, Meaning.INVALID}:
        assert Cause(meaning.value) is MEANINGS[meaning][0]


def read_code(_status, body):
    """An API that answers everything with 200, and reports errors by a code in the body."""
    code = json.loads(body or b"{}").get("code", 0)
    return {102: Meaning.NOT_FOUND, 109: Meaning.UNAUTHORIZED, 429: Meaning.RATE_LIMITED}.get(code)


def enveloped(code, **headers):
    return reply(200, json.dumps({"code": code, "message": f"said {code}"}).encode(), **headers)


async def test_a_rejected_key_in_a_200_is_read_again_and_replayed_once():
    keys = iter(["old", "new"])
    auth = ApiKey(lambda: next(keys), header="authorization", scheme="Bearer")
    transport = ScriptedTransport(enveloped(109), OK)
    answer = await ask(transport, auth=auth, read_meaning=read_code)
    assert (answer.reply, answer.attempts) == (OK, 2)
    assert [request.headers["authorization"] for request in transport.sent] == ["Bearer old", "Bearer new"]


async def test_a_rejected_key_in_a_200_is_an_error_with_the_apis_code_and_message():
    answer = await ask(ScriptedTransport(enveloped(109)), read_meaning=read_code)
    error = answer.error
    assert (answer.reply, error.status, error.code, error.message) == (None, 200, "109", "said 109")
    assert (error.meaning, cause_of(error)) == (Meaning.UNAUTHORIZED, Cause.UNAUTHORIZED)


async def test_a_rate_limit_in_a_200_is_retried_and_its_hint_is_waited_for():
    transport = ScriptedTransport(enveloped(429, retry_after="7"), OK)
    answer = await ask(transport, read_meaning=read_code)
    assert (answer.reply, transport.clock.slept) == (OK, [7])


async def test_attempts_are_counted_once_by_their_status():
    client = make(ScriptedTransport(enveloped(102), reply(404), OK), read_meaning=read_code)
    for _ in range(3):
        await client.send(ITEM, deadline_s=2000.0)
    assert client.attempts(3) == {"2xx": 2, "4xx": 1}


async def test_a_gateways_page_has_no_meaning():
    page = reply(400, b"<html><title>400 Bad Request</title>", content_type="text/html")
    answer = await ask(ScriptedTransport(page), read_meaning=lambda *_: Meaning.NOT_FOUND)
    assert (answer.error.meaning, cause_of(answer.error)) == (None, Cause.BAD_RESPONSE)


async def test_the_token_endpoint_has_no_meaning():
    request = Request(method="POST", path="/token", template="/token", operation=Operation.TOKEN)
    answer = await ask(ScriptedTransport(enveloped(109)), request, read_meaning=read_code)
    assert answer.reply is not None


def test_an_outage_in_a_200_opens_the_breaker_and_others_do_not():
    for meaning in Meaning:
        breaker = Breaker()
        for _ in range(5):
            breaker.record(ApiError(status=200, meaning=meaning))
        assert breaker.open is (meaning is Meaning.OUTAGE)


def test_the_hint_of_a_rate_limit_in_a_200_holds_everyone_back():
    backoff, throttle = ServerBackoff(), Throttle()
    error = ApiError(status=200, meaning=Meaning.RATE_LIMITED, retry_after=NOW - NOW.replace(hour=0))
    backoff.record(error, now_s=0.0)
    assert backoff.until_s > 0
    assert throttle.breaker.open is False


def test_an_item_that_is_not_in_a_200_is_not_found_with_the_apis_words():
    outcome = outcome_from_status("a", enveloped(102), Meaning.NOT_FOUND, NOW)
    assert (outcome.state, outcome.answered, outcome.error.code) == (ItemState.NOT_FOUND, True, "102")


def test_evidence_says_the_code_that_decided():
    gathered = EvidenceCollector()
    error = ApiError(status=200, code="109", meaning=Meaning.UNAUTHORIZED)
    for n in range(3):
        gathered.add(TrackedItem(item_id=f"i{n}", first_seen_at=NOW), outcome_from_error(f"i{n}", error, NOW))
    (piece,) = gathered.evidence(requests=3)
    assert (piece.cause, piece.breakdown) == (Cause.UNAUTHORIZED, {"200 with the code 109": 3})
    assert gathered.replied == 3
