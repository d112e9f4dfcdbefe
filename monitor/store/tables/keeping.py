"""What processes leave for each other: leases, what clients learned, how far reports told."""

from sqlalchemy import Boolean, Column, Float, Integer, String, Table

from monitor.store.columns import Key, UtcDateTime
from monitor.store.tables.naming import metadata

__all__ = ["leases", "reports", "throttles"]

leases = Table(
    "leases",
    metadata,
    Column("target", String(200), primary_key=True),
    Column("holder", String(200)),  # host:pid; null when released
    Column("epoch", Integer, nullable=False),  # grows with every acquisition: the fencing token
    Column("acquired_at", UtcDateTime),
    Column("expires_at", UtcDateTime),
)

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
