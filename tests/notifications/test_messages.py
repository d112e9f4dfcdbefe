from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from monitor.model import Cause, Evidence, Incident, IncidentState, RunStatus, Severity, Team
from monitor.notifications.messages import Message, MessageKind, RunFacts, breakdown_label, format_age, render, to_text
from monitor.notifications.texts import (
    CAUSE_TEXTS,
    SAFE_MESSAGES,
    WHAT_TO_CHECK,
    channel_target,
    describe_cause,
    display_name,
    format_items,
)

NOW = datetime(2026, 3, 1, 5, 40, tzinfo=UTC)
OPENED = datetime(2026, 3, 1, 3, 10, tzinfo=UTC)
EVIDENCE = Evidence(
    cause=Cause.UNAUTHORIZED, count=12, breakdown={"401": 12}, sample_ids=("a", "b"), request_ids=("req_1",),
    code="invalid_client", api_message="token for sermon.pdf rejected",
)  # fmt: skip
INCIDENT = Incident(
    id=7, target="gloo-prod", environment="production", cause=Cause.UNAUTHORIZED, state=IncidentState.OPEN,
    severity=Severity.CRITICAL, team=Team.CREDENTIALS, opened_at=OPENED, first_evidence_at=OPENED,
    last_evidence_at=NOW, evidence=EVIDENCE, peak_count=12,
)  # fmt: skip
KINDS = [kind for kind in MessageKind if kind is not MessageKind.TEST]
RUN = RunFacts(run_id=41, status=RunStatus.ABORTED, total=100, unknown=95, answered=5)


def test_an_opening_has_checks_facts_and_commands():
    text = to_text(render(MessageKind.OPENED, INCIDENT, RUN, now=NOW))
    assert text.splitlines() == [
        "[critical] gloo-prod: the API rejects the credentials (team: credentials, environment: production)",
        "  check: key rotation: was the client secret or API key rotated, but not updated in this deployment?",
        "  check: deployment configuration: does it hold the credentials of this environment?",
        "  check: revoked keys: is the client or key still active at the provider?",
        f"  for your users: {SAFE_MESSAGES[Cause.UNAUTHORIZED]}",
        "  since: 2026-03-01 03:10:00 UTC",
        "  evidence: 12 × 401",
        "  code: invalid_client",
        "  sample ids: a, b and 10 more",
        "  request ids: req_1",
        "  run 41: aborted: 100 items tracked, 5 answered, 95 unknown",
        "  details: ingestion-monitor incidents show 7",
        "  acknowledge: ingestion-monitor incidents ack 7",
        "  silence: ingestion-monitor silences add --incident 7 --for 4h",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_never_holds_the_apis_own_text(kind):
    message = render(kind, replace(INCIDENT, resolved_at=NOW), RUN, now=NOW)
    assert "sermon" not in repr(message)
    assert "sermon" not in to_text(message)


def test_a_resolution_has_the_duration_and_no_checks():
    message = render(MessageKind.RESOLVED, replace(INCIDENT, resolved_at=NOW), RUN, now=NOW)
    assert message.title == "gloo-prod: the API rejects the credentials: resolved"
    assert message.what_to_check == ()
    assert ("duration", "2 h 30 min") in message.facts
    unfinished = render(MessageKind.RESOLVED, INCIDENT, None, now=NOW)
    assert ("duration", "2 h 30 min") in unfinished.facts


TITLES = [
    (MessageKind.OPENED, False, "gloo-prod: 3 documents failed to ingest"),
    (MessageKind.OPENED, True, "gloo-prod: 3 documents failed to ingest: reopened"),
    (MessageKind.UPDATED, False, "gloo-prod: 3 documents failed to ingest: more documents affected"),
    (MessageKind.REMINDER, False, "gloo-prod: 3 documents failed to ingest: still open"),
]


@pytest.mark.parametrize(("kind", "reopened", "title"), TITLES, ids=["opened", "reopened", "updated", "reminder"])
def test_titles_of_messages(kind, reopened, title):
    failed = replace(INCIDENT, cause=Cause.ITEMS_FAILED, member_count=3, peak_count=5, evidence=None)
    message = render(kind, failed, None, now=NOW, reopened=reopened)
    assert message.title == title
    assert ("items", "3 (peak 5)") in message.facts


def test_a_few_items_are_all_named():
    with_evidence = Evidence(cause=Cause.ITEMS_FAILED, count=2, sample_ids=("a", "b"))
    message = render(MessageKind.OPENED, replace(INCIDENT, evidence=with_evidence), None, now=NOW)
    assert ("sample ids", "a, b") in message.facts
    assert "evidence" not in dict(message.facts)


def test_forbidden_without_an_accepted_request_also_suggests_the_credentials():
    forbidden = replace(INCIDENT, cause=Cause.FORBIDDEN)
    shut_out = render(MessageKind.OPENED, forbidden, replace(RUN, answered=0), now=NOW)
    assert any("rotated key" in check for check in shut_out.what_to_check)
    foreign = render(MessageKind.OPENED, forbidden, RUN, now=NOW)
    assert not any("credentials" in check for check in foreign.what_to_check)


AGES = [
    (timedelta(0), "0 s"),
    (timedelta(seconds=-5), "0 s"),
    (timedelta(seconds=200), "3 min 20 s"),
    (timedelta(days=42, hours=4, minutes=9), "42 d 4 h"),
    (timedelta(hours=1), "1 h"),
]


@pytest.mark.parametrize(("span", "text"), AGES, ids=[row[1] for row in AGES])
def test_ages_of_incidents(span, text):
    assert format_age(span) == text


def test_one_document_is_singular():
    assert describe_cause(Cause.ITEMS_STUCK, 1) == "1 document is stuck in ingestion"
    assert describe_cause(Cause.ITEMS_STUCK, 157) == "157 documents are stuck in ingestion"
    assert describe_cause(Cause.ITEMS_STUCK) == "documents are stuck in ingestion"
    assert describe_cause(Cause.OUTAGE, 3) == "the API is failing or can't be reached"


def test_every_cause_has_a_text_and_checks():
    assert set(CAUSE_TEXTS) == set(WHAT_TO_CHECK) == set(Cause)
    assert all(WHAT_TO_CHECK[cause] for cause in Cause)
    assert "key rotation" in WHAT_TO_CHECK[Cause.UNAUTHORIZED][0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_survives_being_stored_as_json(kind):
    message = render(kind, replace(INCIDENT, resolved_at=NOW), RUN, now=NOW)
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(message))), Message) == message


def test_evidence_without_items_has_no_samples():
    with_evidence = Evidence(cause=Cause.SYNC_LOG_UNREADABLE, count=1)
    failed_run = replace(INCIDENT, cause=Cause.SYNC_LOG_UNREADABLE, evidence=with_evidence)
    labels = dict(render(MessageKind.OPENED, failed_run, None, now=NOW).facts)
    assert set(labels) == {"since", "details"}


def test_a_failing_channel_is_named_with_its_last_error():
    failing = replace(INCIDENT, target="channel:oncall", cause=Cause.CHANNEL_FAILING, evidence=None)
    message = render(MessageKind.OPENED, failing, None, now=NOW, error="HTTP 401")
    assert message.title == "channel oncall: messages can't be delivered"
    assert (message.target, dict(message.facts)["last error"]) == ("channel:oncall", "HTTP 401")
    over = replace(failing, state=IncidentState.RESOLVED, resolved_at=NOW)
    assert "last error" not in dict(render(MessageKind.RESOLVED, over, None, now=NOW).facts)


def test_items_are_counted_by_status():
    with_evidence = Evidence(cause=Cause.UNRECOGNISED_STATUS, count=3, breakdown={"MARINATING": 2, "RESTING": 1})
    unrecognised = replace(INCIDENT, cause=Cause.UNRECOGNISED_STATUS, evidence=with_evidence, member_count=3)
    message = render(MessageKind.OPENED, unrecognised, None, now=NOW)
    assert ("statuses", "2 × MARINATING, 1 × RESTING") in message.facts
    assert any("`statuses`" in check for check in message.what_to_check)


@pytest.mark.parametrize(
    ("cause", "label"),
    [
        (Cause.ITEMS_UNVERIFIED, "answers"),
        (Cause.ITEMS_FAILED, "reasons"),
        (Cause.ITEMS_STUCK, "statuses"),
        (Cause.OUTAGE, "evidence"),
    ],
)
def test_a_breakdown_says_what_it_counts(cause, label):
    assert breakdown_label(cause) == label


def test_items_are_counted_in_words():
    assert (format_items(1), format_items(12)) == ("1 item", "12 items")


def test_targets_and_channels_have_different_names():
    assert (display_name("gloo-prod"), display_name(channel_target("oncall"))) == ("gloo-prod", "channel oncall")


def test_an_acknowledged_incident_has_no_acknowledge_command():
    acknowledged = replace(INCIDENT, state=IncidentState.ACKNOWLEDGED)
    assert [label for label, _ in render(MessageKind.UPDATED, acknowledged, None, now=NOW).commands] == ["silence"]


FAILED = replace(INCIDENT, cause=Cause.ITEMS_FAILED, team=Team.PIPELINE, evidence=None, member_count=15, peak_count=15)
BREAKDOWNS = [
    ("no group at all", {"": 15}, None),
    ("one named group", {"faq": 15}, "15 × faq"),
    ("several", {"sermons": 12, "letters": 3}, "12 × sermons, 3 × letters"),
    ("some without", {"faq": 9, "": 6}, "9 × faq, 6 × without a group"),
    ("one more than are named", {**dict.fromkeys("abcde", 2), "f": 5}, "2 × a, 2 × b, 2 × c, 2 × d, 2 × e, 5 × f"),
    ("more than are named", {**dict.fromkeys("abcdef", 2), "g": 1}, "2 × a, 2 × b, 2 × c, 2 × d, 2 × e, 5 × others"),
    ("more than are known", dict.fromkeys("ab", 5), "5 × a, 5 × b, 5 × others"),
    ("names that are no line", {"a\nb" + "x" * 90: 15}, "15 × a b" + "x" * 57),
    ("names that are nothing", {"\u200b": 15}, "15 × ?"),
]


@pytest.mark.parametrize(("by_group", "expected"), [b[1:] for b in BREAKDOWNS], ids=[b[0] for b in BREAKDOWNS])
def test_items_are_counted_by_group(by_group, expected):
    message = render(MessageKind.OPENED, replace(FAILED, by_group=by_group), RUN, now=NOW)
    assert dict(message.facts).get("groups") == expected


@pytest.mark.parametrize(("kind", "ending"), [(MessageKind.OPENED, ""), (MessageKind.RESOLVED, ": resolved")])
def test_an_incident_of_one_group_names_it_and_has_no_breakdown(kind, ending):
    incident_of_group = replace(FAILED, group="sermons", member_count=3, by_group={"sermons": 3}, resolved_at=NOW)
    message = render(kind, incident_of_group, RUN, now=NOW)
    assert message.title == f"gloo-prod (sermons): 3 documents failed to ingest{ending}"
    assert (message.group, "groups" in dict(message.facts)) == ("sermons", False)
    assert display_name("gloo-prod", "a" * 99) == f"gloo-prod ({'a' * 60})"


def test_an_acknowledged_message_has_no_acknowledge_command():
    acknowledged = replace(INCIDENT, state=IncidentState.ACKNOWLEDGED)
    commands = dict(render(MessageKind.UPDATED, acknowledged, RUN, now=NOW).commands)
    assert commands == {"silence": "ingestion-monitor silences add --incident 7 --for 4h"}
