import asyncio
import base64
import json
from datetime import timedelta
from itertools import count

import pytest
from client import hostile
from client.scripted import NOW, ScriptedTransport, fault, reply

from monitor.client.auth import ApiKey, AuthHeader, ClientCredentials
from monitor.client.client import Client
from monitor.client.throttle import Throttle
from monitor.client.transports import HttpxTransport
from monitor.errors import ConfigError
from monitor.model.http import ApiError, NetworkFault, Operation, Reply, Request

SECRET = "s3cret-canary"
ITEM = Request(method="GET", path="/items/42", template="/items/{item_id}")
TOKEN_PATH = "/oauth2/token"


class Api:
    """Issues numbered tokens; those below `oldest` are expired. `token_reply` replaces the endpoint."""

    def __init__(self, *, oldest=1, expires_in=3600, token_reply=None):
        self.oldest, self.expires_in, self.token_reply = oldest, expires_in, token_reply
        self.numbers = count(1)
        self.transport = ScriptedTransport(self)

    def __call__(self, request):
        if request.path == TOKEN_PATH:
            token = {"access_token": f"t{next(self.numbers)}", "expires_in": self.expires_in, "token_type": "Bearer"}
            return self.token_reply or reply(200, json.dumps(token).encode())
        number = int(request.headers["authorization"].removeprefix("Bearer t"))
        return reply(200 if number >= self.oldest else 401)

    @property
    def token_requests(self):
        return self.transport.to(TOKEN_PATH)

    @property
    def item_requests(self):
        return self.transport.to(ITEM.path)


def credentials(read_secret=lambda: SECRET, **said):
    return ClientCredentials(token_path=TOKEN_PATH, client_id="me", read_secret=read_secret, **said)


def client_of(transport, auth):
    clock = transport.clock
    clocks = {"sleep": clock.sleep, "monotonic": clock, "utcnow": lambda: NOW}
    return Client(transport=transport, auth=auth, throttle=Throttle(**clocks), rand=lambda: 0.5, **clocks)


async def ask(client, *, times=1, deadline_s=9000.0):
    return await asyncio.gather(*(client.send(ITEM, deadline_s=deadline_s) for _ in range(times)))


async def test_the_token_request_follows_the_reference():
    api = Api()
    (answer,) = await ask(client_of(api.transport, credentials()))
    (request,) = api.token_requests
    assert answer.reply.status == 200
    assert answer.attempts == 1
    assert (request.method, request.operation) == ("POST", Operation.TOKEN)
    assert request.body == b"grant_type=client_credentials&scope=api/access"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["authorization"] == "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
    assert api.item_requests[0].headers["authorization"] == "Bearer t1"


async def test_an_empty_scope_is_not_sent():
    api = Api()
    await ask(client_of(api.transport, credentials(scope="")))
    assert api.token_requests[0].body == b"grant_type=client_credentials"


async def test_many_first_calls_share_one_token():
    api = Api()
    answers = await ask(client_of(api.transport, credentials()), times=50)
    assert {answer.reply.status for answer in answers} == {200}
    assert len(api.token_requests) == 1


async def test_fifty_requests_with_an_expired_token_refresh_it_once():
    api = Api()
    client = client_of(api.transport, credentials())
    await ask(client)
    api.oldest = 2
    answers = await ask(client, times=50)
    assert {answer.reply.status for answer in answers} == {200}
    assert len(api.token_requests) == 2
    assert max(answer.attempts for answer in answers) == 2
    assert len(api.item_requests) == 1 + sum(answer.attempts for answer in answers) <= 101


async def test_a_401_after_a_refresh_is_returned():
    api = Api(oldest=99)
    (answer,) = await ask(client_of(api.transport, credentials()))
    assert (answer.error.status, answer.attempts, answer.error.from_token_endpoint) == (401, 2, False)
    assert len(api.token_requests) == 2


async def test_a_403_is_never_refreshed():
    api = Api()
    transport = ScriptedTransport(
        lambda request: api(request) if request.path == TOKEN_PATH else reply(403), clock=api.transport.clock
    )
    (answer,) = await ask(client_of(transport, credentials()))
    assert (answer.error.status, answer.attempts, len(transport.sent)) == (403, 1, 2)


@pytest.mark.parametrize(
    ("expires_in", "lifetime_s"),
    [
        (3600, 3540),
        (100, 50),
        ("3600", 3540),
        (None, 3540),
        ("soon", 3540),
        (-5, 3540),
        (0, 3540),
        (True, 3540),
        ([], 3540),
        ("nan", 3540),
        ("inf", 3540),
        (10**400, 3540),
        (10**12, 30 * 86_400 - 60),
    ],
)
async def test_a_token_is_refreshed_sixty_seconds_before_it_expires(expires_in, lifetime_s):
    api = Api(expires_in=expires_in)
    client = client_of(api.transport, credentials())
    await ask(client, deadline_s=1e9)
    api.transport.clock.now_s += lifetime_s - 1
    await ask(client, deadline_s=1e9)
    assert len(api.token_requests) == 1
    api.transport.clock.now_s += 2
    await ask(client, deadline_s=1e9)
    assert len(api.token_requests) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 302, 402])
async def test_a_refused_token_request_fails_every_call_with_one_request(status):
    api = Api(token_reply=reply(status, b'{"error": "invalid_client"}'))
    client = client_of(api.transport, credentials())
    answers = await ask(client, times=20) + await ask(client, times=20)
    assert {(a.error.status, a.error.error, a.error.from_token_endpoint, a.attempts) for a in answers} == {
        (status, "invalid_client", True, 0)
    }
    assert len(api.transport.sent) == 1


async def test_a_client_revoked_during_a_run_causes_one_token_request():
    api = Api()
    client = client_of(api.transport, credentials())
    await ask(client)
    api.oldest, api.token_reply = 99, reply(401, b'{"error": "invalid_client"}')
    answers = await ask(client, times=30)
    assert {(answer.error.status, answer.error.from_token_endpoint) for answer in answers} == {(401, True)}
    assert len(api.token_requests) == 2


async def test_the_token_request_is_retried_like_any_other():
    api = Api()
    outcomes = [reply(503), fault(NetworkFault.TIMEOUT), api]
    transport = ScriptedTransport(*outcomes, clock=api.transport.clock)
    (answer,) = await ask(client_of(transport, credentials()))
    assert answer.reply.status == 200
    assert len(transport.to(TOKEN_PATH)) == 3


async def test_calls_that_waited_for_a_failed_token_request_share_its_failure():
    transport = ScriptedTransport(reply(429))
    answers = await ask(client_of(transport, credentials()), times=20)
    assert {(answer.error.status, answer.error.from_token_endpoint) for answer in answers} == {(429, True)}
    assert 1 < len(transport.sent) <= 5, "one flight and its retries"


async def test_a_token_endpoint_that_is_down_may_come_back():
    api = Api(token_reply=reply(429))
    client = client_of(api.transport, credentials())
    (before,) = await ask(client)
    api.token_reply = None
    (after,) = await ask(client)
    assert (before.error.status, after.reply.status) == (429, 200)


UNUSABLE = {
    "empty": b"",
    "HTML": b"<html>",
    "list": b"[]",
    "no token": b"{}",
    "blank token": b'{"access_token": ""}',
    "token of another type": b'{"access_token": 7}',
    "token with a line break": b'{"access_token": "a\\r\\nx-evil: 1"}',
    "depth 100,000": b"[" * 100_000,
    "not UTF-8": b'{"access_token": "\xff"}',
}


@pytest.mark.parametrize("body", UNUSABLE.values(), ids=UNUSABLE)
async def test_a_token_answer_without_a_token_is_a_refusal(body):
    api = Api(token_reply=reply(200, body))
    answers = await ask(client_of(api.transport, credentials()), times=3)
    assert {(a.error.status, a.error.code, a.error.from_token_endpoint) for a in answers} == {
        (200, "unusable_token", True)
    }
    assert len(api.transport.sent) == 1


def fails(error):
    def read():
        raise error

    return read


BAD_SECRETS = {
    "control character": lambda: f"{SECRET}\r\nx-evil: 1",
    "not ASCII": lambda: f"{SECRET}é",
    "blank": lambda: " \n",
    "missing file": fails(FileNotFoundError(SECRET)),
    "not text": fails(UnicodeDecodeError("utf-8", b"", 0, 1, SECRET)),
    "refused by configuration": fails(ConfigError([SECRET])),
}


@pytest.mark.parametrize("read_secret", BAD_SECRETS.values(), ids=BAD_SECRETS)
@pytest.mark.parametrize("kind", [credentials, ApiKey])
async def test_a_secret_that_cannot_be_sent_is_a_clear_error_without_its_value(read_secret, kind):
    transport = ScriptedTransport(reply(200))
    (answer,) = await ask(client_of(transport, kind(read_secret)))
    assert (answer.error.code, answer.error.from_token_endpoint, transport.sent) == ("unusable_credentials", True, [])
    assert SECRET not in answer.error.message
    assert "check" in answer.error.message


async def test_the_secret_is_read_at_each_token_request_and_trimmed():
    secrets = iter(["old\n", "new  \r\n"])
    api = Api()
    client = client_of(api.transport, credentials(lambda: next(secrets)))
    await ask(client)
    api.oldest = 2
    await ask(client)
    sent = [base64.b64decode(request.headers["authorization"][6:]) for request in api.token_requests]
    assert sent == [b"me:old", b"me:new"]


async def test_an_api_key_is_sent_in_the_configured_header():
    transport = ScriptedTransport(reply(200))
    await ask(client_of(transport, ApiKey(lambda: f"{SECRET}\n")))
    await ask(client_of(transport, ApiKey(lambda: SECRET, header="x-api-key", scheme="")))
    assert [dict(request.headers) for request in transport.sent] == [
        {"authorization": f"Bearer {SECRET}"},
        {"x-api-key": SECRET},
    ]


async def test_a_rejected_api_key_is_not_sent_again():
    transport = ScriptedTransport(reply(401))
    (answer,) = await ask(client_of(transport, ApiKey(lambda: SECRET)))
    assert (answer.error.status, answer.attempts) == (401, 1)


async def test_a_rotated_api_key_is_picked_up_after_a_401():
    keys = iter(["old", "new"])
    transport = ScriptedTransport(
        lambda request: reply(200 if request.headers["authorization"] == "Bearer new" else 401)
    )
    answers = await ask(client_of(transport, ApiKey(lambda: next(keys))), times=10)
    assert {(answer.reply.status, answer.attempts) for answer in answers} == {(200, 2)}


async def test_a_missing_api_key_is_reported():
    keys = iter(["old", ""])
    (answer,) = await ask(client_of(ScriptedTransport(reply(401)), ApiKey(lambda: next(keys))))
    assert answer.error.code == "unusable_credentials"


async def test_waiting_for_another_calls_token_request_ends_at_the_deadline():
    async with hostile.serving(hostile.hang) as server:
        client = Client(transport=HttpxTransport(base_url=server.url), auth=credentials())
        patient = asyncio.create_task(client.send(ITEM, deadline_s=client.monotonic() + 60))
        await asyncio.sleep(0)
        hasty = await client.send(ITEM, deadline_s=client.monotonic() + 0.1)
        assert not patient.done()
        patient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await patient
        await client.transport.close()
    assert (hasty.error.code, hasty.attempts) == ("deadline_exceeded", 0)


async def test_a_401_without_time_for_a_refresh_is_a_deadline_error():
    api = Api(oldest=2)

    def slow(request):
        api.transport.clock.now_s += 20 if request.path == ITEM.path else 0
        return api(request)

    transport = ScriptedTransport(slow, clock=api.transport.clock)
    (answer,) = await ask(client_of(transport, credentials()), deadline_s=1015.0)
    assert (answer.error.status, answer.error.code, answer.attempts) == (None, "deadline_exceeded", 1)


async def test_a_token_request_that_times_out_is_the_error_of_the_call():
    transport = ScriptedTransport(fault(NetworkFault.TIMEOUT), takes_s=1000)
    (answer,) = await ask(client_of(transport, credentials()), deadline_s=1050.0)
    assert (answer.error.network, answer.error.from_token_endpoint) == (NetworkFault.TIMEOUT, True)


async def test_a_cancelled_call_leaves_the_token_to_the_others():
    api = Api()
    client = client_of(api.transport, credentials())
    first = asyncio.create_task(client.send(ITEM, deadline_s=9000.0))
    others = [asyncio.create_task(client.send(ITEM, deadline_s=9000.0)) for _ in range(5)]
    await asyncio.sleep(0)
    first.cancel()
    answers = await asyncio.gather(*others)
    assert {answer.reply.status for answer in answers} == {200}
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_real_server_gets_one_refresh():
    issued = count(1)
    oldest = 1

    async def behave(reader, writer):
        head = server.received[-1]
        if head.startswith(b"POST /oauth2/token"):
            body = json.dumps({"access_token": f"t{next(issued)}", "expires_in": 3600}).encode()
            return await hostile.replies(200, body)(reader, writer)
        number = int(head.partition(b"Bearer t")[2].partition(b"\r\n")[0])
        return await hostile.replies(200 if number >= oldest else 401)(reader, writer)

    async with hostile.serving(behave) as server:
        client = Client(transport=HttpxTransport(base_url=server.url), auth=credentials())
        deadline_s = client.monotonic() + 10
        await ask(client, deadline_s=deadline_s)
        oldest = 2
        answers = await ask(client, times=50, deadline_s=deadline_s)
        await client.transport.close()
    assert {answer.reply.status for answer in answers} == {200}
    assert next(issued) == 3


# --- without the client: requests to the token endpoint --------------------------------------------------------------


class Endpoint:
    """Returns the given results, the last one repeatedly, each after `takes_s`; keeps the secrets it received."""

    def __init__(self, *answers, takes_s=0.0):
        self.answers, self.takes_s = list(answers), takes_s
        self.now_s = 0.0
        self.secrets = []

    async def __call__(self, request):
        shown = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        self.secrets.append(shown.removeprefix("me:"))
        await asyncio.sleep(0)
        self.now_s += self.takes_s
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer if isinstance(answer, ApiError | Reply) else token(answer)

    def clock(self):
        return self.now_s

    @property
    def asked(self):
        return len(self.secrets)

    async def acquire(self, auth):
        found = auth.current(self.now_s) or await auth.acquire(self, monotonic=self.clock)
        return found if isinstance(found, ApiError) else found.value.removeprefix("Bearer ")

    async def renew(self, auth, rejected):
        header = AuthHeader(header="authorization", value=f"Bearer {rejected}")
        found = await auth.renew(header, self, monotonic=self.clock)
        return found.value.removeprefix("Bearer ") if isinstance(found, AuthHeader) else found


def token(value, expires_in=3600):
    return reply(200, json.dumps({"access_token": value, "expires_in": expires_in}).encode())


DOWN = ApiError(status=503, from_token_endpoint=True)
REFUSED = ApiError(status=401, code="invalid_client", from_token_endpoint=True)
LATER = ApiError(status=429, retry_after=timedelta(seconds=60), from_token_endpoint=True)
OUR_DEADLINE = ApiError(status=None, code="deadline_exceeded", from_token_endpoint=True)


async def test_a_cached_token_needs_no_await():
    endpoint, auth = Endpoint("t1"), credentials()
    assert auth.current(0.0) is None
    await endpoint.acquire(auth)
    assert auth.current(3539.0) == AuthHeader(header="authorization", value="Bearer t1")
    assert auth.current(3541.0) is None


async def test_a_token_stays_in_use_during_its_early_refresh():
    endpoint, auth = Endpoint("t1", "t2"), credentials()
    await endpoint.acquire(auth)
    endpoint.now_s = 3550.0
    refreshing = asyncio.create_task(endpoint.acquire(auth))
    await asyncio.sleep(0)
    assert (await endpoint.acquire(auth), refreshing.done()) == ("t1", False)
    assert await refreshing == await endpoint.acquire(auth) == "t2"
    assert endpoint.asked == 2


async def test_a_token_that_expired_during_its_refresh_is_not_used():
    endpoint, auth = Endpoint("t1", "t2"), credentials()
    await endpoint.acquire(auth)
    endpoint.now_s = 3600.0
    assert await asyncio.gather(*(endpoint.acquire(auth) for _ in range(20))) == ["t2"] * 20
    assert endpoint.asked == 2


@pytest.mark.parametrize(("failure", "asked_again"), [(DOWN, 5), (LATER, 1), (REFUSED, 0), (OUR_DEADLINE, 5)])
async def test_an_early_refresh_that_fails_leaves_the_token_in_use_until_it_expires(failure, asked_again):
    endpoint, auth = Endpoint("t1", failure), credentials()
    await endpoint.acquire(auth)
    for second in range(3575, 3600):
        endpoint.now_s = float(second)
        assert await endpoint.acquire(auth) == "t1"
    assert endpoint.asked == 2 + max(0, asked_again - 1)
    endpoint.now_s = 3600.0
    assert await endpoint.acquire(auth) == failure
    assert await endpoint.acquire(auth) == failure


async def test_no_call_uses_a_rejected_token_during_its_refresh():
    endpoint, auth = Endpoint("t1", "t2"), credentials()
    await endpoint.acquire(auth)
    renewing = asyncio.create_task(endpoint.renew(auth, "t1"))
    await asyncio.sleep(0)
    assert auth.current(0.0) is None
    assert await endpoint.acquire(auth) == await renewing == "t2"
    assert endpoint.asked == 2


async def test_a_late_401_uses_the_current_token():
    endpoint, auth = Endpoint("t1", "t2"), credentials()
    await endpoint.acquire(auth)
    assert [await endpoint.renew(auth, "t1") for _ in range(50)] == ["t2"] * 50
    assert endpoint.asked == 2


async def test_an_endpoint_that_returns_the_rejected_token_again_is_asked_once():
    endpoint, auth = Endpoint("t1"), credentials()
    await endpoint.acquire(auth)
    assert await asyncio.gather(*(endpoint.renew(auth, "t1") for _ in range(50))) == [None] * 50
    assert await endpoint.renew(auth, "t1") is None
    assert (await endpoint.acquire(auth), endpoint.asked) == ("t1", 2)


async def test_an_endpoint_that_alternates_rejected_tokens_is_asked_once_for_each():
    endpoint, auth = Endpoint("t1", "t2", "t1", "t2", "t1"), credentials()
    await endpoint.acquire(auth)
    assert [await endpoint.renew(auth, rejected) for rejected in ("t1", "t2", "t1", "t2")] == ["t2", None, None, None]
    assert endpoint.asked == 3


async def test_a_token_requested_before_the_401_does_not_count_as_its_refresh():
    endpoint, auth = Endpoint("t1", "t1", "t2"), credentials()
    await endpoint.acquire(auth)
    endpoint.now_s = 3550.0
    refreshing = asyncio.create_task(endpoint.acquire(auth))
    await asyncio.sleep(0)
    assert await endpoint.renew(auth, "t1") == "t2"
    assert (await refreshing, endpoint.asked) == ("t1", 3)


@pytest.mark.parametrize("failure", [DOWN, REFUSED])
async def test_a_failed_refresh_after_a_401_fails_all_waiting_calls(failure):
    endpoint, auth = Endpoint("t1", failure), credentials()
    await endpoint.acquire(auth)
    results = await asyncio.gather(*(endpoint.renew(auth, "t1") for _ in range(25)), endpoint.acquire(auth))
    assert results == [failure] * 26
    assert endpoint.asked == 2


async def test_after_a_transient_failure_the_next_call_requests_a_token():
    endpoint, auth = Endpoint("t1", DOWN, "t2"), credentials()
    await endpoint.acquire(auth)
    assert await endpoint.renew(auth, "t1") == DOWN
    assert (await endpoint.acquire(auth), await endpoint.renew(auth, "t1"), endpoint.asked) == ("t2", "t2", 3)


async def test_retry_after_of_the_token_endpoint_is_respected():
    endpoint, auth = Endpoint(LATER, "t1"), credentials()
    for second in range(60):
        endpoint.now_s = float(second)
        assert await endpoint.acquire(auth) == LATER
    assert endpoint.asked == 1
    endpoint.now_s = 60.0
    assert (await endpoint.acquire(auth), endpoint.asked) == ("t1", 2)


async def test_a_call_past_its_deadline_does_not_fail_waiting_calls():
    endpoint, auth = Endpoint(OUR_DEADLINE, "t1"), credentials()
    assert await asyncio.gather(*(endpoint.acquire(auth) for _ in range(5))) == [OUR_DEADLINE, *["t1"] * 4]
    assert endpoint.asked == 2


@pytest.mark.parametrize("expires_in", [0, -1, 1e-9, 1, 5, "1"])
async def test_a_short_lived_token_serves_all_calls_that_waited_for_it(expires_in):
    endpoint, auth = Endpoint(token("t1", expires_in), takes_s=20.0), credentials()
    assert await asyncio.gather(*(endpoint.acquire(auth) for _ in range(50))) == ["t1"] * 50
    assert endpoint.asked == 1


class Rotating:
    """A secret file whose stamp changes with its content."""

    def __init__(self, secret):
        self.secret = secret

    def read(self):
        if self.secret is None:
            raise FileNotFoundError(SECRET)
        return self.secret

    def stamp(self):
        return (hash(self.secret),)


async def test_a_changed_secret_keeps_the_valid_token_and_is_used_for_the_next_one():
    file, endpoint = Rotating("old"), Endpoint("t1", "t2")
    auth = credentials(file.read, stamp=file.stamp)
    await endpoint.acquire(auth)
    file.secret = "new"
    endpoint.now_s = 3000.0
    assert (await endpoint.acquire(auth), endpoint.secrets) == ("t1", ["old"])
    endpoint.now_s = 3550.0
    assert (await endpoint.acquire(auth), endpoint.secrets) == ("t2", ["old", "new"])


async def test_a_token_request_during_a_rotation_uses_the_last_valid_secret():
    file, endpoint = Rotating("old"), Endpoint("t1", "t2")
    auth = credentials(file.read, stamp=file.stamp)
    await endpoint.acquire(auth)
    file.secret = None
    assert (await endpoint.renew(auth, "t1"), endpoint.secrets) == ("t2", ["old", "old"])


async def test_a_refused_secret_is_sent_again_after_it_changed():
    file, endpoint = Rotating("old"), Endpoint(REFUSED)
    auth = credentials(file.read, stamp=file.stamp)
    assert [await endpoint.acquire(auth) for _ in range(10)] == [REFUSED] * 10
    file.secret = "new"
    for second in range(10):
        endpoint.now_s = float(second)
        assert await endpoint.acquire(auth) == REFUSED
    assert endpoint.secrets == ["old", "new"]
    endpoint.answers, file.secret, endpoint.now_s = ["t1"], "newest", 20.0
    assert (await endpoint.acquire(auth), endpoint.secrets) == ("t1", ["old", "new", "newest"])


async def test_a_rotated_api_key_is_used_within_a_second_without_a_401():
    file, endpoint = Rotating("old"), Endpoint(DOWN)
    auth = ApiKey(file.read, stamp=file.stamp)
    assert auth.current(0.0) is None
    assert (await endpoint.acquire(auth), auth.current(0.9).value) == ("old", "Bearer old")
    file.secret, endpoint.now_s = "new", 1.0
    assert auth.current(1.0) is None
    assert (await endpoint.acquire(auth), await endpoint.renew(auth, "old")) == ("new", "new")


async def test_an_api_key_that_is_being_rewritten_stays_in_use_unless_it_is_rejected():
    file, endpoint = Rotating("old"), Endpoint(DOWN)
    auth = ApiKey(file.read, stamp=file.stamp)
    await endpoint.acquire(auth)
    file.secret = None
    for second in range(60):
        endpoint.now_s = float(second)
        assert await endpoint.acquire(auth) == "old"
    assert (await endpoint.renew(auth, "old")).code == "unusable_credentials"
    endpoint.now_s = 62.0
    assert (await endpoint.acquire(auth)).code == "unusable_credentials"
    assert (await endpoint.renew(auth, "old")).code == "unusable_credentials"
    file.secret, endpoint.now_s = "new", 63.0
    assert await endpoint.renew(auth, "old") == "new"


async def test_an_api_key_in_memory_is_read_once():
    endpoint, auth = Endpoint(DOWN), ApiKey(lambda: SECRET)
    await endpoint.acquire(auth)
    assert auth.current(1e12).value == f"Bearer {SECRET}"


def test_repr_of_a_token_omits_its_value():
    assert SECRET not in repr(AuthHeader(header="authorization", value=SECRET))


async def test_repr_omits_credentials():
    endpoint, key, client = Endpoint(SECRET), ApiKey(lambda: SECRET), credentials()
    await endpoint.acquire(key)
    await endpoint.acquire(client)
    assert (await endpoint.acquire(client), endpoint.secrets) == (SECRET, [SECRET])
    shown = [repr(each) for each in (key, client, *vars(key).values(), *vars(client).values())]
    assert [text for text in shown if SECRET in text] == []
