from datetime import timedelta

import pytest
from sqlalchemy import insert
from support.samples import NOW

from monitor.database.engine import reading, writing
from monitor.database.tables import items
from monitor.incidents import store as incident_store
from monitor.model import Reason, RunStatus
from monitor.runs import store as runs

MINUTE = timedelta(minutes=1)


@pytest.fixture
def ran(engine):
    """Stores a run that started some minutes before NOW; returns its id."""

    def ran(minutes_ago, status=RunStatus.COMPLETE, target="gloo"):
        at = NOW - minutes_ago * MINUTE
        with writing(engine) as conn:
            run_id = runs.start(conn, target=target, environment="test", run_key=None, epoch=1, started_at=at)
            if status is not RunStatus.RUNNING:
                runs.finish(
                    conn, run_id=run_id, status=status, abort_reason=None, owner_cause=None, due=0, answered=0,
                    error=None, finished_at=at + MINUTE, snapshot=None,
                )  # fmt: skip
        return run_id

    return ran


@pytest.mark.parametrize("status", [RunStatus.COMPLETE, RunStatus.PARTIAL, RunStatus.ABORTED, RunStatus.FAILED])
def test_the_previous_run_is_found_with_any_status(engine, ran, status):
    ran(30)
    ran(20, status)
    ran(15, RunStatus.RUNNING)
    ran(14, target="another")
    this = ran(10)
    ran(5)
    with reading(engine) as conn:
        assert incident_store.previous_run(conn, target="gloo", before=this).started_at == NOW - 20 * MINUTE


def test_the_first_run_has_no_previous_one(engine, ran):
    this = ran(10)
    with reading(engine) as conn:
        assert incident_store.previous_run(conn, target="gloo", before=this) is None


def test_unknown_items_that_no_request_failed_for_are_counted_by_reason(engine):
    row = {"target": "gloo", "state": "unknown", "first_seen_at": NOW, "removed_at": None}
    rows = [
        {**row, "item_id": "a", "reason": "deadline"},
        {**row, "item_id": "b", "reason": "deadline"},
        {**row, "item_id": "c", "reason": "outage"},
        {**row, "item_id": "gone", "reason": "outage", "removed_at": NOW},
        {**row, "item_id": "well", "reason": None, "state": "completed"},
        {**row, "item_id": "other", "reason": "deadline", "target": "another"},
    ]
    with writing(engine) as conn:
        conn.execute(insert(items), rows)
    with reading(engine) as conn:
        found = incident_store.unasked_by_reason(conn, target="gloo")
        assert found == {Reason.DEADLINE: 2}
        assert incident_store.unasked_by_reason(conn, target="unknown") == {}


def test_a_target_whose_items_all_left_the_log_had_tracked_items(engine):
    row = {"target": "gloo", "item_id": "a", "state": "completed", "first_seen_at": NOW, "removed_at": NOW}
    with reading(engine) as conn:
        assert not incident_store.has_tracked_items(conn, target="gloo")
    with writing(engine) as conn:
        conn.execute(insert(items).values(row))
    with reading(engine) as conn:
        assert incident_store.has_tracked_items(conn, target="gloo")
        assert not incident_store.has_tracked_items(conn, target="another")
