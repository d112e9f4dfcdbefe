"""The outbox holds reports, which are about no incident, and which scheduled reports were made is kept.

Revision ID: 0020
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """One revision up."""
    _require_incident(required=False)
    op.create_table(
        "digests",
        sa.Column("environment", sa.String(200), nullable=False),
        sa.Column("due_at", _TIME, nullable=False),
        sa.Column("run_key", sa.String(200), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("channels", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("environment", "due_at", name=op.f("pk_digests")),
    )


def downgrade() -> None:
    """One revision down: reports in the outbox are lost, and which were sent."""
    op.drop_table("digests")
    op.execute("DELETE FROM notifications WHERE incident_id IS NULL")
    _require_incident(required=True)


def _require_incident(*, required: bool) -> None:
    # SQLite copies the table: its ids must not be used again
    with op.batch_alter_table("notifications", table_kwargs={"sqlite_autoincrement": True}) as notifications:
        notifications.alter_column("incident_id", existing_type=_KEY, nullable=not required)
