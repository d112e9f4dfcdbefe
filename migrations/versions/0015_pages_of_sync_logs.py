"""What the last sync saw of each page of a sync log.

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """One revision up. The next run of each target compares its whole log."""
    op.create_table(
        "sync_logs",
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("copied_at", _TIME, nullable=False),
        sa.Column("tracked", sa.Integer(), nullable=False),
        sa.Column("duplicate", sa.Integer(), nullable=False),
        sa.Column("duplicate_ids", sa.JSON(), nullable=False),
        sa.Column("shared", sa.Integer(), nullable=False),
        sa.Column("shared_ids", sa.JSON(), nullable=False),
        sa.Column("canaries", sa.Integer(), nullable=False),
        sa.Column("canary_ids", sa.JSON(), nullable=False),
        sa.Column("file", sa.Text()),
        sa.Column("file_read_at", _TIME),
        sa.PrimaryKeyConstraint("target", name=op.f("pk_sync_logs")),
    )
    op.create_table(
        "sync_log_pages",
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("page", sa.String(512), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("valid_from", _TIME),
        sa.Column("valid_until", _TIME),
        sa.Column("counts", sa.Text()),
        sa.Column("item_ids", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("target", "page", name=op.f("pk_sync_log_pages")),
    )


def downgrade() -> None:
    """One revision down: every run copies the whole log again."""
    op.drop_table("sync_log_pages")
    op.drop_table("sync_logs")
