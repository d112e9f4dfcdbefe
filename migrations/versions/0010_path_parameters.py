"""The path parameters of each item, for a sync log of several stores.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One revision up. The next run fills them from the sync log."""
    op.add_column("items", sa.Column("params", sa.Text()))


def downgrade() -> None:
    """One revision down: items are asked about with the parameters of their target alone."""
    op.drop_column("items", "params")
