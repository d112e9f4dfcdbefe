"""Runs, their snapshots and the view over both, and what each run saw of each cause."""

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
    text,
)

from monitor.store.columns import Key, UtcDateTime
from monitor.store.tables.naming import metadata

__all__ = ["HISTORY_VIEW", "evidence", "runs", "snapshots"]

runs = Table(
    "runs",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("target", String(200), nullable=False),
    Column("environment", String(200), nullable=False),
    Column("slot", String(200)),
    Column("epoch", Integer, nullable=False),
    Column("status", String(20), nullable=False),  # RunStatus
    Column("abort_reason", String(40)),  # a Cause, or deadline/interrupted
    Column("owner_cause", String(40)),  # the highest-ranked request cause of the run
    Column("due", Integer, nullable=False, server_default="0"),  # items to ask about; quarantined ids are not
    Column("answered", Integer, nullable=False, server_default="0"),  # of them, those that got a reply
    Column("error", String(2000)),  # why the run has no snapshot, in our own words
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("restraint", Float, nullable=False, server_default="1"),  # share of rate and concurrency for the next run
    Index(None, "target", "started_at"),
    Index(None, "target", "slot"),
    # ids are what people type and what foreign keys hold: never handed out twice
    sqlite_autoincrement=True,
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("total", Integer, nullable=False),
    Column("checked", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("pending", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("not_found", Integer, nullable=False),
    Column("invalid", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
    Column("stuck", Integer, nullable=False),
    Column("requests", Integer, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("latency_p50_ms", Float),
    Column("latency_p95_ms", Float),
    Column("duration_s", Float, nullable=False),
    CheckConstraint("total = completed + pending + failed + not_found + invalid + unknown", name="total_is_sum"),
    CheckConstraint("stuck <= pending", name="stuck_is_pending"),
)

HISTORY_VIEW = """
CREATE VIEW history AS
SELECT r.id AS run_id, r.target, r.environment, r.slot, r.started_at, r.finished_at, r.status, r.abort_reason,
       s.total, s.checked, s.completed, s.pending, s.failed, s.not_found, s.invalid, s.unknown, s.stuck,
       s.requests, s.retries, s.latency_p50_ms, s.latency_p95_ms, s.duration_s
FROM runs r JOIN snapshots s ON s.run_id = r.id
"""

evidence = Table(
    "evidence",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("target", String(200), nullable=False),
    Column("cause", String(40), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("count", Integer, nullable=False),
    Column("breakdown", JSON, nullable=False),
    Column("sample_ids", JSON, nullable=False),
    Column("request_ids", JSON, nullable=False),
    Column("code", String(200)),
    Column("api_message", String(1000)),  # the API's raw words: `incidents show` alone reads them
    Column("explained_by", String(40)),
    Column("group_name", String(200), nullable=False, server_default=text("''")),  # empty: the whole target
    UniqueConstraint("run_id", "cause", "group_name"),
    Index(None, "target", "cause", "at"),
)
