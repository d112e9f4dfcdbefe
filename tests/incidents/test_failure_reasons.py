"""Why items failed: from the API's answer to the item's row, the incident, its messages and the report."""

from dataclasses import replace

import pytest
from incidents.test_members import BY_GROUP, GLOO
from sqlalchemy import insert, update
from support.outcomes import row_after
from support.samples import NOW, incident

from monitor.database.engine import reading, writing
from monitor.database.tables import items
from monitor.incidents import members
from monitor.model import Cause, ItemState, ItemStatus, Outcome
from monitor.model.http import Reply
from monitor.model.items import TrackedItem, is_code, transition
from monitor.notifications.messages import MessageKind, render
from monitor.reports.trends import reasons_of_failures
from monitor.runs.outcomes import outcome_from_status

OK = Reply(status=200, headers={}, body=b"{}")

READ = {
    "a code": ("unsupported_file", None, ("unsupported_file", None)),
    "a code and a text": ("server_error", "It broke.", ("server_error", "It broke.")),
    "a text alone": (None, "It broke.", (None, "It broke.")),
    "a phrase is the text, too": ("No text found", None, ("No text found", "No text found")),
    "a phrase beside a text": ("No such page", "It broke.", ("No such page", "It broke.")),
    "a phrase on two lines": ("No\n text", "It broke.", ("No text", "It broke.")),
    "a long phrase is cut": ("ab " * 40, "It broke.", (("ab " * 20).strip(), "It broke.")),
    "one odd word is a text": ("größe.pdf", None, (None, "größe.pdf")),
    "neither": (None, None, (None, None)),
}


@pytest.mark.parametrize(("reason", "message", "stored"), READ.values(), ids=READ)
def test_a_reason_is_a_code_or_a_bounded_phrase(reason, message, stored):
    status = ItemStatus(state=ItemState.FAILED, stage="failed", failure_reason=reason, failure_message=message)
    outcome = outcome_from_status("a", OK, status, NOW)
    assert (outcome.failure_reason, outcome.failure_message) == stored


def test_only_a_failed_item_has_a_reason():
    status = ItemStatus(state=ItemState.PENDING, stage="retrying", failure_reason="server_error")
    assert outcome_from_status("a", OK, status, NOW).failure_reason is None


def test_secrets_are_masked_in_both():
    status = ItemStatus(state=ItemState.FAILED, stage="x", failure_reason="s3cret", failure_message="with s3cret")
    outcome = outcome_from_status("a", OK, status, NOW, redact=lambda text: text.replace("s3cret", "***"))
    assert (outcome.failure_reason, outcome.failure_message) == ("***", "with ***")


@pytest.mark.parametrize("text", ["unsupported_file", "E42", "parse.error/1", "HTTP_500", "x" * 60])
def test_what_is_a_code(text):
    assert is_code(text)


@pytest.mark.parametrize("text", ["", "It broke.", "x" * 61, "_x", "naïve", "a\nb", "a,b"])
def test_what_is_no_code(text):
    assert not is_code(text)


def test_the_reason_stays_while_the_item_is_unknown_and_goes_when_it_recovers():
    item = TrackedItem(
        item_id="a",
        first_seen_at=NOW,
        known_state=ItemState.FAILED,
        failure_reason="server_error",
        failure_message="It broke.",
    )
    unknown = row_after(item, transition(item, Outcome(item_id="a", state=ItemState.UNKNOWN, answered=False, at=NOW)))
    assert (unknown.failure_reason, unknown.failure_message) == ("server_error", "It broke.")
    well = row_after(item, transition(item, Outcome(item_id="a", state=ItemState.COMPLETED, answered=True, at=NOW)))
    assert (well.failure_reason, well.failure_message) == (None, None)


@pytest.fixture
def fail(engine):
    """Stores failed items with these reasons, a text for each."""

    def fail(*reasons, group=None):
        with writing(engine) as conn:
            for n, reason in enumerate(reasons):
                row = {"target": "gloo", "item_id": f"{group or ''}{n:02}", "state": "failed", "known_state": "failed"}
                told = {"failure_reason": reason, "failure_message": f"text {n}", "group_name": group}
                conn.execute(insert(items).values(row | told | {"first_seen_at": NOW}))

    return fail


def test_evidence_is_broken_down_by_reason_and_has_the_text_of_one(engine, fail):
    fail("server_error", "unsupported_file", None, "unsupported_file")
    with reading(engine) as conn:
        piece = GLOO.target_evidence(conn, Cause.ITEMS_FAILED, now=NOW)
    assert piece.breakdown == {"unsupported_file": 2, "no reason": 1, "server_error": 1}
    assert piece.api_message == "text 0"


def test_evidence_of_an_api_without_reasons_has_no_breakdown(engine, fail):
    fail(None, None)
    with reading(engine) as conn:
        assert GLOO.target_evidence(conn, Cause.ITEMS_FAILED, now=NOW).breakdown == {}
        by_group = BY_GROUP.group_evidence(conn, Cause.ITEMS_FAILED, now=NOW)
    assert [piece.breakdown for piece in by_group] == [{}]


def test_each_group_has_its_own_reasons(engine, fail):
    fail("a", "a", group="one")
    fail("b", None, group="two")
    with reading(engine) as conn:
        pieces = BY_GROUP.group_evidence(conn, Cause.ITEMS_FAILED, now=NOW)
    assert {piece.group: piece.breakdown for piece in pieces} == {"one": {"a": 2}, "two": {"b": 1, "no reason": 1}}


def test_many_reasons_are_counted_as_others(engine, fail):
    fail(*(f"r{n:02}" for n in range(13)))
    with reading(engine) as conn:
        piece = GLOO.target_evidence(conn, Cause.ITEMS_FAILED, now=NOW)
    assert len(piece.breakdown) == 11
    assert piece.breakdown["other reasons"] == 3


def test_messages_have_the_codes_and_not_the_texts(engine, fail):
    fail("server_error", "unsupported_file", "unsupported_file", "Smith can not be read", "Jones can not be read")
    with reading(engine) as conn:
        piece = GLOO.target_evidence(conn, Cause.ITEMS_FAILED, now=NOW)
    opened = replace(incident(cause=Cause.ITEMS_FAILED, target="gloo"), evidence=piece)
    message = render(MessageKind.OPENED, opened, None, now=NOW)
    assert ("reasons", "2 × a reason in words, 2 × unsupported_file, 1 × server_error") in message.facts
    assert not any("text" in value or "Smith" in value for _, value in message.facts)


def test_reports_group_failed_items_by_reason_last_known(engine, fail):
    fail("server_error", None, "unsupported_file", "unsupported_file")
    with writing(engine) as conn:
        conn.execute(update(items).where(items.c.item_id == "00").values(state="unknown"))
        conn.execute(update(items).where(items.c.item_id == "01").values(ignored_at=NOW))
    with reading(engine) as conn:
        total, reasons = reasons_of_failures(conn, targets=["gloo"], limit=1)["gloo"]
    assert (total, [(each.reason, each.items) for each in reasons]) == (2, [("unsupported_file", 2)])


def test_members_have_their_reason(engine, fail):
    fail("server_error")
    with writing(engine) as conn:
        conn.execute(update(items).values(incident_id=7))
    with reading(engine) as conn:
        (member,) = members.listing(conn, incident_id=7)
    assert member.failure_reason == "server_error"
