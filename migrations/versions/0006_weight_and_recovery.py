"""Items with a trouble of their own, what confirms a recovery, and what a gateway's page said.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NEW_CAUSES = ("items_unverified", "run_crashing")
_UNVERIFIED = sa.text("unverified_runs > 0")


def upgrade() -> None:
    """One revision up."""
    op.add_column("items", sa.Column("page", sa.String(200)))
    op.add_column("items", sa.Column("unverified_runs", sa.Integer(), nullable=False, server_default="0"))
    op.create_index(
        "ix_items_unverified", "items", ["target", "item_id"], sqlite_where=_UNVERIFIED, postgresql_where=_UNVERIFIED
    )
    op.add_column("runs", sa.Column("accepted", sa.Integer()))
    op.add_column("evidence", sa.Column("page", sa.String(200)))
    op.add_column("evidence", sa.Column("gateway", sa.JSON()))
    op.add_column("incidents", sa.Column("accepted", sa.Boolean()))


def downgrade() -> None:
    """One revision down: pages are lost, what is known of items with a trouble of their own, and incidents of causes
    that older programs do not know.
    """
    op.execute(
        "UPDATE items SET incident_id = NULL WHERE incident_id IN "
        "(SELECT id FROM incidents WHERE cause = 'items_unverified')"
    )
    for table in ("incidents", "evidence"):
        op.execute(sa.delete(sa.table(table, sa.column("cause"))).where(sa.column("cause").in_(_NEW_CAUSES)))
    op.drop_column("incidents", "accepted")
    op.drop_column("evidence", "gateway")
    op.drop_column("evidence", "page")
    op.drop_column("runs", "accepted")
    op.drop_index("ix_items_unverified", "items")
    op.drop_column("items", "unverified_runs")
    op.drop_column("items", "page")
