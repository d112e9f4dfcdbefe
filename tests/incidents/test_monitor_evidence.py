import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.incidents.evidence import (
    UNINHIBITED_REASONS,
    detect_empty_sync_log,
    detect_missed_runs,
    detect_too_many_unknown,
)
from monitor.model import Cause, Evidence, Reason, RunStatus, SyncReport

DEADLINE, INTERRUPTED, NOT_ASKED, OUTAGE = Reason.DEADLINE, Reason.INTERRUPTED, Reason.NOT_ASKED, Reason.OUTAGE
PARTIAL = RunStatus.PARTIAL

COVERED = [
    ("all found out", PARTIAL, 100, {}, None),
    ("a fifth unknown is little enough", PARTIAL, 100, {DEADLINE: 20}, None),
    ("over a fifth", PARTIAL, 100, {DEADLINE: 21}, {"deadline": 21}),
    ("several reasons", PARTIAL, 100, {DEADLINE: 11, NOT_ASKED: 10}, {"deadline": 11, "not_asked": 10}),
    ("a signal", PARTIAL, 3, {INTERRUPTED: 3}, {"interrupted": 3}),
    ("what a request cause explains is not counted", PARTIAL, 100, {OUTAGE: 90, DEADLINE: 10}, None),
    ("unknown from earlier runs in a complete one", RunStatus.COMPLETE, 4, {DEADLINE: 1}, {"deadline": 1}),
    ("an aborted run is explained by what aborted it", RunStatus.ABORTED, 100, {NOT_ASKED: 100}, None),
    ("nothing is tracked", PARTIAL, 0, {}, None),
]


@pytest.mark.parametrize(
    ("status", "total", "unknown", "breakdown"), [c[1:] for c in COVERED], ids=[c[0] for c in COVERED]
)
def test_when_too_little_is_found_out(status, total, unknown, breakdown):
    seen = detect_too_many_unknown(status, total=total, unknown=unknown)
    if breakdown is None:
        assert seen is None
    else:
        assert (seen.cause, seen.count, seen.breakdown) == (Cause.TOO_MANY_UNKNOWN, sum(breakdown.values()), breakdown)


@given(st.dictionaries(st.sampled_from(Reason), st.integers(0, 500)), st.integers(0, 5000))
def test_coverage_counts_no_item_that_a_request_cause_explains(unknown, more):
    total = sum(unknown.values()) + more
    seen = detect_too_many_unknown(PARTIAL, total=total, unknown=unknown)
    unexplained = sum(count for reason, count in unknown.items() if reason in UNINHIBITED_REASONS)
    assert (seen is not None) == (5 * unexplained > total)
    assert seen is None or seen.count == sum(seen.breakdown.values()) == unexplained


EMPTIED = [
    ("ids are there", SyncReport(read=2, tracked=2), True, None),
    ("never filled", SyncReport(), False, None),
    ("just emptied", SyncReport(removed=12), True, Evidence(cause=Cause.SYNC_LOG_EMPTY, count=12)),
    ("empty for long", SyncReport(), True, Evidence(cause=Cause.SYNC_LOG_EMPTY, count=0)),
    (
        "rows, but no id", SyncReport(read=3, null=3, removed=1), True,
        Evidence(cause=Cause.SYNC_LOG_EMPTY, count=1, breakdown={"rows without a usable id": 3}),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("read", "before", "seen"), [e[1:] for e in EMPTIED], ids=[e[0] for e in EMPTIED])
def test_when_a_sync_log_was_emptied(read, before, seen):
    assert detect_empty_sync_log(read, tracked_before=before) == seen


def test_missed_runs_are_counted():
    assert detect_missed_runs(0) is None
    assert detect_missed_runs(3) == Evidence(cause=Cause.RUN_MISSED, count=3, breakdown={"missed": 3})
