"""A database in which workers check the shares of a run."""

from datetime import UTC, datetime, timedelta

import psycopg
from psycopg.types.json import Jsonb

QUEUE = "ingestion-monitor"
DEADLINE = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def fill(url, *, target="docs", worker_seen=timedelta(seconds=1), items=100, deadline=DEADLINE, workers=("a:7", "b:9")):
    """A run in four shares: one done, one of which half is stored, two that wait. The first worker has the second in
    hand; the other worker was seen ten seconds earlier.
    """
    first, second = workers
    with psycopg.connect(url) as conn:
        (run_id,) = conn.execute(
            "INSERT INTO runs (target, environment, epoch, started_at, status) "
            "VALUES (%s, 'test', 1, now() - interval '2 min', 'running') RETURNING id",
            [target],
        ).fetchone()
        conn.execute(
            "INSERT INTO shared_runs (run_id, target, epoch, state, planned_at, deadline_at, sync, plan, checked) "
            "VALUES (%s, %s, 1, 'open', now() - interval '90 s', %s, '{}', '{}', '{}')",
            [run_id, target, deadline],
        )
        shares = [
            ("done", None, None),
            ("running", first, {"asked": items // 2}),
            ("waiting", None, None),
            ("waiting", None, None),
        ]
        for number, (state, worker, checked) in enumerate(shares, 1):
            conn.execute(
                "INSERT INTO run_shares (run_id, number, target, first_id, items, recheck_ids, priority, state, "
                "attempt, worker, checked) VALUES (%s, %s, %s, %s, %s, '[]', 0, %s, 1, %s, %s)",
                [run_id, number, target, f"id{number}", items, state, worker, checked and Jsonb(checked)],
            )
        registered(conn, first, seen=worker_seen)
        registered(conn, second, seen=worker_seen + timedelta(seconds=10))
        queued(conn, "share", {"run_id": run_id, "number": 2}, worker=first)
        for number in (3, 4):
            queued(conn, "share", {"run_id": run_id, "number": number})
    return run_id


def registered(conn, name, *, seen):
    """A worker that was seen so long ago."""
    (worker_id,) = conn.execute(
        "INSERT INTO procrastinate.procrastinate_workers (last_heartbeat) VALUES (now() - %s) RETURNING id", [seen]
    ).fetchone()
    conn.execute("INSERT INTO procrastinate.monitor_workers VALUES (%s, %s, %s)", [worker_id, name, QUEUE])


def queued(conn, task, args, *, worker=None, status=None, since=timedelta(minutes=1), due=None, queue=QUEUE):
    """A job that was queued a minute ago; `worker` has it in hand, `due` is from now."""
    conn.execute("SET LOCAL search_path TO procrastinate")
    (job,) = conn.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, worker_id, scheduled_at) "
        "VALUES (%s, %s, %s, %s, (SELECT worker_id FROM monitor_workers WHERE name = %s), now() + %s) RETURNING id",
        [queue, task, Jsonb(args), status or ("doing" if worker else "todo"), worker, due],
    ).fetchone()
    conn.execute("UPDATE procrastinate_events SET at = now() - %s WHERE job_id = %s", [since, job])
    conn.execute("SET LOCAL search_path TO public")
