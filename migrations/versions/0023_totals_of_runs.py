"""The totals of runs, for counters: the same in all daemons, whatever process executed a run.

Revision ID: 0023
Revises: 0022
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One revision up: counting begins here, as that of a daemon began with its start."""
    op.create_table(
        "run_totals",
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("name", sa.String(20), nullable=False),
        sa.Column("label", sa.String(20), nullable=False),
        sa.Column("total", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("target", "name", "label", name=op.f("pk_run_totals")),
    )


def downgrade() -> None:
    """One revision down: the counters begin at 0 again."""
    op.drop_table("run_totals")
