"""Silences, states of channels, incidents by group, and merged or superseded messages.

Revision ID: 0004
Revises: 0003
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)
_OPEN = sa.text("state <> 'resolved'")
_OF_NOTIFICATIONS: tuple[sa.Column[Any], ...] = (
    sa.Column("cause", sa.String(40), nullable=False, server_default=sa.text("''")),
    sa.Column("batch", sa.String(64)),
    sa.Column("thread", sa.String(64)),
    sa.Column("superseded_by", _KEY),
    sa.Column("retried_at", _TIME),
    sa.Column("died_at", _TIME),
)
_OF_INCIDENTS: tuple[sa.Column[Any], ...] = (
    sa.Column("group_name", sa.String(200), nullable=False, server_default=sa.text("''")),
    sa.Column("acknowledged_by", sa.String(200)),
    sa.Column("silence_id", _KEY),
)


def upgrade() -> None:
    """One revision up."""
    op.create_table(
        "silences",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("matchers", sa.JSON(), nullable=False),
        sa.Column("starts_at", _TIME, nullable=False),
        sa.Column("ends_at", _TIME, nullable=False),
        sa.Column("comment", sa.String(500), nullable=False),
        sa.Column("author", sa.String(200), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expired_by", sa.String(200)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_silences")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_silences_ends_at"), "silences", ["ends_at"])
    op.create_table(
        "channels",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("parked_at", _TIME),
        sa.Column("fingerprint", sa.String(64)),
        sa.Column("blocked_until", _TIME),
        sa.Column("failures", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("failing_since", _TIME),
        sa.Column("last_error", sa.String(500)),
        sa.Column("refreshed_at", _TIME),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_channels")),
    )
    op.add_column("runs", sa.Column("restraint", sa.Float(), nullable=False, server_default="1"))
    with op.batch_alter_table("evidence") as evidence:
        evidence.add_column(sa.Column("group_name", sa.String(200), nullable=False, server_default=sa.text("''")))
        evidence.drop_constraint("uq_evidence_run_id_cause", type_="unique")
        evidence.create_unique_constraint("uq_evidence_run_id_cause_group_name", ["run_id", "cause", "group_name"])
    for column in _OF_INCIDENTS:
        op.add_column("incidents", column)
    _one_open("target", "cause", "group_name")
    for column in _OF_NOTIFICATIONS:
        op.add_column("notifications", column)
    cause = "(SELECT cause FROM incidents WHERE incidents.id = notifications.incident_id)"
    op.execute(f"UPDATE notifications SET cause = {cause}")  # noqa: S608  # put together from our own words


def downgrade() -> None:
    """One revision down: silences are lost, and incidents of single groups are resolved."""
    for column in reversed(_OF_NOTIFICATIONS):
        op.drop_column("notifications", column.name)
    op.execute("UPDATE incidents SET state = 'resolved' WHERE group_name <> ''")
    _one_open("target", "cause")
    for column in reversed(_OF_INCIDENTS):
        op.drop_column("incidents", column.name)
    op.execute("DELETE FROM evidence WHERE group_name <> ''")
    with op.batch_alter_table("evidence") as evidence:
        evidence.drop_constraint("uq_evidence_run_id_cause_group_name", type_="unique")
        evidence.create_unique_constraint("uq_evidence_run_id_cause", ["run_id", "cause"])
        evidence.drop_column("group_name")
    op.drop_column("runs", "restraint")
    op.drop_table("channels")
    op.drop_table("silences")


def _one_open(*key: str) -> None:
    """At most one incident per key is open."""
    op.drop_index("uq_incidents_open", "incidents")
    op.create_index("uq_incidents_open", "incidents", key, unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN)
