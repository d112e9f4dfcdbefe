"""Indexes that keep the cost of a run and of a command from growing with the history.

Revision ID: 0007
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_INDEXES = (
    ("runs", ["target", "status", "id"]),
    ("incidents", ["target", "id"]),
    ("incidents", ["target", "resolved_at"]),
    ("notifications", ["channel", "id"]),
)
_HAS_THREAD = sa.text("thread IS NOT NULL")


def upgrade() -> None:
    """One revision up."""
    for table, columns in _INDEXES:
        op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, columns)
    op.create_index(
        "ix_notifications_thread", "notifications", ["thread"], sqlite_where=_HAS_THREAD, postgresql_where=_HAS_THREAD
    )


def downgrade() -> None:
    """One revision down: nothing is lost."""
    op.drop_index("ix_notifications_thread", "notifications")
    for table, columns in reversed(_INDEXES):
        op.drop_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table)
