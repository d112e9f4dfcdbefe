"""Reads the jobs that wait in the queue, with what may hold them up. Plain SQL, as `state`."""

from sqlalchemy import Connection, text

from monitor.database.tables import UtcDateTime
from monitor.fleet.waiting import JobInHand, WaitingJob

JOBS_SHOWN = 100
"""Jobs that are explained: those that come first."""

_WAITING = text("""
    SELECT j.task_name, coalesce(r.target, j.args ->> 'target') AS target, j.scheduled_at AS due_at,
        CAST(j.args ->> 'run_id' AS bigint) AS run_id, CAST(j.args ->> 'number' AS integer) AS number,
        coalesce((
            SELECT max(e.at) FROM procrastinate.procrastinate_events AS e
            WHERE e.job_id = j.id AND e.type IN ('deferred', 'deferred_for_retry', 'retried')
        ), clock_timestamp()) AS since, l.holder
    FROM procrastinate.procrastinate_jobs AS j
    LEFT JOIN shared_runs AS r ON r.run_id = CAST(j.args ->> 'run_id' AS bigint)
    LEFT JOIN leases AS l
        ON l.target = coalesce(r.target, j.args ->> 'target') AND l.expires_at > clock_timestamp()
    WHERE j.queue_name = :queue AND j.status = 'todo'
    ORDER BY j.priority DESC, j.id LIMIT :limit
""").columns(due_at=UtcDateTime, since=UtcDateTime)
"""In the order in which workers take them. A lease without a holder was released."""


def waiting_jobs(conn: Connection, *, queue: str, limit: int = JOBS_SHOWN) -> list[WaitingJob]:
    """The jobs that wait, those that come first first. The queue's tables must be readable. Raises SQLAlchemyError."""
    return [
        WaitingJob(
            job=JobInHand(task=row.task_name, target=row.target, run_id=row.run_id, number=row.number),
            since=row.since,
            due_at=row.due_at,
            lease_holder=row.holder,
        )
        for row in conn.execute(_WAITING, {"queue": queue, "limit": limit})
    ]
