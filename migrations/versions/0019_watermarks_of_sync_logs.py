"""What the last sync of a target saw of the times of its log's last changes.

Revision ID: 0019
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One revision up."""
    op.add_column("sync_logs", sa.Column("watermark", sa.JSON()))


def downgrade() -> None:
    """One revision down: the next sync compares every page."""
    op.drop_column("sync_logs", "watermark")
