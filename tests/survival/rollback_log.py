"""Measures how long the pipeline waits when it writes to a sync log in rollback-journal mode while it is read.

In that mode no writer can commit while somebody reads.
"""

import contextlib
import multiprocessing
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from monitor.synclog import SyncLogSpec, read

TABLES = {
    "table": "CREATE TABLE sync_log (item_id TEXT, uploaded_at TEXT)",
    "table without rowid": "CREATE TABLE sync_log (item_id TEXT PRIMARY KEY, uploaded_at TEXT) WITHOUT ROWID",
    "view": "CREATE TABLE uploads (item_id TEXT, uploaded_at TEXT)",
}
BETWEEN_S = 0.002
"""From one commit of the writer to its next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How long a writer waited, in milliseconds, without a reader and while the log was read."""

    kind: str
    rows: int
    read_s: float
    commits: int
    alone_ms: float
    """The longest commit."""
    while_read_ms: float


def measure(folder, kind, rows, *, slowly_s=0.0):
    """Reads a log while another process writes to it.

    Args:
        folder: for the file.
        kind: one of `TABLES`.
        rows: the number of rows of the log.
        slowly_s: how long the consumer of the rows needs for each batch, in seconds.
    """
    path = Path(folder) / f"{kind.replace(' ', '_')}.db"
    _filled(path, kind, rows)
    spec = SyncLogSpec(url=f"sqlite:///{path}", table="sync_log", id_column="item_id")
    with _writer(path, kind) as commits:
        time.sleep(0.5)
        alone = commits()
        started_s = time.monotonic()
        for _batch in read(spec):
            time.sleep(slowly_s)
        read_s = time.monotonic() - started_s
        while_read = commits()
    return Waits(
        kind=kind,
        rows=rows,
        read_s=read_s,
        commits=len(while_read),
        alone_ms=1000 * max(alone),
        while_read_ms=1000 * max(while_read, default=read_s),
    )


def _filled(path, kind, rows):
    with contextlib.closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("PRAGMA journal_mode=DELETE")
        conn.execute(TABLES[kind])
        if kind == "view":
            conn.execute("CREATE VIEW sync_log AS SELECT * FROM uploads")
        values = ((f"0f8fad5b-d9cb-469f-a165-{n:012d}", "2026-03-01T03:00:00Z") for n in range(rows))
        conn.executemany(f"INSERT INTO {_table(kind)} VALUES (?, ?)", values)


def _table(kind):
    return "uploads" if kind == "view" else "sync_log"


@contextlib.contextmanager
def _writer(path, kind):
    """Another process that commits one row after the other; yields a function for the times since the last call."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_write, args=(str(path), kind, theirs))
    process.start()
    theirs.close()
    ours.recv()

    def commits():
        ours.send("more")
        return ours.recv()

    try:
        yield commits
    finally:
        ours.send("end")
        process.join(timeout=30)
        process.close()
        ours.close()


def _write(path, kind, pipe):
    took, number = [], 0
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as conn:
        conn.execute("PRAGMA synchronous=OFF")  # do not measure the disk
        pipe.send("begun")
        while True:
            number += 1
            started_s = time.monotonic()
            conn.execute(f"INSERT INTO {_table(kind)} VALUES (?, ?)", (f"new-{number:09d}", None))
            took.append(time.monotonic() - started_s)
            time.sleep(BETWEEN_S)
            if pipe.poll():
                if pipe.recv() == "end":
                    return
                pipe.send(took)
                took = []


def lines(folder, rows=1_000_000):
    """The figures, as lines."""
    for kind in TABLES:
        waits = measure(folder, kind, rows)
        yield (
            f"{waits.kind}, {waits.rows:,} rows read in {waits.read_s:.1f} s: the writer's longest commit "
            f"{waits.while_read_ms:.0f} ms of {waits.commits} (alone: {waits.alone_ms:.0f} ms)"
        )
