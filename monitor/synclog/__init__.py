"""Ids from the user's sync log, any table or view in SQLite or PostgreSQL: read-only, in batches, closed at the end.

It judges no id: null, blank and repeated ones come out as they stand there.
"""

from monitor.synclog.reading import read, verify
from monitor.synclog.spec import SyncLogSpec

__all__ = ["SyncLogSpec", "read", "verify"]
