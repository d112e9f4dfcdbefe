import json
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.receiver import Receiver
from support.samples import NOW, message

from monitor.app import send_once
from monitor.config.secret import Secret
from monitor.model import Cause, Severity, Team
from monitor.notifications.channels import SendOutcome, SendResult, send_with_fallback
from monitor.notifications.channels.slack import SlackChannel, as_blocks, as_text, escape_and_cut
from monitor.notifications.messages import MessageKind

KEY = "3f1c0d5e8a2b4c6f9e7d1a0b2c3d4e5f"
SNAPSHOT = Path(__file__).parent / "slack_payload.json"
ask_briefly = partial(send_once, timeout_s=5)
CANARY = "T0K3N-canary"


async def sent(*answers, path=""):
    """Sends a message; returns the result, and the keys and bodies that Slack got."""
    with Receiver(*answers) as receiver:
        channel = SlackChannel(lambda: receiver.url + path, ask_briefly)
        result = await send_with_fallback(channel, message(), key=KEY)
        return result, [(headers["idempotency-key"], body) for _, headers, body in receiver.got]


def texts(payload):
    """Every text object of the blocks."""
    for block in payload["blocks"]:
        yield from (block[name] for name in ("text",) if name in block)
        yield from block.get("fields", block.get("elements", []))


def shown(payload):
    """The visible text, line by line."""
    return [text["text"] for text in texts(payload)]


# --- what is sent ----------------------------------------------------------------------------------------------------


async def test_a_message_is_complete_as_blocks():
    result, ((key, body),) = await sent()
    assert result == SendResult(outcome=SendOutcome.DELIVERED, reason="accepted")
    assert key == KEY
    assert body == json.loads(SNAPSHOT.read_text(encoding="utf-8"))


VARIANTS = [
    (MessageKind.OPENED, Severity.CRITICAL, "🔴"), (MessageKind.UPDATED, Severity.WARNING, "🟠"),
    (MessageKind.REMINDER, Severity.INFO, "🔵"), (MessageKind.ACKNOWLEDGED, Severity.CRITICAL, "🟡"),
    (MessageKind.RESOLVED, Severity.CRITICAL, "🟢"), (MessageKind.TEST, Severity.INFO, "⚪"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "severity", "mark"), VARIANTS, ids=[kind for kind, _, _ in VARIANTS])
def test_the_emoji_shows_the_severity_or_kind(kind, severity, mark):
    (header, *_) = shown(as_blocks(message(kind=kind, severity=severity, title="a title")))
    assert header == f"{mark} a title"


def test_a_resolution_has_the_duration_and_nothing_to_check():
    resolution = message(
        kind=MessageKind.RESOLVED, what_to_check=(), facts=(("duration", "12 min"),), safe_message="It is over.",
        at=NOW + timedelta(minutes=7), title="gloo-prod: the API rejects the credentials: resolved",
    )  # fmt: skip
    *lines, context = shown(as_blocks(resolution))
    title = "🟢 gloo-prod: the API rejects the credentials: resolved"
    assert lines == [title, "*duration*", "12 min", "*For your users*", "It is over."]
    for part in ("cause: unauthorized", "severity: critical", "team: credentials", "environment: production"):
        assert part in context.split(" · ")
    assert "2026-03-01 12:07 UTC · incident 1" in context


def test_a_test_message_names_no_incident():
    *_, context = shown(as_blocks(message(incident_id=0, kind=MessageKind.TEST, facts=())))
    assert "incident" not in context


def test_the_command_for_details_appears_once():
    assert json.dumps(as_blocks(message())["blocks"]).count("ingestion-monitor incidents show 1") == 1


def test_the_commands_are_below_the_attributes():
    commands = (("acknowledge", "ingestion-monitor incidents ack 1"), ("silence", "ingestion-monitor silences add …"))
    *_, context = shown(as_blocks(message(commands=commands)))
    assert context.splitlines()[1:] == [
        "acknowledge: ingestion-monitor incidents ack 1",
        "silence: ingestion-monitor silences add …",
    ]


@pytest.mark.parametrize(
    ("count", "named"), [(3, "incidents 1, 2, 3"), (22, f"incidents {', '.join(map(str, range(1, 21)))} and 2 more")]
)
def test_a_message_for_several_incidents_names_their_numbers(count, named):
    parts = tuple(message(number) for number in range(1, count + 1))
    given = message(title="all targets", parts=parts, facts=(("targets", "de, fr"),))
    header, *_, context = shown(as_blocks(given))
    assert header == "🔴 all targets"
    assert context.endswith(named)
    assert "de, fr" in shown(as_blocks(given))


def test_a_label_with_markup_characters_is_plain_text():
    fields = list(texts(as_blocks(message(facts=(("gloo_*prod*", "down"), ("since", "noon"))))))
    assert [field["type"] for field in fields if field["text"] in {"gloo_*prod*", "*since*"}] == [
        "plain_text",
        "mrkdwn",
    ]


def test_facts_that_do_not_fit_are_counted():
    many = tuple((f"label {number}", "value") for number in range(500))
    payload = as_blocks(message(facts=many))
    assert len(payload["blocks"]) <= 50
    values = [field["text"] for block in payload["blocks"] for field in block.get("fields", [])]
    assert len(values) == 200
    assert values[-4:] == ["*label 98*", "value", "*…*", "401 more"]


def test_a_title_that_is_too_long_for_slack_is_cut():
    (header, *_) = shown(as_blocks(message(title="t" * 200)))
    assert header == "🔴 " + "t" * 146 + "…"  # the mark counts twice


# --- hostile text ----------------------------------------------------------------------------------------------------

HOSTILE = {
    "mention": ("<!channel>", "&lt;!channel&gt;"),
    "user": ("<@U012AB3CD>", "&lt;@U012AB3CD&gt;"),
    "link": ("<https://evil.example|click>", "&lt;https://evil.example|click&gt;"),
    "entity": ("&lt;!here&gt;", "&amp;lt;!here&amp;gt;"),
    "markup": ("*bold* _it_ ~no~ `code`", "*bold* _it_ ~no~ `code`"),
    "quote": (">>> quote", "&gt;&gt;&gt; quote"),
    "lines": ("a\r\nfake: fact\n", "a  fake: fact"),
    "terminal": ("a\x1b[31mb\x00", "a [31mb"),
    "bidi": ("abc\u202egpj.exe", "abc gpj.exe"),
    "surrogate": ("a\ud800b", "a b"),
    "nothing": ("\x00\x01", "-"),
}


@pytest.mark.parametrize(("hostile", "inert"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_inert(hostile, inert):
    payload = as_blocks(message(facts=(("sample ids", hostile),)))
    assert {"type": "plain_text", "text": inert, "emoji": False} in list(texts(payload))
    assert not payload["mrkdwn"]
    assert inert.replace("@", "@\u200b") in payload["text"]


def test_the_text_for_clients_without_blocks_mentions_nobody():
    text = as_text(message(facts=(("sample ids", "@here @channel @everyone"),)))["text"]
    assert not {"@here", "@channel", "@everyone"} & set(text.split())


def test_a_line_break_in_a_value_starts_no_new_line():
    plain = as_text(message(facts=(("sample ids", "a\n  check: nothing, all is well"),)))["text"]
    assert "\n  check: nothing" not in plain


ANY_TEXT = st.text(st.characters(), max_size=40) | st.text("<>&*_~`@!|\r\n\x00\u202e", max_size=40)
LONG = st.builds(lambda text, times: text * times, ANY_TEXT, st.integers(1, 200))


@given(
    title=LONG,
    checks=st.lists(LONG, max_size=30),
    facts=st.lists(st.tuples(ANY_TEXT, LONG), max_size=30),
    environment=ANY_TEXT,
)
def test_any_message_makes_a_payload_within_slacks_limits(title, checks, facts, environment):
    given = message(title=title, what_to_check=tuple(checks), facts=tuple(facts), environment=environment)
    payload = as_blocks(given)
    assert json.loads(json.dumps(payload)) == payload
    assert 1 <= len(payload["blocks"]) <= 50
    assert len(payload["blocks"][0]["text"]["text"].encode("utf-16-le")) <= 2 * 150
    for block in payload["blocks"]:
        assert len(block.get("fields", [])) <= 10
        assert all(len(field["text"].encode("utf-16-le")) <= 2 * 2000 for field in block.get("fields", []))
    every = [payload["text"], *shown(payload)]
    for text in every:
        assert 0 < len(text.encode("utf-16-le")) <= 2 * 3000
        assert not set("<>") & set(text)
        assert all(each.isprintable() or each in "\n\u200b" for each in text)
    bold = {text["text"] for text in texts(payload) if text["type"] == "mrkdwn"}
    assert all(not set("*_~`") & set(text[1:-1]) for text in bold), "nothing that could close the bold"


@given(st.text(), st.integers(1, 50))
def test_a_cut_never_splits_an_escape(text, limit):
    made = escape_and_cut(text, limit)
    left = made.removesuffix("…").replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
    assert "&" not in left
    assert len(made.encode("utf-16-le", "surrogatepass")) <= 2 * limit


# --- results ---------------------------------------------------------------------------------------------------------

OK = (200, {}, b"ok")
OUTCOMES = {
    "ok": ([OK], SendOutcome.DELIVERED, "accepted", 1),
    "no service": (
        [(404, {}, b"no_service")],
        SendOutcome.SUSPENDED,
        "HTTP 404: the webhook is removed or disabled",
        1,
    ),
    "archived": ([(410, {}, b"channel_is_archived")], SendOutcome.SUSPENDED, "HTTP 410: the channel is archived", 1),
    "prohibited": (
        [(403, {}, b"action_prohibited")],
        SendOutcome.SUSPENDED,
        "HTTP 403: the workspace does not allow this",
        1,
    ),
    "token": ([(401, {}, b"invalid_token")], SendOutcome.SUSPENDED, "HTTP 401: the webhook is revoked", 1),
    "limited": ([(429, {"Retry-After": "17"}, b"")], SendOutcome.RETRY, "HTTP 429", 1),
    "down": ([(503, {}, b"")], SendOutcome.RETRY, "HTTP 503", 1),
    "blocks refused": ([(400, {}, b"invalid_payload"), OK], SendOutcome.DELIVERED, "accepted", 2),
    "too long": ([(413, {}, b""), OK], SendOutcome.DELIVERED, "accepted", 2),
    "unprocessable": ([(422, {}, b""), OK], SendOutcome.DELIVERED, "accepted", 2),
    "refused for good": (
        [(400, {}, b"invalid_payload")],
        SendOutcome.REFUSED,
        "HTTP 400: Slack can't read the message",
        2,
    ),
    "limited at last": ([(400, {}, b""), (429, {}, b"")], SendOutcome.RETRY, "HTTP 429", 2),
}


@pytest.mark.parametrize(("answers", "outcome", "reason", "requests"), OUTCOMES.values(), ids=OUTCOMES)
async def test_what_slacks_responses_mean(answers, outcome, reason, requests):
    result, got = await sent(*answers)
    assert (result.outcome, result.reason, len(got)) == (outcome, reason, requests)


async def test_retry_after_is_read():
    result, _ = await sent((429, {"Retry-After": "17"}, b""))
    assert result.retry_after == timedelta(seconds=17)


async def test_a_refused_message_is_sent_once_more_as_plain_text():
    _, ((_, first), (key, second)) = await sent((400, {}, b"invalid_blocks"))
    assert key == f"{KEY}-plain"
    assert "blocks" not in second
    assert second["text"] == first["text"]
    assert second["text"].startswith("[critical] gloo-prod: the API rejects the credentials")


async def test_the_reason_holds_neither_the_url_nor_slacks_text():
    echo = (404, {"x-request-id": CANARY}, f"no_service {CANARY}".encode())
    answered, _ = await sent(echo, path=f"/{CANARY}?token={CANARY}")
    silent = await SlackChannel(lambda: f"http://127.0.0.1:1/{CANARY}", ask_briefly).send(message(), key=KEY)
    assert [answered.reason, silent.reason] == ["HTTP 404", "no answer (refused)"]


async def test_a_url_that_can_t_be_read_suspends_the_channel_and_names_the_file(tmp_path):
    result = await SlackChannel(Secret.from_file(tmp_path / "url").reveal, ask_briefly).send(message(), key=KEY)
    assert result.outcome is SendOutcome.SUSPENDED
    assert str(tmp_path / "url") in result.reason


def test_every_cause_severity_and_team_can_be_sent():
    for cause in Cause:
        assert as_blocks(message(cause=cause))["blocks"]
    for severity in Severity:
        for team in Team:
            assert as_blocks(replace(message(), severity=severity, team=team))["blocks"]


# --- an answer of 200 that says no ------------------------------------------------------------------------------------

NO = {
    "revoked": (b'{"ok": false, "error": "invalid_auth", "warning": "missing_charset"}', SendOutcome.SUSPENDED),
    "no channel": (b'{"ok":false,"error":"channel_not_found"}', SendOutcome.SUSPENDED),
    "a relay's text": (b"no_service", SendOutcome.SUSPENDED),
    "too long": (b'{"ok": false, "error": "msg_too_long"}', SendOutcome.REFUSED),
    "rate limit": (b'{"ok": false, "error": "ratelimited"}', SendOutcome.RETRY),
    "unknown error": (b'{"ok": false, "error": "T0K3N-canary"}', SendOutcome.RETRY),
    "no error named": (b'\xef\xbb\xbf{"ok": false}\n', SendOutcome.RETRY),
    "odd error": (b'{"ok": false, "error": {"code": 7}}', SendOutcome.RETRY),
    "a login page": (b"\n<!DOCTYPE html><html>T0K3N-canary</html>", SendOutcome.RETRY),
    "an XHTML page": (b'\xef\xbb\xbf<?xml version="1.0"?><html>T0K3N-canary</html>', SendOutcome.RETRY),
    "a page that begins with a comment": (b"<!-- T0K3N-canary --><head><title>Login</title></head>", SendOutcome.RETRY),
    "a part of a page": (b"<title>T0K3N-canary</title>", SendOutcome.RETRY),
    "another server's word": (b'{"success": false, "error": "error-room-not-found"}', SendOutcome.RETRY),
}


@pytest.mark.parametrize(("body", "outcome"), NO.values(), ids=NO)
async def test_a_200_whose_body_says_no_is_a_refusal(body, outcome):
    result, posts = await sent((200, {"content-type": "application/json"}, body))
    assert result.outcome is outcome
    assert CANARY not in result.reason
    assert len(posts) == (2 if outcome is SendOutcome.REFUSED else 1)


async def test_a_rate_limit_says_how_long_to_wait():
    result, _ = await sent((200, {"retry-after": "30"}, b'{"ok": false, "error": "ratelimited"}'))
    assert result.retry_after == timedelta(seconds=30)


@pytest.mark.parametrize(
    "body", [b"ok", b"", b'{"ok": true}', b'{"ok": true, "error": ""}', b"[]", b"null", b"false", b"{", b"\xff"]
)
async def test_any_other_200_is_a_delivery(body):
    result, _ = await sent((200, {}, body))
    assert result == SendResult(outcome=SendOutcome.DELIVERED, reason="accepted")
