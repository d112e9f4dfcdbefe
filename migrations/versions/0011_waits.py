"""Waits for items, and their totals.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_RUNNING = sa.text("result IS NULL")
_COUNTS = ("completed", "failed", "missing", "invalid", "pending", "unknown", "requests")


def upgrade() -> None:
    """One revision up."""
    op.create_table(
        "waits",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("environment", sa.String(200), nullable=False),
        sa.Column("holder", sa.String(200), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("finished_at", _TIME),
        sa.Column("alive_until", _TIME, nullable=False),
        sa.Column("timeout_s", sa.Float(), nullable=False),
        sa.Column("duration_s", sa.Float(), server_default="0", nullable=False),
        sa.Column("result", sa.String(20)),
        sa.Column("cause", sa.String(40)),
        sa.Column("asked", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Integer(), server_default="0", nullable=False) for name in _COUNTS),
        sa.CheckConstraint(
            "result IS NULL OR asked = completed + failed + missing + invalid + pending + unknown",
            name=op.f("ck_waits_asked_is_sum"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_waits")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_waits_target_started_at"), "waits", ["target", "started_at"])
    op.create_index("ix_waits_running", "waits", ["alive_until"], sqlite_where=_RUNNING, postgresql_where=_RUNNING)
    op.create_table(
        "wait_totals",
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("result", sa.String(20), nullable=False),
        sa.Column("le_s", sa.Integer(), nullable=False),
        sa.Column("waits", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("target", "result", "le_s", name=op.f("pk_wait_totals")),
    )


def downgrade() -> None:
    """One revision down: what waits found out is forgotten."""
    op.drop_table("wait_totals")
    op.drop_table("waits")
