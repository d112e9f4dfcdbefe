"""Item events are found by target and run: a report reads the events of its period, not the runs.

Revision ID: 0017
Revises: 0016
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_BY_RUN, _BY_TARGET_AND_RUN = "ix_item_events_run_id", "ix_item_events_target_run_id"


def upgrade() -> None:
    """One revision up."""
    op.create_index(op.f(_BY_TARGET_AND_RUN), "item_events", ["target", "run_id"])
    op.drop_index(op.f(_BY_RUN), "item_events")


def downgrade() -> None:
    """One revision down: nothing is lost."""
    op.create_index(op.f(_BY_RUN), "item_events", ["run_id"])
    op.drop_index(op.f(_BY_TARGET_AND_RUN), "item_events")
