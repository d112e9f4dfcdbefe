"""The short form of the races, and a test that a write under a stale epoch would be detected."""

import pytest
from survival.races import STALE, race, watch

from monitor.database.engine import writing

pytestmark = pytest.mark.process


@pytest.mark.smoke
def test_each_run_key_is_executed_by_one_process_and_a_stopped_one_writes_nothing_more(world):
    raced = race(world, processes=3, run_keys=10, point="record.enter", waits=False)
    assert raced.wrong == []
    assert (raced.once, raced.twice, raced.lost, raced.stale) == (10, 0, 1, 0)
    assert raced.written > 10


@pytest.mark.parametrize(
    "write",
    [
        "UPDATE items SET asked_run_id = 1",
        "UPDATE runs SET status = 'partial' WHERE id = 1",
        "INSERT INTO item_events (target, item_id, run_id, at, kind) VALUES ('gloo', 'x', 1, '2026-03-01', 'state')",
    ],
)
def test_a_write_under_a_stale_epoch_is_detected(world, write):
    world.track(1, "QUEUED", uploaded_at=world.clock())
    watch(world)
    world.run()
    world.run()
    assert world.rows(STALE) == []
    with writing(world.app.engine) as conn:
        conn.exec_driver_sql(write)
    assert [(row["run_epoch"], row["lease_epoch"]) for row in world.rows(STALE)] == [(1, 2)]
