"""The safe message of each cause for end users; and that the API's own text is in no message."""

import json
import logging
import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.observed import events
from support.receiver import Receiver
from support.samples import NOW, incident, message
from support.thinned import ends_only
from support.world import environment

from monitor.cli import main
from monitor.model import Cause, IncidentState, Team
from monitor.notifications.channels.slack import as_blocks
from monitor.notifications.messages import Message, MessageKind, render, shown_safe_message, to_text
from monitor.notifications.texts import SAFE_MESSAGE_RESOLVED, SAFE_MESSAGES, safe_message
from monitor.providers.registry import built_in_names
from monitor.reports.incidents import incident_json, incident_text

SENTENCES = {**{cause.value: sentence for cause, sentence in SAFE_MESSAGES.items()}, "all clear": SAFE_MESSAGE_RESOLVED}
PAGES = Path(__file__).parents[2] / "docs" / "providers"
NAMES = {*built_in_names(), *(word for page in PAGES.glob("*.md") for word in page.stem.split("-")), "slack", "uppzy"}
INTERNALS = {
    "api", "authentication", "backend", "bug", "client", "code", "credential", "credentials", "database", "error",
    "gateway", "http", "id", "ids", "ingestion", "key", "limit", "log", "monitor", "network", "pipeline", "provider",
    "proxy", "quota", "rate", "request", "requests", "server", "status", "sync", "tenant", "timeout", "token",
    "upstream", "url", "webhook",
}  # fmt: skip
BLAME = {"fault", "blame", "mistake", "their", "your"}


def words(sentence):
    return set(re.findall(r"[a-z]+", sentence.lower()))


# --- the table -------------------------------------------------------------------------------------------------------


def test_every_cause_has_a_safe_message():
    assert set(SAFE_MESSAGES) == set(Cause)
    assert all(safe_message(cause) == SAFE_MESSAGES[cause] for cause in Cause)


@pytest.mark.parametrize("sentence", SENTENCES.values(), ids=SENTENCES)
def test_a_safe_message_fits_a_status_page(sentence):
    assert len(sentence) <= 200
    assert sentence.endswith(".")
    assert sentence == " ".join(sentence.split())
    assert sentence.isprintable()
    assert sentence[0].isupper()


@pytest.mark.parametrize("sentence", SENTENCES.values(), ids=SENTENCES)
def test_a_safe_message_reveals_no_internals(sentence):
    assert not re.search(r"[0-9_<>{}`@*/\\]|https?:|www\.", sentence)
    assert words(sentence) & (NAMES | INTERNALS | BLAME) == set()
    assert not {team.value for team in Team} & words(sentence)


@pytest.mark.parametrize("cause", Cause)
def test_a_safe_message_names_documents_and_what_to_expect(cause):
    assert "document" in SAFE_MESSAGES[cause].lower()
    assert len(re.split(r"[.;:] ", SAFE_MESSAGES[cause])) >= 2, "what is affected, and what to expect"


def test_causes_that_look_the_same_to_users_share_a_safe_message():
    ours = {
        SAFE_MESSAGES[cause] for cause in (Cause.UNAUTHORIZED, Cause.FORBIDDEN, Cause.WRONG_SCOPE, Cause.BAD_REQUEST)
    }
    assert len(ours) == 1
    assert SAFE_MESSAGES[Cause.ITEMS_STUCK] != SAFE_MESSAGES[Cause.ITEMS_FAILED]


@pytest.mark.parametrize("cause", Cause)
def test_a_resolved_incident_has_the_safe_message_for_resolved_problems(cause):
    assert safe_message(cause, resolved=True) == SAFE_MESSAGE_RESOLVED


# --- where it is shown -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("kind", [MessageKind.OPENED, MessageKind.UPDATED, MessageKind.REMINDER, MessageKind.RESOLVED])
def test_every_message_has_the_safe_message_of_its_cause(cause, kind):
    made = render(kind, incident(cause=cause), None, now=NOW)
    assert made.safe_message == safe_message(cause, resolved=kind is MessageKind.RESOLVED)


SHOWN = [
    (MessageKind.OPENED, True), (MessageKind.UPDATED, False), (MessageKind.REMINDER, False),
    (MessageKind.RESOLVED, True), (MessageKind.TEST, False),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "shown"), SHOWN, ids=[kind for kind, _ in SHOWN])
def test_openings_and_resolutions_show_the_safe_message(kind, shown):
    given = message(kind=kind, safe_message=None if kind is MessageKind.TEST else "A sentence.")
    assert shown_safe_message(given) == ("A sentence." if shown else None)
    assert ("  for your users: A sentence." in to_text(given).splitlines()) is shown
    assert ("*For your users*" in json.dumps(as_blocks(given)["blocks"])) is shown


def test_an_old_message_without_a_safe_message_is_sent_without_one():
    old = replace(message(), safe_message=None)
    assert "for your users" not in to_text(old)
    assert "For your users" not in json.dumps(as_blocks(old))
    assert Message.__dataclass_fields__["safe_message"].default is None


@pytest.mark.parametrize("state", IncidentState)
def test_incidents_show_has_the_safe_message(state):
    over = incident(state=state, resolved_at=NOW if state is IncidentState.RESOLVED else None)
    sentence = safe_message(Cause.UNAUTHORIZED, resolved=state is IncidentState.RESOLVED)
    text = incident_text(over, events=[], members=[], now=NOW)
    assert f"For your users: {sentence}" in " ".join(text.split())
    assert incident_json(over)["safe_message"] == sentence


# --- the API's own text is not sent ----------------------------------------------------------------------------------

CANARY = "c4n4ry"
QUOTES = f"could not read {CANARY}-sermon.pdf of {CANARY}@example.org"
ENTRY = {"type": "missing", "loc": ["path", CANARY], "msg": QUOTES, "input": QUOTES}
LIST = "/engine/v2/publisher"
ITEM = "/engine/v2/items"
SAYS = {
    "error as text": ("outage", {"status": 500, "body": {"error": QUOTES}}),
    "error and message": ("outage", {"status": 503, "body": {"error": QUOTES, "message": QUOTES, "trace_id": "t1"}}),
    "error object": ("outage", {"status": 502, "body": {"error": {"message": QUOTES, "type": "t", "fault": CANARY}}}),
    "detail object": ("forbidden", {"status": 403, "body": {"detail": {"message": QUOTES, "code": "forbidden"}}}),
    "detail as text": ("rate_limited", {"status": 429, "body": {"detail": QUOTES}, "headers": {"Retry-After": "0"}}),
    "details": ("bad_request", {"status": 422, "body": {"detail": [ENTRY, QUOTES]}}),
    "details of a 403": ("bad_request", {"status": 403, "body": {"detail": [ENTRY]}}),
    "spending limit": (
        "spending_limit",
        {"status": 429, "body": {"detail": QUOTES, "error": {"message": QUOTES, "code": "SPENDING_LIMIT_EXCEEDED"}}},
    ),
    "not found": ("wrong_scope", {"status": 404, "body": {"detail": {"message": QUOTES, "code": "Item not found"}}}),
    "plain text": ("outage", {"status": 500, "body": QUOTES}),
    "html": ("outage", {"status": 502, "body": f"<html><title>{QUOTES}</title>{QUOTES}</html>"}),
    "redirect": ("bad_response", {"status": 302, "headers": {"Location": f"https://{CANARY}.example/{CANARY}"}}),
    "body of a 200": ("bad_response", {"status": 200, "body": {"item_id": QUOTES, "message": QUOTES}}),
    "token endpoint": (
        "unauthorized",
        {"path": "/oauth2", "status": 401, "body": {"error": QUOTES, "error_description": QUOTES}},
    ),
}
BY_LIST = ("error and message", "detail object", "html", "redirect", "body of a 200")
"""Those of them that a list can have too."""
RUNS = ends_only([("items", *says) for says in SAYS.values()], ids=SAYS)
RUNS += [pytest.param("list", *SAYS[name], id=f"list, {name}", marks=pytest.mark.process) for name in BY_LIST]
CHANNELS = """
[[channels]]
name = "log"
type = "log"
[[channels]]
name = "people"
type = "slack"
url = "{slack}"
[[channels]]
name = "oncall"
type = "webhook"
url = "{webhook}"
"""
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
AT_ONCE = '[[rules]]\ncause = "{cause}"\nruns = 1\nof = 1\nfor = "0s"\n'


@pytest.fixture
def receivers():
    with Receiver() as slack, Receiver() as webhook:
        yield slack, webhook


@pytest.fixture
def call(small_world, capsys, monkeypatch):
    handlers = list(logging.getLogger().handlers)
    for name in set(os.environ) - set(environment()):
        monkeypatch.delenv(name)

    def command(*arguments):
        capsys.readouterr()
        main([*arguments, "--config", str(small_world.config_path)])
        out, err = capsys.readouterr()
        return out, err

    yield command
    logging.getLogger().handlers[:] = handlers


def watched(world, receivers, *, cause, strategy):
    slack, webhook = receivers
    more = CHANNELS.format(slack=slack.url, webhook=webhook.url) + AT_ONCE.format(cause=cause)
    world.configure(strategy=strategy, check="max_attempts = 1", more=more)
    count = 2 if cause == "rate_limited" else 6  # after a 429 each further request waits
    world.track(count, uploaded_at=LONG_AGO)


@pytest.mark.parametrize(("strategy", "cause", "fault"), RUNS)
def test_the_apis_own_text_reaches_no_channel_and_no_report(small_world, receivers, call, strategy, cause, fault):
    watched(small_world, receivers, cause=cause, strategy=strategy)
    small_world.sandbox.add_fault(**{"path": "/engine", **fault})

    said = [*call("check", "--log-level", "debug"), *call("check", "--json"), *call("report"), *call("history")]
    said += [*call("report", "--format", "json", "--peek"), *call("incidents", "list", "--json")]

    slack, webhook = ([body for *_, body in each.got] for each in receivers)
    opened = [body for body in webhook if body["cause"] == cause]
    assert opened, "an opening was sent"
    assert opened[0]["safe_message"] == SAFE_MESSAGES[Cause(cause)]
    assert SAFE_MESSAGES[Cause(cause)] in json.dumps(slack, ensure_ascii=False)
    assert SAFE_MESSAGES[Cause(cause)] in "".join(said), "the channel log"
    assert CANARY not in json.dumps([slack, webhook]) + "".join(said)


def test_a_gateways_headers_stay_in_the_log(small_world, receivers, call):
    watched(small_world, receivers, cause="outage", strategy="items")
    headers = {"Server": CANARY, "Via": f"1.1 {CANARY}"}
    small_world.sandbox.add_fault(path="/engine", status=504, body="x", headers=headers)

    out, logged = call("check")

    (given,) = events(logged, "incident_message")
    (failed,) = events(logged, "requests_failed")
    assert failed["gateway"]["server"] == CANARY
    assert CANARY not in json.dumps([given, *(each.got for each in receivers)]) + out


def test_incidents_show_has_the_apis_own_text(small_world, receivers, call):
    watched(small_world, receivers, cause="outage", strategy="items")
    small_world.sandbox.add_fault(path="/engine", status=500, body={"error": QUOTES})

    call("check")

    shown, _ = call("incidents", "show", "1")
    assert f"API says   {QUOTES}" in shown, "for the one who looks after it, and nowhere else"
