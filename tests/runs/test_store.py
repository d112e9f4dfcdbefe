from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, inspect, select

from monitor.database.engine import insert as insert_in
from monitor.database.engine import reading, writing
from monitor.database.tables import item_events, runs
from monitor.errors import LeaseLostError
from monitor.model import Cause, RunStatus, Snapshot
from monitor.rollups.indexing import Watch
from monitor.runs import store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SNAPSHOT = Snapshot(completed=5, pending=2, failed=1, unknown=1, stuck=1, checked=7, requests=9, latency_p50_ms=12.5)


def start(conn, target="gloo", run_key=None, epoch=1, at=NOW, **more):
    return store.start(conn, target=target, environment="test", run_key=run_key, epoch=epoch, started_at=at, **more)


def finish(conn, run_id, status=RunStatus.COMPLETE, snapshot=SNAPSHOT, at=NOW + MINUTE, **more):
    closing = {"abort_reason": None, "owner_cause": None, "due": 9, "answered": 7, "error": None} | more
    store.finish(conn, run_id=run_id, status=status, finished_at=at, snapshot=snapshot, **closing)


def stored(conn, run_id):
    return conn.execute(select(runs).where(runs.c.id == run_id)).one()


def test_a_closed_run_is_one_row_of_history(engine):
    with writing(engine) as conn:
        run_id = start(conn, run_key="12:00")
        finish(conn, run_id, RunStatus.ABORTED, abort_reason="unauthorized", owner_cause=Cause.UNAUTHORIZED)
    with reading(engine) as conn:
        [row] = store.history(conn, target="gloo", limit=10)
        run = stored(conn, run_id)
    assert row == store.HistoryRow(
        run_id=run_id, target="gloo", environment="test", run_key="12:00", started_at=NOW, finished_at=NOW + MINUTE,
        status=RunStatus.ABORTED, abort_reason="unauthorized", snapshot=SNAPSHOT,
    )  # fmt: skip
    assert (row.columns()["run_id"], row.columns()["total"], row.columns()["pending"]) == (run_id, 9, 2)
    assert (run.owner_cause, run.due, run.answered, run.error) == ("unauthorized", 9, 7, None)


def test_the_view_has_the_columns_of_a_history_row_in_order(engine):
    with reading(engine) as conn:
        columns = [column["name"] for column in inspect(conn).get_columns("history")]
    assert columns == list(store.HISTORY_COLUMNS)
    assert set(columns) == set(store.HISTORY.c.keys())


def test_history_is_newest_first_and_of_the_requested_target(engine):
    with writing(engine) as conn:
        ids = [start(conn, target, at=NOW + n * MINUTE) for n, target in enumerate(["a", "b", "a", "a"])]
        for run_id in ids:
            finish(conn, run_id)
    with reading(engine) as conn:
        assert [row.run_id for row in store.history(conn, target=None, limit=3)] == [ids[3], ids[2], ids[1]]
        assert [row.run_id for row in store.history(conn, target="a", limit=2)] == [ids[3], ids[2]]
        assert store.history(conn, target="none", limit=2) == []


def test_a_run_that_could_not_read_its_log_has_no_snapshot(engine):
    with writing(engine) as conn:
        run_id = start(conn, run_key="1")
        finish(conn, run_id, RunStatus.FAILED, snapshot=None, error="e" * 3000)
        assert len(stored(conn, run_id).error) == 2000
        assert store.already_executed(conn, target="gloo", run_key="1")
        assert store.last_snapshot(conn, "gloo") is None
        assert store.history(conn, target=None, limit=9) == []


def test_the_last_snapshot_is_the_newest_of_its_target(engine):
    with writing(engine) as conn:
        for n in range(2):
            finish(conn, start(conn, at=NOW + n * MINUTE), snapshot=Snapshot(completed=n))
        finish(conn, start(conn, at=NOW + 2 * MINUTE), RunStatus.FAILED, snapshot=None)
        finish(conn, start(conn, "other", at=NOW + 3 * MINUTE))
        assert store.last_snapshot(conn, "gloo") == Snapshot(completed=1)


def test_a_run_is_closed_once(engine):
    with writing(engine) as conn:
        run_id = start(conn)
        finish(conn, run_id)
    with pytest.raises(LeaseLostError, match=f"run {run_id} was closed by another process"), writing(engine) as conn:
        finish(conn, run_id, RunStatus.PARTIAL)
    with reading(engine) as conn:
        assert stored(conn, run_id).status == "complete"


def test_run_ids_are_never_reused(engine):
    with writing(engine) as conn:
        first = start(conn)
        conn.execute(runs.delete())
        assert start(conn) > first


def test_a_run_key_is_executed_when_its_run_is_closed(engine):
    with writing(engine) as conn:
        run_id = start(conn, run_key="1")
        assert not store.already_executed(conn, target="gloo", run_key="1")
        finish(conn, run_id, RunStatus.ABORTED, abort_reason="outage")
        assert store.already_executed(conn, target="gloo", run_key="1")
        assert not store.already_executed(conn, target="gloo", run_key="2")
        assert not store.already_executed(conn, target="other", run_key="1")


def test_open_runs_of_a_dead_process_are_closed_as_crashed_and_their_run_key_is_free(engine):
    with writing(engine) as conn:
        dead, other, alive = start(conn, run_key="1"), start(conn, "other"), start(conn, epoch=2)
        assert store.abandon(conn, target="gloo", before_epoch=2, at=NOW + MINUTE) == 1
        assert store.abandon(conn, target="gloo", before_epoch=2, at=NOW + MINUTE) == 0
        run = stored(conn, dead)
        assert (run.status, run.finished_at) == ("crashed", NOW + MINUTE)
        assert run.error == "the process ended before the run was closed"
        assert [stored(conn, i).status for i in (other, alive)] == ["running", "running"]
        assert not store.already_executed(conn, target="gloo", run_key="1")
        assert store.last_snapshot(conn, "gloo") is None


def store_events(engine, *events, run_id=1):
    rows = [
        {"target": "gloo", "item_id": item_id, "run_id": run_id, "at": NOW, "kind": kind, "old": old, "new": new}
        for item_id, kind, old, new in events
    ]
    run = {"id": run_id, "target": "gloo", "environment": "test", "epoch": 1, "status": "complete", "started_at": NOW}
    with writing(engine) as conn:
        conn.execute(insert_in(conn, runs).values(run).on_conflict_do_nothing())
        conn.execute(insert(item_events), rows)


def of_run(engine, run_id=1, **options):
    with reading(engine) as conn:
        return store.item_changes_of_run(conn, run_id, **options)


def test_equal_changes_are_one_group_most_frequent_first(engine):
    store_events(
        engine,
        ("x", "removed", None, None),
        ("d", "state", "pending", "completed"),
        ("b", "state", "pending", "completed"),
        ("c", "state", "pending", "failed"),
        ("e", "state", "pending", "failed"),
        ("a", "state", "pending", "completed"),
    )
    assert of_run(engine) == [
        store.ItemChangeGroup(kind="state", old="pending", new="completed", count=3, sample_ids=("a", "b", "d")),
        store.ItemChangeGroup(kind="state", old="pending", new="failed", count=2, sample_ids=("c", "e")),
        store.ItemChangeGroup(kind="removed", old=None, new=None, count=1, sample_ids=("x",)),
    ]


def test_a_group_has_at_most_the_requested_number_of_samples(engine):
    store_events(engine, *((f"i{n}", "stage", "QUEUED", "CHUNKING") for n in range(5)))
    (change,) = of_run(engine, samples=2)
    assert (change.count, change.sample_ids) == (5, ("i0", "i1"))


def test_first_states_and_stages_of_the_same_name_are_separate_groups(engine):
    store_events(
        engine, ("a", "state", None, "completed"), ("b", "state", "failed", "completed"),
        ("c", "stage", "failed", "completed"),
    )  # fmt: skip
    found = {(change.kind, change.old): change.sample_ids for change in of_run(engine)}
    assert found == {("state", None): ("a",), ("state", "failed"): ("b",), ("stage", "failed"): ("c",)}


def test_changes_of_other_runs_are_not_included(engine):
    store_events(engine, ("a", "state", None, "completed"), run_id=2)
    assert of_run(engine, 1) == []
    assert len(of_run(engine, 2)) == 1


def test_a_run_knows_the_runs_before_it(engine):
    """Whatever their status; the watch is that of the last two that asked the API."""
    with writing(engine) as conn:
        assert store.past_runs(conn, target="gloo") == store.PastRuns()
        for n, status in enumerate(["complete", "partial", "failed", "aborted", "crashed", "running"]):
            run_id = start(conn, at=NOW + n * MINUTE, throttle_factor=1 / (n + 1))
            if RunStatus(status) is RunStatus.ABORTED:
                finish(conn, run_id, RunStatus.ABORTED, abort_reason="unauthorized", at=NOW + 9 * MINUTE)
            conn.execute(runs.update().where(runs.c.id == run_id).values(status=status))
        start(conn, "other", at=NOW + 99 * MINUTE)
        assert store.past_runs(conn, target="gloo") == store.PastRuns(
            throttle_factor=1 / 6,
            left_open=True,
            snapshot=SNAPSHOT,
            last=store.LastRun(finished_at=NOW + 9 * MINUTE, aborted_by=Cause.UNAUTHORIZED),
            watch=Watch(previous_started_at=NOW + 3 * MINUTE, usual_gap=2 * MINUTE),
        )
        store.abandon(conn, target="gloo", before_epoch=2, at=NOW)
        assert not store.past_runs(conn, target="gloo").left_open


def test_runs_that_did_not_ask_leave_their_throttle_factor(engine):
    with writing(engine) as conn:
        finish(conn, start(conn, throttle_factor=0.5), RunStatus.FAILED, snapshot=None, error="unreadable")
        assert store.past_runs(conn, target="gloo") == store.PastRuns(throttle_factor=0.5)
