from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.outcomes import item_after, row_after, row_of, whole_row

from monitor.model import Cause, ItemState, Outcome, Reason
from monitor.model.http import ApiError
from monitor.model.items import ItemChange, TrackedItem, first_completion, transition

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


def after(item, outcome):
    return row_after(item, transition(item, outcome))


def test_a_first_pending_counts_from_the_upload():
    change = after(NEW, outcome(ItemState.PENDING, "QUEUED"))
    assert change.pending_since == UPLOADED
    assert change.event == ("state", None, "pending")


def test_without_an_upload_time_it_counts_from_the_first_sync():
    assert after(replace(NEW, submitted_at=None), outcome(ItemState.PENDING)).pending_since == FIRST


def test_a_return_to_pending_counts_from_the_return():
    change = after(DONE, outcome(ItemState.PENDING, "QUEUED"))
    assert change.pending_since == NOW
    assert change.since == NOW
    assert change.event == ("state", "completed", "pending")


def test_a_change_of_stage_keeps_pending_since_and_is_an_event():
    change = after(PENDING, outcome(ItemState.PENDING, "EMBEDDING"))
    assert (change.pending_since, change.since) == (UPLOADED, FIRST)
    assert change.event == ("stage", "QUEUED", "EMBEDDING")


def test_a_pending_item_without_pending_since_gets_it():
    assert after(replace(PENDING, pending_since=None), outcome(ItemState.PENDING)).pending_since == NOW


def test_an_unchanged_outcome_is_no_event():
    change = after(PENDING, outcome(ItemState.PENDING, "QUEUED"))
    assert change.event is None
    assert change.checked_at == NOW


def test_unknown_keeps_known_values_and_is_no_event():
    change = after(DONE, outcome(ItemState.UNKNOWN, reason=Cause.OUTAGE, error=ApiError(status=503, request_id="r")))
    assert change.state is ItemState.UNKNOWN
    assert change.known_state is ItemState.COMPLETED
    assert (change.stage, change.since, change.seen_at, change.checked_at) == ("COMPLETED", FIRST, FIRST, FIRST)
    assert (change.http_status, change.request_id, change.event) == (503, "r", None)


@pytest.mark.parametrize("state", [ItemState.NOT_FOUND, ItemState.INVALID])
def test_seen_at_changes_only_if_the_item_exists(state):
    change = after(DONE, outcome(state))
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
    assert after(item, outcome(state)).regressed_at == at


def test_an_unknown_outcome_does_not_hide_a_regression():
    between = transition(DONE, outcome(ItemState.UNKNOWN, reason=Cause.OUTAGE))
    assert after(item_after(DONE, between), outcome(ItemState.PENDING)).regressed_at == NOW


@given(
    st.sampled_from([NEW, PENDING, DONE, BACK]), st.sampled_from([s for s in ItemState if s is not ItemState.UNKNOWN])
)
def test_applying_the_same_outcome_twice_changes_nothing_more(item, state):
    first = transition(item, outcome(state, "X"))
    second = transition(item_after(item, first), outcome(state, "X"))
    assert {name for name, _ in second.changed} <= {"seen_at", "checked_at"}
    assert (second.event, second.completion) == (None, None)


TEXTS = st.sampled_from([None, "X", "Y"])
OUTCOMES = st.builds(
    Outcome,
    item_id=st.just("a"),
    state=st.sampled_from([*ItemState, ItemState.COMPLETED]),
    at=st.integers(0, 9).map(lambda minutes: NOW + timedelta(minutes=minutes)),
    answered=st.booleans(),
    stage=TEXTS,
    recognised=st.booleans(),
    failure_reason=TEXTS,
    failure_message=TEXTS,
    reason=st.sampled_from([None, Cause.OUTAGE, Reason.DEADLINE]),
    error=st.none() | st.builds(ApiError, status=st.sampled_from([None, 404]), code=TEXTS, request_id=TEXTS),
).map(lambda each: each if each.state is ItemState.UNKNOWN else replace(each, reason=None))


SYNCED = replace(NEW, state=ItemState.UNKNOWN, has_details=True)


@given(
    st.sampled_from([NEW, SYNCED, PENDING, DONE, BACK]),
    st.lists(OUTCOMES | st.sampled_from([outcome(state, "X") for state in ItemState]), max_size=6),
)
def test_only_columns_that_differ_are_written_and_all_of_them(item, outcomes):
    """Over a row's life, against the rule for each column."""
    stored = row_of(item)
    for each in outcomes:
        change = transition(item, each)
        stored |= dict(change.changed)
        assert stored == whole_row(item, each)
        item = item_after(item, change)


def test_an_answer_that_says_what_is_known_changes_its_time_alone():
    done = item_after(DONE, transition(DONE, outcome(ItemState.COMPLETED, "COMPLETED")))
    later = NOW + timedelta(seconds=3)
    change = transition(done, replace(outcome(ItemState.COMPLETED, "COMPLETED"), at=later), at=NOW)
    assert change == ItemChange(
        item_id="a", at=NOW, changed=(("seen_at", NOW), ("checked_at", NOW)), event=None, completion=None
    )


def completions(item, *outcomes):
    """The first completions that a sequence of outcomes leads to."""
    found = []
    for each in outcomes:
        change = transition(item, each)
        found.append(change.completion)
        item = item_after(item, change)
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


@pytest.mark.parametrize("submitted_at", [UPLOADED, None], ids=["uploaded at a known time", "first seen"])
def test_a_first_completion_is_what_the_transition_of_an_unknown_item_says(submitted_at):
    unknown = replace(NEW, submitted_at=submitted_at, group="g", state=ItemState.UNKNOWN, has_details=True)
    expected = transition(unknown, outcome(ItemState.COMPLETED, "indexed"))
    assert first_completion("a", "g", FIRST, submitted_at, "indexed", NOW) == expected
