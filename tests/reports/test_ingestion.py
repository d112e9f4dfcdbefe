from uuid import uuid4

import pytest
from database.history import DAY, HOUR, MINUTE, HistoryBuilder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.samples import NOW

from monitor.database.engine import reading
from monitor.reports.trends import ingestion_times

START = NOW - 7 * DAY


@pytest.fixture
def history(engine):
    return HistoryBuilder(engine)


def times(engine, target="gloo", slowest=5):
    with reading(engine) as conn:
        return ingestion_times(conn, target=target, start=START, end=NOW, slowest=slowest)


def complete(history, item_id, run_id, *, took, at=NOW - HOUR, old="pending", uploaded=True, **more):
    begun = at - took
    fields = {"submitted_at": begun, "first_seen_at": NOW - DAY} if uploaded else {"first_seen_at": begun}
    history.item(item_id, **fields)
    history.event(item_id, run_id, old=old, new="completed", at=at, **more)


def test_ingestion_times_are_reported_with_the_slowest_items(engine, history):
    run_id = history.run(NOW - 2 * HOUR)
    for n in range(1, 21):
        complete(history, f"i{n:02}", run_id, took=n * MINUTE)
    found = times(engine, slowest=2)
    assert (found.items, found.median_s, found.p95_s) == (20, pytest.approx(600), pytest.approx(1140))
    assert [(each.item_id, round(each.duration_s)) for each in found.slowest] == [("i20", 1200), ("i19", 1140)]
    assert found.slowest[0].completed_at == NOW - HOUR


def test_one_item_is_its_own_median(engine, history):
    complete(history, "a", history.run(NOW - 2 * HOUR), took=90 * MINUTE)
    found = times(engine)
    assert (found.items, found.median_s, found.p95_s) == (1, pytest.approx(5400), pytest.approx(5400))


def test_without_an_upload_time_the_first_sync_of_the_id_counts(engine, history):
    complete(history, "a", history.run(NOW - 2 * HOUR), took=5 * MINUTE, uploaded=False)
    assert times(engine).median_s == pytest.approx(300)


def test_an_item_completed_at_its_first_check_is_not_counted(engine, history):
    run_id = history.run(NOW - 2 * HOUR)
    complete(history, "old", run_id, took=3 * DAY, old=None)
    complete(history, "no-upload-time", run_id, took=MINUTE, old=None, uploaded=False)
    assert times(engine) is None
    complete(history, "fresh", run_id, took=HOUR, old=None)
    assert [each.item_id for each in times(engine).slowest] == ["fresh"]


def test_only_the_first_completion_in_the_period_counts(engine, history):
    before, run_id = history.run(START - DAY), history.run(NOW - 2 * HOUR)
    complete(history, "again", before, took=HOUR, at=START - DAY)
    history.event("again", run_id, old="pending", new="completed", at=NOW - HOUR)
    complete(history, "earlier", before, took=HOUR, at=START - HOUR)
    complete(history, "odd", run_id, took=-HOUR)
    complete(history, "stage", run_id, took=HOUR, kind="stage")
    history.item("foreign", target="other", submitted_at=NOW - 2 * HOUR)
    history.event(
        "foreign", history.run(NOW - HOUR, target="other"), old="pending", new="completed", at=NOW, target="other"
    )
    assert times(engine) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(minutes=st.lists(st.integers(1, 500), min_size=1, max_size=12))
def test_quantiles_are_by_nearest_rank(engine, minutes):
    history, target = HistoryBuilder(engine), uuid4().hex
    run_id = history.run(NOW - 2 * HOUR, target=target)
    for n, each in enumerate(minutes):
        history.item(f"i{n}", target=target, submitted_at=NOW - each * MINUTE)
        history.event(f"i{n}", run_id, old="pending", new="completed", at=NOW, target=target)
    found, ordered = times(engine, target), sorted(minutes)
    median, p95 = ordered[(len(minutes) + 1) // 2 - 1], ordered[-(-95 * len(minutes) // 100) - 1]
    assert (found.median_s, found.p95_s) == (pytest.approx(60 * median), pytest.approx(60 * p95))
    assert [round(each.duration_s / 60) for each in found.slowest] == ordered[::-1][:5]
