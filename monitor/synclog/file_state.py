"""What changes whenever a SQLite file is written, so that a log in a file that nobody wrote is not read again."""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import text

from monitor.database.sqlite_files import JOURNAL, WAL
from monitor.database.urls import is_sqlite, parse
from monitor.synclog.catalog import resolve_table
from monitor.synclog.connection import SyncLogSpec, connect_read_only
from monitor.synclog.pages import seed

SETTLED_S = 2.0
"""A file system's clock ticks every few milliseconds, at worst every two seconds: a younger time may stay the same."""
_WAL_HEADER_SIZE = 32
_IS_VIRTUAL = text("SELECT 1 FROM sqlite_master WHERE name = :table AND sql LIKE 'CREATE VIRTUAL%'")


def read_file_state(spec: SyncLogSpec, *, merged_as: Sequence[object] = ()) -> str | None:
    """The state of a log's file, with all settings; while it is the same, so are the rows.

    It has the inode, size and times of the file and of what lies beside it, where every commit is written to one of
    them. None if it may say too little: a server's log, a view (which may ask for the time), a virtual table, or a file
    written in the last two seconds. `merged_as` is as for `read_pages`. Raises SyncLogError if the log can't be opened.
    """
    url = parse(spec.url)
    if not is_sqlite(url):
        return None
    real = os.path.realpath(str(url.database))
    found = {suffix: _stat(f"{real}{suffix}") for suffix in ("", JOURNAL, WAL)}
    now_ns = time.time_ns()
    written = [each.st_mtime_ns for each in found.values() if each is not None]
    if found[""] is None or not all(at <= now_ns - SETTLED_S * 1e9 for at in written):
        return None
    files: list[object] = [
        each and (each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns) for each in found.values()
    ]
    # for root SQLite sets the owner of a -wal that it opens, which changes its ctime: its salts say as much
    files += [found[""].st_ctime_ns, _first_bytes(f"{real}{WAL}")]
    with connect_read_only(spec) as conn:
        resolved = resolve_table(conn, spec)
        if resolved.rowid is None or conn.scalar(_IS_VIRTUAL, {"table": resolved.table}) is not None:
            return None
    settings = {name: value for name, value in asdict(spec).items() if name != "url"}
    return seed(sorted(settings.items()), files, *merged_as).hex()


def _stat(path: str) -> os.stat_result | None:
    try:
        return Path(path).stat()
    except FileNotFoundError:
        return None


def _first_bytes(path: str) -> bytes:
    """The header of a WAL, which names its content (sqlite.org/fileformat2.html); empty if there is none."""
    try:
        with Path(path).open("rb") as opened:
            return opened.read(_WAL_HEADER_SIZE)
    except FileNotFoundError:
        return b""
