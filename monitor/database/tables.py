"""The tables of the database. The view over two of them is in `history_view.py`."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    and_,
    literal_column,
    text,
)
from sqlalchemy.engine import Dialect

from monitor.model import IncidentState, ItemState, RunStatus

Key = BigInteger().with_variant(Integer, "sqlite")
"""SQLite assigns ids only to INTEGER PRIMARY KEY."""


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes in and out: `timestamptz` on PostgreSQL, readable UTC text on SQLite; ValueError if naive."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        """For SQLite the same text as SQLAlchemy's type, at a fifth of the cost."""
        return sqlite_timestamp if dialect.name == "sqlite" else super().bind_processor(dialect)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        """UTC, whatever the session's time zone."""
        return _from_sqlite_timestamp if dialect.name == "sqlite" else super().result_processor(dialect, coltype)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  # SQLAlchemy's signature
        """To UTC."""
        return to_utc(value)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  # SQLAlchemy's signature
        """To UTC."""
        return None if value is None else value.astimezone(UTC)


def to_utc(value: datetime | None) -> datetime | None:
    """An aware datetime in UTC. Raises ValueError if it is naive."""
    if value is None or value.tzinfo is UTC:
        return value
    if value.tzinfo is None:
        raise ValueError("only aware datetimes are stored")
    return value.astimezone(UTC)


def sqlite_timestamp(value: datetime | None) -> str | None:
    """An aware datetime as stored in SQLite: UTC with microseconds, no offset. Raises ValueError if it is naive."""
    utc = to_utc(value)
    return None if utc is None else utc.isoformat(" ", "microseconds")[:26]


@lru_cache(maxsize=1024)  # the items of a run share their times
def _from_sqlite_timestamp(value: str | None) -> datetime | None:
    # a sixth of the cost of `replace(tzinfo=UTC)`
    return None if value is None else datetime.fromisoformat(f"{value}+00:00")


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index on the rows that meet a condition, for queries that hold the same text (`complete_for_postgresql`)."""
    return Index(name, *columns, unique=unique, sqlite_where=text(where))


def complete_for_postgresql() -> None:
    """Gives partial indexes their condition on PostgreSQL too, for what compares these tables or creates them.

    Not at import: naming an option of PostgreSQL loads all its drivers' dialects, 4% of a command's start.
    """
    for index in (each for table in metadata.tables.values() for each in table.indexes):
        index.dialect_options["postgresql"]["where"] = index.dialect_options["sqlite"]["where"]


notifications = Table(
    "notifications",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("key", String(64), nullable=False, unique=True),  # Idempotency-Key: the same on every attempt
    Column("incident_id", Key, ForeignKey("incidents.id", ondelete="CASCADE")),  # null: a report
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
    Column("cause", String(40), nullable=False, server_default=text("''")),  # of its incident; merged ones share it
    Column("batch", String(64)),  # key of the batch it was last sent in; null: none, or the batch was rejected
    Column("thread", String(64)),  # batch of its opening: receivers group by it
    Column("superseded_by", Key),  # the later notification that replaces this one
    Column("retried_at", UtcDateTime),  # by `notifications retry`: its day starts again
    Column("died_at", UtcDateTime),
    Index(None, "status", "next_attempt_at"),
    Index(None, "incident_id", "channel"),
    Index(None, "channel", "id"),
    partial_index("ix_notifications_thread", "thread", where="thread IS NOT NULL"),
    sqlite_autoincrement=True,
)

channels = Table(
    "channels",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("suspended_at", UtcDateTime),  # null: not suspended
    Column("fingerprint", String(64)),  # of the rejected settings: changed settings are tried at once
    Column("blocked_until", UtcDateTime),  # after a failure, for all messages of the channel
    Column("failures", Integer, nullable=False, server_default="0"),  # in a row
    Column("failing_since", UtcDateTime),
    Column("last_error", String(500)),
    Column("resent_at", UtcDateTime),  # when open incidents were last sent again, to receivers that expire them
)
"""State of channels: suspended, waiting after a failure, or healthy. A channel that never failed has no row."""


INCIDENT_IS_OPEN = "state <> 'resolved'"
"""Exactly the condition of the index of open incidents: with a parameter instead, databases read all incidents."""

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
    Column("unnotified_count", Integer, nullable=False, server_default="0"),  # members not in any message yet
    Column("channels", JSON, nullable=False),
    Column("evidence_id", Key),  # the newest evidence
    Column(
        "group_name", String(200), nullable=False, server_default=text("''")
    ),  # part of the key; empty: whole target
    Column("acknowledged_by", String(200)),
    Column("silence_id", Key),  # the silence of its opening; null once that was sent
    Column("accepted", Boolean),  # whether the API accepted anything in the run that opened it; null: not known
    # at most one open incident per key
    partial_index("uq_incidents_open", "target", "cause", "group_name", unique=True, where=INCIDENT_IS_OPEN),
    Index(None, "target", "id"),
    Index(None, "target", "resolved_at"),  # open ones, and those that resolved lately
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
    # opened, joined, left, updated, reminded, acknowledged, silenced, notified, reopened, resolved
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
    Column("ends_at", UtcDateTime, nullable=False),  # set to the time when it is expired early
    Column("comment", String(500), nullable=False),
    Column("author", String(200), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expired_by", String(200)),  # who expired it early
    Index(None, "ends_at"),
    sqlite_autoincrement=True,
)
"""Silences are never deleted, so that it can be explained later why no message was sent."""


ITEM_IS_DUE = "(known_state IS NULL OR known_state <> 'completed') AND removed_at IS NULL AND ignored_at IS NULL"
"""Items that every run checks, by their last known state: an outage makes no finished items due. Queries must use the
same text, by which databases find the partial index."""

ITEM_IS_COMPLETED = "known_state = 'completed' AND removed_at IS NULL AND ignored_at IS NULL"
"""Tracked items last known as completed, some of which each run asks about. The same text, as above."""

ITEM_IS_INACTIVE = "(removed_at IS NOT NULL OR ignored_at IS NOT NULL)"
"""Items that are neither counted nor checked. The same text, as above."""

_IS_NOT_COMPLETED_NOW = "state <> 'completed' AND removed_at IS NULL AND ignored_at IS NULL"

ITEM_IS_UNVERIFIED = "unverified_runs > 0"
"""Items that every run asks about last: the API can't answer for them, but for others. The same text, as above."""

CANARY_IS_PENDING = "clean_up = 'pending'"
"""Canaries whose document may still be there."""

items = Table(
    "items",
    metadata,
    Column("target", String(200), primary_key=True),
    Column("item_id", String(512), primary_key=True),
    Column("group_name", String(200)),
    Column("submitted_at", UtcDateTime),  # from the sync log; null if missing or in the future
    Column("first_seen_at", UtcDateTime, nullable=False),  # when the id was first seen in the sync log
    Column("removed_at", UtcDateTime),  # when it left the sync log: neither counted nor checked
    Column("ignored_at", UtcDateTime),
    Column("ignore_reason", String(500)),
    Column("state", String(20), nullable=False),  # ItemState as of the last run
    Column("reason", String(40)),  # a request Cause or Reason while unknown
    Column("known_state", String(20)),  # the last state but `unknown`; null before the first
    Column("stage", String(200)),  # the provider's raw status, last known
    Column("recognised", Boolean, nullable=False, server_default=text("true")),
    Column("since", UtcDateTime),  # when known_state began, as observed
    Column("pending_since", UtcDateTime),  # start for `stuck`: upload, or return to pending
    Column("seen_at", UtcDateTime),  # last readable 200
    Column("checked_at", UtcDateTime),  # last answer about it
    Column("asked_run_id", Key, nullable=False, server_default="0"),  # last run with an outcome for it; 0: none
    Column("http_status", Integer),
    Column("code", String(200)),
    Column("request_id", String(200)),
    Column("incident_id", Key),  # the item incident it belongs to
    Column("regressed_at", UtcDateTime),  # when it went from completed to pending; null once it left pending
    Column("page", String(200)),  # title of a gateway's page that was the last answer
    Column("unverified_runs", Integer, nullable=False, server_default="0"),  # runs in a row without an answer, its own
    Column("failure_reason", String(60)),  # the provider's code, or a phrase, for a failed item
    Column("failure_message", String(500)),  # the provider's text about it: only for `items show`, `incidents show`
    Column("params", Text),  # path parameters of its row in the sync log, as a JSON object; null: none
    Column("indexed_at", UtcDateTime),  # when it was first seen completed; null also before revision 0013
    # outcomes are written for every item: one that says completed is in the second of these alone. SQLite reads a row
    # for what a condition names and the index lacks, so some have columns that are always null
    partial_index(
        "ix_items_state", "target", "state", "known_state", "removed_at", "ignored_at", where=_IS_NOT_COMPLETED_NOW
    ),
    partial_index("ix_items_completed", "target", "asked_run_id", where=ITEM_IS_COMPLETED),
    partial_index(
        "ix_items_completed_groups",
        *("target", "group_name", "state", "stage", "known_state", "removed_at", "ignored_at"),
        where=ITEM_IS_COMPLETED,
    ),
    partial_index("ix_items_inactive", "target", "removed_at", "ignored_at", where=ITEM_IS_INACTIVE),
    partial_index("ix_items_due", "target", "asked_run_id", "item_id", where=ITEM_IS_DUE),
    partial_index("ix_items_unverified", "target", "item_id", where=ITEM_IS_UNVERIFIED),
    partial_index("ix_items_incident_id", "incident_id", where="incident_id IS NOT NULL"),
)

item_events = Table(
    "item_events",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("target", String(200), nullable=False),
    Column("item_id", String(512), nullable=False),
    Column("run_id", Key, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", String(20), nullable=False),  # state, stage, removed, returned, ignored, unignored
    Column("old", String(200)),
    Column("new", String(200)),
    Index(None, "target", "item_id"),
    Index(None, "target", "run_id"),  # changes of a run, and of all runs since another
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
"""The built-in sync log, for targets without one: `items import` writes it, runs read it."""


leases = Table(
    "leases",
    metadata,
    Column("target", String(200), primary_key=True),
    Column("holder", String(200)),  # host:pid; null: released
    Column("epoch", Integer, nullable=False),  # fencing token, higher with each acquisition
    Column("acquired_at", UtcDateTime),
    Column("expires_at", UtcDateTime),
)

schedules = Table(
    "schedules",
    metadata,
    Column("target", String(200), primary_key=True),
    Column("name", String(200), nullable=False),  # the first part of its run keys
    Column("known_since", UtcDateTime, nullable=False),  # start of the first run under this schedule
)
"""Since when a daemon or an explicit [schedule] keeps a target: no run was missed before that."""

canaries = Table(
    "canaries",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("target", String(200), nullable=False),
    Column("environment", String(200), nullable=False),
    Column("run_key", String(200)),  # of a scheduled one
    Column("epoch", Integer, nullable=False),
    Column("name", String(200), nullable=False),  # unique, stored before the upload: the document is found by it
    Column("marker", String(200), nullable=False),  # the word that must come back
    Column("item_id", String(512)),  # null: the upload was not answered (yet)
    Column("kept", Text),  # further values of the upload's answers, as a JSON object
    Column("status", String(20), nullable=False),  # CanaryStatus
    Column("slow", Boolean, nullable=False, server_default=text("false")),  # indexing took longer than slow_after
    Column("slow_after_s", Float, nullable=False),
    Column("stage", String(200)),  # the document's last status, as the API spells it
    Column("upload_s", Float),  # durations of the steps that ended well
    Column("index_s", Float),
    Column("retrieve_s", Float),
    Column("clean_up_s", Float),
    Column("failed_step", String(20)),  # Step
    Column("http_status", Integer),
    Column("code", String(200)),  # the API's, or ours
    Column("reason", String(500)),  # in our own words
    Column("request_id", String(200)),
    Column("clean_up", String(20), nullable=False),  # CleanUp
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("cleaned_at", UtcDateTime),  # null: the document may still be there
    Index(None, "target", "status", "id"),
    Index(None, "target", "finished_at"),
    Index(None, "target", "item_id"),  # its documents are no items
    Index(None, "target", "run_key"),
    partial_index("ix_canaries_pending", "target", "id", where=CANARY_IS_PENDING),
    sqlite_autoincrement=True,
)  # fmt: skip
"""Documents of the monitor's own that were uploaded, waited for, retrieved and deleted."""

throttles = Table(
    "throttles",
    metadata,
    Column("key", String(64), primary_key=True),  # hash of origin and credential
    Column("origin", String(500), nullable=False),  # scheme://host:port, for messages
    Column("not_before", UtcDateTime),  # no requests before this time
    Column("status", Integer),  # HTTP status of the reply that asked for it
    Column("code", String(200)),  # its error code
    Column("rate_per_s", Float),  # accepted requests per second; null: no limit seen
    Column("concurrency", Float),  # accepted requests in flight; null: no limit seen
    Column("down", Boolean, nullable=False),  # the breaker was open at the end
    Column("updated_at", UtcDateTime, nullable=False),  # of all but not_before
)
"""Learned limits of an API by origin and credential, shared by targets and later runs."""

WAIT_IS_RUNNING = "result IS NULL"
"""Exactly the condition of the index of waits in progress."""

waits = Table(
    "waits",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("target", String(200), nullable=False),
    Column("environment", String(200), nullable=False),
    Column("holder", String(200), nullable=False),  # host:pid
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("alive_until", UtcDateTime, nullable=False),  # renewed while it goes on, by the clock of leases
    Column("timeout_s", Float, nullable=False),  # its budget
    Column("duration_s", Float, nullable=False, server_default="0"),
    Column("result", String(20)),  # WaitResult; null while it goes on
    Column("cause", String(40)),  # of what was not settled: the Cause of the last failure
    Column("asked", Integer, nullable=False),  # the ids that it was given
    Column("completed", Integer, nullable=False, server_default="0"),
    Column("failed", Integer, nullable=False, server_default="0"),
    Column("missing", Integer, nullable=False, server_default="0"),
    Column("invalid", Integer, nullable=False, server_default="0"),
    Column("pending", Integer, nullable=False, server_default="0"),  # not settled at its end
    Column("unknown", Integer, nullable=False, server_default="0"),  # nothing was found out about them
    Column("requests", Integer, nullable=False, server_default="0"),
    Index(None, "target", "started_at"),
    partial_index("ix_waits_running", "alive_until", where=WAIT_IS_RUNNING),
    CheckConstraint(
        "result IS NULL OR asked = completed + failed + missing + invalid + pending + unknown", name="asked_is_sum"
    ),
    sqlite_autoincrement=True,
)  # fmt: skip
"""Waits for items to be settled. No lease, and no row of an item, is theirs."""

wait_totals = Table(
    "wait_totals",
    metadata,
    Column("target", String(200), primary_key=True),
    Column("result", String(20), primary_key=True),
    Column("le_s", Integer, primary_key=True),  # upper bound of the duration; 0: longer than the last bound
    Column("waits", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
)
"""All waits that ever ended, for counters: they never fall, though old waits are pruned."""


runs = Table(
    "runs",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("target", String(200), nullable=False),
    Column("environment", String(200), nullable=False),
    Column("run_key", String(200)),
    Column("epoch", Integer, nullable=False),
    Column("status", String(20), nullable=False),  # RunStatus
    Column("abort_reason", String(40)),  # of partial and aborted runs: a Cause, deadline or interrupted
    Column("owner_cause", String(40)),  # its highest-ranked request cause
    # items to check, without quarantined ids and items with a trouble of their own
    Column("due", Integer, nullable=False, server_default="0"),
    Column("answered", Integer, nullable=False, server_default="0"),  # items that the API itself replied about
    Column("error", String(2000)),  # why the run has no snapshot
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column(
        "throttle_factor", Float, nullable=False, server_default="1"
    ),  # share of rate and concurrency of the next run
    Column("accepted", Integer),  # answers that show that the credentials are accepted; null before revision 0006
    Index(None, "target", "started_at"),
    Index(None, "target", "run_key"),
    Index(None, "target", "status", "id"),  # the newest runs of a target, also of a rare status: see `lookups.py`
    # ids are never reused
    sqlite_autoincrement=True,
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("total", Integer, nullable=False),
    Column("checked", Integer, nullable=False),
    *(Column(state.value, Integer, nullable=False) for state in ItemState),
    Column("stuck", Integer, nullable=False),
    Column("requests", Integer, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("latency_p50_ms", Float),
    Column("latency_p95_ms", Float),
    Column("duration_s", Float, nullable=False),
    CheckConstraint(f"total = {' + '.join(ItemState)}", name="total_is_sum"),
    CheckConstraint("stuck <= pending", name="stuck_is_pending"),
)


def _history_per(name: str) -> Table:
    """A table of rollups of `history`: the last row of each period, then sums and extremes over the period."""
    return Table(
        name,
        metadata,
        Column("target", String(200), primary_key=True),
        Column("starts_at", UtcDateTime, primary_key=True),  # runs belong to the period in which they started
        # the last run of the period that has a snapshot, with its snapshot; null: there is none
        Column("run_id", Key),
        Column("environment", String(200)),
        Column("run_key", String(200)),
        Column("started_at", UtcDateTime),
        Column("finished_at", UtcDateTime),
        Column("status", String(20)),
        Column("abort_reason", String(40)),
        *(
            Column(each.name, Float() if isinstance(each.type, Float) else Integer())
            for each in snapshots.c
            if each.name != "run_id"
        ),
        # over all runs of the period
        *(
            Column(f"runs_{status.value}", Integer, nullable=False)
            for status in RunStatus
            if status is not RunStatus.RUNNING
        ),
        Column("total_sum", BigInteger, nullable=False),  # with `unknown_sum`: the unknown share
        Column("unknown_sum", BigInteger, nullable=False),
        Column("requests_sum", BigInteger, nullable=False),
        Column("retries_sum", BigInteger, nullable=False),
        Column("duration_sum_s", Float, nullable=False),
        Column("completed_min", Integer),
        *(Column(f"{state}_max", Integer) for state in ROLLED_UP_MAXIMA),
        Column("latency_p95_max_ms", Float),
        sqlite_with_rowid=False,
    )


ROLLED_UP_MAXIMA = (*(state.value for state in ItemState if state is not ItemState.COMPLETED), "stuck")
"""Counts whose highest value in a period is kept."""
history_hourly = _history_per("history_hourly")
history_daily = _history_per("history_daily")
"""Hours and days in UTC. Never pruned."""

time_to_indexed = Table(
    "time_to_indexed",
    metadata,
    Column("target", String(200), primary_key=True),
    Column("slot_s", Integer, primary_key=True, autoincrement=False),  # width of the slot in seconds; 0: all time
    Column("starts_at", UtcDateTime, primary_key=True),  # of the slot in which the items were uploaded
    Column("group_name", String(200), primary_key=True, server_default=text("''")),  # empty: without a group
    # uploads by upper bound of their bucket in ms, as a JSON object; -1: no known time, -2: failed, left the sync log
    Column("buckets", Text, nullable=False),
    Column("indexed", Integer, nullable=False),  # uploads with a known time
    Column("sum_s", Float, nullable=False),  # of the times of these uploads, in seconds
    sqlite_with_rowid=False,  # rows lie in the order of the key, in which they are read
)
"""Histograms of the time from upload to the first `completed`. An upload is in a slot of each width that is kept; weeks
are kept for good."""

slowest_uploads = Table(
    "slowest_uploads",
    metadata,
    Column("target", String(200), primary_key=True),
    Column("starts_at", UtcDateTime, primary_key=True),  # of the day (UTC) of the upload
    Column("item_id", String(512), primary_key=True),
    Column("group_name", String(200)),
    Column("took_s", Float, nullable=False),
    Column("indexed_at", UtcDateTime, nullable=False),
    sqlite_with_rowid=False,
)
"""The few uploads of each day that took the longest to be indexed, for reports. Never pruned."""

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
    Column("api_message", String(1000)),  # the API's own message: only for `incidents show`
    Column("inhibited_by", String(40)),
    Column("group_name", String(200), nullable=False, server_default=text("''")),  # empty: the whole target
    Column("page", String(200)),  # the title of a gateway's page: only for `incidents show`
    Column("gateway", JSON),  # its headers server, via, x-request-id
    Column("facts", JSON),  # pairs of label and value, in our own words
    UniqueConstraint("run_id", "cause", "group_name"),
    Index(None, "target", "cause", "at"),
)


def active() -> tuple[ColumnElement[bool], ...]:
    """The conditions of a tracked item: neither removed nor ignored."""
    return items.c.removed_at.is_(None), items.c.ignored_at.is_(None)


def is_open() -> tuple[ColumnElement[bool], ...]:
    """The conditions of an open incident of a target: the first is looked up in the index on targets and ends."""
    return incidents.c.resolved_at.is_(None), incidents.c.state != IncidentState.RESOLVED.value


def in_state(*states: ItemState) -> ColumnElement[bool]:
    """The condition of an item in one of these states, none of which is completed, looked up in the index of these."""
    # as it stands in the index, and not as a parameter: else databases read all items
    not_completed = items.c.state != literal_column("'completed'")
    return and_(not_completed, items.c.state.in_([state.value for state in states]))


def stuck(since: datetime | ColumnElement[datetime]) -> ColumnElement[bool]:
    """The condition of an item that has been pending since before a time."""
    return and_(in_state(ItemState.PENDING), items.c.pending_since < since)
