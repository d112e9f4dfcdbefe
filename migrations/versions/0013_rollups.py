"""Rollups of history per hour and day, and histograms of the time to indexed.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_STATES = ("completed", "pending", "failed", "not_found", "invalid", "unknown")
_MAXIMA = (*_STATES[1:], "stuck")
_STATUSES = ("complete", "partial", "aborted", "failed", "crashed")
_COUNTS = ("total", "checked", *_STATES, "stuck", "requests", "retries")
_TABLES = {"history_hourly": "hour", "history_daily": "day"}
_RUN = ("environment", "run_key", "started_at", "finished_at", "status", "abort_reason")
_SNAPSHOT = (*_COUNTS, "latency_p50_ms", "latency_p95_ms", "duration_s")


def upgrade() -> None:
    """One revision up. Past runs are rolled up, one target at a time; upload times count from now on."""
    op.add_column("items", sa.Column("indexed_at", sa.DateTime(timezone=True)))
    op.create_table(
        "time_to_indexed",
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("slot_s", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("group_name", sa.String(200), server_default=sa.text("''"), nullable=False),
        sa.Column("le_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("uploads", sa.Integer(), nullable=False),
        sa.Column("sum_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint(
            "target", "slot_s", "starts_at", "group_name", "le_ms", name=op.f("pk_time_to_indexed")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "slowest_uploads",
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("item_id", sa.String(512), nullable=False),
        sa.Column("group_name", sa.String(200)),
        sa.Column("took_s", sa.Float(), nullable=False),
        sa.Column("indexed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("target", "starts_at", "item_id", name=op.f("pk_slowest_uploads")),
        sqlite_with_rowid=False,
    )
    for table in _TABLES:
        _create(table)
    conn = op.get_bind()
    for target in conn.execute(sa.text("SELECT DISTINCT target FROM runs")).scalars().all():
        for table, period in _TABLES.items():
            conn.execute(sa.text(_past(table, period, conn.dialect.name)), {"target": target})


def _create(table: str) -> None:
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        table,
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", key),
        sa.Column("environment", sa.String(200)),
        sa.Column("run_key", sa.String(200)),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("status", sa.String(20)),
        sa.Column("abort_reason", sa.String(40)),
        *(sa.Column(name, sa.Integer()) for name in _COUNTS),
        sa.Column("latency_p50_ms", sa.Float()),
        sa.Column("latency_p95_ms", sa.Float()),
        sa.Column("duration_s", sa.Float()),
        *(sa.Column(f"runs_{status}", sa.Integer(), nullable=False) for status in _STATUSES),
        *(
            sa.Column(f"{name}_sum", sa.BigInteger(), nullable=False)
            for name in ("total", "unknown", "requests", "retries")
        ),
        sa.Column("duration_sum_s", sa.Float(), nullable=False),
        sa.Column("completed_min", sa.Integer()),
        *(sa.Column(f"{name}_max", sa.Integer()) for name in _MAXIMA),
        sa.Column("latency_p95_max_ms", sa.Float()),
        sa.PrimaryKeyConstraint("target", "starts_at", name=op.f(f"pk_{table}")),
        sqlite_with_rowid=False,
    )


def _past(table: str, period: str, dialect: str) -> str:
    """The statement that rolls up the closed runs of a target."""
    start = f"date_trunc('{period}', r.started_at, 'UTC')"
    if dialect == "sqlite":
        form = {"hour": "%Y-%m-%d %H:00:00.000000", "day": "%Y-%m-%d 00:00:00.000000"}[period]
        start = f"strftime('{form}', r.started_at)"
    names = [
        "run_id", *_RUN, *_SNAPSHOT, *(f"runs_{each}" for each in _STATUSES),
        "total_sum", "unknown_sum", "requests_sum", "retries_sum", "duration_sum_s", "completed_min",
        *(f"{each}_max" for each in _MAXIMA), "latency_p95_max_ms",
    ]  # fmt: skip
    sums = [
        *(f"sum(CASE r.status WHEN '{each}' THEN 1 ELSE 0 END)" for each in _STATUSES),
        *(f"coalesce(sum(s.{each}), 0)" for each in ("total", "unknown", "requests", "retries", "duration_s")),
        "min(s.completed)", *(f"max(s.{each})" for each in _MAXIMA), "max(s.latency_p95_ms)",
    ]  # fmt: skip
    last = [
        *(f"CASE WHEN s.run_id IS NOT NULL THEN r.{each} END" for each in _RUN),
        *(f"s.{each}" for each in _SNAPSHOT),
    ]
    of_period = ", ".join(f"{each} AS v{n}" for n, each in enumerate(sums))
    return f"""
    INSERT INTO {table} (target, starts_at, {", ".join(names)})
    SELECT :target, p.starts_at, s.run_id, {", ".join(last)}, {", ".join(f"p.v{n}" for n in range(len(sums)))}
    FROM (
        SELECT {start} AS starts_at, max(s.run_id) AS last_id, {of_period}
        FROM runs r LEFT JOIN snapshots s ON s.run_id = r.id
        WHERE r.target = :target AND r.status <> 'running' GROUP BY 1
    ) p
    LEFT JOIN runs r ON r.id = p.last_id LEFT JOIN snapshots s ON s.run_id = p.last_id
    """  # noqa: S608  # our own names


def downgrade() -> None:
    """One revision down: the rollups, and with them what is left of pruned history, are lost."""
    for table in reversed(_TABLES):
        op.drop_table(table)
    op.drop_table("slowest_uploads")
    op.drop_table("time_to_indexed")
    op.drop_column("items", "indexed_at")
