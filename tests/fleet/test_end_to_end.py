"""The daemon and real workers, each in its own process, against the sandbox: from a due time to one closed run."""

import contextlib
import signal
import time

import pytest
from support.observed import until, until_asked
from support.running import Running

from monitor.fleet import queue_schema

pytestmark = pytest.mark.process

FLEET = '[schedule]\nevery = "1h"\n[fleet]\nworkers = true\nshare = 100\nstalled_after = "5s"\n'


@pytest.fixture
def fleet_world(small_world, new_postgres):
    """A world on PostgreSQL whose runs are executed by workers."""
    small_world.database = new_postgres(migrated=True)
    queue_schema.upgrade(small_world.database)
    small_world.configure(more=FLEET)
    return small_world


@pytest.fixture
def start():
    with contextlib.ExitStack() as stack:

        def make(world, *command):
            running = Running(world, *command)
            stack.callback(running.close)
            return running

        yield make


def closed_run(world):
    """The only run, once it is closed."""
    until(lambda: world.rows("SELECT 1 FROM history"), "a closed run")
    (row,) = world.rows("SELECT * FROM history")
    return {name: row[name] for name in ("status", "total", "checked", "completed", "failed", "unknown")}


ALL_SEEN = {"status": "complete", "total": 300, "checked": 300, "completed": 298, "failed": 2, "unknown": 0}


def test_two_workers_execute_one_run_of_the_daemon(fleet_world, start):
    failed = fleet_world.track(300)[:2]
    for each in failed:
        fleet_world.sandbox.set_status(each, "FAILED")
    workers = [start(fleet_world, "worker") for _ in range(2)]
    for each in workers:
        each.await_events("worker_started")
    daemon = start(fleet_world)
    assert closed_run(fleet_world) == ALL_SEEN
    until(lambda: daemon.logged("incident_message"), "the daemon delivers")
    assert [each.end()[0] for each in (*workers, daemon)] == [143] * 3
    ended = [event for each in workers for event in each.logged("job_ended")]
    assert {event["task"] for event in ended} == {"plan", "share", "close"}, "some perhaps twice"
    attempts = [row["attempt"] for row in fleet_world.rows("SELECT attempt FROM run_shares")]
    assert attempts == [1, 1, 1]
    # of two that close at the same time one is refused
    assert {(event["outcome"], event["task"]) for event in ended} - {("nothing_to_do", "close"), ("lost", "close")} == {
        ("done", task) for task in ("plan", "share", "close")
    }
    assert fleet_world.rows("SELECT holder FROM leases WHERE holder IS NOT NULL") == []
    assert fleet_world.sandbox.requests("items") == 300


@pytest.mark.parametrize(
    "end", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.nightly)], ids=lambda end: end.name
)
def test_a_share_goes_on_in_another_worker(fleet_world, start, end):
    failed = fleet_world.track(300)[:2]
    for each in failed:
        fleet_world.sandbox.set_status(each, "FAILED")
    fleet_world.sandbox.add_fault(path="/engine", delay_s=0.5, passes=True)
    first = start(fleet_world, "worker", "--concurrency", "3")
    first.await_events("worker_started")
    daemon = start(fleet_world)
    until_asked(fleet_world, 80)
    second = start(fleet_world, "worker")
    second.await_events("worker_started")
    began_s = time.monotonic()
    first.process.send_signal(end)
    first.process.wait(timeout=60)
    assert time.monotonic() - began_s < 10
    fleet_world.sandbox.clear_faults()
    assert closed_run(fleet_world) == ALL_SEEN
    assert second.end()[0] == daemon.end()[0] == 143
    tracebacks = [line for line in [*first.lines, *second.lines, *daemon.lines] if "Traceback" in line]
    assert tracebacks == []
