"""Reads what workers do now: the queue's jobs, who has them in hand, and the open runs with their shares.

Plain SQL over the tables of the queue and ours, on PostgreSQL: it needs no more than the right to read them, and
nothing of Procrastinate is imported. All ages count from the server's clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Connection, text

from monitor.database.tables import UtcDateTime
from monitor.fleet.waiting import TASKS, JobInHand


class QueueAccess(StrEnum):
    """Whether the queue's tables can be read."""

    READABLE = "readable"
    MISSING = "missing"
    """Some of them, or their schema, do not exist."""
    FORBIDDEN = "forbidden"
    """This user may not read them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """A worker that is registered in the queue."""

    worker_id: int
    name: str | None
    """As `host:pid`; None at the moment of its start."""
    seen_at: datetime
    """Its last heartbeat."""
    jobs: tuple[JobInHand, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """The queue at one moment."""

    access: QueueAccess = QueueAccess.READABLE
    workers: Sequence[WorkerState] = ()
    """The one seen last first."""
    waiting: Mapping[str, int] = field(default_factory=dict)
    """Jobs that nobody has begun, by task."""
    running: Mapping[str, int] = field(default_factory=dict)
    failed: int = 0
    """Jobs that ended with an error and are kept."""
    waits_since: Mapping[str, datetime] = field(default_factory=dict)
    """By task, since when the oldest job that is due waits; without those of which none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareInHand:
    """A share that a worker checks."""

    number: int
    items: int
    attempt: int
    worker: str | None
    begun_at: datetime | None
    seen_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRunState:
    """A run in shares that is not closed."""

    run_id: int
    target: str
    planned_at: datetime
    deadline_at: datetime
    stopped_by: str | None
    waiting: int
    """Shares; `running` and `done`, too."""
    running: int
    done: int
    items: int
    """Of all shares, as planned."""
    items_done: int
    """Of shares that are done, and what the others have stored so far."""
    in_hand: tuple[ShareInHand, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetState:
    """The queue, and the runs in shares that are not closed."""

    now: datetime
    """The server's clock."""
    queue: QueueState
    runs: Sequence[SharedRunState] = ()
    """The oldest first."""

    def alive(self, stalled_after: timedelta) -> list[WorkerState]:
        """The workers that were seen within the stall time."""
        return [each for each in self.queue.workers if self.now - each.seen_at < stalled_after]


def read_fleet(conn: Connection, *, queue: str) -> FleetState:
    """The state now; `queue` is the queue's name. Raises SQLAlchemyError.

    Four statements, five with open runs, two where the queue's tables can't be read; none grows with the history.
    """
    found = conn.execute(_ACCESS).one()
    access = QueueAccess(found.access)
    state = _queue(conn, queue) if access is QueueAccess.READABLE else QueueState(access=access)
    return FleetState(now=found.now, queue=state, runs=_runs(conn))


_ACCESS = text("""
    SELECT clock_timestamp() AS now, CASE
        WHEN count(*) < 4 THEN 'missing'
        WHEN bool_and(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')) THEN 'readable'
        ELSE 'forbidden' END AS access
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = 'procrastinate'
      AND c.relname IN ('procrastinate_jobs', 'procrastinate_workers', 'procrastinate_events', 'monitor_workers')
""").columns(now=UtcDateTime)
"""From the catalogue, which everybody may read: a statement that is refused would end the transaction."""

_JOBS = text("""
    SELECT j.task_name, CAST(j.status AS text) AS status, count(*) AS jobs,
        min(CASE WHEN j.status = 'todo' AND coalesce(j.scheduled_at, '-infinity') <= clock_timestamp()
            THEN greatest(deferred.at, j.scheduled_at) END) AS oldest_at
    FROM procrastinate.procrastinate_jobs AS j
    LEFT JOIN LATERAL (
        SELECT max(e.at) AS at FROM procrastinate.procrastinate_events AS e
        WHERE e.job_id = j.id AND j.status = 'todo' AND e.type IN ('deferred', 'deferred_for_retry', 'retried')
    ) AS deferred ON true
    WHERE j.queue_name = :queue AND j.status IN ('todo', 'doing', 'failed')
    GROUP BY j.task_name, j.status
""").columns(oldest_at=UtcDateTime)

_WORKERS = text("""
    SELECT w.id, w.last_heartbeat, j.task_name, j.args ->> 'target' AS target, r.target AS run_target,
        CAST(j.args ->> 'run_id' AS bigint) AS run_id, CAST(j.args ->> 'number' AS integer) AS number, m.name
    FROM procrastinate.procrastinate_workers AS w
    LEFT JOIN procrastinate.monitor_workers AS m ON m.worker_id = w.id
    LEFT JOIN procrastinate.procrastinate_jobs AS j
        ON j.worker_id = w.id AND j.status = 'doing' AND j.queue_name = :queue
    LEFT JOIN shared_runs AS r ON r.run_id = CAST(j.args ->> 'run_id' AS bigint)
    WHERE m.queue = :queue OR m.queue IS NULL
    ORDER BY w.last_heartbeat DESC, w.id, j.id
""").columns(last_heartbeat=UtcDateTime)


def _queue(conn: Connection, queue: str) -> QueueState:
    waiting, running, failed = dict.fromkeys(TASKS, 0), dict.fromkeys(TASKS, 0), 0
    waits_since = {}
    for row in conn.execute(_JOBS, {"queue": queue}):
        if row.status == "failed":
            failed += row.jobs
        else:
            (waiting if row.status == "todo" else running)[row.task_name] = row.jobs
        if row.oldest_at is not None:
            waits_since[row.task_name] = row.oldest_at
    return QueueState(
        workers=_workers(conn, queue), waiting=waiting, running=running, failed=failed, waits_since=waits_since
    )


def _workers(conn: Connection, queue: str) -> list[WorkerState]:
    seen: dict[int, datetime] = {}
    names: dict[int, str | None] = {}
    jobs: dict[int, list[JobInHand]] = {}
    for row in conn.execute(_WORKERS, {"queue": queue}):
        seen[row.id], names[row.id] = row.last_heartbeat, row.name
        if row.task_name is not None:
            job = JobInHand(
                task=row.task_name, target=row.run_target or row.target, run_id=row.run_id, number=row.number
            )
            jobs.setdefault(row.id, []).append(job)
    return [
        WorkerState(worker_id=each, name=names[each], seen_at=at, jobs=tuple(jobs.get(each, ())))
        for each, at in seen.items()
    ]


_RUNS = text("""
    SELECT r.run_id, r.target, r.planned_at, r.deadline_at, r.stopped_by,
        count(*) FILTER (WHERE s.state = 'waiting') AS waiting, count(*) FILTER (WHERE s.state = 'running') AS running,
        count(*) FILTER (WHERE s.state = 'done') AS done, coalesce(sum(s.items), 0) AS items,
        coalesce(sum(CASE WHEN s.state = 'done' THEN s.items ELSE CAST(s.checked ->> 'asked' AS integer) END), 0)
            AS items_done
    FROM shared_runs AS r LEFT JOIN run_shares AS s USING (run_id)
    WHERE r.state = 'open'
    GROUP BY r.run_id ORDER BY r.planned_at, r.run_id
""").columns(planned_at=UtcDateTime, deadline_at=UtcDateTime)

_IN_HAND = text("""
    SELECT s.run_id, s.number, s.items, s.attempt, s.worker, s.begun_at, s.seen_at
    FROM run_shares AS s JOIN shared_runs AS r USING (run_id)
    WHERE r.state = 'open' AND s.state = 'running'
    ORDER BY s.run_id, s.number
""").columns(begun_at=UtcDateTime, seen_at=UtcDateTime)


def _runs(conn: Connection) -> list[SharedRunState]:
    rows = conn.execute(_RUNS).mappings().all()
    in_hand: dict[int, list[ShareInHand]] = {}
    for row in conn.execute(_IN_HAND).mappings() if rows else ():
        share = {name: value for name, value in row.items() if name != "run_id"}
        in_hand.setdefault(row["run_id"], []).append(ShareInHand(**share))
    return [SharedRunState(**row, in_hand=tuple(in_hand.get(row["run_id"], ()))) for row in rows]
