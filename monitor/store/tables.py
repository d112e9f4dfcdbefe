"""The tables of our own database, the same on SQLite and PostgreSQL. Migrations create them; this describes them.

`items` is the work list and the last known truth of each item; `snapshots` (through the view `history`) is what
reports read; `incidents` and `notifications` carry what people are told. All times are UTC.
"""

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)

from monitor.store.columns import Key, UtcDateTime

__all__ = [
    "HISTORY_VIEW",
    "ITEM_IS_DUE",
    "evidence",
    "incident_events",
    "incidents",
    "item_events",
    "items",
    "leases",
    "metadata",
    "notifications",
    "reports",
    "runs",
    "snapshots",
    "throttles",
    "tracked_items",
]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

leases = Table(
    "leases",
    metadata,
    Column("target", String(200), primary_key=True),
    Column("holder", String(200)),  # host:pid; null when released
    Column("epoch", Integer, nullable=False),  # grows with every acquisition: the fencing token
    Column("acquired_at", UtcDateTime),
    Column("expires_at", UtcDateTime),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("target", String(200), nullable=False),
    Column("environment", String(200), nullable=False),
    Column("slot", String(200)),
    Column("epoch", Integer, nullable=False),
    Column("status", String(20), nullable=False),  # RunStatus
    Column("abort_reason", String(40)),  # a Cause, or deadline/interrupted
    Column("owner_cause", String(40)),  # the highest-ranked request cause of the run
    Column("due", Integer, nullable=False, server_default="0"),  # items to ask about; quarantined ids are not
    Column("answered", Integer, nullable=False, server_default="0"),  # of them, those that got a reply
    Column("error", String(2000)),  # why the run has no snapshot, in our own words
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Index(None, "target", "started_at"),
    Index(None, "target", "slot"),
    # ids are what people type and what foreign keys hold: never handed out twice
    sqlite_autoincrement=True,
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("total", Integer, nullable=False),
    Column("checked", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("pending", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("not_found", Integer, nullable=False),
    Column("invalid", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
    Column("stuck", Integer, nullable=False),
    Column("requests", Integer, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("latency_p50_ms", Float),
    Column("latency_p95_ms", Float),
    Column("duration_s", Float, nullable=False),
    CheckConstraint("total = completed + pending + failed + not_found + invalid + unknown", name="total_is_sum"),
    CheckConstraint("stuck <= pending", name="stuck_is_pending"),
)

HISTORY_VIEW = """
CREATE VIEW history AS
SELECT r.id AS run_id, r.target, r.environment, r.slot, r.started_at, r.finished_at, r.status, r.abort_reason,
       s.total, s.checked, s.completed, s.pending, s.failed, s.not_found, s.invalid, s.unknown, s.stuck,
       s.requests, s.retries, s.latency_p50_ms, s.latency_p95_ms, s.duration_s
FROM runs r JOIN snapshots s ON s.run_id = r.id
"""

evidence = Table(
    "evidence",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("target", String(200), nullable=False),
    Column("cause", String(40), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("count", Integer, nullable=False),
    Column("breakdown", JSON, nullable=False),
    Column("sample_ids", JSON, nullable=False),
    Column("request_ids", JSON, nullable=False),
    Column("code", String(200)),
    Column("api_message", String(1000)),  # the API's raw words: `incidents show` alone reads them
    Column("explained_by", String(40)),
    UniqueConstraint("run_id", "cause"),
    Index(None, "target", "cause", "at"),
)

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
    # One open incident per key, kept by the database itself.
    Index(
        "uq_incidents_open",
        "target",
        "cause",
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
    Column("kind", String(20), nullable=False),  # opened, joined, left, updated, reminded, reopened, resolved
    Column("reason", String(500), nullable=False),
    Column("data", JSON, nullable=False),
    Index(None, "incident_id", "at"),
)

ITEM_IS_DUE = "(known_state IS NULL OR known_state <> 'completed') AND removed_at IS NULL AND ignored_at IS NULL"
"""Every run asks about these. It rests on what was found out last: an outage must not make finished items due. Queries
repeat it to the letter: it is how databases recognise the index that has only these rows."""

items = Table(
    "items",
    metadata,
    Column("target", String(200), primary_key=True),
    Column("item_id", String(512), primary_key=True),
    Column("group_name", String(200)),
    Column("submitted_at", UtcDateTime),  # from the sync log; null when it does not say or lies in the future
    Column("first_seen_at", UtcDateTime, nullable=False),  # when the id was first read from the sync log
    Column("removed_at", UtcDateTime),  # it left the sync log: neither counted nor checked
    Column("ignored_at", UtcDateTime),
    Column("ignore_reason", String(500)),
    Column("state", String(20), nullable=False),  # ItemState as of the last run
    Column("reason", String(40)),  # Reason while unknown
    Column("known_state", String(20)),  # last state that was found out; null before the first
    Column("stage", String(200)),  # the provider's raw status, last known
    Column("recognised", Boolean, nullable=False, server_default=text("true")),
    Column("since", UtcDateTime),  # when known_state began, as far as seen
    Column("pending_since", UtcDateTime),  # what `stuck` counts from: upload, or the return to pending
    Column("seen_at", UtcDateTime),  # last time the API showed the item (a readable 200)
    Column("checked_at", UtcDateTime),  # last time the API said anything about it
    Column("asked_run_id", Key, nullable=False, server_default="0"),  # last run that has an outcome for it; 0: none
    Column("http_status", Integer),
    Column("code", String(200)),
    Column("request_id", String(200)),
    Column("incident_id", Key),  # the item incident that it belongs to
    Column("regressed_at", UtcDateTime),  # when it went back from completed to pending; null once it left pending
    Index(None, "target", "state"),
    Index(None, "target", "checked_at"),
    Index("ix_items_due", "target", "asked_run_id", "item_id",
          sqlite_where=text(ITEM_IS_DUE), postgresql_where=text(ITEM_IS_DUE)),
    Index("ix_items_incident_id", "incident_id", sqlite_where=text("incident_id IS NOT NULL"),
          postgresql_where=text("incident_id IS NOT NULL")),
)  # fmt: skip

item_events = Table(
    "item_events",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("target", String(200), nullable=False),
    Column("item_id", String(512), nullable=False),
    Column("run_id", Key, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", String(20), nullable=False),  # state, stage, removed, returned
    Column("old", String(200)),
    Column("new", String(200)),
    Index(None, "target", "item_id", "at"),
    Index(None, "run_id"),  # what one run changed, and all runs since another
)

tracked_items = Table(
    "tracked_items",
    metadata,
    Column("target", String(200), primary_key=True),
    Column("item_id", String(512), primary_key=True),
    Column("submitted_at", UtcDateTime),
    Column("group_name", String(200)),
    Column("added_at", UtcDateTime, nullable=False),
)
"""The built-in sync log, for targets that name none of their own: `items import` writes it, a run only reads it."""

throttles = Table(
    "throttles",
    metadata,
    Column("key", String(64), primary_key=True),  # names origin and credential, and gives neither away
    Column("origin", String(500), nullable=False),  # scheme://host:port, for people
    Column("not_before", UtcDateTime),  # the server said to come back no sooner; past: nothing holds anybody back
    Column("status", Integer),  # HTTP status of the answer that said so
    Column("code", String(200)),  # its error code
    Column("rate_per_s", Float),  # requests per second that it takes; null: no limit was met
    Column("concurrency", Float),  # requests in flight that it takes; null: no limit was met
    Column("down", Boolean, nullable=False),  # the breaker was open at the end
    Column("updated_at", UtcDateTime, nullable=False),  # when all but the hint was learned
)
"""What clients learned about an API, by origin and credential: targets on one key and later runs share it."""

reports = Table(
    "reports",
    metadata,
    Column("target", String(200), primary_key=True),  # empty: incidents that belong to none of the configured targets
    Column("made_at", UtcDateTime, nullable=False),
    Column("last_run_id", Key, nullable=False),  # the target's newest finished run that it told of; 0: none
    Column("last_incident_event_id", Key, nullable=False),
)
"""When a report on a target was read last, and how far it told: the next one tells what changed since."""

notifications = Table(
    "notifications",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("key", String(64), nullable=False, unique=True),  # Idempotency-Key: the same on every attempt
    Column("incident_id", Key, ForeignKey("incidents.id", ondelete="CASCADE"), nullable=False),
    Column("channel", String(200), nullable=False),
    Column("kind", String(20), nullable=False),  # MessageKind
    Column("message", JSON, nullable=False),
    Column("status", String(20), nullable=False),  # due, sent, dead
    Column("created_at", UtcDateTime, nullable=False),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("claimed_by", String(200)),
    Column("claimed_until", UtcDateTime),
    Column("sent_at", UtcDateTime),
    Column("last_error", String(500)),
    Index(None, "status", "next_attempt_at"),
    Index(None, "incident_id", "channel"),
    sqlite_autoincrement=True,
)
