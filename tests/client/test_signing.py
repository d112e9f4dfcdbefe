"""Signed calls: a signature for each attempt, keys that are read again, and no storm of readings."""

import asyncio
import math

import pytest
from client.scripted import ScriptedTransport, reply
from client.test_auth import ask, client_of

from monitor.client.auth import SecretSource
from monitor.client.signing import ConfiguredKeys, SignedAuth, SigningKeys
from monitor.model.http import UNUSABLE_CREDENTIALS, ApiError

REFUSED = reply(403, b'{"message": "no"}', x_amzn_errortype="ExpiredTokenException:http://internal/")
NO_KEYS = ApiError(status=None, code=UNUSABLE_CREDENTIALS, message="none", from_token_endpoint=True)


class Keys:
    """Gives these, one after the other, and the last repeatedly; counts how often it is asked."""

    def __init__(self, *given, interval_s=math.inf):
        self.given, self.interval_s = list(given), interval_s
        self.next_check_s, self.readings = -math.inf, []

    async def read(self, now_s, *, renew):
        self.readings.append(renew)
        await asyncio.sleep(0)
        self.next_check_s = now_s + self.interval_s
        return self.given.pop(0) if len(self.given) > 1 else self.given[0]


def keys(name):
    return SigningKeys(key_id=name, secret=f"secret-of-{name}", token=f"token-of-{name}")


def signing():
    """Signs with a number of its own."""
    numbers = iter(range(1, 1000))
    return lambda request, by: request.with_headers({"authorization": f"{by.key_id} {next(numbers)}"})


def client_with(transport, source):
    return client_of(transport, SignedAuth(source, signing()))


def sent(transport):
    return [request.headers["authorization"] for request in transport.sent]


async def test_each_attempt_has_a_signature_of_its_own():
    transport = ScriptedTransport(reply(503), reply(503), reply(200))
    (result,) = await ask(client_with(transport, Keys(keys("a"))))

    assert result.reply is not None
    assert sent(transport) == ["a 1", "a 2", "a 3"]


async def test_the_request_itself_stays_unsigned():
    transport = ScriptedTransport(reply(503), reply(200))
    signed = []
    auth = SignedAuth(Keys(keys("a")), lambda request, _: signed.append(dict(request.headers)) or request)
    await ask(client_of(transport, auth))

    assert signed == [{}, {}]


async def test_many_calls_read_the_keys_once():
    source = Keys(keys("a"))
    results = await ask(client_with(ScriptedTransport(reply(200)), source), times=50)

    assert {result.reply.status for result in results} == {200}
    assert source.readings == [False]


async def test_refused_keys_are_read_once_more_and_the_call_repeated():
    transport = ScriptedTransport(lambda request: reply(200) if "b" in request.headers["authorization"] else REFUSED)
    source = Keys(keys("a"), keys("b"))
    results = await ask(client_with(transport, source), times=20)

    assert {result.reply.status for result in results} == {200}
    assert source.readings == [False, True]


async def test_the_same_keys_are_not_sent_again_and_not_asked_for_by_every_call():
    transport, source = ScriptedTransport(REFUSED), Keys(keys("a"))
    results = await ask(client_with(transport, source), times=20)

    assert {(result.error.status, result.error.code) for result in results} == {(403, "ExpiredTokenException")}
    assert len(transport.sent) == 20
    assert source.readings == [False, True]


async def test_a_missing_permission_renews_nothing():
    denied = reply(403, b"{}", x_amzn_errortype="AccessDeniedException")
    source = Keys(keys("a"))
    await ask(client_with(ScriptedTransport(denied), source))

    assert source.readings == [False]


async def test_keys_that_can_not_be_had_are_not_asked_for_by_every_call_but_later():
    transport, source = ScriptedTransport(reply(200)), Keys(NO_KEYS, keys("a"))
    client = client_with(transport, source)
    results = await ask(client, times=20)
    assert {result.error.message for result in results} == {"none"}
    assert (source.readings, transport.sent) == ([False], [])

    transport.clock.now_s += 6
    (result,) = await ask(client)
    assert result.reply is not None


async def test_keys_that_are_due_are_looked_at_again():
    transport, source = ScriptedTransport(reply(200)), Keys(keys("a"), keys("b"), interval_s=60)
    client = client_with(transport, source)
    for later_s in (0, 59, 2):
        transport.clock.now_s += later_s
        await ask(client)

    assert sent(transport) == ["a 1", "a 2", "b 3"]


async def test_the_secret_is_masked_in_what_the_api_says():
    said = reply(403, b'{"message": "not secret-of-a"}', x_amzn_errortype="InvalidSignatureException")
    (result,) = await ask(client_with(ScriptedTransport(said), Keys(keys("a"))))

    assert result.error.message == "not **********"


def test_no_text_of_the_keys_has_the_secret():
    auth = SignedAuth(Keys(keys("a")), signing())
    given = asyncio.run(auth.acquire(None, monotonic=lambda: 0.0))

    assert given.secret == "secret-of-a"
    assert "secret-of" not in repr(given) + str(given)
    assert "token-of" not in repr(given) + str(given)


async def read(source, now_s, *, renew=False):
    return await source.read(now_s, renew=renew)


async def test_configured_keys_follow_their_files():
    values, stamps = {"secret": "s-1", "token": "t-1"}, {"secret": (1,), "token": (1,)}
    source = ConfiguredKeys(
        "AKID",
        SecretSource(lambda: values["secret"], name="secret access key", stamp=lambda: stamps["secret"]),
        SecretSource(lambda: values["token"], name="session token", stamp=lambda: stamps["token"]),
    )
    assert await read(source, 0) == SigningKeys(key_id="AKID", secret="s-1", token="t-1")
    assert 0 < source.next_check_s < 10
    values["token"], stamps["token"] = "t-2", (2,)
    assert (await read(source, 5)).token == "t-2"
    values["secret"] = "s-2"
    assert (await read(source, 6)).secret == "s-1", "its stamp is the same"
    assert (await read(source, 6, renew=True)).secret == "s-2"


@pytest.mark.parametrize("broken", ["secret access key", "session token"])
async def test_a_configured_key_that_can_not_be_read_is_named(broken):
    def source(name):
        return SecretSource(lambda: "" if name == broken else "x", name=name)

    found = await read(ConfiguredKeys("AKID", source("secret access key"), source("session token")), 0)

    assert (found.code, broken in found.message) == (UNUSABLE_CREDENTIALS, True)


async def test_configured_keys_in_memory_are_never_looked_at_again():
    source = ConfiguredKeys("AKID", SecretSource(lambda: "s", name="secret access key"))
    assert await read(source, 0) == SigningKeys(key_id="AKID", secret="s")
    assert source.next_check_s == math.inf
