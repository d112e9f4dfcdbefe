"""The words of the public page: from open incidents, their share of the items, and the age of the last run."""

from datetime import UTC, datetime, timedelta

import pytest

from monitor.model import Cause, OpenCause
from monitor.reports.status import Status, StatusInput, StatusWord, status_board, status_json, status_of, worst

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
OPERATIONAL, DELAYED, DISRUPTED, NO_DATA = (
    StatusWord.OPERATIONAL,
    StatusWord.DELAYED,
    StatusWord.DISRUPTED,
    StatusWord.NO_DATA,
)


def opened(cause, *, hours=1, members=0):
    return OpenCause(cause=cause, opened_at=NOW - hours * HOUR, members=members)


def given(*causes, total=100, overdue_in=HOUR, last=NOW):
    overdue_at = None if overdue_in is None else NOW + overdue_in
    return StatusInput(total=total, last_run_at=last, overdue_at=overdue_at, causes=causes)


@pytest.mark.parametrize(
    ("facts", "word", "hours"),
    [
        (StatusInput(), NO_DATA, None),
        (given(), OPERATIONAL, None),
        (given(overdue_in=None), OPERATIONAL, None),
        (given(overdue_in=timedelta(0), last=NOW - 2 * HOUR), NO_DATA, 2),
        (given(opened(Cause.OUTAGE), overdue_in=timedelta(0)), NO_DATA, 0),
        (given(opened(Cause.OUTAGE)), DISRUPTED, 1),
        (given(opened(Cause.RATE_LIMITED, hours=3)), DELAYED, 3),
        (given(opened(Cause.ITEMS_STUCK), opened(Cause.OUTAGE, hours=2)), DISRUPTED, 2),
        (given(opened(Cause.OUTAGE), opened(Cause.UNAUTHORIZED, hours=5)), DISRUPTED, 5),
        (given(opened(Cause.SYNC_LOG_UNREADABLE)), NO_DATA, 1),
        (given(opened(Cause.SYNC_LOG_UNREADABLE), opened(Cause.SLO_BURN)), DELAYED, 1),
        (given(opened(Cause.ITEMS_FAILED, members=9)), OPERATIONAL, None),
        (given(opened(Cause.ITEMS_FAILED, members=10)), DISRUPTED, 1),
        (given(opened(Cause.ITEMS_FAILED, members=5), opened(Cause.ITEMS_MISSING, members=5, hours=4)), DISRUPTED, 4),
        (given(opened(Cause.ITEMS_FAILED, members=0), total=0), OPERATIONAL, None),
        (given(opened(Cause.UNRECOGNISED_STATUS, members=1)), OPERATIONAL, None),
    ],
)
def test_the_word_of_a_target(facts, word, hours):
    since = None if hours is None else NOW - hours * HOUR
    assert status_of(facts, NOW) == Status(word=word, since=since)


def test_every_cause_has_a_meaning_for_the_public_page():
    words = {cause: status_of(given(opened(cause, members=1)), NOW).word for cause in Cause}
    assert {cause for cause, word in words.items() if word is OPERATIONAL} == {
        Cause.ITEMS_FAILED, Cause.ITEMS_MISSING, Cause.ITEMS_REGRESSED, Cause.ITEMS_INVALID, Cause.ITEMS_UNVERIFIED,
        Cause.UNRECOGNISED_STATUS, Cause.CHANNEL_FAILING,
    }  # fmt: skip


def test_the_worst_word_counts():
    assert worst([]) is None
    known, unknown = Status(word=DELAYED, since=NOW), Status(word=DELAYED)
    assert worst([Status(word=OPERATIONAL), known, Status(word=NO_DATA), unknown]) == known
    assert worst([unknown]) == unknown


INPUTS = {"gloo-prod": given(opened(Cause.OUTAGE)), "gloo-test": given(last=NOW - HOUR), "other": given()}


def test_only_targets_with_a_public_name_are_listed():
    board = status_board(INPUTS, {"gloo-prod": None, "gloo-test": "Search", "other": None}, NOW)
    assert board.services == (("Search", Status(word=OPERATIONAL)),)
    assert (board.overall.word, board.checked_at) == (OPERATIONAL, NOW - HOUR)
    assert board.by_target["gloo-prod"].word is DISRUPTED
    assert "gloo" not in str(status_json(board))


def test_without_public_names_all_targets_together_have_one_word():
    board = status_board(INPUTS, dict.fromkeys(INPUTS), NOW)
    assert (board.services, board.overall) == ((), Status(word=DISRUPTED, since=NOW - HOUR))
    assert status_json(board) == {
        "status": "disrupted",
        "since": "2026-03-01T11:00:00+00:00",
        "checked_at": "2026-03-01T12:00:00+00:00",
        "services": [],
    }


def test_a_target_that_nothing_is_known_of_has_no_data():
    board = status_board({}, {"gloo": "Search"}, NOW)
    assert (board.overall.label, board.overall.mark, board.checked_at) == ("No data", "○", None)
    assert status_board({}, {}, NOW).overall.word is NO_DATA
