"""The queue on a real PostgreSQL: what is deferred is executed, by whoever lives, and comes again when it must."""

import asyncio
import contextlib
import json
import re
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import make_url
from support.working import Faults, Recorder, jobs, until, working

from monitor import logs
from monitor.database.engine import reading
from monitor.errors import (
    ConfigError,
    LeaseHeldError,
    LeaseLostError,
    RunGivenBackError,
    SchemaError,
    TargetNotHereError,
)
from monitor.fleet import connector
from monitor.fleet.queue import Queue
from monitor.fleet.queue_worker import QueueWorker, _retry_after
from monitor.fleet.state import read_fleet


async def test_jobs_are_executed_by_priority_and_leave_nothing(queue_url, configured):
    handlers = Recorder()
    async with Queue.open(configured(queue_url)) as queue:
        assert await queue.defer_share(7, 2, priority=3)
        assert await queue.defer_share(7, 1, priority=5)
        assert await queue.defer_plan("docs", "5m 2026-03-01T03:00:00+00:00")
        assert await queue.defer_close(7)
        async with working(queue, handlers):
            await until(lambda: len(handlers.calls) == 4 and not jobs(queue_url), "four jobs")
    assert handlers.calls == [
        ("close", 7), ("plan", "docs", "5m 2026-03-01T03:00:00+00:00"),
        ("share", 7, 1, "host:1"), ("share", 7, 2, "host:1"),
    ]  # fmt: skip
    with psycopg.connect(queue_url) as conn:
        for table in ("procrastinate_events", "procrastinate_workers", "monitor_workers"):
            assert conn.execute(f"SELECT count(*) FROM procrastinate.{table}").fetchone() == (0,), table


async def test_what_waits_already_is_not_queued_again_and_a_newer_run_replaces_an_older(queue_url, configured):
    async with Queue.open(configured(queue_url)) as queue:
        assert [await queue.defer_share(1, 1), await queue.defer_share(1, 1), await queue.defer_share(1, 2)] == [
            True, False, True,
        ]  # fmt: skip
        assert [await queue.defer_close(1), await queue.defer_close(1)] == [True, False]
        keys = [f"every {every} 2026-03-01T{at}Z" for every, at in (
            ("5m", "03:05:00"), ("5m", "03:05:00"), ("1m", "03:07:00"), ("5m", "03:05:00"), ("5m", "03:10:00"),
        )]  # fmt: skip
        assert [await queue.defer_plan("docs", key) for key in keys] == [True, False, True, False, True]
        assert await queue.defer_plan("other", keys[0])
    assert jobs(queue_url, "task_name, args ->> 'run_key'")[-2:] == [("plan", keys[-1]), ("plan", keys[0])]


async def test_a_run_that_waits_has_waited_since_the_first_of_those_that_were_missed(queue_url, configured, connected):
    async with Queue.open(configured(queue_url)) as queue:
        await queue.defer_plan("docs", "every 1m 2026-03-01T03:00:00Z")
        with psycopg.connect(queue_url, autocommit=True) as conn:
            conn.execute("SET search_path = procrastinate")  # for its triggers
            conn.execute("UPDATE procrastinate_events SET at = at - interval '1 hour'")
            conn.execute("UPDATE procrastinate_jobs SET attempts = 3, scheduled_at = now() + interval '1 day'")
        assert await queue.defer_plan("docs", "every 1m 2026-03-01T03:01:00Z")
        with reading(connected(queue_url)) as conn:
            state = read_fleet(conn, queue=queue.name)
    assert timedelta(minutes=59) < state.now - state.queue.waits_since["plan"] < timedelta(minutes=61)
    assert jobs(queue_url, "args ->> 'run_key', attempts") == [("every 1m 2026-03-01T03:01:00Z", 0)]


async def test_a_newer_run_is_queued_by_one_of_many_that_replace_an_older(queue_url, configured):
    key, newer = (f"every 1m 2026-03-01T03:0{minute}:00Z" for minute in (0, 1))
    async with Queue.open(configured(queue_url)) as queue:
        for number in range(20):
            await queue.defer_plan(f"t{number}", key)
            replaced = await asyncio.gather(*(queue.defer_plan(f"t{number}", newer) for _ in range(4)))
            assert sorted(replaced) == [False, False, False, True]
    assert {run_key for (run_key,) in jobs(queue_url, "args ->> 'run_key'")} == {newer}


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
async def test_workers_do_not_conflict_under_a_stricter_default_of_the_database(queue_url, configured, level):
    name = make_url(queue_url).database
    with psycopg.connect(queue_url, autocommit=True) as conn:
        conn.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")
    async with Queue.open(configured(queue_url)) as queue:
        for run_id in range(20):
            await queue.defer_close(run_id)
        with psycopg.connect(queue_url) as conn:
            held = conn.execute("SELECT id FROM procrastinate.procrastinate_jobs FOR UPDATE LIMIT 1").fetchone()
            handlers, faults = Recorder(), Faults()
            async with working(queue, handlers, concurrency=2, on_fault=faults):
                beating = asyncio.create_task(queue.connector.execute_query_async(_PUT_OFF, job_id=held[0]))
                await until(lambda: len(handlers.calls) == 19 and len(jobs(queue_url)) == 1, "all but the locked job")
                conn.execute("UPDATE procrastinate.procrastinate_jobs SET attempts = 1 WHERE id = %s", held)
                conn.commit()
                await beating
                await until(lambda: len(handlers.calls) == 20, "the last job")
    assert faults == []


_PUT_OFF = "UPDATE procrastinate_jobs SET attempts = attempts + 1 WHERE id = %(job_id)s"


async def test_two_queues_of_one_database_have_jobs_and_workers_of_their_own(queue_url, configured):
    """Two monitors, each in its own schema: they have targets and runs of the same names and numbers."""
    key, newer = (f"every 5m 2026-03-01T03:0{minute}:00Z" for minute in (0, 5))
    theirs, ours = configured(queue_url, 'queue = "theirs"\nstalled_after = "10m"'), configured(queue_url)
    async with Queue.open(theirs) as other, Queue.open(ours) as queue:
        for each, run_key in ((other, key), (queue, newer)):
            assert await each.defer_plan("docs", run_key)
            assert await each.defer_share(1, 1)
            assert await each.defer_close(1)
        assert len(jobs(queue_url)) == 6
        async with working(other, Recorder()):
            await until(lambda: len(jobs(queue_url)) == 3, "the jobs of the other queue")
            with psycopg.connect(queue_url, autocommit=True) as conn:  # it shows life each two and a half minutes
                conn.execute(
                    "UPDATE procrastinate.procrastinate_workers SET last_heartbeat = now() - interval '1 minute'"
                )
            await queue.retry_stalled()
            async with working(queue, Recorder()):
                await until(lambda: not jobs(queue_url), "the other jobs")
                assert len(workers(queue_url)) == 2


async def test_a_job_that_was_announced_begins_at_once(queue_url, configured, monkeypatch):
    monkeypatch.setattr("monitor.fleet.queue_worker.LISTENING_POLL_S", 600.0)
    handlers = Recorder()
    async with Queue.open(configured(queue_url)) as queue, working(queue, handlers):
        await asyncio.sleep(0.3)  # its first look finds nothing
        await queue.defer_close(1)
        await asyncio.wait_for(handlers.called.wait(), 10)
        assert handlers.calls == [("close", 1)]


HELD = LeaseHeldError(
    target="docs", holder="other:1", since=datetime(2026, 3, 1, tzinfo=UTC), expires_in=timedelta(seconds=0.1)
)


def test_a_run_does_not_wait_for_the_end_of_a_long_lease_whose_run_may_end_at_any_time():
    held = LeaseHeldError(target="docs", holder="fleet", since=HELD.since, expires_in=timedelta(minutes=10))
    assert _retry_after(held, attempts=0) <= timedelta(seconds=11)


COMES_AGAIN = {
    "held": (HELD, "again"),
    "lost": (LeaseLostError("another acquired it"), "lost"),
    "given back": (RunGivenBackError("a signal ended it"), "given_back"),
}


@pytest.mark.parametrize(("error", "outcome"), COMES_AGAIN.values(), ids=COMES_AGAIN)
async def test_a_run_that_comes_again_says_why(queue_url, configured, capsys, monkeypatch, error, outcome):
    monkeypatch.setattr("monitor.fleet.queue_worker.LISTENING_POLL_S", 0.05)
    logs.configure(level="info")
    handlers = Recorder(error)
    async with Queue.open(configured(queue_url)) as queue, working(queue, handlers):
        await queue.defer_plan("docs", "a")
        await until(lambda: len(handlers.calls) == 2 and not jobs(queue_url), "the second attempt")
    ended = [json.loads(line) for line in capsys.readouterr().err.splitlines() if '"job_ended"' in line]
    assert [(each["outcome"], each["attempt"], each["target"]) for each in ended] == [
        (outcome, 1, "docs"), ("done", 2, "docs"),
    ]  # fmt: skip


async def test_a_job_whose_target_is_not_configured_here_is_left_to_another_worker(queue_url, configured, monkeypatch):
    monkeypatch.setattr("monitor.fleet.queue_worker._ELSEWHERE_ATTEMPTS", 1)
    monkeypatch.setattr("monitor.fleet.queue_worker.LISTENING_POLL_S", 0.05)
    without, having = Recorder(*(TargetNotHereError("docs") for _ in range(3))), Recorder()
    async with Queue.open(configured(queue_url)) as queue:
        await queue.defer_share(1, 1)
        async with working(queue, without):
            await until(lambda: jobs(queue_url, "status::text, attempts") == [("todo", 1)], "it was put back")
        async with working(queue, having):
            await until(lambda: having.calls and not jobs(queue_url), "it is done")
        await queue.defer_share(1, 2)
        monkeypatch.setattr("monitor.fleet.queue_worker._ELSEWHERE_RETRY", timedelta(0))
        async with working(queue, without):
            await until(lambda: not jobs(queue_url), "nobody has it")
    assert [call[2] for call in without.calls] == [1, 2, 2]


async def test_an_error_ends_a_job_and_a_defect_keeps_it_in_the_queue(queue_url, configured, capsys):
    logs.configure(level="info")
    handlers = Recorder(ConfigError(["targets.docs is gone"]), ZeroDivisionError("s3cret"))
    async with Queue.open(configured(queue_url)) as queue, working(queue, handlers):
        await queue.defer_plan("docs", "a")
        await until(lambda: not jobs(queue_url), "the refusal")
        await queue.defer_close(3)
        await until(lambda: jobs(queue_url) == [("close", "failed")], "the defect")
        assert await queue.defer_close(3), "a failed job does not stand in the way of another"
        await until(lambda: len(handlers.calls) == 3, "the other")
    out = capsys.readouterr().err
    assert [json.loads(line)["outcome"] for line in out.splitlines() if '"job_ended"' in line] == [
        "failed", "failed", "done",
    ]  # fmt: skip
    assert "s3cret" not in out


async def test_failed_jobs_are_deleted_after_a_week(queue_url, configured):
    async with Queue.open(configured(queue_url)) as queue, working(queue, Recorder(ZeroDivisionError())):
        await queue.defer_close(3)
        await until(lambda: jobs(queue_url) == [("close", "failed")], "the defect")
        await queue.delete_old_failures()
        assert jobs(queue_url) == [("close", "failed")]
        with psycopg.connect(queue_url) as conn:
            conn.execute("UPDATE procrastinate.procrastinate_events SET at = at - interval '8 days'")
        await queue.delete_old_failures()
        assert jobs(queue_url) == []


async def test_jobs_of_a_dead_worker_come_again_once(queue_url, configured):
    with psycopg.connect(queue_url) as conn:
        conn.execute("SET LOCAL search_path TO procrastinate")
        conn.execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 minute'), (now())")
        conn.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id, queueing_lock, args)"
            " SELECT 'ingestion-monitor', 'close', 'doing', worker, 'ingestion-monitor: close ' || run,"
            " json_build_object('run_id', run)"
            " FROM (VALUES (1, 1), (1, 2), (2, 3), (NULL, 4)) AS dead (worker, run)"
        )
    handlers = Recorder()
    config = configured(queue_url)
    async with Queue.open(config) as queue, Queue.open(config) as another:
        await queue.defer_close(2)  # somebody repaired it already
        retried = await asyncio.gather(queue.retry_stalled(), another.retry_stalled())
        assert sum(retried) == 2, "runs 1 and 4"
        async with working(queue, handlers):
            await until(lambda: len(handlers.calls) == 3 and len(jobs(queue_url)) == 1, "three jobs")
    assert sorted(handlers.calls) == [("close", 1), ("close", 2), ("close", 4)]
    assert jobs(queue_url, "args ->> 'run_id', status::text") == [("3", "doing")], "its worker lives"


async def test_a_job_that_a_frozen_worker_was_just_taking_is_free_again_soon(queue_url, configured):
    """The worker's session is left inside the transaction that takes the job, as a stopped process leaves it."""
    seconds = re.search(r"'idle_in_transaction_session_timeout', '(\d+)s'", connector._BEGIN)[1]
    assert int(seconds) <= 15
    brief = connector._BEGIN.replace(f"'{seconds}s'", "'1s'")
    handlers = Recorder()
    async with Queue.open(configured(queue_url)) as queue:
        await queue.defer_close(1)
        with contextlib.closing(psycopg.connect(queue_url, autocommit=True)) as frozen:
            frozen.execute(brief)
            frozen.execute("SELECT 1 FROM procrastinate_jobs FOR UPDATE")
            async with working(queue, handlers):
                await until(lambda: handlers.calls, "the job")
    assert handlers.calls == [("close", 1)]


async def test_a_stop_begins_no_job_and_waits_for_those_in_progress(queue_url, configured):
    handlers = Recorder()
    handlers.hold = asyncio.Event()
    async with Queue.open(configured(queue_url)) as queue:
        await queue.defer_close(1)
        await queue.defer_close(2)
        async with working(queue, handlers) as stop:
            await handlers.called.wait()
            stop.set()
            await asyncio.sleep(0.1)
            handlers.hold.set()
    assert handlers.calls == [("close", 1)]
    assert jobs(queue_url) == [("close", "todo")]


async def test_a_job_that_outlasts_the_grace_is_cancelled_and_comes_again(queue_url, configured, monkeypatch):
    monkeypatch.setattr("monitor.fleet.queue_worker.GRACE_S", 0.1)
    handlers = Recorder()
    handlers.hold = asyncio.Event()
    async with Queue.open(configured(queue_url)) as queue:
        await queue.defer_close(1)
        async with working(queue, handlers):
            await handlers.called.wait()
        assert jobs(queue_url) == [("close", "todo")]
        handlers.hold.set()
        async with working(queue, handlers):
            await until(lambda: not jobs(queue_url), "the second attempt")


def workers(url):
    with psycopg.connect(url, autocommit=True) as conn:
        return conn.execute("SELECT worker_id, name FROM procrastinate.monitor_workers").fetchall()


@pytest.mark.parametrize("by", ["heartbeat", "job"])
async def test_a_worker_that_was_taken_for_dead_begins_anew(queue_url, configured, monkeypatch, by):
    monkeypatch.setattr("monitor.fleet.queue_worker.HEARTBEATS", 100 if by == "heartbeat" else 1)
    handlers = Recorder()
    async with Queue.open(configured(queue_url)) as queue, working(queue, handlers):
        await until(lambda: workers(queue_url) == [(1, "host:1")], "the worker's name")
        with psycopg.connect(queue_url) as conn:
            conn.execute("DELETE FROM procrastinate.procrastinate_workers")
        if by == "job":
            await queue.defer_close(1)
        await until(lambda: workers(queue_url) == [(2, "host:1")], "the worker's next number")
        await queue.defer_close(2)
        await until(lambda: ("close", 2) in handlers.calls and not jobs(queue_url), "the next job")
    assert workers(queue_url) == []


def on_delete(url, statement):
    """What happens from now on before a job is deleted."""
    with psycopg.connect(url) as conn:
        conn.execute("SET LOCAL search_path TO procrastinate")
        trigger = "procrastinate_unlink_periodic_defers_v1() RETURNS trigger"
        conn.execute(f"CREATE OR REPLACE FUNCTION {trigger} LANGUAGE plpgsql AS $$ BEGIN {statement}; END; $$")


async def test_a_job_whose_end_could_not_be_stored_comes_again_although_its_worker_lives(queue_url, configured):
    handlers, faults = Recorder(), Faults()
    async with Queue.open(configured(queue_url)) as queue, working(queue, handlers, on_fault=faults):
        on_delete(queue_url, "RAISE 'no space'")
        await queue.defer_close(1)
        await until(lambda: faults, "the fault")
        on_delete(queue_url, "RETURN OLD")
        await until(lambda: len(handlers.calls) > 1 and not jobs(queue_url), "another attempt")
        assert [number for number, _ in workers(queue_url)] == [1]


@pytest.mark.parametrize("error", [None, HELD, ZeroDivisionError()], ids=["done", "again", "failed"])
async def test_a_worker_leaves_a_job_alone_that_another_has_taken_over(queue_url, configured, error):
    handlers, faults = Recorder(error), Faults()
    handlers.hold = asyncio.Event()
    async with Queue.open(configured(queue_url)) as queue, working(queue, handlers, on_fault=faults):
        await queue.defer_close(1)
        await handlers.called.wait()
        with psycopg.connect(queue_url) as conn:
            conn.execute("INSERT INTO procrastinate.procrastinate_workers DEFAULT VALUES")
            conn.execute("UPDATE procrastinate.procrastinate_jobs SET worker_id = 2")
        handlers.hold.set()
    assert (jobs(queue_url), faults) == ([("close", "doing")], [])


async def test_no_job_is_begun_while_the_database_is_not_to_be_used(queue_url, configured, monkeypatch):
    monkeypatch.setattr("monitor.fleet.queue_worker.LISTENING_POLL_S", 0.05)
    usable, handlers = False, Recorder()
    async with Queue.open(configured(queue_url)) as queue, working(queue, handlers, usable=lambda: usable):
        await queue.defer_close(1)
        await asyncio.sleep(0.3)
        assert handlers.calls == []
        usable = True
        await handlers.called.wait()


async def test_a_queue_that_is_missing_is_one_sentence(new_postgres, configured):
    async with Queue.open(configured(new_postgres())) as queue:
        for use in (
            lambda: queue.defer_close(1),
            queue.retry_stalled,
            lambda: QueueWorker(queue, Recorder(), name="host:1", on_fault=Faults()).work(stop=asyncio.Event()),
        ):
            with pytest.raises(SchemaError, match="no queue for workers, or one that does not fit"):
                await use()
