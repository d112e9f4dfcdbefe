import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.incidents.evidence import detect_empty_sync_log, detect_missed_runs, detect_too_many_unknown
from monitor.model import Cause, Evidence, Reason, RunStatus, SyncReport

DEADLINE, INTERRUPTED, NOT_ASKED = Reason.DEADLINE, Reason.INTERRUPTED, Reason.NOT_ASKED
PARTIAL = RunStatus.PARTIAL

COVERED = [
    ("none unknown", PARTIAL, 100, {}, None),
    ("a fifth unknown is not too many", PARTIAL, 100, {DEADLINE: 20}, None),
    ("over a fifth", PARTIAL, 100, {DEADLINE: 21}, {"deadline": 21}),
    ("several reasons", PARTIAL, 100, {DEADLINE: 11, NOT_ASKED: 10}, {"deadline": 11, "not_asked": 10}),
    ("a signal", PARTIAL, 3, {INTERRUPTED: 3}, {"interrupted": 3}),
    ("unknown from earlier runs in a complete one", RunStatus.COMPLETE, 4, {DEADLINE: 1}, {"deadline": 1}),
    ("the cause of an abort explains the unknown items", RunStatus.ABORTED, 100, {NOT_ASKED: 100}, None),
    ("nothing is tracked", PARTIAL, 0, {}, None),
]


@pytest.mark.parametrize(
    ("status", "total", "unasked", "breakdown"), [c[1:] for c in COVERED], ids=[c[0] for c in COVERED]
)
def test_when_too_many_items_are_unknown(status, total, unasked, breakdown):
    seen = detect_too_many_unknown(status, total=total, unasked=unasked)
    if breakdown is None:
        assert seen is None
    else:
        assert (seen.cause, seen.count, seen.breakdown) == (Cause.TOO_MANY_UNKNOWN, sum(breakdown.values()), breakdown)


@given(st.dictionaries(st.sampled_from(Reason), st.integers(0, 500)), st.integers(0, 5000))
def test_more_than_a_fifth_is_too_many(unasked, more):
    count = sum(unasked.values())
    seen = detect_too_many_unknown(PARTIAL, total=count + more, unasked=unasked)
    assert (seen is not None) == (5 * count > count + more)
    assert seen is None or seen.count == sum(seen.breakdown.values()) == count


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
