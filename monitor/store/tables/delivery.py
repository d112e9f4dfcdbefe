"""The outbox, and how its channels are."""

from sqlalchemy import JSON, Column, ForeignKey, Index, Integer, String, Table, text

from monitor.store.columns import Key, UtcDateTime
from monitor.store.tables.naming import metadata

__all__ = ["channels", "notifications"]

notifications = Table(
    "notifications",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("key", String(64), nullable=False, unique=True),  # Idempotency-Key: the same on every attempt
    Column("incident_id", Key, ForeignKey("incidents.id", ondelete="CASCADE"), nullable=False),
    Column("channel", String(200), nullable=False),
    Column("kind", String(20), nullable=False),  # MessageKind
    Column("message", JSON, nullable=False),
    Column("status", String(20), nullable=False),  # due, sent, superseded, dead
    Column("created_at", UtcDateTime, nullable=False),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("claimed_by", String(200)),
    Column("claimed_until", UtcDateTime),
    Column("sent_at", UtcDateTime),
    Column("last_error", String(500)),
    Column("cause", String(40), nullable=False, server_default=text("''")),  # of its incident: what is merged has one
    Column("batch", String(64)),  # key under which it was last sent together with others; null: none, or surely refused
    Column("thread", String(64)),  # batch of the opening that this is about: what a receiver files it under
    Column("superseded_by", Key),  # the later notification that told of this one too
    Column("retried_at", UtcDateTime),  # somebody asked for it anew: its day begins there
    Column("died_at", UtcDateTime),
    Index(None, "status", "next_attempt_at"),
    Index(None, "incident_id", "channel"),
    sqlite_autoincrement=True,
)

channels = Table(
    "channels",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("parked_at", UtcDateTime),  # the receiver refused us then; null: not parked
    Column("fingerprint", String(64)),  # of the settings that were refused: others are tried at once
    Column("blocked_until", UtcDateTime),  # one failure speaks for all of its messages
    Column("failures", Integer, nullable=False, server_default="0"),  # in a row
    Column("failing_since", UtcDateTime),
    Column("last_error", String(500)),
    Column("refreshed_at", UtcDateTime),  # when what is open was last told again, to receivers that forget
)
"""How the channels are: parked, waiting after a failure, or well. One that never failed has no row."""
