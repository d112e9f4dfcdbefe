"""What each process that shares limits was answered: one of them judges for all whether a rate is too high.

Revision ID: 0024
Revises: 0023
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NEW = ("accepted", "refused")


def upgrade() -> None:
    """One revision up."""
    with op.batch_alter_table("throttle_claims") as table:
        for name in _NEW:
            table.add_column(sa.Column(name, _COUNT, nullable=False, server_default="0"))


def downgrade() -> None:
    """One revision down: claims are written again within a second."""
    with op.batch_alter_table("throttle_claims") as table:
        for name in _NEW:
            table.drop_column(name)
