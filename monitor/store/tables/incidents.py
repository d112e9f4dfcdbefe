"""Incidents, their lives, and the silences that keep messages about them back."""

from sqlalchemy import JSON, Column, ForeignKey, Index, Integer, String, Table, text

from monitor.store.columns import Key, UtcDateTime
from monitor.store.tables.naming import metadata

__all__ = ["incident_events", "incidents", "silences"]

incidents = Table(
    "incidents",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("target", String(200), nullable=False),
    Column("environment", String(200), nullable=False),
    Column("cause", String(40), nullable=False),
    Column("state", String(20), nullable=False),  # IncidentState
    Column("severity", String(20), nullable=False),
    Column("team", String(20), nullable=False),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("first_evidence_at", UtcDateTime, nullable=False),
    Column("last_evidence_at", UtcDateTime, nullable=False),
    Column("acknowledged_at", UtcDateTime),
    Column("resolved_at", UtcDateTime),
    Column("last_message_at", UtcDateTime),
    Column("member_count", Integer, nullable=False, server_default="0"),
    Column("peak_count", Integer, nullable=False, server_default="0"),
    Column("untold_count", Integer, nullable=False, server_default="0"),  # members that no message has named yet
    Column("channels", JSON, nullable=False),
    Column("evidence_id", Key),  # the newest evidence
    Column("group_name", String(200), nullable=False, server_default=text("''")),  # part of the key; empty: all
    Column("acknowledged_by", String(200)),
    Column("silence_id", Key),  # the silence that keeps its opening back; null once it was told
    # One open incident per key, kept by the database itself.
    Index(
        "uq_incidents_open",
        "target",
        "cause",
        "group_name",
        unique=True,
        sqlite_where=text("state <> 'resolved'"),
        postgresql_where=text("state <> 'resolved'"),
    ),
    sqlite_autoincrement=True,
)

incident_events = Table(
    "incident_events",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("incident_id", Key, ForeignKey("incidents.id", ondelete="CASCADE"), nullable=False),
    Column("run_id", Key),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", String(20), nullable=False),
    # opened, joined, left, updated, reminded, acknowledged, silenced, told, reopened, resolved
    Column("reason", String(500), nullable=False),
    Column("data", JSON, nullable=False),
    Index(None, "incident_id", "at"),
)

silences = Table(
    "silences",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("matchers", JSON, nullable=False),  # attribute to glob patterns, as in a route
    Column("starts_at", UtcDateTime, nullable=False),
    Column("ends_at", UtcDateTime, nullable=False),  # moved forward when it is ended early
    Column("comment", String(500), nullable=False),
    Column("author", String(200), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expired_by", String(200)),  # who ended it early
    Index(None, "ends_at"),
    sqlite_autoincrement=True,
)
"""What keeps messages back for a while; a silence is never deleted, so that it can be told why nobody was told."""
