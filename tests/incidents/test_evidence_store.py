from datetime import timedelta

import pytest
from support.samples import NOW

from monitor.database.engine import CHUNK_SIZE, reading, writing
from monitor.errors import StoreError
from monitor.incidents import store
from monitor.model import Cause, Evidence, RunStatus
from monitor.runs import store as runs

MINUTE = timedelta(minutes=1)
OUTAGE, MISSING, UNREADABLE = Cause.OUTAGE, Cause.ITEMS_MISSING, Cause.SYNC_LOG_UNREADABLE


@pytest.fixture
def ran(engine):
    """Stores a run that finished so many minutes before NOW, with evidence; returns its id."""

    def ran(minutes_ago, *pieces, target="gloo", status=RunStatus.COMPLETE, due=30, answered=30):
        at = NOW - minutes_ago * MINUTE
        with writing(engine) as conn:
            run_id = runs.start(conn, target=target, environment="test", run_key=None, epoch=1, started_at=at - MINUTE)
            store.add_evidence(conn, target=target, run_id=run_id, at=at, pieces=pieces)
            if status is not RunStatus.RUNNING:
                runs.finish(
                    conn, run_id=run_id, status=status, abort_reason=None, owner_cause=None, due=due,
                    answered=answered, error=None, finished_at=at, snapshot=None,
                )  # fmt: skip
        return run_id

    return ran


@pytest.fixture
def points(engine):
    def points(cause=OUTAGE, group="", *, window=60 * MINUTE, at_least=2, target="gloo"):
        with reading(engine) as conn:
            key = cause, group
            return store.evidence_points(conn, target=target, keys=[key], since=NOW - window, at_least=at_least)[key]

    return points


def ids(found):
    return [point.run_id for point in found]


def test_each_point_says_whether_the_run_has_evidence_and_whether_it_is_inhibited(ran, points):
    clean = ran(3)
    inhibited = ran(2, Evidence(cause=MISSING, count=4, inhibited_by=Cause.WRONG_SCOPE))
    saw = ran(1, Evidence(cause=MISSING, count=4), Evidence(cause=OUTAGE, count=1))
    assert [(point.run_id, point.evidence, point.inhibited) for point in points(MISSING)] == [
        (saw, True, False), (inhibited, False, True), (clean, False, False),
    ]  # fmt: skip
    assert [point.evidence for point in points(OUTAGE)] == [True, False, False]
    assert points(MISSING)[0].at == NOW - MINUTE


def test_runs_before_the_window_are_left_out(ran, points):
    ran(61)
    inside = [ran(minutes) for minutes in (60, 30, 1)]
    assert ids(points()) == inside[::-1]


def test_the_newest_runs_are_included_at_any_age(ran, points):
    old = [ran(minutes) for minutes in (900, 800, 700)]
    inside = ran(10)
    assert ids(points(at_least=3)) == [inside, old[2], old[1]]
    assert ids(points(at_least=1)) == [inside]
    assert ids(points(at_least=10)) == [inside, *old[::-1]]


def test_a_crashed_run_breaks_no_streak(engine, ran, points):
    first = ran(3, Evidence(cause=OUTAGE, count=1))
    ran(2, status=RunStatus.RUNNING)
    with writing(engine) as conn:
        assert runs.abandon(conn, target="gloo", before_epoch=2, at=NOW) == 1
    second = ran(1, Evidence(cause=OUTAGE, count=1))
    assert ids(points(at_least=2)) == [second, first]
    assert ids(points(UNREADABLE)) == [second, first]


def test_running_runs_and_those_of_other_targets_do_not_count(ran, points):
    ran(3, status=RunStatus.RUNNING)
    ran(2, target="another")
    assert points() == []
    assert points(UNREADABLE) == []


def test_a_failed_run_counts_only_for_causes_about_the_log(ran, points):
    read = ran(2)
    unread = ran(1, Evidence(cause=UNREADABLE, count=1), status=RunStatus.FAILED, due=0, answered=0)
    assert ids(points(OUTAGE)) == [read]
    assert [(point.run_id, point.evidence, point.confirms_recovery) for point in points(UNREADABLE)] == [
        (unread, True, False), (read, False, True),
    ]  # fmt: skip


@pytest.mark.parametrize(("answered", "confirms_recovery"), [(20, True), (19, False)])
def test_which_runs_confirm_recovery_depends_on_the_cause(ran, points, answered, confirms_recovery):
    ran(1, due=1000, answered=answered, status=RunStatus.PARTIAL)
    (point,) = points(OUTAGE)
    assert point.confirms_recovery is confirms_recovery
    (point,) = points(UNREADABLE)
    assert point.confirms_recovery


def test_one_query_serves_causes_with_different_run_filters(engine, ran):
    ran(4, status=RunStatus.FAILED, due=0, answered=0)
    ran(3)
    ran(2, status=RunStatus.ABORTED, answered=0)
    ran(1, status=RunStatus.PARTIAL)
    asked = [(cause, "") for cause in (OUTAGE, Cause.TOO_MANY_UNKNOWN, UNREADABLE, Cause.SYNC_LOG_EMPTY)]
    with reading(engine) as conn:
        found = store.evidence_points(conn, target="gloo", keys=asked, since=NOW - 60 * MINUTE, at_least=1)
    assert [len(found[key]) for key in asked] == [3, 2, 4, 3]


@pytest.mark.slow_twice
def test_more_runs_than_one_query_can_name_are_read(engine, ran, points):
    first = ran(50, Evidence(cause=OUTAGE, count=1))
    for _ in range(CHUNK_SIZE):
        ran(40)
    last = ran(30, Evidence(cause=OUTAGE, count=1))
    assert [point.run_id for point in points() if point.evidence] == [last, first]


def test_storing_evidence_returns_the_row_of_each_cause(engine, ran):
    run_id = ran(1)
    with writing(engine) as conn:
        rows = store.add_evidence(
            conn, target="gloo", run_id=run_id, at=NOW,
            pieces=[Evidence(cause=OUTAGE, count=2), Evidence(cause=MISSING, count=1)],
        )  # fmt: skip
    assert set(rows) == {(OUTAGE, ""), (MISSING, "")}
    assert len(set(rows.values())) == 2


def test_a_run_has_one_piece_of_evidence_per_cause(engine, ran):
    run_id = ran(1, Evidence(cause=OUTAGE, count=2))
    with pytest.raises(StoreError), writing(engine) as conn:
        store.add_evidence(conn, target="gloo", run_id=run_id, at=NOW, pieces=[Evidence(cause=OUTAGE, count=3)])


def test_each_group_has_its_own_points(ran, points):
    both = ran(3, Evidence(cause=MISSING, group="faq", count=4), Evidence(cause=MISSING, count=1))
    inhibited = ran(2, Evidence(cause=MISSING, group="faq", count=4, inhibited_by=Cause.WRONG_SCOPE))
    other = ran(1, Evidence(cause=MISSING, group="blog", count=2))

    def seen(group):
        return [(point.run_id, point.evidence, point.inhibited) for point in points(MISSING, group)]

    assert seen("faq") == [(other, False, False), (inhibited, False, True), (both, True, False)]
    assert seen("blog") == [(other, True, False), (inhibited, False, False), (both, False, False)]
    assert [point.evidence for point in points(MISSING)] == [False, False, True]
