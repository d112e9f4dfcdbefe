from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.model import (
    EXISTING_STATES,
    ITEM_CAUSES,
    MONITOR_CAUSES,
    OBSERVED_CAUSES,
    PROBLEM_STATES,
    REQUEST_CAUSES,
    Cause,
    ItemState,
    Latencies,
    Reason,
    Snapshot,
    rank,
)
from monitor.model.http import ApiError, ErrorDetail

counts = st.integers(0, 10**7)


@given(counts, counts, counts, counts, counts, counts)
def test_total_is_the_sum_of_the_states(completed, pending, failed, not_found, invalid, unknown):
    snapshot = Snapshot(
        completed=completed, pending=pending, failed=failed, not_found=not_found, invalid=invalid, unknown=unknown
    )
    assert snapshot.total == completed + pending + failed + not_found + invalid + unknown
    assert snapshot.total == sum(snapshot.states.values())
    assert set(snapshot.states) == set(ItemState)


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [("failed", -1, "never negative"), ("retries", -1, "never negative"), ("stuck", 1, "stuck")],
)
def test_an_inconsistent_snapshot_is_refused(field, value, why):
    with pytest.raises(ValueError, match=why):
        Snapshot(**{field: value})


def test_states_are_grouped_for_reports_and_texts():
    assert [state.label for state in ItemState] == [
        "completed", "pending", "failed", "not found", "invalid", "unknown",
    ]  # fmt: skip
    assert EXISTING_STATES == (ItemState.COMPLETED, ItemState.PENDING, ItemState.FAILED)
    assert PROBLEM_STATES == (ItemState.FAILED, ItemState.NOT_FOUND, ItemState.INVALID)
    assert [state for state in ItemState if not state.always_shown] == [ItemState.INVALID, ItemState.UNKNOWN]


def test_a_snapshot_has_a_field_for_each_latency():
    assert {field.name for field in fields(Latencies)} <= {field.name for field in fields(Snapshot)}


def test_causes_fall_into_three_groups_and_request_causes_rank_highest():
    assert tuple(Cause) == REQUEST_CAUSES + ITEM_CAUSES + OBSERVED_CAUSES + MONITOR_CAUSES
    assert REQUEST_CAUSES[0] is Cause.SPENDING_LIMIT
    assert REQUEST_CAUSES[-1] is Cause.BAD_REQUEST
    assert rank(Cause.UNAUTHORIZED) < rank(Cause.OUTAGE) < rank(Cause.ITEMS_FAILED) < rank(Cause.SYNC_LOG_UNREADABLE)


def test_no_reason_has_the_value_of_a_cause():
    """They are stored in one column."""
    assert not {reason.value for reason in Reason} & {cause.value for cause in Cause}


def test_repr_omits_texts_of_the_api():
    error = ApiError(
        status=422,
        error="quoted title",
        message="Could not read sermon.pdf",
        details=(ErrorDetail(loc="body", msg="secret"),),
    )
    assert "sermon" not in repr(error)
    assert "quoted" not in repr(error)
    assert "secret" not in repr(error)
    assert "422" in repr(error)
