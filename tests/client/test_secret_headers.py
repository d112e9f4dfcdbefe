"""Further secret headers: with every request, read again when they change, and in no text."""

import pytest
from client.scripted import ScriptedTransport, reply
from client.test_auth import SECRET, TOKEN_PATH, Api, ask, client_of, credentials

from monitor.client.auth import ApiKey, SecretSource, basic_credential
from monitor.client.secret_headers import SecretHeaders
from monitor.errors import ConfigError
from monitor.model.http import UNUSABLE_CREDENTIALS


def client_with(transport, read=lambda: SECRET, *, auth=None, stamp=lambda: None):
    client = client_of(transport, auth)
    client.secret_headers = SecretHeaders(
        {"cf-secret": SecretSource(read, name="secret header CF-Secret", stamp=stamp)}
    )
    return client


async def test_they_are_sent_with_token_requests_too():
    api = Api()
    await ask(client_with(api.transport, auth=credentials()))

    assert [request.headers["cf-secret"] for request in api.token_requests] == [SECRET]
    assert [request.headers["cf-secret"] for request in api.item_requests] == [SECRET]


async def test_they_stand_beside_the_headers_of_the_request_and_the_key():
    transport = ScriptedTransport(lambda _: reply(200))
    await ask(client_with(transport, auth=ApiKey(lambda: "key")))

    assert dict(transport.sent[0].headers) == {"cf-secret": SECRET, "authorization": "Bearer key"}


@pytest.mark.parametrize("auth", [None, ApiKey(lambda: "key")], ids=["no key", "a key"])
async def test_a_rotated_one_is_sent_again_once_after_a_401(auth):
    values = iter(["old", *["new"] * 9])
    transport = ScriptedTransport(lambda request: reply(200 if request.headers["cf-secret"] == "new" else 401))

    (result,) = await ask(client_with(transport, lambda: next(values), auth=auth))

    assert result.reply is not None
    assert [request.headers["cf-secret"] for request in transport.sent] == ["old", "new"]


async def test_many_calls_with_the_old_one_are_each_repeated():
    current = ["old"]
    transport = ScriptedTransport(lambda request: reply(200 if request.headers["cf-secret"] == "new" else 401))
    client = client_with(transport, lambda: current[0])
    await ask(client)
    current[0] = "new"

    results = await ask(client, times=5)

    assert all(result.reply is not None for result in results)


async def test_one_that_is_unchanged_is_not_sent_again_after_a_401():
    transport = ScriptedTransport(lambda _: reply(401))
    (result,) = await ask(client_with(transport))

    assert (result.error.status, len(transport.sent)) == (401, 1)


async def test_one_whose_file_changed_is_read_again():
    state = {"value": "old", "stamp": (1,)}
    transport = ScriptedTransport(lambda _: reply(200))
    client = client_with(transport, lambda: state["value"], stamp=lambda: state["stamp"])
    await ask(client)
    state.update(value="new", stamp=(2,))
    await transport.clock.sleep(2)
    await ask(client)

    assert [request.headers["cf-secret"] for request in transport.sent] == ["old", "new"]


def unreadable():
    raise ConfigError(["the file is gone"])


@pytest.mark.parametrize("read", [unreadable, lambda: "", lambda: "a\nb"], ids=["gone", "empty", "two lines"])
async def test_one_that_can_not_be_sent_stops_the_call_before_any_request(read):
    transport = ScriptedTransport(lambda _: reply(200))
    (result,) = await ask(client_with(transport, read, auth=credentials()))

    assert result.error.code == UNUSABLE_CREDENTIALS
    assert "CF-Secret" in result.error.message
    assert transport.sent == []
    assert TOKEN_PATH not in result.error.message


def test_a_credential_of_http_basic_is_utf_8():
    # RFC 7617, 2.1: test and 123£
    assert basic_credential("test", "123£") == "dGVzdDoxMjPCow=="
