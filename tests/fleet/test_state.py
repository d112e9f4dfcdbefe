"""What is read of workers, queue and shares, on a real PostgreSQL."""

from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy.engine import make_url
from support.fleets import DEADLINE, QUEUE, fill, queued

from monitor.database.engine import connect_read_only, reading
from monitor.fleet.state import QueueAccess, read_fleet
from monitor.fleet.waiting import JobInHand
from monitor.fleet.waiting_store import waiting_jobs


@pytest.fixture
def read(connected):
    """Reads the state of a queue at a URL."""

    def state(url, queue=QUEUE):
        with reading(connected(url, connect_read_only)) as conn:
            return read_fleet(conn, queue=queue)

    return state


def near(age, seconds):
    return timedelta(0) <= age - timedelta(seconds=seconds) < timedelta(minutes=1)


def test_workers_jobs_and_shares_are_read(queue_url, read):
    run_id = fill(queue_url)
    with psycopg.connect(queue_url) as conn:
        queued(conn, "plan", {"target": "other", "run_key": "k"}, worker="b:9")
        queued(conn, "close", {"run_id": run_id}, due=timedelta(hours=1), since=timedelta(days=1))
        queued(conn, "plan", {"target": "third", "run_key": "k"}, status="failed")
        queued(conn, "plan", {"target": "docs", "run_key": "k"}, queue="another")
    found = read(queue_url)
    share, plan = (
        JobInHand(task="share", target="docs", run_id=run_id, number=2),
        JobInHand(task="plan", target="other"),
    )
    assert [(each.name, each.jobs) for each in found.queue.workers] == [("a:7", (share,)), ("b:9", (plan,))]
    assert near(found.now - found.queue.workers[1].seen_at, 11)
    assert found.queue.waiting == {"plan": 0, "share": 2, "close": 1}
    assert found.queue.running == {"plan": 1, "share": 1, "close": 0}
    assert found.queue.failed == 1
    assert set(found.queue.waits_since) == {"share"}, "a close that is not due does not wait"
    assert near(found.now - found.queue.waits_since["share"], 60)
    (run,) = found.runs
    assert (run.run_id, run.target, run.deadline_at) == (run_id, "docs", DEADLINE)
    assert (run.waiting, run.running, run.done) == (2, 1, 1)
    assert (run.items, run.items_done) == (400, 150)
    (in_hand,) = run.in_hand
    assert (in_hand.number, in_hand.worker, in_hand.attempt) == (2, "a:7", 1)
    assert [each.name for each in found.alive(timedelta(seconds=10))] == ["a:7"]


def test_a_closed_run_is_not_shown(queue_url, read):
    fill(queue_url)
    with psycopg.connect(queue_url) as conn:
        conn.execute("UPDATE shared_runs SET state = 'closed'")
    assert read(queue_url).runs == []


def test_a_missing_queue_is_no_error(new_postgres, read):
    found = read(new_postgres(migrated=True))
    assert (found.queue.access, list(found.queue.workers), found.runs) == (QueueAccess.MISSING, [], [])


def test_few_rights_are_no_error(queue_url, read):
    fill(queue_url)
    url, name = make_url(queue_url), f"low_{make_url(queue_url).database}"
    with psycopg.connect(queue_url, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'low'")
        conn.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
    low = url.set(username=name, password="low").render_as_string(hide_password=False)
    try:
        found = read(low)
        assert (found.queue.access, len(found.runs)) == (QueueAccess.FORBIDDEN, 1)
        with psycopg.connect(queue_url, autocommit=True) as conn:
            conn.execute(f"GRANT USAGE ON SCHEMA procrastinate TO {name}")
            conn.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA procrastinate TO {name}")
        assert read(low).queue.access is QueueAccess.READABLE
    finally:
        with psycopg.connect(queue_url, autocommit=True) as conn:
            conn.execute(f"DROP OWNED BY {name}")
            conn.execute(f"DROP ROLE {name}")


def test_jobs_that_wait_are_read_in_the_order_of_their_turn(queue_url, connected):
    run_id = fill(queue_url)
    with psycopg.connect(queue_url) as conn:
        queued(conn, "plan", {"target": "other", "run_key": "k"}, due=timedelta(minutes=5))
        conn.execute("SET LOCAL search_path TO procrastinate")
        conn.execute("UPDATE procrastinate_jobs SET priority = 1000 WHERE task_name = 'plan'")
        queued(conn, "plan", {"target": "third", "run_key": "k"}, worker="b:9")
        queued(conn, "plan", {"target": "docs", "run_key": "k"}, queue="another")
        for target, holder, ends in (("other", "host:1", "1 min"), ("docs", "fleet", "-1 min")):
            conn.execute(
                "INSERT INTO leases (target, holder, epoch, expires_at) VALUES (%s, %s, 1, now() + %s::interval)",
                [target, holder, ends],
            )
    with reading(connected(queue_url, connect_read_only)) as conn:
        found, few = (waiting_jobs(conn, queue=QUEUE, limit=limit) for limit in (20, 2))
        now = read_fleet(conn, queue=QUEUE).now
    share = JobInHand(task="share", target="docs", run_id=run_id)
    assert [each.job for each in found] == [
        JobInHand(task="plan", target="other"), replace(share, number=3), replace(share, number=4),
    ]  # fmt: skip
    assert [each.lease_holder for each in found] == ["host:1", None, None], "the other lease has expired"
    assert [each.due_at is None for each in found] == [False, True, True]
    assert near(now - found[1].waits_since(now), 60)
    assert few == found[:2]
