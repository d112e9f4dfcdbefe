"""The limits that the client learned for each origin and credential.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """One revision up."""
    op.create_table(
        "throttles",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("origin", sa.String(500), nullable=False),
        sa.Column("not_before", _TIME),
        sa.Column("status", sa.Integer()),
        sa.Column("code", sa.String(200)),
        sa.Column("rate_per_s", sa.Float()),
        sa.Column("concurrency", sa.Float()),
        sa.Column("down", sa.Boolean(), nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_throttles")),
    )


def downgrade() -> None:
    """One revision down: the next run learns limits again."""
    op.drop_table("throttles")
