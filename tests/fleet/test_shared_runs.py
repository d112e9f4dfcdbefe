"""A run that workers share, on PostgreSQL, against the sandbox: it ends as a run of one process does."""

import json

import pytest
from support.fleet import Fleet
from support.world import World


@pytest.fixture
def shared_world(tmp_path, sandbox, new_postgres):
    """A World on PostgreSQL whose requests are not repeated."""
    made = World(tmp_path, sandbox, database=new_postgres(migrated=True), sync_log=new_postgres())
    made.configure(auth=made.key_auth, check="max_attempts = 1")
    yield made
    made.close()


@pytest.fixture
def alone(tmp_path, sandbox, shared_world, new_postgres):
    """A second World over the same sandbox and sync log, whose runs are of one process."""
    (tmp_path / "alone").mkdir()
    made = World(tmp_path / "alone", sandbox, database=new_postgres(migrated=True), sync_log=new_postgres())
    made.sync_log = shared_world.sync_log
    made.configure(auth=made.key_auth, check="max_attempts = 1")
    yield made
    made.close()


def last_run(world):
    (row,) = world.rows("SELECT * FROM history ORDER BY run_id DESC LIMIT 1")
    return row


def shares(world):
    return world.rows("SELECT number, state, attempt, worker FROM run_shares ORDER BY run_id, number")


TABLES = {
    "items": "SELECT item_id, state, known_state, reason, stage, recognised, since, pending_since, seen_at, checked_at, "
    "asked_run_id, http_status, code, incident_id, regressed_at, page, unverified_runs, failure_reason, indexed_at "
    "FROM items ORDER BY item_id",
    "item_events": "SELECT item_id, run_id, at, kind, old, new FROM item_events ORDER BY item_id, at, kind",
    "history": "SELECT run_id, started_at, finished_at, status, abort_reason, total, checked, completed, pending, failed,"
    " not_found, invalid, unknown, stuck, requests, retries FROM history ORDER BY run_id",
    "runs": "SELECT id, status, abort_reason, owner_cause, due, answered, accepted, throttle_factor FROM runs ORDER BY id",
    "evidence": "SELECT run_id, cause, count, breakdown, sample_ids, code, api_message, inhibited_by, group_name, page "
    "FROM evidence ORDER BY run_id, cause, group_name",
    "incidents": "SELECT id, cause, state, severity, opened_at, resolved_at, member_count, peak_count, group_name "
    "FROM incidents ORDER BY id",
    "incident_events": "SELECT incident_id, run_id, at, kind, reason FROM incident_events ORDER BY id",
    "notifications": "SELECT incident_id, channel, kind, status, cause, message FROM notifications ORDER BY id",
    "history_hourly": "SELECT starts_at, run_id, completed, unknown_max, total_sum, requests_sum FROM history_hourly",
    "time_to_indexed": "SELECT slot_s, starts_at, group_name, buckets, indexed, sum_s FROM time_to_indexed ORDER BY 1, 2",
    "slowest_uploads": "SELECT starts_at, item_id, took_s FROM slowest_uploads ORDER BY item_id",
}  # fmt: skip
"""What a run writes, but request ids, and durations of requests."""


def written(world):
    """By table, what all runs wrote."""
    found = {name: world.rows(query) for name, query in TABLES.items()}
    for row in found["time_to_indexed"]:  # as JSON: what was added twice has other spaces
        row["buckets"] = json.loads(row["buckets"])
    return found


def test_a_run_is_shared_and_closed_once(shared_world):
    world = shared_world
    world.track(37)
    fleet = Fleet(world, share=10)
    fleet.run()
    row = last_run(world)
    assert (row["status"], row["total"], row["completed"], row["checked"]) == ("complete", 37, 37, 37)
    assert [job[0] for job in fleet.queue.deferred].count("share") == 4
    assert [(each["state"], each["attempt"]) for each in shares(world)] == [("done", 1)] * 4
    assert world.rows("SELECT state, stopped_by FROM shared_runs") == [{"state": "closed", "stopped_by": None}]
    assert world.rows("SELECT count(*) FROM run_shares WHERE checked IS NOT NULL") == [{"count": 0}]
    assert world.rows("SELECT holder FROM leases") == [{"holder": None}]


def test_a_small_run_and_one_by_list_are_not_shared(shared_world):
    world = shared_world
    world.track(9)
    Fleet(world, share=10).run()
    world.configure(auth=world.key_auth, strategy="list")
    world.track(9)
    Fleet(world, share=10).run()
    assert world.rows("SELECT run_id FROM shared_runs") == []
    assert [row["checked"] for row in world.rows("SELECT checked FROM history ORDER BY run_id")] == [9, 18]


def script(world, items):
    """Makes items that answer in each way; the same ids for all Worlds."""
    made = world.track(items)
    for number, item_id in enumerate(made):
        match number % 12:
            case 3 | 4:
                world.sandbox.set_status(item_id, "CHUNKING")
            case 5:
                world.sandbox.set_status(item_id, "FAILED")
            case 6:
                world.sandbox.remove(item_id)
            case 7:
                world.sandbox.assign_to_other_publisher(item_id)
            case 8 if number == 8:
                world.sandbox.add_fault(path=f"/engine/v2/items/{item_id}", status=500, body={"code": "x"})
            case 9 if number == 9:
                world.sandbox.add_fault(path=f"/engine/v2/items/{item_id}", status=200, body="<p>what?")
            case 10:
                world.sandbox.set_status(item_id, "SOMETHING_NEW")
    return made


def test_three_workers_write_what_one_process_writes(shared_world, alone):
    world = shared_world
    made = script(world, 60)
    world.record("not-a-uuid", "another one")
    fleet = Fleet(world, share=7, workers=3)
    for change in (None, "CHUNKING", None, "FAILED"):
        if change:
            for item_id in made[::12]:
                world.sandbox.set_status(item_id, change)
        fleet.run()
        alone.run()
    assert written(world) == written(alone)
    assert len(world.rows("SELECT run_id FROM shared_runs")) == 4
