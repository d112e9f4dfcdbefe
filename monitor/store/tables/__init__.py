"""The tables of our own database, the same on SQLite and PostgreSQL. Migrations create them; this describes them.

`items` is the work list and the last known truth of each item; `snapshots` (through the view `history`) is what
reports read; `incidents` and `notifications` carry what people are told. All times are UTC.
"""

from monitor.store.tables.delivery import channels, notifications
from monitor.store.tables.incidents import incident_events, incidents, silences
from monitor.store.tables.items import ITEM_IS_DUE, item_events, items, tracked_items
from monitor.store.tables.keeping import leases, reports, throttles
from monitor.store.tables.naming import metadata
from monitor.store.tables.runs import HISTORY_VIEW, evidence, runs, snapshots

__all__ = [
    "HISTORY_VIEW",
    "ITEM_IS_DUE",
    "channels",
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
    "silences",
    "snapshots",
    "throttles",
    "tracked_items",
]
