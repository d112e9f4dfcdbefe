from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from monitor.model import Cause, ItemState, Outcome
from monitor.model.http import ApiError
from monitor.model.items import TrackedItem, transition

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
UPLOADED = NOW - timedelta(hours=2)
FIRST = NOW - timedelta(hours=1)
NEW = TrackedItem(item_id="a", first_seen_at=FIRST, submitted_at=UPLOADED)
PENDING = replace(
    NEW,
    known_state=ItemState.PENDING,
    stage="QUEUED",
    since=FIRST,
    pending_since=UPLOADED,
    seen_at=FIRST,
    checked_at=FIRST,
)
DONE = replace(NEW, known_state=ItemState.COMPLETED, stage="COMPLETED", since=FIRST, seen_at=FIRST, checked_at=FIRST)


def outcome(state, stage=None, **fields):
    return Outcome(item_id="a", state=state, stage=stage, answered=state is not ItemState.UNKNOWN, at=NOW, **fields)


def test_a_first_pending_counts_from_the_upload():
    change = transition(NEW, outcome(ItemState.PENDING, "QUEUED"))
    assert change.pending_since == UPLOADED
    assert change.event == ("state", None, "pending")


def test_without_an_upload_time_it_counts_from_the_first_sync():
    assert transition(replace(NEW, submitted_at=None), outcome(ItemState.PENDING)).pending_since == FIRST


def test_a_return_to_pending_counts_from_the_return():
    change = transition(DONE, outcome(ItemState.PENDING, "QUEUED"))
    assert change.pending_since == NOW
    assert change.since == NOW
    assert change.event == ("state", "completed", "pending")


def test_a_change_of_stage_keeps_pending_since_and_is_an_event():
    change = transition(PENDING, outcome(ItemState.PENDING, "EMBEDDING"))
    assert (change.pending_since, change.since) == (UPLOADED, FIRST)
    assert change.event == ("stage", "QUEUED", "EMBEDDING")


def test_a_pending_item_without_pending_since_gets_it():
    assert transition(replace(PENDING, pending_since=None), outcome(ItemState.PENDING)).pending_since == NOW


def test_an_unchanged_outcome_is_no_event():
    change = transition(PENDING, outcome(ItemState.PENDING, "QUEUED"))
    assert change.event is None
    assert change.checked_at == NOW


def test_unknown_keeps_known_values_and_is_no_event():
    change = transition(
        DONE, outcome(ItemState.UNKNOWN, reason=Cause.OUTAGE, error=ApiError(status=503, request_id="r"))
    )
    assert change.state is ItemState.UNKNOWN
    assert change.known_state is ItemState.COMPLETED
    assert (change.stage, change.since, change.seen_at, change.checked_at) == ("COMPLETED", FIRST, FIRST, FIRST)
    assert (change.http_status, change.request_id, change.event) == (503, "r", None)


@pytest.mark.parametrize("state", [ItemState.NOT_FOUND, ItemState.INVALID])
def test_seen_at_changes_only_if_the_item_exists(state):
    change = transition(DONE, outcome(state))
    assert change.seen_at == FIRST
    assert change.pending_since is None


BACK = replace(PENDING, regressed_at=FIRST)
REGRESSIONS = [
    ("completed, now pending", DONE, ItemState.PENDING, NOW),
    ("completed, now failed", DONE, ItemState.FAILED, None),
    ("pending still: since the first time", BACK, ItemState.PENDING, FIRST),
    ("completed again", BACK, ItemState.COMPLETED, None),
    ("failed in the end", BACK, ItemState.FAILED, None),
    ("gone in the end", BACK, ItemState.NOT_FOUND, None),
    ("not found out", BACK, ItemState.UNKNOWN, FIRST),
    ("completed, not found out", DONE, ItemState.UNKNOWN, None),
    ("pending from the first", NEW, ItemState.PENDING, None),
    ("pending, and never completed", PENDING, ItemState.PENDING, None),
]


@pytest.mark.parametrize(("item", "state", "at"), [r[1:] for r in REGRESSIONS], ids=[r[0] for r in REGRESSIONS])
def test_when_an_item_went_back_from_completed_to_pending(item, state, at):
    assert transition(item, outcome(state)).regressed_at == at


def test_an_unknown_outcome_does_not_hide_a_regression():
    between = transition(DONE, outcome(ItemState.UNKNOWN, reason=Cause.OUTAGE))
    asked_again = replace(DONE, known_state=between.known_state, regressed_at=between.regressed_at)
    assert transition(asked_again, outcome(ItemState.PENDING)).regressed_at == NOW


@given(
    st.sampled_from([NEW, PENDING, DONE, BACK]), st.sampled_from([s for s in ItemState if s is not ItemState.UNKNOWN])
)
def test_applying_the_same_outcome_twice_changes_nothing_more(item, state):
    first = transition(item, outcome(state, "X"))
    then = replace(
        item, known_state=first.known_state, stage=first.stage, since=first.since, pending_since=first.pending_since,
        seen_at=first.seen_at, checked_at=first.checked_at, regressed_at=first.regressed_at,
        indexed_at=first.indexed_at,
    )  # fmt: skip
    second = transition(then, outcome(state, "X"))
    assert second.event is None
    assert second.completion is None
    assert replace(second, event=first.event, completion=first.completion) == first


def completions(item, *outcomes):
    """The first completions that a sequence of outcomes leads to."""
    found = []
    for each in outcomes:
        change = transition(item, each)
        found.append(change.completion)
        kept = ("known_state", "since", "seen_at", "checked_at", "regressed_at", "indexed_at")
        item = replace(item, **{name: getattr(change, name) for name in kept})
    return [each for each in found if each is not None], item.indexed_at


def test_an_item_is_first_completed_once_whatever_follows():
    outcomes = [outcome(state) for state in (ItemState.PENDING, ItemState.COMPLETED, ItemState.PENDING,
                                             ItemState.FAILED, ItemState.COMPLETED)]  # fmt: skip
    [found], indexed_at = completions(replace(NEW, group="g"), *outcomes)
    assert (found.group, found.uploaded_at, found.upload_known) == ("g", UPLOADED, True)
    assert (found.not_completed_at, found.at, indexed_at) == (NOW, NOW, NOW)


def test_what_was_never_answered_was_not_seen_before_its_completion():
    lost = outcome(ItemState.UNKNOWN, reason=Cause.OUTAGE)
    [found], _ = completions(replace(NEW, submitted_at=None), lost, outcome(ItemState.COMPLETED))
    assert (found.not_completed_at, found.uploaded_at, found.upload_known) == (None, FIRST, False)


@pytest.mark.parametrize("item", [DONE, BACK], ids=["completed", "completed, then pending"])
def test_what_was_completed_before_the_column_existed_is_not_completed_for_the_first_time(item):
    found, indexed_at = completions(item, outcome(ItemState.PENDING), outcome(ItemState.COMPLETED))
    assert (found, indexed_at is not None) == ([], True)
