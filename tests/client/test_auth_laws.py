"""Properties of token requests under any sequence of calls, revocations, deadlines, slow and stubborn endpoints."""

import asyncio
import json
from dataclasses import dataclass, field

from client import virtual_time
from client.scripted import NOW, reply
from hypothesis import example, given
from hypothesis import strategies as st

from monitor.client.auth import ClientCredentials, read_token
from monitor.client.client import Client
from monitor.client.throttle import Throttle
from monitor.model.http import DEADLINE_EXCEEDED, NetworkFault, Request, TransportFault

TOKEN_PATH = "/oauth2/token"
LONG_S = 10_000.0


@dataclass(frozen=True)
class Caller:
    """One call: its start, the latency of the API, and its deadline."""

    at_s: float
    takes_s: float
    has_s: float = LONG_S


@dataclass
class Api:
    """Each revocation ends all earlier tokens. A stubborn endpoint returns the revoked one for a while."""

    revoked_at_s: list[float]
    token_takes_s: float
    lags_s: float = 0.0
    expires_in: object = None
    token_requests: int = 0
    token_requests_lost: int = 0
    at_once: int = 0
    most_at_once: int = 0
    rejected: set[int] = field(default_factory=set)
    asked: dict[str, list[int]] = field(default_factory=dict)

    def generation(self, now_s):
        return sum(at_s <= now_s for at_s in self.revoked_at_s)

    async def send(self, request, *, timeout_s):
        if request.path == TOKEN_PATH:
            return await self.token(timeout_s)
        number = int(request.headers["authorization"].removeprefix("Bearer t"))
        self.asked.setdefault(request.path, []).append(number)
        takes_s = float(request.template)
        await asyncio.sleep(min(takes_s, timeout_s))
        if takes_s > timeout_s:
            return TransportFault(fault=NetworkFault.TIMEOUT, text="")
        if number < self.generation(asyncio.get_running_loop().time()):
            self.rejected.add(number)
            return reply(401)
        return reply(200)

    async def token(self, timeout_s):
        self.token_requests += 1
        self.token_requests_lost += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(min(self.token_takes_s, timeout_s))
        finally:
            self.at_once -= 1
        if self.token_takes_s > timeout_s:
            return TransportFault(fault=NetworkFault.TIMEOUT, text="")
        self.token_requests_lost -= 1
        return reply(200, json.dumps(self.grant()).encode())

    def grant(self):
        number = self.generation(asyncio.get_running_loop().time() - self.lags_s)
        return {"access_token": f"t{number}", "expires_in": self.expires_in}

    async def close(self):
        pass


def play(api, callers):
    """Every caller's answer, and its time."""

    async def everyone():
        loop = asyncio.get_running_loop()
        auth = ClientCredentials(token_path=TOKEN_PATH, client_id="me", read_secret=lambda: "s3cret")
        clocks = {"monotonic": loop.time, "utcnow": lambda: NOW}
        client = Client(transport=api, auth=auth, throttle=Throttle(**clocks), rand=lambda: 0.5, **clocks)

        async def call(number, caller):
            await asyncio.sleep(caller.at_s)
            request = Request(method="GET", path=f"/items/{number}", template=str(caller.takes_s))
            answer = await client.send(request, deadline_s=caller.at_s + caller.has_s)
            return answer, loop.time()

        return await asyncio.gather(*(call(number, caller) for number, caller in enumerate(callers)))

    return virtual_time.run(everyone())


INSTANTS = st.integers(0, 400).map(lambda tenths: tenths / 10)
CALLERS = st.lists(st.builds(Caller, at_s=INSTANTS, takes_s=st.sampled_from([0.0, 0.1, 2.0, 7.0])), max_size=50)
HASTY = st.lists(
    st.builds(
        Caller, at_s=INSTANTS, takes_s=st.sampled_from([0.0, 0.1, 2.0]), has_s=st.sampled_from([0.05, 1.0, 4.0, LONG_S])
    ),
    max_size=50,
)
REVOCATIONS = st.lists(INSTANTS, max_size=4, unique=True)
TOKEN_TAKES_S = st.sampled_from([0.0, 0.3, 3.0, 11.0])
LAGS_S = st.sampled_from([0.0, 2.0, 1e6])


@given(CALLERS, REVOCATIONS, TOKEN_TAKES_S, LAGS_S)
@example([Caller(1.0, 0.1)] * 50, [1.05], 3.0, 0.0)
@example([Caller(n / 10, 0.1) for n in range(50)], [1.05, 2.0], 3.0, 2.0)
def test_each_rejected_token_costs_one_token_request_and_no_call_is_replayed_twice(callers, revoked, takes_s, lags_s):
    api = Api(revoked_at_s=revoked, token_takes_s=takes_s, lags_s=lags_s)
    answers = play(api, callers)

    assert api.token_requests <= (1 if callers else 0) + len(api.rejected)
    assert api.most_at_once <= 1
    assert all(len(tokens) <= 2 for tokens in api.asked.values())
    assert all(len(set(tokens)) == len(tokens) for tokens in api.asked.values()), "a replay goes with another token"
    assert all(answer.error is None or answer.error.status == 401 for answer, _ in answers)


@given(CALLERS, REVOCATIONS, TOKEN_TAKES_S, st.sampled_from([0, -1, 1e-9, "0.5", 1, 10, 90, "150", 1e300, "nan"]))
@example([Caller(n / 100, 0.0) for n in range(50)], [], 0.0, 1e-9)
@example([Caller(0.0, 0.1)] * 50, [], 3.0, "0.5")
def test_short_lived_tokens_are_requested_at_most_once_per_second(callers, revoked, takes_s, life):
    api = Api(revoked_at_s=revoked, token_takes_s=takes_s, expires_in=life)
    play(api, callers)

    refresh_after_s = read_token(
        reply(200, json.dumps({"access_token": "t", "expires_in": life}).encode())
    ).refresh_after_s
    last_s = max((caller.at_s + caller.takes_s for caller in callers), default=0.0) + 2 * takes_s
    assert api.token_requests <= 1 + len(api.rejected) + last_s / max(1.0, takes_s, refresh_after_s)
    assert api.most_at_once <= 1


@given(HASTY, REVOCATIONS, TOKEN_TAKES_S)
@example([Caller(0.0, 0.1, has_s=1.0)] * 49 + [Caller(0.0, 0.1)], [], 3.0)
def test_calls_past_their_deadline_end_in_time_and_block_no_other(callers, revoked, takes_s):
    api = Api(revoked_at_s=revoked, token_takes_s=takes_s)
    answers = play(api, callers)

    assert api.token_requests <= (1 if callers else 0) + len(api.rejected) + api.token_requests_lost
    assert api.most_at_once <= 1
    for caller, (answer, at_s) in zip(callers, answers, strict=True):
        assert at_s <= caller.at_s + caller.has_s + 1e-6
        if caller.has_s == LONG_S:
            assert answer.error is None or answer.error.status == 401
        elif answer.error is not None:
            assert answer.error.status == 401 or answer.error.code == DEADLINE_EXCEEDED
