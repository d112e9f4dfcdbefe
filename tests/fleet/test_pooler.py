"""The queue behind a real PgBouncer in transaction mode, where no session keeps anything for us."""

import asyncio

import psycopg
import pytest
from structlog.testing import capture_logs
from support.pgbouncer import pooled
from support.working import Recorder, jobs, until, working

from monitor.fleet import queue_schema
from monitor.fleet.queue import Queue

pytestmark = pytest.mark.process


async def executed(config, url):
    """Executes a few jobs, and one that comes when the worker has nothing to do."""
    handlers = Recorder()
    async with Queue.open(config) as queue, working(queue, handlers):
        for run_id in range(8):  # a prepared statement would be missing from the sixth use on
            await queue.defer_close(run_id)
        await until(lambda: len(handlers.calls) == 8 and not jobs(url), "eight jobs")
        await asyncio.sleep(0.2)
        handlers.called.clear()
        await queue.defer_plan("docs", "a")
        await asyncio.wait_for(handlers.called.wait(), 20)


async def test_jobs_are_polled_behind_a_pooler_and_announced_through_a_direct_url(
    new_postgres, configured, monkeypatch
):
    queue_url = new_postgres(migrated=True)
    monkeypatch.setattr("monitor.fleet.queue_worker.LISTENING_POLL_S", 600.0)
    with pooled(queue_url, connections=1) as url:
        assert queue_schema.upgrade(url) == [queue_schema._versions()[-1]]
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as conn:
            before = conn.execute("SELECT current_setting('search_path'), current_setting('timezone')").fetchone()
        with capture_logs() as logged:
            await executed(configured(url), queue_url)
        assert [each["reason"] for each in logged if each["event"] == "queue_polled"] == [
            "the database is behind a pooler; fleet.listen_url helps"
        ]
        with capture_logs() as logged:
            await executed(configured(url, f'listen_url = "{queue_url}"'), queue_url)
        assert [each for each in logged if each["event"] == "queue_polled"] == []
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as conn:
            after = conn.execute("SELECT current_setting('search_path'), current_setting('timezone')").fetchone()
            assert (after, conn.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()) == (before, (0,))


async def test_a_listen_url_that_is_not_reached_is_made_up_for_by_polling(queue_url, configured):
    with capture_logs() as logged:
        await executed(configured(queue_url, 'listen_url = "postgresql://u:p@127.0.0.1:1/x"'), queue_url)
    (polled,) = [each for each in logged if each["event"] == "queue_polled"]
    assert "127.0.0.1:1/x can't be reached" in polled["reason"]
