"""The built-in sync log, the time an item went back to pending, and the cursor of the last report.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """One revision up."""
    op.add_column("items", sa.Column("regressed_at", _TIME))
    op.create_table(
        "tracked_items",
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("item_id", sa.String(512), nullable=False),
        sa.Column("submitted_at", _TIME),
        sa.Column("group_name", sa.String(200)),
        sa.Column("added_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("target", "item_id", name=op.f("pk_tracked_items")),
    )
    op.create_table(
        "reports",
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("made_at", _TIME, nullable=False),
        sa.Column("last_run_id", _KEY, nullable=False),
        sa.Column("last_incident_event_id", _KEY, nullable=False),
        sa.PrimaryKeyConstraint("target", name=op.f("pk_reports")),
    )
    op.create_index(op.f("ix_item_events_run_id"), "item_events", ["run_id"])


def downgrade() -> None:
    """One revision down: imported ids are lost."""
    op.drop_index(op.f("ix_item_events_run_id"), "item_events")
    op.drop_table("reports")
    op.drop_table("tracked_items")
    op.drop_column("items", "regressed_at")
