"""Who a request comes from, without HTTP: anonymous visits, tokens that change, limits."""

import pytest
from support.samples import NOW
from web.served import config

from monitor.logs import redact_text
from monitor.web.access.attempts import MAX_IN_ALL, WINDOW_S
from monitor.web.access.gate import Gate, Refusal
from monitor.web.access.sessions import cookie_name
from monitor.web.state import DaemonState, StateTracker

TOKEN = "a-token-of-this-page"


class Clock:
    def __init__(self):
        self.s = 0.0

    def __call__(self):
        return self.s


@pytest.fixture
def make(tmp_path):
    def gate(web, *, listen="127.0.0.1:0"):
        state = DaemonState(config=config(tmp_path, database="sqlite:///monitor.db", listen=listen, web=web))
        made = Gate(StateTracker(state, utcnow=lambda: NOW), monotonic=Clock())
        made.state = state
        return made

    return gate


async def identify(gate, *, client="192.0.2.1", cookie="", bearer=None, host="127.0.0.1"):
    return await gate.identify(
        host=host,
        cookies={cookie_name(secure=False): cookie},
        authorization="" if bearer is None else f"Bearer {bearer}",
        client=client,
    )


def value_of(header):
    return header.partition(";")[0].partition("=")[2]


async def test_a_visit_without_login_keeps_its_csrf_token(make):
    gate = make("actions = true")
    first = await identify(gate)
    again = await identify(gate, cookie=value_of(first.new_cookie))
    assert (again.new_cookie, again.viewer) == (None, first.viewer)
    assert (first.viewer.name, first.viewer.source, first.viewer.can_act) == (None, "page at 192.0.2.1", True)
    assert again.may_post({"csrf_token": first.viewer.csrf_token})
    assert not (await identify(gate)).may_post({"csrf_token": first.viewer.csrf_token})
    other_process = await identify(make("actions = true"), cookie=value_of(first.new_cookie))
    assert other_process.new_cookie is not None


async def test_without_actions_a_visit_needs_no_cookie(make):
    visitor = await identify(make(""))
    assert (visitor.new_cookie, visitor.viewer.can_see_all, visitor.viewer.can_act) == (None, True, False)
    assert not visitor.may_post({"csrf_token": ""})


async def test_a_token_is_not_asked_for_where_none_is_set(make):
    gate = make("", listen="0.0.0.0:0")
    assert (await identify(gate)).refusal is Refusal.NO_TOKEN_SET
    assert (await gate.log_in(token="", name="Ana", host="x", client="x")).refusal is Refusal.NO_TOKEN_SET


async def test_a_new_token_is_masked_in_the_log_and_ends_sessions(make, tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN, encoding="utf-8")
    gate = make(f'token_file = "{file}"')
    session = await gate.log_in(token=TOKEN, name="Ana", host="127.0.0.1", client="x")
    cookie = value_of(session.new_cookie)
    assert (await identify(gate, cookie=cookie)).viewer.name == "Ana"
    file.write_text("the-token-after-that", encoding="utf-8")
    assert (await identify(gate, cookie=cookie)).refusal is Refusal.NOT_LOGGED_IN
    assert "the-token-after-that" not in redact_text("x the-token-after-that x")
    assert (await identify(gate, bearer="the-token-after-that")).viewer.source == "API token at 192.0.2.1"


async def test_a_reload_that_takes_the_token_away_opens_loopback_again(make, tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN, encoding="utf-8")
    gate = make(f'token_file = "{file}"')
    assert (await identify(gate)).refusal is Refusal.NOT_LOGGED_IN
    gate.state.config = config(tmp_path, database="sqlite:///monitor.db", name="other.toml")
    assert (await identify(gate)).viewer.can_see_all


async def test_a_flood_of_wrong_tokens_locks_out_neither_sessions_nor_known_programs(make):
    gate = make(f'token = "{TOKEN}"')
    cookie = value_of((await gate.log_in(token=TOKEN, name="Ana", host="127.0.0.1", client="198.51.100.1")).new_cookie)
    for number in range(MAX_IN_ALL):
        assert (await identify(gate, client=f"192.0.2.{number}", bearer="wrong")).refusal is Refusal.WRONG_TOKEN
    stranger = await identify(gate, client="203.0.113.1", bearer=TOKEN)
    assert (stranger.refusal, stranger.wait_s) == (Refusal.LIMITED, WINDOW_S)
    assert (await identify(gate, client="203.0.113.1", cookie=cookie)).viewer.name == "Ana"
    assert (await identify(gate, client="198.51.100.1", bearer=TOKEN)).by_token
    gate._monotonic.s = WINDOW_S
    assert (await identify(gate, client="203.0.113.1", bearer=TOKEN)).by_token
