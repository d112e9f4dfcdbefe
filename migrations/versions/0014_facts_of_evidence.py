"""What else a piece of evidence says, in our own words: label and value.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One revision up. Evidence of earlier versions has none."""
    op.add_column("evidence", sa.Column("facts", sa.JSON()))


def downgrade() -> None:
    """One revision down: they are lost; messages that were sent keep them."""
    op.drop_column("evidence", "facts")
