"""Waits as text and JSON values: what a reader of a CI log must find, and no text of the API."""

from dataclasses import replace
from datetime import timedelta

import pytest
from support.samples import NOW
from waits.test_rules import COMPLETED, DOWN, MISSING, PENDING, outcome, unknown, watched

from monitor.model import Cause, ItemState
from monitor.model.http import BREAKER_OPEN, ApiError, NetworkFault
from monitor.reports.waits import (
    error_words,
    format_seconds,
    progress_text,
    status_text,
    summary_json,
    summary_line,
    wait_json,
    wait_text,
)
from monitor.waits.report import WaitReport, item_report
from monitor.waits.rules import Tally, WaitResult, tally
from monitor.waits.store import StoredWait, WaitSummary


def report(*items, result, cause=None, **more):
    plain = {
        "target": "gloo", "started_at": NOW, "duration_s": 12.34, "timeout": timedelta(minutes=2), "requests": 5,
    }  # fmt: skip
    counts = tally(items)
    return WaitReport(**plain, result=result, cause=cause, items=tuple(map(item_report, items)), counts=counts, **more)


DONE, OPEN, LOST = watched(outcomes=[COMPLETED], settled=True), watched(outcomes=[PENDING]), watched(outcomes=[DOWN])
FIRST_LINES = {
    "one completed": (report(DONE, result=WaitResult.COMPLETED), ["the item is completed, after 12.3s."]),
    "stopped without a cause": (
        report(watched(), result=WaitResult.STOPPED),
        [
            "stopped after 12.3s, since waiting does not help: no item can be asked about.",
            "0 of 1 completed; 1 unknown.",
        ],
    ),
    "interrupted": (
        report(OPEN, result=WaitResult.INTERRUPTED),
        ["interrupted after 12.3s: 0 of 1 completed; 1 pending."],
    ),
    "an outage": (
        report(LOST, result=WaitResult.TIMED_OUT, cause=Cause.OUTAGE),
        ["time ran out (2m): 0 of 1 completed; 1 unknown.", "The last error: the API is failing or can't be reached."],
    ),
}


@pytest.mark.parametrize(("found", "sentences"), FIRST_LINES.values(), ids=FIRST_LINES)
def test_the_first_line_says_how_it_ended(found, sentences):
    assert wait_text(found).splitlines()[0] == f"gloo: {' '.join(sentences)}"


DETAILS = {
    "failed, with a reason": (
        outcome(ItemState.FAILED, stage="bad", failure_reason="empty_file", failure_message="letter to Ana"),
        "bad: empty_file",
    ),
    "rejected by the API": (
        outcome(ItemState.INVALID, error=ApiError(status=400, code="bad_id", message="Ana")), "HTTP 400 bad_id",
    ),
    "an error with a sentence as its code": (
        outcome(ItemState.INVALID, error=ApiError(status=400, code="the letter to Ana")), "HTTP 400",
    ),
    "never asked": (None, "no answer yet"),
}  # fmt: skip


@pytest.mark.parametrize(("said", "detail"), DETAILS.values(), ids=DETAILS)
def test_each_item_has_its_reason_and_no_text_of_the_api(said, detail):
    text = wait_text(report(watched("item-1", outcomes=[said] if said else []), result=WaitResult.TIMED_OUT))
    assert text.splitlines()[2].endswith(f"item-1  {detail}")
    assert "Ana" not in text


def test_a_failure_after_an_answer_is_shown_beside_it():
    pending = watched("a", outcomes=[PENDING, DOWN])
    missing = watched("b", outcomes=[MISSING, DOWN])
    lines = wait_text(report(pending, missing, result=WaitResult.TIMED_OUT)).splitlines()
    assert lines[2].split(maxsplit=2)[2] == "x, then HTTP 503"
    assert lines[3].split(maxsplit=2)[2] == "not found yet, then HTTP 503"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ApiError(status=503), "HTTP 503"),
        (ApiError(status=401, from_token_endpoint=True, code="no"), "HTTP 401 no from the token endpoint"),
        (ApiError(status=200), "HTTP 200 (by its body)"),
        (ApiError(status=None, network=NetworkFault.TIMEOUT), "timeout"),
        (ApiError(status=None, code=BREAKER_OPEN), "the service is down"),
        (ApiError(status=None, code="unusable_credentials"), "unusable credentials"),
        (ApiError(status=None), "no answer"),
    ],
)  # fmt: skip
def test_an_error_in_few_words(error, words):
    assert error_words(error) == words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0004, "0ms"), (0.85, "850ms"), (6.2, "6.2s"), (60, "1m"), (110, "1m50s"), (7500, "2h5m"), (3600, "1h")],
)
def test_durations(seconds, text):
    assert format_seconds(seconds) == text


def test_progress_names_the_last_error_only_while_something_is_unknown():
    error = ApiError(status=503)
    counts = Tally(asked=3, completed=1, unknown=2)
    shown = progress_text("gloo", counts, elapsed_s=30.4, timeout=timedelta(minutes=2), error=error)
    assert shown == "waiting for gloo (30s of 2m): 1 of 3 completed; 2 unknown; the last error was HTTP 503"
    counts = replace(counts, completed=3, unknown=0)
    assert "error" not in progress_text("gloo", counts, elapsed_s=30, timeout=timedelta(minutes=2), error=error)


def test_a_status_is_in_the_order_of_the_question():
    items = [
        watched("b", outcomes=[unknown(Cause.FORBIDDEN, status=403)], settled=True),
        watched("a", outcomes=[PENDING]),
    ]
    lines = status_text(report(*items, result=WaitResult.STOPPED)).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["b", "a"]
    assert lines[3] == "2 items: 1 pending, 1 unknown"


def test_json_holds_no_text_of_the_api():
    failed = outcome(ItemState.FAILED, failure_message="letter to Ana", error=ApiError(status=200, message="Ana"))
    value = wait_json(report(watched("a", outcomes=[failed], settled=True), result=WaitResult.FAILED))
    assert "Ana" not in str(value)
    assert (value["items"][0]["http_status"], value["timeout_s"]) == (200, 120.0)


def test_the_waits_of_a_period():
    last = StoredWait(
        id=7, target="gloo", started_at=NOW, finished_at=NOW, result=WaitResult.TIMED_OUT, cause=Cause.OUTAGE,
        timeout_s=600.0, duration_s=600.0, asked=1, completed=0, failed=0, missing=0, invalid=0, pending=1, unknown=0,
    )  # fmt: skip
    summary = WaitSummary(
        by_result={WaitResult.COMPLETED: 9, WaitResult.TIMED_OUT: 3}, asked=12, completed=9, mean_s=40.0,
        longest_s=600.0, last=last,
    )  # fmt: skip
    assert summary_line(summary) == "Waits: 12 (9 completed, 3 timed out); 40s on average, 10m the longest"
    value = summary_json(summary)
    assert (value["total"], value["by_result"]["timed_out"], value["by_result"]["killed"]) == (12, 3, 0)
    assert (value["last"]["wait_id"], value["last"]["cause"]) == (7, "outage")
    assert summary_json(None) is None
