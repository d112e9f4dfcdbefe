"""Since when each target's schedule is known: no run was missed before that.

Revision ID: 0008
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One revision up. The next run of each target notes its schedule."""
    op.create_table(
        "schedules",
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("known_since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("target", name=op.f("pk_schedules")),
    )


def downgrade() -> None:
    """One revision down: missed runs are counted from the run before again."""
    op.drop_table("schedules")
