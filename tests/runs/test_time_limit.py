"""A run ends by its deadline and its grace, whatever it waits for. Most tests wait for real: deadlines are short."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from support.world import environment

from monitor.errors import RunOverdueError, StoreError
from monitor.model import RunStatus, SyncLogEntry
from monitor.runs import run as run_module
from monitor.runs import time_limit
from monitor.runs.time_limit import GRACE_S, TimeLimit, settle
from monitor.synclog import whole_log

ENDLESS_VIEW = """
    CREATE VIEW endless AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
    SELECT 'id ' || i AS item_id, NULL AS uploaded_at FROM n
"""
MARGIN_S = 20.0
"""For a machine that is busy with other tests; what is wrong would last for ever."""


@pytest.fixture
def silent_api():
    """A port that accepts connections, and nobody answers there."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def in_time(deadline_s):
    started_s = time.monotonic()
    yield
    assert time.monotonic() - started_s < deadline_s + GRACE_S + MARGIN_S


@pytest.mark.process
@pytest.mark.parametrize("count", [3, 5, 6, 20, 32, 33])
@pytest.mark.parametrize("strategy", ["items", "auto"])
def test_a_run_against_an_api_that_never_answers_is_partial(small_world, silent_api, count, strategy):
    small_world.configure(base_url=silent_api, auth=small_world.key_auth, strategy=strategy)
    small_world.track(count)
    with in_time(1):
        report = small_world.run(deadline=timedelta(seconds=1))
    assert (report.status, report.abort_reason) == (RunStatus.PARTIAL, "deadline")
    assert report.snapshot.unknown == count
    assert small_world.rows("SELECT holder FROM leases") == [{"holder": None}]


@pytest.mark.process
def test_what_was_answered_before_an_api_fell_silent_is_stored(small_world):
    ids = small_world.track(40)
    for silent in ids[30:]:
        small_world.sandbox.add_fault(path=f"/engine/v2/items/{silent}", delay_s=60)
    report = small_world.run(deadline=timedelta(seconds=3))
    assert (report.status, report.abort_reason) == (RunStatus.PARTIAL, "deadline")
    assert (report.snapshot.completed, report.snapshot.unknown) == (30, 10)


@pytest.mark.process
def test_a_signal_ends_a_run_against_an_api_that_never_answers(small_world, silent_api):
    small_world.configure(base_url=silent_api, auth=small_world.key_auth, check='deadline = "5m"')
    small_world.track(20)
    process = small_world.start("check", "--json")
    while not small_world.rows("SELECT 1 FROM runs"):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10 + MARGIN_S)
    assert process.returncode == 128 + signal.SIGTERM
    assert small_world.rows("SELECT holder FROM leases") == [{"holder": None}]


@pytest.mark.process
def test_a_view_without_end_is_given_up_at_the_deadline(world):
    if world.sync_log.startswith("postgresql"):
        world.log(ENDLESS_VIEW.replace("NULL AS uploaded_at", "NULL::text AS uploaded_at"))
    else:
        world.log(ENDLESS_VIEW)
    world.configure(sync_log=f'{world.sync_log}"\ntable = "endless')
    with in_time(1):
        report = world.run(deadline=timedelta(seconds=1))
    assert report.status is RunStatus.FAILED
    assert "not read to its end within the deadline of the run (1s)" in report.error
    assert "query of its view" in report.error
    assert world.rows("SELECT count(*) AS n FROM items") == [{"n": 0}]


@pytest.mark.process
def test_a_file_that_never_answers_is_given_up_and_read_by_one_thread_only(small_world):
    gone = threading.Event()

    def hang(*_):
        """Like the first read of a file on a server that is gone."""
        gone.wait()
        yield []

    with in_time(1):
        first = small_world.run(deadline=timedelta(seconds=1), read_pages=hang)
    second = small_world.run(deadline=timedelta(seconds=60), read_pages=hang)
    assert first.status is second.status is RunStatus.FAILED
    assert first.error.startswith("the sync log was not read to its end within the deadline")  # callers name the target
    assert "an earlier run still waits for its sync log" in second.error
    gone.set()  # lets the thread go


@pytest.mark.process
def test_a_command_whose_sync_log_never_answers_ends(small_world):
    hanging = """
import sys, threading
from monitor.app import App
from monitor.cli import command

def hang(self, target, known, **limits):
    threading.Event().wait()
    yield []

App.read_pages = hang
sys.argv = ["ingestion-monitor", "check", "--deadline", "1s", "--config", sys.argv[1]]
command()
"""
    done = subprocess.run(
        [sys.executable, "-c", hanging, str(small_world.config_path)], cwd=small_world.folder, env=environment(),
        capture_output=True, text=True, check=False, timeout=1 + GRACE_S + MARGIN_S,
    )  # fmt: skip
    assert done.returncode == 3
    assert "within the deadline" in done.stderr


def test_a_sync_log_that_is_no_file_is_an_error_at_once(small_world):
    pipe = small_world.folder / "pipe.db"
    os.mkfifo(pipe)  # opening it for reading would wait for a writer
    small_world.configure(sync_log=f"sqlite:///{pipe}")
    report = small_world.run()
    assert report.status is RunStatus.FAILED
    assert "check that it is a file" in report.error


@pytest.mark.process
def test_a_run_whose_own_database_is_locked_ends_in_time_and_says_so(small_world):
    small_world.track(2)
    locked = sqlite3.connect(small_world.folder / "monitor.db", isolation_level=None)
    assert small_world.app
    locked.execute("BEGIN EXCLUSIVE")
    with in_time(1), pytest.raises(StoreError, match=r"the database did not answer within its deadline \(1s\)"):
        small_world.run(deadline=timedelta(seconds=1))
    locked.close()


def test_a_log_that_only_grows_is_given_up(small_world, monkeypatch):
    monkeypatch.setattr(run_module, "MAX_LOG_ROWS", 10)
    growing = ([SyncLogEntry(item_id=f"id {n}", submitted_at=None, group=None)] for n in itertools.count())
    report = small_world.run(read_pages=lambda *_: whole_log(growing))
    assert report.status is RunStatus.FAILED
    assert "more than 10 rows" in report.error


def test_the_log_is_closed_at_its_deadline_between_two_batches(small_world):
    slow = (time.sleep(0.2) or [SyncLogEntry(item_id=f"id {n}", submitted_at=None, group=None)] for n in range(1000))
    report = small_world.run(deadline=timedelta(seconds=1), read_pages=lambda *_: whole_log(slow))
    assert report.status is RunStatus.FAILED
    assert "within the deadline" in report.error


async def stubborn(seconds):
    """Swallows its cancellation, as a coroutine of a library may."""
    ends_s = time.monotonic() + seconds
    while time.monotonic() < ends_s:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.01)


@pytest.mark.process
async def test_a_run_that_swallows_its_cancellation_is_abandoned(monkeypatch):
    monkeypatch.setattr(time_limit, "GRACE_S", 0.2)
    monkeypatch.setattr(time_limit, "_CANCEL_S", 0.1)
    limit = TimeLimit(target="gloo", deadline=timedelta(seconds=0.2), interrupt=asyncio.Event())
    limit.step = "the API"
    with pytest.raises(RunOverdueError, match="target gloo: the run was ended, since the API did not answer"):
        await limit.enforce(stubborn(5))


async def test_a_signal_leaves_a_run_some_seconds(monkeypatch):
    monkeypatch.setattr(time_limit, "SIGNAL_GRACE_S", 1.2)
    interrupt = asyncio.Event()
    limit = TimeLimit(target="gloo", deadline=timedelta(minutes=5), interrupt=interrupt)
    interrupt.set()
    assert await limit.enforce(asyncio.sleep(0.01, result="stored")) == "stored"
    with pytest.raises(RunOverdueError):
        await limit.enforce(asyncio.sleep(60))


async def test_what_a_run_raises_is_raised():
    async def fails():
        raise StoreError("the database is gone")

    limit = TimeLimit(target="gloo", deadline=timedelta(minutes=5), interrupt=asyncio.Event())
    with pytest.raises(StoreError, match="the database is gone"):
        await limit.enforce(fails())


async def test_a_context_that_does_not_close_is_abandoned_after_the_deadline():
    @contextlib.asynccontextmanager
    async def opened():
        yield "client"
        await asyncio.sleep(60)

    limit = TimeLimit(target="gloo", deadline=timedelta(0), interrupt=asyncio.Event())
    async with limit.closing(opened()) as client:
        assert client == "client"


async def test_settled_tasks_have_ended_or_are_left():
    ended, left = asyncio.create_task(asyncio.sleep(60)), asyncio.create_task(stubborn(0.5))
    await asyncio.sleep(0)
    await settle(ended, left, timeout_s=0.05)
    assert ended.cancelled()
    assert not left.done()
    await left
