"""Reads ids from the user's sync log, a table or view in SQLite or PostgreSQL; read-only and in batches.

`builtin` is the monitor's own sync log, filled by `import_file`. `ids` and `timestamps` read the forms of other tools;
`validation` checks what was read.
"""

from monitor.synclog.connection import SyncLogSpec
from monitor.synclog.file_state import read_file_state
from monitor.synclog.pages import Known, LogPage, LogStart, Watermark, whole_log
from monitor.synclog.reader import read, read_pages, verify
from monitor.synclog.server import LogFacts, describe

__all__ = [
    "Known",
    "LogFacts",
    "LogPage",
    "LogStart",
    "SyncLogSpec",
    "Watermark",
    "describe",
    "read",
    "read_file_state",
    "read_pages",
    "verify",
    "whole_log",
]
