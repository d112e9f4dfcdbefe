"""Indexes of items that an outcome seldom touches, in place of those that it rewrites.

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_IS_NOT_COMPLETED_NOW = sa.text("state <> 'completed' AND removed_at IS NULL AND ignored_at IS NULL")
_IS_COMPLETED = sa.text("known_state = 'completed' AND removed_at IS NULL AND ignored_at IS NULL")
_IS_INACTIVE = sa.text("(removed_at IS NOT NULL OR ignored_at IS NOT NULL)")


def upgrade() -> None:
    """One revision up."""
    op.create_index(
        "ix_items_state",
        "items",
        ["target", "state", "known_state", "removed_at", "ignored_at"],
        sqlite_where=_IS_NOT_COMPLETED_NOW,
        postgresql_where=_IS_NOT_COMPLETED_NOW,
    )
    op.create_index(
        "ix_items_completed",
        "items",
        ["target", "asked_run_id"],
        sqlite_where=_IS_COMPLETED,
        postgresql_where=_IS_COMPLETED,
    )
    op.create_index(
        "ix_items_inactive",
        "items",
        ["target", "removed_at", "ignored_at"],
        sqlite_where=_IS_INACTIVE,
        postgresql_where=_IS_INACTIVE,
    )
    op.create_index(op.f("ix_item_events_target_item_id"), "item_events", ["target", "item_id"])
    op.drop_index(op.f("ix_items_target_state"), "items")
    op.drop_index(op.f("ix_items_target_checked_at"), "items")
    op.drop_index(op.f("ix_item_events_target_item_id_at"), "item_events")


def downgrade() -> None:
    """One revision down: nothing is lost."""
    op.create_index(op.f("ix_item_events_target_item_id_at"), "item_events", ["target", "item_id", "at"])
    op.create_index(op.f("ix_items_target_checked_at"), "items", ["target", "checked_at"])
    op.create_index(op.f("ix_items_target_state"), "items", ["target", "state"])
    op.drop_index(op.f("ix_item_events_target_item_id"), "item_events")
    op.drop_index("ix_items_inactive", "items")
    op.drop_index("ix_items_completed", "items")
    op.drop_index("ix_items_state", "items")
