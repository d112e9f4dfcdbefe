"""Why a failed item failed.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One revision up. The next run notes the reasons of items that are still failed."""
    op.add_column("items", sa.Column("failure_reason", sa.String(60)))
    op.add_column("items", sa.Column("failure_message", sa.String(500)))


def downgrade() -> None:
    """One revision down: the reasons are lost."""
    op.drop_column("items", "failure_message")
    op.drop_column("items", "failure_reason")
