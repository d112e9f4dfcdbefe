"""The tables of reports: what the last one on each target covered, which scheduled ones were made, and the totals of
runs for counters.
"""

from sqlalchemy import JSON, Column, Float, String, Table

from monitor.database.tables import Key, UtcDateTime
from monitor.database.tables import metadata as metadata  # noqa: PLC0414  # for `sync_tables`, where it is complete

reports = Table(
    "reports",
    metadata,
    Column("target", String(200), primary_key=True),  # empty: incidents that belong to no configured target
    Column("generated_at", UtcDateTime, nullable=False),
    Column("last_run_id", Key, nullable=False),  # the newest finished run it covered; 0: none
    Column("last_incident_event_id", Key, nullable=False),
)
"""What the last report on each target covered: the next one shows what changed since."""

digests = Table(
    "digests",
    metadata,
    Column("environment", String(200), primary_key=True),
    Column("due_at", UtcDateTime, primary_key=True),
    Column("run_key", String(200), nullable=False),  # of the schedule at that time
    Column("created_at", UtcDateTime, nullable=False),
    Column("channels", JSON, nullable=False),  # that it was put into the outbox for; empty: the schedule began here
)
"""The scheduled reports: one row per environment and due time, so that of several daemons only one sends it."""

run_totals = Table(
    "run_totals",
    metadata,
    Column("target", String(200), primary_key=True),
    Column("name", String(20), primary_key=True),  # what is counted: see `runs/totals.py`
    Column("label", String(20), primary_key=True),  # such as the status of the runs; empty: none
    Column("total", Float, nullable=False),
)
"""All runs that ever ended, for counters: they never fall, though old runs are pruned."""
