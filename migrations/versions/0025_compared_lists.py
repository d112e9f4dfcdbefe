"""The last list that confirmed all settled items of a target.

Revision ID: 0025
Revises: 0024
"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One revision up. The next run of each target compares its whole list."""
    op.create_table(
        "compared_lists",
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("compared_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("target", name=op.f("pk_compared_lists")),
    )


def downgrade() -> None:
    """One revision down: every run compares the whole list again."""
    op.drop_table("compared_lists")
