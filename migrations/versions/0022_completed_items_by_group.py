"""An index of completed items by group, state and stage: pages count them without reading each item.

Revision ID: 0022
Revises: 0021
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_IS_COMPLETED = sa.text("known_state = 'completed' AND removed_at IS NULL AND ignored_at IS NULL")


def upgrade() -> None:
    """One revision up."""
    op.create_index(
        "ix_items_completed_groups",
        "items",
        ["target", "group_name", "state", "stage", "known_state", "removed_at", "ignored_at"],
        sqlite_where=_IS_COMPLETED,
        postgresql_where=_IS_COMPLETED,
    )


def downgrade() -> None:
    """One revision down: nothing is lost."""
    op.drop_index("ix_items_completed_groups", "items")
