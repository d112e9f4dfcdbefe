"""The first tables.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """One revision up."""
    _leases()
    _runs()
    _snapshots()
    _evidence()
    _incidents()
    _incident_events()
    _items()
    _item_events()
    _notifications()


def downgrade() -> None:
    """One revision down: nothing is left."""
    for table in (
        "notifications",
        "item_events",
        "items",
        "incident_events",
        "incidents",
        "evidence",
        "snapshots",
        "runs",
        "leases",
    ):
        op.drop_table(table)


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("holder", sa.String(length=200)),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("acquired_at", _TIME),
        sa.Column("expires_at", _TIME),
        sa.PrimaryKeyConstraint("target", name=op.f("pk_leases")),
    )


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("environment", sa.String(length=200), nullable=False),
        sa.Column("slot", sa.String(length=200)),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("abort_reason", sa.String(length=40)),
        sa.Column("owner_cause", sa.String(length=40)),
        sa.Column("due", sa.Integer(), server_default="0", nullable=False),
        sa.Column("answered", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error", sa.String(length=2000)),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("finished_at", _TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_runs_target_slot"), "runs", ["target", "slot"])
    op.create_index(op.f("ix_runs_target_started_at"), "runs", ["target", "started_at"])


def _snapshots() -> None:
    op.create_table(
        "snapshots",
        sa.Column("run_id", _KEY, autoincrement=False, nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("checked", sa.Integer(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("pending", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("not_found", sa.Integer(), nullable=False),
        sa.Column("invalid", sa.Integer(), nullable=False),
        sa.Column("unknown", sa.Integer(), nullable=False),
        sa.Column("stuck", sa.Integer(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("latency_p50_ms", sa.Float()),
        sa.Column("latency_p95_ms", sa.Float()),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.CheckConstraint("stuck <= pending", name=op.f("ck_snapshots_stuck_is_pending")),
        sa.CheckConstraint(
            "total = completed + pending + failed + not_found + invalid + unknown",
            name=op.f("ck_snapshots_total_is_sum"),
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_snapshots_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_snapshots")),
    )


def _evidence() -> None:
    op.create_table(
        "evidence",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("run_id", _KEY, nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("cause", sa.String(length=40), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("breakdown", sa.JSON(), nullable=False),
        sa.Column("sample_ids", sa.JSON(), nullable=False),
        sa.Column("request_ids", sa.JSON(), nullable=False),
        sa.Column("code", sa.String(length=200)),
        sa.Column("api_message", sa.String(length=1000)),
        sa.Column("explained_by", sa.String(length=40)),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_evidence_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence")),
        sa.UniqueConstraint("run_id", "cause", name=op.f("uq_evidence_run_id_cause")),
    )
    op.create_index(op.f("ix_evidence_target_cause_at"), "evidence", ["target", "cause", "at"])


def _incidents() -> None:
    op.create_table(
        "incidents",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("environment", sa.String(length=200), nullable=False),
        sa.Column("cause", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("severity", sa.String(length=20), nullable=False),
        sa.Column("team", sa.String(length=20), nullable=False),
        sa.Column("opened_at", _TIME, nullable=False),
        sa.Column("first_evidence_at", _TIME, nullable=False),
        sa.Column("last_evidence_at", _TIME, nullable=False),
        sa.Column("acknowledged_at", _TIME),
        sa.Column("resolved_at", _TIME),
        sa.Column("last_message_at", _TIME),
        sa.Column("member_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("peak_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("untold_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("channels", sa.JSON(), nullable=False),
        sa.Column("evidence_id", _KEY),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incidents")),
        sqlite_autoincrement=True,
    )
    unresolved = sa.text("state <> 'resolved'")
    op.create_index(
        "uq_incidents_open",
        "incidents",
        ["target", "cause"],
        unique=True,
        sqlite_where=unresolved,
        postgresql_where=unresolved,
    )


def _incident_events() -> None:
    op.create_table(
        "incident_events",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("incident_id", _KEY, nullable=False),
        sa.Column("run_id", _KEY),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["incidents.id"], name=op.f("fk_incident_events_incident_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incident_events")),
    )
    op.create_index(op.f("ix_incident_events_incident_id_at"), "incident_events", ["incident_id", "at"])


def _items() -> None:
    op.create_table(
        "items",
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("item_id", sa.String(length=512), nullable=False),
        sa.Column("group_name", sa.String(length=200)),
        sa.Column("submitted_at", _TIME),
        sa.Column("first_seen_at", _TIME, nullable=False),
        sa.Column("removed_at", _TIME),
        sa.Column("ignored_at", _TIME),
        sa.Column("ignore_reason", sa.String(length=500)),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=40)),
        sa.Column("known_state", sa.String(length=20)),
        sa.Column("stage", sa.String(length=200)),
        sa.Column("recognised", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("since", _TIME),
        sa.Column("pending_since", _TIME),
        sa.Column("seen_at", _TIME),
        sa.Column("checked_at", _TIME),
        sa.Column("asked_run_id", _KEY, nullable=False, server_default="0"),
        sa.Column("http_status", sa.Integer()),
        sa.Column("code", sa.String(length=200)),
        sa.Column("request_id", sa.String(length=200)),
        sa.Column("incident_id", _KEY),
        sa.PrimaryKeyConstraint("target", "item_id", name=op.f("pk_items")),
    )
    member = sa.text("incident_id IS NOT NULL")
    op.create_index("ix_items_incident_id", "items", ["incident_id"], sqlite_where=member, postgresql_where=member)
    op.create_index(op.f("ix_items_target_checked_at"), "items", ["target", "checked_at"])
    op.create_index(op.f("ix_items_target_state"), "items", ["target", "state"])
    due = sa.text("(known_state IS NULL OR known_state <> 'completed') AND removed_at IS NULL AND ignored_at IS NULL")
    op.create_index(
        "ix_items_due", "items", ["target", "asked_run_id", "item_id"], sqlite_where=due, postgresql_where=due
    )


def _item_events() -> None:
    op.create_table(
        "item_events",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("item_id", sa.String(length=512), nullable=False),
        sa.Column("run_id", _KEY, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("old", sa.String(length=200)),
        sa.Column("new", sa.String(length=200)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_item_events")),
    )
    op.create_index(op.f("ix_item_events_target_item_id_at"), "item_events", ["target", "item_id", "at"])


def _notifications() -> None:
    op.create_table(
        "notifications",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("incident_id", _KEY, nullable=False),
        sa.Column("channel", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("message", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("next_attempt_at", _TIME, nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("claimed_by", sa.String(length=200)),
        sa.Column("claimed_until", _TIME),
        sa.Column("sent_at", _TIME),
        sa.Column("last_error", sa.String(length=500)),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["incidents.id"], name=op.f("fk_notifications_incident_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
        sa.UniqueConstraint("key", name=op.f("uq_notifications_key")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_notifications_incident_id_channel"), "notifications", ["incident_id", "channel"])
    op.create_index(op.f("ix_notifications_status_next_attempt_at"), "notifications", ["status", "next_attempt_at"])
