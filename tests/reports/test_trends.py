from datetime import timedelta
from itertools import pairwise
from uuid import uuid4

import pytest
from database.history import DAY, HOUR, MINUTE, HistoryBuilder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from support.samples import NOW

from monitor.database.engine import reading
from monitor.model import RunStatus, Snapshot
from monitor.reports import trends
from monitor.runs.store import history

ABORTED, PARTIAL, RUNNING, FAILED = RunStatus.ABORTED, RunStatus.PARTIAL, RunStatus.RUNNING, RunStatus.FAILED


@pytest.fixture
def past(engine):
    return HistoryBuilder(engine)


def samples(engine, bounds, target="gloo"):
    with reading(engine) as conn:
        return trends.samples(conn, targets=[target], bounds=bounds)[target]


def marks(engine, *bounds, target="gloo"):
    return [mark and mark.run_id for mark in samples(engine, bounds, target)]


def newest(engine):
    with reading(engine) as conn:
        return trends.newest_runs(conn, targets=["gloo"])["gloo"]


def test_a_span_is_marked_by_the_last_snapshot_in_it(engine, past):
    ids = [past.run(NOW + n * MINUTE) for n in (1, 9, 10, 11, 25)]
    past.run(NOW + 9 * MINUTE, target="other")
    bounds = [NOW + n * timedelta(minutes=10) for n in range(4)]
    assert marks(engine, *bounds) == [ids[2], ids[3], ids[4]]


def test_a_span_without_a_run_or_without_numbers_is_a_gap(engine, past):
    seen = past.run(NOW + MINUTE, snapshot=Snapshot(completed=2, failed=1))
    past.run(NOW + 2 * MINUTE, FAILED)
    past.run(NOW + 12 * MINUTE, FAILED)
    past.run(NOW + 13 * MINUTE, RUNNING)
    bounds = [NOW, NOW + 10 * MINUTE, NOW + 20 * MINUTE]
    assert marks(engine, *bounds) == [seen, None]
    (row, _) = samples(engine, bounds)
    assert (row.snapshot.total, row.snapshot.failed, row.status) == (3, 1, RunStatus.COMPLETE)


def test_a_run_at_a_boundary_belongs_to_the_span_that_ends_there(engine, past):
    first, second = past.run(NOW), past.run(NOW + HOUR)
    assert marks(engine, NOW - HOUR, NOW, NOW + HOUR) == [first, second]
    assert marks(engine, NOW, NOW + HOUR) == [second]


def test_the_later_of_two_runs_with_the_same_start_is_used(engine, past):
    past.run(NOW)
    later = past.run(NOW)
    assert marks(engine, NOW - HOUR, NOW) == [later]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(
    offsets=st.lists(st.integers(0, 400), max_size=12),
    cuts=st.lists(st.integers(0, 400), min_size=2, max_size=8, unique=True),
)
def test_the_marks_equal_those_computed_from_all_rows(engine, offsets, cuts):
    past, target = HistoryBuilder(engine), uuid4().hex
    for offset in offsets:
        past.run(NOW + offset * MINUTE, target=target)
    bounds = [NOW + cut * MINUTE for cut in sorted(cuts)]
    with reading(engine) as conn:
        rows = sorted(history(conn, target=target, limit=1000), key=lambda row: row.started_at, reverse=True)
    expected = [
        next((row.run_id for row in rows if start < row.started_at <= end), None) for start, end in pairwise(bounds)
    ]
    assert marks(engine, *bounds, target=target) == expected


def test_the_marks_need_three_statements_for_any_number_of_spans(engine, past):
    past.run(NOW)
    statements = []
    event.listen(engine, "before_cursor_execute", lambda _c, _cursor, sql, *_: statements.append(sql))
    assert len(marks(engine, *(NOW - n * DAY for n in range(36, -1, -1)))) == 36
    assert len([sql for sql in statements if not sql.startswith("BEGIN")]) == 3


def test_before_the_first_run_there_is_no_trend(engine):
    found = newest(engine)
    assert (found.last, found.snapshot, found.running_since, found.unreadable_since) == (None,) * 4
    assert marks(engine, NOW, NOW + DAY) == [None]


def test_the_last_run_is_the_newest_finished_one_with_or_without_numbers(engine, past):
    counted = past.run(NOW)
    unreadable = past.run(NOW + HOUR, FAILED, error="it is gone")
    past.run(NOW + 2 * HOUR, RUNNING)
    past.run(NOW + 3 * HOUR, target="other")
    last = newest(engine).last
    assert (last.run_id, last.status, last.error) == (unreadable, FAILED, "it is gone")
    assert (last.started_at, last.finished_at) == (NOW + HOUR, NOW + HOUR + MINUTE)
    assert newest(engine).snapshot.run_id == counted


def test_a_run_in_progress_is_reported_until_it_is_finished(engine, past):
    past.run(NOW)
    assert newest(engine).running_since is None
    past.run(NOW + HOUR, RUNNING)
    assert newest(engine).running_since == NOW + HOUR


@pytest.mark.parametrize(
    ("statuses", "since"),
    [
        ([RunStatus.COMPLETE], None),
        ([FAILED], 0),
        ([RunStatus.COMPLETE, FAILED, FAILED], 1),
        ([FAILED, PARTIAL, FAILED, FAILED], 2),
        ([FAILED, ABORTED, FAILED, RUNNING], 2),
        ([FAILED, RunStatus.COMPLETE], None),
    ],
    ids=["read", "never-read", "a-streak", "after-a-partial-one", "with-one-under-way", "readable-again"],
)
def test_the_log_is_unreadable_since_the_first_run_of_the_last_streak(engine, past, statuses, since):
    for n, status in enumerate(statuses):
        past.run(NOW + n * HOUR, status)
    assert newest(engine).unreadable_since == (None if since is None else NOW + since * HOUR)
