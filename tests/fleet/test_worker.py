"""Workers in their own processes: signals, deaths, and a database that goes and comes back."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest
from support.observed import events, until
from support.working import jobs
from support.world import environment
from survival.server import own_server

from monitor.database.schema import upgrade
from monitor.fleet import queue_schema
from monitor.fleet.queue import Queue
from monitor.fleet.queue_worker import GRACE_S

PROGRAM = Path(__file__).parent / "worker_program.py"
QUICK = 'stalled_after = "5s"'


class Started:
    """A worker whose log is read while it runs."""

    def __init__(self, config):
        environ = {**environment(), "PYTHONPATH": str(PROGRAM.parents[1])}
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(config.source)], stderr=subprocess.PIPE, text=True, env=environ
        )
        self.lines = []
        self._reader = threading.Thread(target=lambda: self.lines.extend(iter(self.process.stderr.readline, "")))
        self._reader.start()

    def logged(self, name):
        return events("".join(list(self.lines)), name)

    def await_event(self, name, count=1):
        until(lambda: len(self.logged(name)) >= count, f"{count} × {name} in {self.lines}", timeout_s=60)

    def end(self, signum=signal.SIGTERM):
        """Sends a signal; returns the exit code, and the seconds until the end."""
        began_s = time.monotonic()
        self.process.send_signal(signum)
        return self.process.wait(timeout=60), time.monotonic() - began_s

    def close(self):
        self.process.kill()
        self.process.wait(timeout=60)
        self._reader.join()
        self.process.stderr.close()


@pytest.fixture
def start():
    with contextlib.ExitStack() as stack:

        def make(config):
            started = Started(config)
            stack.callback(started.close)
            return started

        yield make


def defer(config, *calls):
    """Queues jobs, each `(method, arguments …)`."""

    with psycopg.connect(config.database.reveal()) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS attempts AS SELECT 0 AS made")

    async def all_of_them():
        async with Queue.open(config) as queue:
            for method, *arguments in calls:
                await getattr(queue, method)(*arguments)

    asyncio.run(all_of_them())


@pytest.mark.process
@pytest.mark.smoke
def test_sigterm_gives_a_share_back_to_another_worker(queue_url, configured, start):
    config = configured(queue_url, QUICK)
    first = start(config)
    first.await_event("worker_started")
    defer(config, ("defer_plan", "docs", "a"), ("defer_share", 7, 1))
    first.await_event("share_began")
    second = start(config)
    second.await_event("worker_started")
    code, took_s = first.end()
    assert (code, took_s < 60) == (143, True)
    second.await_event("share_began")
    assert [each["run_key"] for each in first.logged("planned")] == ["a"]
    ended = {each["task"]: each["outcome"] for each in first.logged("job_ended")}
    assert ended == {"plan": "done", "share": "given_back"}
    assert second.end()[0] == 143
    assert jobs(queue_url) == [("share", "todo")]


@pytest.mark.process
def test_a_second_signal_ends_a_worker_at_once(queue_url, configured, start):
    config = configured(queue_url, QUICK)
    worker = start(config)
    defer(config, ("defer_close", 7))
    worker.await_event("close_began")
    worker.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert worker.process.poll() is None
    assert worker.end(signal.SIGINT)[0] == 130


@pytest.mark.process
@pytest.mark.nightly
def test_a_job_that_ignores_the_end_is_left_after_ten_seconds(queue_url, configured, start):
    config = configured(queue_url, QUICK)
    worker = start(config)
    defer(config, ("defer_close", 7))
    worker.await_event("close_began")
    code, took_s = worker.end()
    assert GRACE_S < 10, "then it is no longer waited for"
    assert (code, took_s < 60) == (143, True)
    assert jobs(queue_url) == [("close", "doing")], "as after a kill"


@pytest.mark.process
@pytest.mark.parametrize(
    "death",
    [pytest.param(signal.SIGKILL, id="killed"), pytest.param(signal.SIGSTOP, id="frozen", marks=pytest.mark.nightly)],
)
def test_the_work_of_a_dead_worker_is_taken_over_after_the_stall_time(queue_url, configured, start, death):
    config = configured(queue_url, QUICK)
    first = start(config)
    defer(config, ("defer_share", 7, 1))
    first.await_event("share_began")
    second = start(config)
    second.await_event("worker_started")
    os.kill(first.process.pid, death)
    began_s = time.monotonic()
    second.await_event("share_began")
    assert 2 < time.monotonic() - began_s < 5 + 5 + 3, "the stall time, a round of the supervision, and some"
    if death == signal.SIGSTOP:
        first.process.send_signal(signal.SIGCONT)
        first.await_event("worker_taken_for_dead")
        defer(config, ("defer_plan", "docs", "b"))
        until(lambda: first.logged("planned") or second.logged("planned"), "the next job")


@pytest.mark.process
@pytest.mark.nightly
def test_workers_outlive_a_restart_of_the_database(tmp_path, configured, start):
    with own_server() as server:
        upgrade(server.url)
        queue_schema.upgrade(server.url)
        config = configured(server.url, QUICK)
        worker = start(config)
        defer(config, ("defer_share", 7, 1))
        worker.await_event("share_began")
        server.stop()
        worker.await_event("database_not_ready")
        time.sleep(1)
        server.start()
        worker.await_event("database_ready")
        defer(config, ("defer_plan", "docs", "a"))
        worker.await_event("planned")
        assert worker.end()[0] == 143
        # whether it went on with the share, or was taken for dead meanwhile and began it again
        assert jobs(server.url) == [("share", "todo")]
        assert "Traceback" not in "".join(worker.lines)
        assert [line for line in worker.lines if not line.startswith("{")] == []


@pytest.mark.process
@pytest.mark.nightly
def test_a_worker_waits_for_a_database_and_its_queue(tmp_path, configured, start):
    with own_server() as server:
        config = configured(server.url, QUICK)
        server.stop()
        worker = start(config)
        worker.await_event("database_not_ready")
        server.start()
        upgrade(server.url)
        until(lambda: len(worker.logged("database_not_ready")) > 1, "the next reason")
        queue_schema.upgrade(server.url)
        worker.await_event("worker_started")
        reasons = [each["reason"] for each in worker.logged("database_not_ready")]
        assert "can't be reached" in reasons[0]
        assert "no queue for workers" in reasons[-1]
        assert worker.end()[0] == 143


@pytest.mark.process
def test_a_signal_ends_a_worker_that_waits_for_its_database(tmp_path, configured, start):
    worker = start(configured("postgresql://u:p@127.0.0.1:1/x", QUICK))
    worker.await_event("database_not_ready")
    code, took_s = worker.end()
    assert (code, took_s < 60) == (143, True)


@pytest.mark.process
def test_a_reload_is_for_later_jobs_and_never_for_another_queue(queue_url, configured, start):
    config = configured(queue_url, QUICK)
    worker = start(config)
    worker.await_event("worker_started")
    defer(config, ("defer_plan", "docs", "a"))
    worker.await_event("planned")
    text = config.source.read_text(encoding="utf-8")
    config.source.write_text(f'environment = "staging"\n{text}', encoding="utf-8")
    worker.process.send_signal(signal.SIGHUP)
    worker.await_event("configuration_reloaded")
    config.source.write_text(text + 'queue = "another"', encoding="utf-8")
    worker.process.send_signal(signal.SIGHUP)
    worker.await_event("configuration_refused")
    defer(config, ("defer_plan", "docs", "b"))
    worker.await_event("planned", 2)
    assert [each["environment"] for each in worker.logged("planned")] == ["production", "staging"]
    assert worker.end()[0] == 143
