"""The work list with the last known truth of each item, its events, and the built-in sync log."""

from sqlalchemy import Boolean, Column, Index, Integer, String, Table, text

from monitor.store.columns import Key, UtcDateTime
from monitor.store.tables.naming import metadata

__all__ = ["ITEM_IS_DUE", "item_events", "items", "tracked_items"]

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
