"""Reads ids from the user's sync log, a table or view in SQLite or PostgreSQL; read-only and in batches.

`builtin` is the monitor's own sync log, filled by `import_file`. Ids are unchanged; `validation` checks them.
"""

from monitor.synclog.catalog import may_hide_rows
from monitor.synclog.connection import SyncLogSpec
from monitor.synclog.reader import read, verify

__all__ = ["SyncLogSpec", "may_hide_rows", "read", "verify"]
