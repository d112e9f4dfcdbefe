"""Runs that workers share, their shares, and who uses which limits now.

Revision ID: 0021
Revises: 0020
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)
_OPEN = sa.text("state = 'open'")


def upgrade() -> None:
    """One revision up."""
    op.create_table(
        "shared_runs",
        sa.Column("run_id", _KEY, autoincrement=False, nullable=False),
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("planned_at", _TIME, nullable=False),
        sa.Column("deadline_at", _TIME, nullable=False),
        sa.Column("sync", sa.JSON(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("checked", sa.JSON(), nullable=False),
        sa.Column("stopped_by", sa.String(40)),
        sa.Column("closed_at", _TIME),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_shared_runs_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_shared_runs")),
    )
    op.create_index("ix_shared_runs_open", "shared_runs", ["target"], sqlite_where=_OPEN, postgresql_where=_OPEN)
    op.create_table(
        "run_shares",
        sa.Column("run_id", _KEY, autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("first_id", sa.String(512), nullable=False),
        sa.Column("before_id", sa.String(512)),
        sa.Column("items", sa.Integer(), nullable=False),
        sa.Column("recheck_ids", sa.JSON(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("worker", sa.String(200)),
        sa.Column("begun_at", _TIME),
        sa.Column("seen_at", _TIME),
        sa.Column("ended_at", _TIME),
        sa.Column("checked", sa.JSON()),
        sa.ForeignKeyConstraint(
            ["run_id"], ["shared_runs.run_id"], name=op.f("fk_run_shares_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_run_shares")),
    )
    op.create_table(
        "throttle_claims",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("holder", sa.String(200), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("part", sa.Float(), nullable=False),
        sa.Column("opened_at", _TIME),
        sa.Column("cut_at", _TIME),
        sa.Column("cut", sa.JSON()),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("key", "holder", name=op.f("pk_throttle_claims")),
    )


def downgrade() -> None:
    """One revision down: a run that is shared now is left open, and the next run of its target closes it."""
    op.drop_table("throttle_claims")
    op.drop_table("run_shares")
    op.drop_table("shared_runs")
