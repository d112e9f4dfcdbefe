"""Ids from the user's sync log, any table or view in SQLite or PostgreSQL: read-only, in batches, closed at the end.

It judges no id: null, blank and repeated ones come out as they stand there.
"""

from monitor.synclog.connection import SyncLogSpec
from monitor.synclog.reader import read, verify

__all__ = ["SyncLogSpec", "read", "verify"]
