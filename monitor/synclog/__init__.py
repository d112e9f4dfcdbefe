"""Reads ids from the user's sync log, a table or view in SQLite or PostgreSQL; read-only and in batches.

`builtin` is the monitor's own sync log, filled by `import_file`. `ids` and `timestamps` read the forms of other tools;
`validation` checks what was read.
"""

from monitor.synclog.connection import SyncLogSpec
from monitor.synclog.reader import read, verify
from monitor.synclog.server import LogFacts, describe

__all__ = ["LogFacts", "SyncLogSpec", "describe", "read", "verify"]
