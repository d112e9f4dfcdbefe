"""A run that workers share, on PostgreSQL, against the sandbox: it ends as a run of one process does."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from sqlalchemy import insert
from support.fleet import Fleet, written

from monitor.database.engine import writing
from monitor.database.fleet_tables import throttle_claims
from monitor.errors import (
    LeaseHeldError,
    LeaseLostError,
    RunAlreadyExecutedError,
    RunCrashedError,
    RunGivenBackError,
    TargetNotHereError,
)
from monitor.fleet import share_store
from monitor.fleet.handlers import JobEnd
from monitor.fleet.share_check import ShareEnd
from monitor.model import Cause
from monitor.model.http import CallResult
from monitor.runs.heartbeat import Heartbeat


def last_run(world):
    (row,) = world.rows("SELECT * FROM history ORDER BY run_id DESC LIMIT 1")
    return row


def shares(world):
    return world.rows("SELECT number, state, attempt, worker FROM run_shares ORDER BY run_id, number")


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


def stored_at_once(monkeypatch):
    """Each outcome is a batch of its own."""
    monkeypatch.setattr("monitor.runs.item_check.FLUSH_INTERVAL_S", 0.0)


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # the sandbox and the database tell, not this loop
            await asyncio.sleep(0.01)


def asked(world):
    return world.sandbox.requests("/items/{")


async def test_a_frozen_worker_that_wakes_up_after_a_takeover_writes_nothing(shared_world):
    world = shared_world
    world.track(30)
    fleet = Fleet(world, share=15, workers=2)
    await fleet.plan()
    frozen = begin_share(fleet, 1)
    world.clock.advance(seconds=29)
    await fleet.supervise()
    assert shares(world)[0] == {"number": 1, "state": "running", "attempt": 1, "worker": "frozen:1"}
    world.clock.advance(seconds=1)
    await fleet.supervise()
    taken = begin_share(fleet, 1, worker="other:1")
    before = written(world)
    with pytest.raises(LeaseLostError, match=r"share 1 of run 1: another worker took it over"):
        await frozen.execute()
    assert written(world) == before
    assert await taken.execute() is ShareEnd.DONE
    await fleet.work()
    assert last_run(world)["checked"] == 30


def begin_share(fleet, number, worker="frozen:1"):
    """An attempt at a share that was begun, and that the caller may execute."""
    handlers = fleet.workers[0]
    run = handlers._load(1)
    return handlers._begin(handlers.job_of("gloo"), run, number, worker)


async def test_a_share_whose_worker_was_killed_goes_on_from_what_was_stored(shared_world, monkeypatch):
    world = shared_world
    world.configure(auth=world.key_auth, check="max_attempts = 1\nconcurrency = 1")
    world.track(30)
    fleet = Fleet(world, share=25, workers=1)
    await fleet.plan()
    stored_at_once(monkeypatch)
    world.sandbox.add_fault(path="/engine/v2/items", passes=True, delay_s=0.02)
    killed = asyncio.create_task(begin_share(fleet, 1).execute())
    await until(lambda: world.rows("SELECT count(*) FROM items WHERE asked_run_id = 1")[0]["count"] >= 9)
    killed.cancel()
    await asyncio.gather(killed, return_exceptions=True)
    stored = world.rows("SELECT count(*) FROM items WHERE asked_run_id = 1")[0]["count"]
    sent = asked(world)
    world.sandbox.clear_faults()
    world.clock.advance(seconds=31)
    await fleet.supervise()
    await fleet.work()
    row = last_run(world)
    assert (row["status"], row["checked"], row["completed"]) == ("complete", 30, 30)
    # the request in flight may have been counted after that
    assert 0 <= asked(world) - sent - (30 - stored) <= 1
    assert 30 <= row["requests"] <= asked(world)


async def test_shares_that_the_planner_could_not_queue_are_queued_by_another_process(shared_world):
    world = shared_world
    world.track(30)
    fleet = Fleet(world, share=10, workers=2)
    fleet.queue.lost = True
    await fleet.plan()
    fleet.queue.lost = False
    await fleet.supervise()
    assert fleet.queue.deferred == []
    world.clock.advance(seconds=31)
    await asyncio.gather(fleet.supervise(), fleet.supervise())
    assert sorted(fleet.queue.deferred) == [("share", 1, 1), ("share", 1, 2), ("share", 1, 3)]
    await fleet.work()
    assert last_run(world)["status"] == "complete"


async def test_a_planner_that_comes_again_queues_what_was_not_queued_and_begins_no_other_run(shared_world):
    world = shared_world
    world.track(30)
    fleet = Fleet(world, share=10, workers=2)
    fleet.queue.lost = True
    await fleet.plan("daily@1")
    fleet.queue.lost = False
    world.clock.advance(seconds=60)  # the lease has expired, and nobody acquired it
    before = asked(world)
    await fleet.plan("daily@1")
    assert asked(world) == before
    assert sorted(fleet.queue.deferred) == [("share", 1, 1), ("share", 1, 2), ("share", 1, 3)]
    await fleet.work()
    assert last_run(world)["checked"] == 30
    with pytest.raises(RunAlreadyExecutedError):
        await fleet.plan("daily@1")


async def test_a_run_whose_last_worker_could_not_queue_its_close_is_closed(shared_world):
    world = shared_world
    world.track(12)
    fleet = Fleet(world, share=10, workers=1)
    await fleet.plan()
    fleet.queue.lost = True
    await fleet.work()
    assert {each["state"] for each in shares(world)} == {"done"}
    fleet.queue.lost = False
    await fleet.supervise()
    await fleet.work()
    assert last_run(world)["status"] == "complete"


async def test_the_deadline_closes_a_run_once_and_the_rest_is_unknown(shared_world):
    world = shared_world
    world.track(40)
    fleet = Fleet(world, share=10, workers=2)
    await fleet.plan()
    await fleet.work(shares=1)
    (deadline_at,) = world.rows("SELECT deadline_at FROM shared_runs")
    world.clock.now = deadline_at["deadline_at"] + timedelta(seconds=6)
    await fleet.supervise()
    assert ("close", 1) in fleet.queue.waiting
    ends = await asyncio.gather(*(each.close(1) for each in fleet.workers), fleet.workers[0].close(1))
    assert ends.count(JobEnd.DONE) == 1
    assert set(ends) <= {JobEnd.DONE, JobEnd.LOST, JobEnd.NOTHING_TO_DO}
    (row,) = world.rows("SELECT status, abort_reason, checked, completed, unknown FROM history")
    done = row["checked"]
    assert 10 < done < 20
    assert tuple(row.values()) == ("partial", "deadline", done, done, 40 - done)
    assert {each["state"] for each in shares(world)} == {"done", "cut"}
    assert world.rows("SELECT holder FROM leases") == [{"holder": None}]


async def test_a_signal_gives_a_share_back_and_another_worker_goes_on(shared_world, monkeypatch):
    world = shared_world
    world.configure(auth=world.key_auth, check="max_attempts = 1\nconcurrency = 2")
    world.track(60)
    fleet = Fleet(world, share=50, workers=1)
    await fleet.plan()
    world.sandbox.add_fault(path="/engine/v2/items", passes=True, delay_s=0.02)
    working = asyncio.create_task(fleet.work(shares=1))
    before = asked(world)
    await until(lambda: asked(world) >= before + 6)
    fleet.workers[0].interrupt.set()
    await working
    (first, second) = shares(world)
    assert "waiting" in {first["state"], second["state"]}
    given_back = first if first["attempt"] else second
    assert ("share", 1, given_back["number"]) in fleet.queue.waiting
    world.sandbox.clear_faults()
    fleet.workers = [fleet.worker()]
    await fleet.work()
    row = last_run(world)
    assert (row["status"], row["checked"], row["requests"]) == ("complete", 60, 60)
    assert asked(world) == 60


async def interrupted_plan(fleet, when, run_key=None):
    """How a plan ends whose worker gets a signal then."""
    planning = asyncio.create_task(fleet.workers[0].plan("gloo", run_key))
    await until(when)
    fleet.workers[0].interrupt.set()
    try:
        return await planning
    finally:
        fleet.world.sandbox.clear_faults()
        fleet.workers = [fleet.worker()]


async def test_a_signal_hands_the_rest_of_a_whole_run_on_to_another_worker(shared_world, alone):
    world = shared_world
    world.configure(auth=world.key_auth, check="max_attempts = 1\nconcurrency = 2")
    made = world.track(60)
    for status, item_id in zip(["FAILED", "CHUNKING", "SOMETHING_NEW"] * 6, made[::3], strict=False):
        world.sandbox.set_status(item_id, status)
    fleet = Fleet(world, share=500)
    world.sandbox.add_fault(path="/engine/v2/items", passes=True, delay_s=0.02)
    assert await interrupted_plan(fleet, lambda: asked(world) >= 10) is JobEnd.GIVEN_BACK
    assert [(each["state"], each["attempt"]) for each in shares(world)] == [("waiting", 0)]
    assert 10 <= asked(world) < 60
    await fleet.work()
    assert asked(world) == 60, "no item is asked about twice"
    assert [each["holder"] for each in world.rows("SELECT holder FROM leases")] == [None]
    assert [row["status"] for row in world.rows("SELECT status FROM runs")] == ["complete"]
    await asyncio.to_thread(alone.run)
    assert written(world) == written(alone)


async def test_a_signal_leaves_what_failed_once_to_another_worker(shared_world):
    world = shared_world
    world.configure(auth=world.key_auth, check="max_attempts = 1\nconcurrency = 2")
    made = world.track(60)
    for item_id in made:
        world.sandbox.add_fault(path=f"/engine/v2/items/{item_id}", status=503, body={"code": "x"}, count=1, share=0.3)
    fleet = Fleet(world, share=500)
    world.sandbox.add_fault(path="/engine/v2/items", passes=True, delay_s=0.02)
    assert await interrupted_plan(fleet, lambda: asked(world) >= 20) is JobEnd.GIVEN_BACK
    await fleet.work()
    row = last_run(world)
    assert (row["status"], row["checked"], row["unknown"]) == ("complete", 60, 0)


async def test_a_share_that_is_given_back_leaves_what_failed_once_to_another_worker(shared_world):
    world = shared_world
    world.configure(auth=world.key_auth, check="max_attempts = 1\nconcurrency = 2")
    made = world.track(60)
    fleet = Fleet(world, share=30, workers=2)
    await fleet.plan()
    for item_id in made[::3]:
        world.sandbox.add_fault(path=f"/engine/v2/items/{item_id}", status=503, body={"code": "x"}, count=1)
    world.sandbox.add_fault(path="/engine/v2/items", passes=True, delay_s=0.02)
    before, checking = asked(world), asyncio.create_task(begin_share(fleet, 2).execute())
    await until(lambda: asked(world) - before >= 12)
    fleet.workers[0].interrupt.set()
    assert await checking is ShareEnd.GIVEN_BACK
    world.sandbox.clear_faults()
    fleet.workers = [fleet.worker()]
    with writing(world.app.engine) as conn:
        assert len(share_store.waiting(conn, run_id=1)) == 2
    await fleet.queue.defer_share(1, 2)
    await fleet.work()
    row = last_run(world)
    assert (row["status"], row["checked"], row["unknown"]) == ("complete", 60, 0)


@pytest.mark.parametrize(
    ("strategy", "when"),
    [("items", "SELECT 1"), ("list", "SELECT 1 FROM runs")],
    ids=["before the first request", "while the list is on its way"],
)
async def test_a_signal_gives_a_run_back_that_has_not_got_far(shared_world, strategy, when):
    world = shared_world
    world.configure(auth=world.key_auth, strategy=strategy, check="max_attempts = 1")
    world.track(20)
    pings = []

    async def ask(request, timeout_s):
        pings.append(urlsplit(request.path).path)
        return CallResult(reply=None)

    heartbeat = Heartbeat(target="gloo", read_url=lambda: "https://hc.example/x", ask=ask, new_rid=lambda: "unused")
    fleet = Fleet(world, share=500, heartbeat=heartbeat)
    world.sandbox.add_fault(path="/engine", passes=True, delay_s=30)
    with pytest.raises(RunGivenBackError, match="gloo: a signal ended its worker"):
        await interrupted_plan(fleet, lambda: world.rows(when), run_key="daily@1")
    assert await fleet.workers[0].plan("gloo", "daily@1") is JobEnd.DONE
    ends = world.rows("SELECT run_key, status, error FROM runs ORDER BY id")
    assert [(each["run_key"], each["status"]) for each in ends] == [("daily@1", "crashed"), ("daily@1", "complete")]
    assert ends[0]["error"] == "a signal ended its worker, and another one begins the run again"
    assert last_run(world)["checked"] == 20
    assert pings == ["/x/start", "/x/start", "/x"], "nobody is told of a failure"


async def test_a_refusal_that_one_share_meets_stops_all_others(shared_world):
    world = shared_world
    world.configure(auth=world.client_auth, check="max_attempts = 1\nconcurrency = 2")
    world.track(200)
    fleet = Fleet(world, share=50, workers=2)
    await fleet.plan()
    world.sandbox.add_fault(path="/engine/v2/items", passes=True, delay_s=0.05)
    waiting = begin_share(fleet, 4)
    in_progress = asyncio.create_task(waiting.execute())
    await asyncio.sleep(0.2)
    with writing(world.app.engine) as conn:
        share_store.stop(conn, run_id=1, cause=Cause.UNAUTHORIZED)
    assert await in_progress is ShareEnd.STOPPED
    await fleet.work()
    row = last_run(world)
    assert (row["status"], row["abort_reason"]) == ("aborted", "unauthorized")
    assert row["unknown"] == 200 - row["checked"] > 150
    assert [each["attempt"] for each in shares(world)] == [0, 0, 0, 1]


def test_rejected_credentials_stop_a_shared_run_and_the_next_one_begins_with_one_probe(shared_world):
    world = shared_world
    world.configure(auth=world.client_auth, check="max_attempts = 1")
    world.track(60)
    fleet = Fleet(world, share=10)

    async def refused():
        await fleet.plan()
        world.sandbox.revoke_client()
        await fleet.work()

    asyncio.run(refused())
    world.clock.advance(minutes=1)
    assert (last_run(world)["status"], last_run(world)["abort_reason"]) == ("aborted", "unauthorized")
    assert [row["cause"] for row in world.rows("SELECT cause FROM incidents WHERE state <> 'resolved'")] == [
        "unauthorized"
    ]
    before = asked(world)
    fleet.run()
    assert asked(world) - before <= 1
    assert world.rows("SELECT count(*) FROM shared_runs") == [{"count": 1}]
    world.sandbox.restore_client()
    fleet.run()
    assert world.rows("SELECT count(*) FROM shared_runs") == [{"count": 2}]
    assert (last_run(world)["status"], last_run(world)["checked"]) == ("complete", 60)
    fleet.run()
    assert world.rows("SELECT cause FROM incidents WHERE state <> 'resolved'") == []


async def test_a_run_that_another_took_over_writes_nothing_and_is_given_up(shared_world):
    world = shared_world
    world.track(30)
    fleet = Fleet(world, share=10, workers=2)
    await fleet.plan()
    stale = begin_share(fleet, 1)
    world.clock.advance(seconds=41)  # nobody renewed the lease
    await fleet.plan()
    with pytest.raises(LeaseLostError):
        await stale.execute()
    await fleet.supervise()
    await fleet.work()
    assert world.rows("SELECT run_id, state FROM shared_runs ORDER BY 1") == [
        {"run_id": 1, "state": "closed"}, {"run_id": 2, "state": "closed"}
    ]  # fmt: skip
    assert [row["status"] for row in world.rows("SELECT status FROM runs ORDER BY id")] == ["crashed", "complete"]
    assert world.rows("SELECT count(*) FROM items WHERE asked_run_id = 2") == [{"count": 30}]


async def test_a_lease_is_renewed_while_a_run_waits_for_workers(shared_world):
    world = shared_world
    world.track(30)
    fleet = Fleet(world, share=10, workers=1)
    await fleet.plan()
    assert world.rows("SELECT holder FROM leases") == [{"holder": "fleet"}]
    for _ in range(5):
        world.clock.advance(seconds=20)
        await fleet.supervise()
    with pytest.raises(LeaseHeldError):
        await fleet.plan()
    await fleet.work()
    assert last_run(world)["status"] == "complete"


async def test_claims_of_dead_processes_are_deleted(shared_world):
    world = shared_world
    now, claim = world.clock(), {"key": "k", "weight": 1, "part": 1.0}
    rows = [claim | {"holder": f"host:{age_s}", "seen_at": now - timedelta(seconds=age_s)} for age_s in (0, 301)]
    with writing(world.app.engine) as conn:
        conn.execute(insert(throttle_claims), rows)
    await Fleet(world).supervise()
    assert world.rows("SELECT holder FROM throttle_claims") == [{"holder": "host:0"}]


TROUBLES = {
    "nothing is answered": {"status": 503, "body": {"code": "x"}},
    "everything is gone": {"status": 410, "body": {"error": {"code": "gone"}}},
    "everything is forbidden": {"status": 403, "body": {"code": "no"}},
}


@pytest.mark.parametrize("fault", TROUBLES.values(), ids=TROUBLES)
def test_a_run_in_which_the_first_items_are_not_answered_is_not_shared(shared_world, alone, fault):
    world = shared_world
    world.track(30)
    world.sandbox.add_fault(path="/engine/v2/items", **fault)
    Fleet(world, share=10).run()
    alone.run()
    assert world.rows("SELECT run_id FROM shared_runs") == []
    ends = [
        (last_run(each)["status"], last_run(each)["abort_reason"], last_run(each)["unknown"]) for each in (world, alone)
    ]
    assert ends[0] == ends[1]
    causes = [each.rows("SELECT cause FROM incidents ORDER BY 1") for each in (world, alone)]
    assert causes[0] == causes[1]
    assert causes[0]


def test_a_shared_run_sends_its_pings_when_it_is_planned_and_when_it_is_closed(shared_world):
    world, pings = shared_world, []

    async def ask(request, timeout_s):
        pings.append(urlsplit(request.path))
        return CallResult(reply=None)

    heartbeat = Heartbeat(target="gloo", read_url=lambda: "https://hc.example/x", ask=ask, new_rid=lambda: "unused")
    world.track(30)
    fleet = Fleet(world, share=10, heartbeat=heartbeat)
    asyncio.run(fleet.plan())
    assert [each.path for each in pings] == ["/x/start"]
    asyncio.run(fleet.work())
    assert [each.path for each in pings] == ["/x/start", "/x"]
    assert len({each.query for each in pings}) == 1


def test_a_target_that_is_no_longer_configured_is_left_alone(shared_world):
    world = shared_world
    world.track(30)
    fleet = Fleet(world, share=10)
    asyncio.run(fleet.plan())
    gone = replace(fleet.workers[0], job_of=lambda _: None)
    for job in (gone.plan("gloo", None), gone.share(1, 1, "host:1"), gone.close(1)):
        with pytest.raises(TargetNotHereError, match=r"gloo is not configured in this worker"):
            asyncio.run(job)
    assert {each["state"] for each in shares(world)} == {"waiting"}
    world.clock.advance(hours=3)
    asyncio.run(fleet.supervise())
    assert {each["state"] for each in shares(world)} == {"cut"}
    assert world.rows("SELECT state FROM shared_runs") == [{"state": "closed"}]
    assert world.rows("SELECT holder FROM leases") == [{"holder": None}]
    fleet.run()
    assert [row["status"] for row in world.rows("SELECT status FROM runs ORDER BY id")] == ["crashed", "complete"]


def test_a_defect_in_the_close_ends_the_run_as_crashed(shared_world, monkeypatch):
    world = shared_world
    world.track(30)
    fleet = Fleet(world, share=10, workers=1)

    def fail(*_, **__):
        raise ZeroDivisionError

    asyncio.run(fleet.plan())
    monkeypatch.setattr("monitor.runs.close.roll_up", fail)
    with pytest.raises(RunCrashedError):
        asyncio.run(fleet.work())
    monkeypatch.undo()
    assert world.rows("SELECT status FROM runs") == [{"status": "crashed"}]
    assert world.rows("SELECT state FROM shared_runs") == [{"state": "closed"}]
    assert world.rows("SELECT holder FROM leases") == [{"holder": None}]
