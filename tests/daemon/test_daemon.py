"""The daemon in its own process: schedule, incidents, signals, and a missing database or API."""

import asyncio
import itertools
import json
import os
import signal
import socket
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import make_url
from structlog.testing import capture_logs
from support.door import Door
from support.observed import until, until_asked
from support.receiver import Receiver

from monitor.daemon import Daemon
from monitor.daemon.tasks import RunningTasks
from monitor.database import leases
from monitor.database.engine import writing

pytestmark = pytest.mark.process

EVERY_SECOND = '[schedule]\nevery = "1s"\n'
HOURLY = '[schedule]\nevery = "1h"\n'


@pytest.mark.smoke
def test_the_daemon_runs_on_schedule_opens_and_resolves_an_incident_and_ends_on_sigterm(small_world, start):
    small_world.configure(more=EVERY_SECOND)
    small_world.track(4)
    daemon = start(small_world)
    daemon.await_events("run_finished", 2)
    small_world.sandbox.revoke_client()
    until(lambda: small_world.rows("SELECT 1 FROM incidents WHERE state = 'open'"), "an open incident")
    small_world.sandbox.restore_client()
    until(lambda: small_world.rows("SELECT 1 FROM incidents WHERE state = 'resolved'"), "its resolution")
    until(lambda: len(daemon.logged("incident_message")) == 2, "both messages in the log")
    code, took_s = daemon.end()
    assert (code, took_s < 10) == (143, True)
    assert [event["kind"] for event in daemon.logged("incident_message")] == ["opened", "resolved"]
    assert [row["cause"] for row in small_world.rows("SELECT cause FROM incidents")] == ["unauthorized"]
    finished = daemon.logged("run_finished")
    assert len(finished) == len(small_world.rows("SELECT 1 FROM history"))
    assert [row["run_id"] for row in small_world.rows("SELECT run_id FROM history ORDER BY run_id")] == [
        event["run_id"] for event in finished
    ]
    assert small_world.rows("SELECT holder FROM leases") == [{"holder": None}]


def test_a_first_start_has_missed_nothing(small_world, start):
    small_world.track(2)
    small_world.clock.now = datetime.now(UTC) - timedelta(hours=1)
    small_world.run()
    daemon = start(small_world)
    daemon.await_events("run_finished")
    daemon.end()
    assert small_world.rows("SELECT cause FROM incidents") == []
    assert [row["name"] for row in small_world.rows("SELECT name FROM schedules")] == ["every 5m"]


def test_missed_runs_are_reported(small_world, start):
    small_world.track(2)
    small_world.clock.now = datetime.now(UTC) - timedelta(hours=1)
    small_world.run(evaluator=small_world.app.job(small_world.app.config.targets[0], scheduled=True).evaluator)
    daemon = start(small_world)
    daemon.await_events("incident_message")
    daemon.end()
    (logged,) = daemon.logged("incident_message")
    assert (logged["kind"], logged["cause"]) == ("opened", "run_missed")
    # thirteen due times lie in an hour and a few seconds, where its first second is one
    assert logged["facts"]["evidence"] in {"11 × missed", "12 × missed"}


def test_every_log_line_is_json_and_each_run_has_one_event(small_world, start):
    small_world.configure(more=EVERY_SECOND)
    small_world.track(2)
    daemon = start(small_world)
    daemon.await_events("run_finished")
    daemon.end()
    daemon.close()
    assert [line for line in daemon.lines if not isinstance(json.loads(line), dict)] == []
    first = daemon.logged("run_finished")[0]
    expected = {
        "integration": "gloo",
        "environment": "test",
        "endpoint": "/engine/v2/items/{item_id}",
        "publisher_id": small_world.sandbox.settings.publisher_id,
        "run_id": 1,
        "status": "complete",
        "completed": 2,
        "requests": 2,
        "retry_count": 0,
    }
    assert {name: first.get(name) for name in expected} == expected
    assert first["latency_ms"] > 0
    assert first["timestamp"].endswith("Z")


@pytest.mark.smoke
def test_sigterm_during_a_run_stores_a_partial_snapshot_and_releases_all_claims(world, start):
    world.configure(check="concurrency = 2", more=HOURLY)
    world.track(200)
    world.sandbox.add_fault(path="/engine", delay_s=0.1, passes=True)
    daemon = start(world)
    until_asked(world, 6)
    code, took_s = daemon.end()
    assert (code, took_s < 10) == (143, True)
    (row,) = world.rows("SELECT status, abort_reason, completed, unknown FROM history")
    assert (row["status"], row["abort_reason"]) == ("partial", "interrupted")
    assert 6 <= row["completed"] < 200
    assert row["completed"] + row["unknown"] == 200
    assert world.rows("SELECT holder FROM leases") == [{"holder": None}]
    assert world.rows("SELECT 1 FROM notifications WHERE claimed_by IS NOT NULL") == []


def test_a_hanging_api_does_not_delay_the_end_after_sigterm(small_world, start):
    small_world.configure(check="concurrency = 4", more=HOURLY)
    small_world.track(8)
    small_world.sandbox.add_fault(path="/engine", delay_s=60)
    daemon = start(small_world)
    until(lambda: small_world.sandbox.stats()["max_in_flight"] >= 4, "four questions in flight")
    code, took_s = daemon.end()
    assert (code, took_s < 10) == (143, True)
    (row,) = small_world.rows("SELECT status, unknown FROM history")
    assert row == {"status": "partial", "unknown": 8}
    assert small_world.rows("SELECT holder FROM leases") == [{"holder": None}]


def test_ctrl_c_is_code_130(small_world, start):
    small_world.configure(more=HOURLY)
    daemon = start(small_world)
    daemon.await_events("run_finished")
    assert daemon.end(signal.SIGINT)[0] == 130
    daemon.close()
    assert [event["signal"] for event in daemon.logged("daemon_stopping")] == ["SIGINT"]
    assert [event["exit_code"] for event in daemon.logged("daemon_ended")] == [130]


def test_a_cron_schedule_waits_for_its_time(small_world, start):
    small_world.configure(more='[schedule]\ncron = "0 4 29 2 *"\ntimezone = "Europe/Paris"\n')
    small_world.track(1)
    daemon = start(small_world)
    daemon.await_events("daemon_started")
    assert daemon.end()[0] == 143
    assert daemon.logged("run_finished") == []
    assert small_world.sandbox.requests() == 0


def test_the_daemon_continues_during_and_after_an_outage_of_the_api(small_world, start):
    small_world.configure(check="max_attempts = 1", more=EVERY_SECOND)
    small_world.track(2)
    small_world.sandbox.stop()
    daemon = start(small_world)
    until(lambda: {event["abort_reason"] for event in daemon.logged("run_finished")} == {"outage"}, "an aborted run")
    small_world.sandbox.start()
    until(lambda: any(event["status"] == "complete" for event in daemon.logged("run_finished")), "a complete run")
    assert daemon.end()[0] == 143
    assert daemon.logged("run_crashed") == []


def test_a_database_error_in_one_check_of_the_schedule_is_logged_and_the_next_one_happens(small_world, start):
    small_world.configure(more=EVERY_SECOND)
    small_world.track(1)
    daemon = start(small_world)
    daemon.await_events("run_finished")
    alter(small_world, "ALTER TABLE leases RENAME TO mislaid")
    daemon.await_events("database_not_ready")
    alter(small_world, "ALTER TABLE mislaid RENAME TO leases")
    seen = len(daemon.logged("run_finished"))
    daemon.await_events("run_finished", seen + 1)
    assert "lacks a table of this program" in daemon.logged("database_not_ready")[0]["reason"]
    assert daemon.end()[0] == 143


def test_a_run_of_another_process_is_skipped_and_logged(small_world, start):
    now = datetime.now(UTC)
    with writing(small_world.app.engine) as conn:
        leases.acquire(conn, target="gloo", holder="cron:1", now=now, ttl=timedelta(minutes=1))
    small_world.configure(more=EVERY_SECOND)
    daemon = start(small_world)
    daemon.await_events("run_skipped")
    assert daemon.end()[0] == 143
    assert "cron:1" in daemon.logged("run_skipped")[0]["reason"]
    assert small_world.rows("SELECT 1 FROM runs") == []


async def test_work_that_does_not_end_in_time_is_cancelled_and_its_claim_released(small_world, caplog):
    (item_id,) = small_world.track(1)
    small_world.sandbox.set_status(item_id, "FAILED")
    with Receiver() as receiver:
        receiver.hang = True
        small_world.configure(more=f'{HOURLY}[[channels]]\nname = "a"\ntype = "webhook"\nurl = "{receiver.url}"\n')
        stopped_by = []
        daemon = Daemon(small_world.app.config, on_stop=stopped_by.append, drain_s=0.2)
        serving = asyncio.create_task(daemon.serve())
        await asyncio.to_thread(until, lambda: receiver.got, "a message to the receiver")
        os.kill(os.getpid(), signal.SIGTERM)
        assert await serving == 143
    assert stopped_by == [signal.SIGTERM]
    assert caplog.records == [], "the scheduler does not take it for a failure"
    assert small_world.rows("SELECT status, claimed_by FROM notifications") == [{"status": "due", "claimed_by": None}]
    assert [row["status"] for row in small_world.rows("SELECT status FROM history")] == ["complete"]


@pytest.mark.smoke
async def test_an_unexpected_error_is_logged_and_does_not_end_the_daemon():
    async def defective():
        raise ZeroDivisionError

    work = RunningTasks()
    with capture_logs() as logged:
        await work.run("run gloo", defective)
    assert [(event["event"], event["log_level"]) for event in logged] == [("task_crashed", "error")]
    assert len(work) == 0


def alter(world, statement):
    with writing(world.app.engine) as conn:
        conn.exec_driver_sql(statement)


def test_the_daemon_waits_for_a_database_server_that_starts_later(small_world, start, new_postgres):
    url = make_url(new_postgres(migrated=True))
    door = Door(url.host, url.port)
    try:
        small_world.configure(
            database=url.set(host="127.0.0.1", port=door.port).render_as_string(hide_password=False), more=EVERY_SECOND
        )
        small_world.track(1)
        daemon = start(small_world)
        daemon.await_events("database_not_ready")
        door.open()
        daemon.await_events("run_finished")
        assert daemon.end()[0] == 143
        (logged, *_) = daemon.logged("database_not_ready")
        assert f"127.0.0.1:{door.port}" in logged["reason"]
        assert "can't be reached" in logged["reason"]
    finally:
        daemon.close()
        door.close()


def test_a_signal_ends_the_daemon_while_it_waits_for_its_database(small_world, start):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        small_world.configure(database=f"postgresql://u:p@127.0.0.1:{port}/monitor")
        daemon = start(small_world)
        daemon.await_events("database_not_ready")
        code, took_s = daemon.end()
    assert (code, took_s < 5) == (143, True)


def test_the_lease_of_a_dead_process_delays_the_first_run_until_it_expires(small_world, start):
    small_world.configure(more=HOURLY)
    small_world.track(1)
    with writing(small_world.app.engine) as conn:
        lease = {"target": "gloo", "ttl": timedelta(seconds=4)}
        lease["epoch"] = leases.acquire(conn, target="gloo", holder="gone:1", now=datetime.now(UTC), ttl=lease["ttl"])
    daemon = start(small_world)

    def met():
        """Whether the daemon was refused by the lease; renews it until then, however slowly the daemon starts."""
        with writing(small_world.app.engine) as conn:
            leases.renew(conn, now=datetime.now(UTC), **lease)
        return daemon.logged("run_skipped")

    until(met, "a run that was skipped")
    daemon.await_events("run_finished")
    skipped, *_ = daemon.logged("run_skipped")
    assert "gone:1" in skipped["reason"]
    assert len(small_world.rows("SELECT 1 FROM history")) == 1


def test_no_more_runs_than_configured_are_in_progress(small_world, start):
    others = [small_world.another_target(f"other-{n}", more='schedule = { every = "1h" }') for n in range(2)]
    small_world.configure(more=f"{HOURLY}[daemon]\nparallel_runs = 1\n" + "".join(others))
    small_world.track(1)
    small_world.sandbox.add_fault(path="/engine", delay_s=0.3, passes=True)
    daemon = start(small_world)
    daemon.await_events("run_finished", 3)
    assert daemon.end()[0] == 143
    rows = small_world.rows("SELECT started_at, finished_at FROM runs ORDER BY started_at")
    assert all(ended["finished_at"] <= begun["started_at"] for ended, begun in itertools.pairwise(rows))
