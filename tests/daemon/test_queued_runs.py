"""A daemon with workers queues its runs: each run key once, and the newest if several were missed."""

import asyncio
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import psycopg
import pytest
from support.fastclock import FastClock, driven
from support.observed import until
from support.samples import incident, message

from monitor.config import load_config
from monitor.daemon.fleet import FleetQueue
from monitor.database.engine import writing
from monitor.errors import StoreUnavailableError
from monitor.fleet import queue_schema
from monitor.fleet.queue import Queue
from monitor.incidents import store
from monitor.notifications import outbox

pytestmark = pytest.mark.process

FLEET = '[fleet]\nworkers = true\nstalled_after = "5s"\n'


@pytest.fixture
def fleet_world(small_world, new_postgres):
    """A world on PostgreSQL with a queue."""
    url = new_postgres(migrated=True)
    queue_schema.upgrade(url)
    small_world.database = url
    small_world.track(2)
    return small_world


def queued(world):
    with psycopg.connect(world.database) as conn:
        return conn.execute(
            "SELECT args ->> 'target', args ->> 'run_key', status::text FROM procrastinate.procrastinate_jobs"
        ).fetchall()


def test_a_daemon_queues_each_run_key_once_and_the_newest_alone_waits(fleet_world, start):
    fleet_world.configure(more='[schedule]\nevery = "2s"\n' + FLEET)
    pair = [start(fleet_world) for _ in range(2)]
    until(
        lambda: (
            sum(len(each.logged("run_queued")) for each in pair) >= 3
            and all(each.logged("run_queued") or each.logged("run_already_queued") for each in pair)
        ),
        "three runs by a pair",
    )
    assert [each.end()[0] for each in pair] == [143, 143]
    keys = [event["run_key"] for each in pair for event in each.logged("run_queued")]
    assert len(set(keys)) == len(keys)
    assert queued(fleet_world) == [("gloo", max(keys), "todo")]
    with psycopg.connect(fleet_world.database) as conn:
        assert conn.execute("SELECT count(*) FROM runs").fetchone() == (0,), "workers execute them"


def test_a_daemon_makes_jobs_of_dead_workers_wait_again(fleet_world, start):
    fleet_world.configure(more='[schedule]\nevery = "1h"\n' + FLEET)
    with psycopg.connect(fleet_world.database) as conn:
        conn.execute("SET LOCAL search_path TO procrastinate")
        conn.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, status, args)"
            " VALUES ('ingestion-monitor', 'share', 'doing', '{\"run_id\": 7, \"number\": 1}')"
        )
    daemon = start(fleet_world)
    until(lambda: (None, None, "todo") in queued(fleet_world), "the job of the dead worker")
    assert daemon.end()[0] == 143
    assert daemon.logged("background_loop_crashed") == []


def test_a_daemon_begins_to_queue_when_the_configuration_says_so(fleet_world, start):
    fleet_world.configure(more='[schedule]\nevery = "2s"\n')
    daemon = start(fleet_world)
    daemon.await_events("run_finished")
    fleet_world.configure(more='[schedule]\nevery = "2s"\n' + FLEET)
    daemon.process.send_signal(signal.SIGHUP)
    daemon.await_events("configuration_reloaded")
    finished = len(daemon.logged("run_finished"))
    daemon.await_events("run_queued", 2)
    assert len(daemon.logged("run_finished")) <= finished + 1, "the one in progress"
    fleet_world.configure(more='[schedule]\nevery = "2s"\n')
    daemon.process.send_signal(signal.SIGHUP)
    daemon.await_events("configuration_reloaded", 2)
    finished = len(daemon.logged("run_finished"))
    daemon.await_events("run_finished", finished + 1)
    assert daemon.end()[0] == 143


def test_a_daemon_waits_for_the_queue_of_its_workers(fleet_world, new_postgres, start):
    fleet_world.database = new_postgres(migrated=True)
    fleet_world.configure(more='[schedule]\nevery = "1h"\n' + FLEET)
    daemon = start(fleet_world)
    daemon.await_events("database_not_ready")
    assert "no queue for workers" in daemon.logged("database_not_ready")[0]["reason"]
    assert daemon.end()[0] == 143


async def test_of_many_runs_that_are_due_at_once_a_few_are_queued_at_a_time(fleet_world, monkeypatch):
    fleet_world.configure(more=FLEET)
    config, database = load_config(fleet_world.config_path, environ={}), SimpleNamespace(fault=None)
    begun, most, fails = [], [0], [False]

    async def defer_plan(_queue, target, _run_key):
        begun.append(target)
        most[0] = max(most[0], len(begun))
        await asyncio.sleep(0.01)
        begun.remove(target)
        if fails[0]:
            database.fault = "it is down"
            raise StoreUnavailableError("it went away")
        return True

    monkeypatch.setattr(Queue, "defer_plan", defer_plan)
    queue = FleetQueue(database)

    async def all_at_once():
        names = [f"t{number}" for number in range(20)]
        return await asyncio.gather(*(queue.defer_plan(config, each, "a") for each in names), return_exceptions=True)

    try:
        assert await all_at_once() == [True] * 20
        assert most == [3], "one connection is left for the supervision"
        fails[0] = True
        faults = Counter(str(each) for each in await all_at_once())
        assert faults == {"it went away": 3, "it is down": 17}, "those that wait do not try each by itself"
    finally:
        await queue.close()


async def test_a_message_that_a_worker_left_is_delivered_before_the_next_periodic_delivery(fleet_world):
    fleet_world.configure(more='[schedule]\nevery = "1h"\n' + FLEET)
    fast = FastClock(datetime(2026, 3, 1, 3, 0, tzinfo=UTC))
    async with driven(load_config(fleet_world.config_path, environ={}), fast) as daemon:
        await daemon.pass_time(seconds=2)
        at = fast.now
        with writing(fleet_world.app.engine) as conn:
            for target, wait in (("gloo", timedelta(0)), ("other", timedelta(seconds=4))):
                number = store.open_incident(conn, incident(target=target), evidence_id=None)
                outbox.enqueue(conn, message(number, environment=target), channels=["log"], now=at, wait=wait)
        await daemon.pass_time(seconds=2)
        (sent, waits) = fleet_world.rows("SELECT status, sent_at FROM notifications ORDER BY id")
        assert (sent["status"], waits["status"]) == ("sent", "due"), "group_wait is waited for"
        assert sent["sent_at"] - at <= timedelta(seconds=2)
