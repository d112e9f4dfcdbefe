"""Daemons on one database share the run keys; a frozen, killed or hanging one delays no other."""

import signal
import socket
import sqlite3
import time
from contextlib import closing
from datetime import datetime

import pytest
from support.observed import until, until_asked

pytestmark = pytest.mark.process

LEASE_S = 4


def another(world, name, *, every="1s", **target):
    """A target with a schedule of its own."""
    return world.another_target(
        name, check='attempt_timeout = "30s"', more=f'schedule = {{ every = "{every}" }}', **target
    )


def run_keys(world):
    """The run key of each run that was closed by its own process."""
    return [row["run_key"] for row in world.rows("SELECT run_key FROM history ORDER BY run_id")]


def test_two_daemons_execute_each_run_key_once_and_share_the_work(world, start):
    world.configure(more='[schedule]\nevery = "1s"\n' + another(world, "second", every="2s"))
    world.track(2)
    pair = [start(world, lease_s=LEASE_S) for _ in range(2)]
    until(
        lambda: len(run_keys(world)) >= 8 and all(each.logged("run_finished") for each in pair),
        "eight runs",
        timeout_s=60,
    )
    assert [each.end()[0] for each in pair] == [143, 143]
    rows = world.rows("SELECT target, run_key FROM runs")
    assert len(rows) == len({(row["target"], row["run_key"]) for row in rows}), "no run key was started twice"
    assert [event for each in pair for event in each.logged("task_crashed")] == []
    assert world.rows("SELECT holder FROM leases WHERE holder IS NOT NULL") == []


def test_a_run_of_a_killed_daemon_is_repeated_by_the_other_after_the_lease(world, start):
    world.configure(check="concurrency = 1", more='[schedule]\nevery = "1h"\n')
    world.track(60)
    world.sandbox.add_fault(path="/engine", delay_s=0.2, passes=True)
    first = start(world, lease_s=LEASE_S)
    until_asked(world, 6)
    second = start(world, lease_s=LEASE_S)
    second.await_events("run_skipped")
    killed_s = time.monotonic()
    first.process.send_signal(signal.SIGKILL)
    world.sandbox.clear_faults()
    until(lambda: len(world.rows("SELECT 1 FROM runs")) == 2, "a run by the other")
    took_s = time.monotonic() - killed_s
    second.await_events("run_finished")
    assert second.end()[0] == 143
    assert took_s < LEASE_S + 2, "a lease, its margin, and what a busy machine takes"
    dead, alive = world.rows("SELECT run_key, status FROM runs ORDER BY id")
    assert dead["run_key"] == alive["run_key"]
    assert (dead["status"], alive["status"]) == ("crashed", "complete")


def test_a_frozen_daemon_catches_up_with_one_run(small_world, start):
    small_world.configure(more='[schedule]\nevery = "2s"\n')
    small_world.track(1)
    daemon = start(small_world)
    daemon.await_events("run_finished")
    daemon.process.send_signal(signal.SIGSTOP)
    time.sleep(9)
    before = len(small_world.rows("SELECT 1 FROM runs"))
    thawed = datetime.now().astimezone()
    daemon.process.send_signal(signal.SIGCONT)
    until(lambda: len(small_world.rows("SELECT 1 FROM history")) >= before + 3, "three more runs")
    assert daemon.end()[0] == 143
    times = [row["run_key"].split()[-1] for row in small_world.rows("SELECT run_key FROM runs ORDER BY id")][before:]
    missed = [each for each in times if (thawed - datetime.fromisoformat(each)).total_seconds() > 4]
    assert len(missed) <= 1, "only a run that had just begun when the daemon was frozen"
    assert len(set(times)) == len(times)


def test_a_second_signal_ends_the_daemon_at_once(small_world, start):
    small_world.configure(check="concurrency = 4", more='[schedule]\nevery = "1h"\n')
    small_world.track(8)
    small_world.configure(check="concurrency = 4", more='[schedule]\nevery = "1h"\n' + hanging_channel(small_world))
    small_world.sandbox.set_status(small_world.track(1)[0], "FAILED")
    daemon = start(small_world)
    daemon.await_events("run_finished")
    until(lambda: small_world.rows("SELECT 1 FROM notifications WHERE claimed_by IS NOT NULL"), "a message on its way")
    started_s = time.monotonic()
    daemon.process.send_signal(signal.SIGTERM)
    daemon.await_events("daemon_stopping")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(timeout=20) == 143
    assert time.monotonic() - started_s < 6, "the first alone gives it eight seconds"
    daemon.close()
    assert [event["signal"] for event in daemon.logged("forced_shutdown")] == ["SIGTERM"]
    assert small_world.rows("SELECT claimed_by FROM notifications") == [{"claimed_by": None}]


_silent = []


@pytest.fixture(autouse=True)
def _closing():
    yield
    while _silent:
        _silent.pop().close()


def hanging_channel(world):
    """A receiver that accepts connections and never answers."""
    return f'[[channels]]\nname = "mute"\ntype = "webhook"\nurl = "http://127.0.0.1:{silent_port()}/x"\n'


def silent_port():
    listener = socket.create_server(("127.0.0.1", 0))
    _silent.append(listener)
    return listener.getsockname()[1]


def test_hanging_targets_delay_neither_other_targets_nor_notifications(small_world, start):
    """Twenty sync logs whose server never answers, one whose database is locked, and an API that never answers."""
    silent = f"postgresql://u:p@127.0.0.1:{silent_port()}/pipeline?connect_timeout=60"
    locked = small_world.folder / "locked.db"
    hung = [another(small_world, f"log-{n}", sync_log=silent) for n in range(20)]
    hung.append(another(small_world, "api", base_url=f"http://127.0.0.1:{silent_port()}"))
    hung.append(another(small_world, "locked", sync_log=f"sqlite:///{locked}"))
    small_world.configure(more='[schedule]\nevery = "1s"\n' + "".join(hung))
    small_world.sandbox.set_status(small_world.track(2)[0], "FAILED")
    with closing(sqlite3.connect(locked)) as conn:
        conn.execute("CREATE TABLE sync_log (item_id TEXT)")
        conn.commit()
        conn.execute("BEGIN EXCLUSIVE")
        daemon = start(small_world)
        until(lambda: [e["integration"] for e in daemon.logged("run_finished")].count("gloo") >= 4, "four runs")
        until(lambda: daemon.logged("incident_message"), "the message of an incident")
        assert {event["integration"] for event in daemon.logged("run_finished")} <= {"gloo", "locked"}
        code, took_s = daemon.end()
    assert (code, took_s < 10) == (143, True)
