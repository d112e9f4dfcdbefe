"""Logs of a pipeline that a test changes, and targets that are synced with them, also by copying the whole log."""

import itertools
import sqlite3
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta

import psycopg
from sqlalchemy import event, insert, select
from support.syncing import sync_worklist

from monitor.database import leases
from monitor.database.engine import reading, writing
from monitor.database.sync_tables import sync_log_pages
from monitor.database.tables import canaries, item_events, items
from monitor.runs.sync import Sync
from monitor.synclog import LogStart, SyncLogSpec, read, read_file_state, read_pages
from monitor.synclog.validation import MAX_SAMPLES, MAX_TIME_SAMPLES

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
numbers = itertools.count()

SERVER = "a server"
ROWS = "CREATE TABLE log (id TEXT, at TEXT, grp TEXT, upd);"
LAYOUTS = {
    "rollback mode": (ROWS, "log"),
    "WAL mode": (f"PRAGMA journal_mode = WAL; {ROWS}", "log"),
    "numbered": ("CREATE TABLE log (n INTEGER PRIMARY KEY, id TEXT, at TEXT, grp TEXT, upd)", "log"),
    "a view": (f"PRAGMA journal_mode = WAL; {ROWS} CREATE VIEW seen AS SELECT * FROM log", "seen"),
}


class Log:
    """A pipeline's table in a SQLite file. `stamp` is the value that each write leaves in the column `upd`."""

    key = "rowid"
    stamp = None

    def __init__(self, path, layout):
        creation, table = LAYOUTS[layout]
        self.path = path
        self._conn = sqlite3.connect(path, isolation_level=None)
        self._conn.executescript(creation)
        self.spec = SyncLogSpec(
            url=f"sqlite:///{path}", table=table, id_column="id", submitted_at_column="at", group_column="grp"
        )

    def stamped(self, **more):
        """The log, with `upd` as its `updated_at_column`."""
        self.spec = replace(self.spec, updated_at_column="upd", **more)
        return self

    def execute(self, sql, *values):
        return self._conn.execute(sql, values).fetchall()

    def add(self, item_id, hours=None, group=None):
        self.insert(item_id, at(hours), group)

    def insert(self, *row):
        self.execute("INSERT INTO log (id, at, grp, upd) VALUES (?, ?, ?, ?)", *row, self.stamp)

    def update(self, column, value, number):
        self.execute(f"UPDATE log SET {column} = ?, upd = ? WHERE {self.key} = ?", value, self.stamp, number)

    def rows(self):
        return self.execute(f"SELECT {self.key}, id, at, grp FROM log ORDER BY {self.key}")

    def close(self):
        self._conn.close()


class PostgresLog(Log):
    """A pipeline's table on a server."""

    key = "n"

    def __init__(self, url, kind="timestamptz"):
        self._conn = psycopg.connect(url, autocommit=True)
        self._conn.execute(
            f"DROP TABLE IF EXISTS log; CREATE TABLE log (n serial, id text, at timestamptz, grp text, upd {kind})"
        )
        self.spec = SyncLogSpec(
            url=url, table="log", id_column="id", submitted_at_column="at", group_column="grp", timezone="UTC"
        )

    def execute(self, sql, *values):
        found = self._conn.execute(sql.replace("?", "%s"), [None if value == "\x00" else value for value in values])
        return found.fetchall() if found.description else []


def at(hours):
    return None if hours is None else (NOW + hours * HOUR).isoformat()


@dataclass
class Target:
    """A target whose log is synced with its own clock, and what was read of it."""

    engine: object
    log: Log
    name: str = field(default_factory=lambda: f"target {next(numbers)}")
    epoch: int = 0
    run_id: int = 0
    read: int = 0
    """Rows that became entries in the last sync."""
    rows: int = 0
    """Rows that it looked at."""
    opened: int = 0
    doubts: list = field(default_factory=list)
    """For each time that it opened the log, why all pages were compared; None: they were not."""

    def __post_init__(self):
        with writing(self.engine) as conn:
            self.epoch = leases.acquire(conn, target=self.name, holder="h:1", now=NOW, ttl=1000 * HOUR)

    def sync(self, now=NOW, *, whole=False, **more):
        self.run_id += 1
        options = {"target": self.name, "epoch": self.epoch, "run_id": self.run_id, "now": now, **more}
        if whole:
            return sync_worklist(self.engine, batches=read(self.log.spec), **options)
        self.read = self.opened = self.rows = 0
        self.doubts = []
        return Sync(
            engine=self.engine,
            read_pages=lambda known, since: self._pages(known, since, more.get("earliest")),
            read_file_state=lambda: read_file_state(self.log.spec),
            **options,
        )()

    def _pages(self, known, since, earliest):
        self.opened += 1
        for page in read_pages(self.log.spec, known=known, since=since, merged_as=(earliest,)):
            if isinstance(page, LogStart):
                self.doubts.append(page.doubt)
            else:
                self.read += len(page.entries or ())
                self.rows += page.rows
            yield page

    def stored(self):
        of_item = items.c.target == self.name
        columns = (items.c.item_id, items.c.submitted_at, items.c.group_name, items.c.removed_at, items.c.first_seen_at)
        happened = select(item_events.c.item_id, item_events.c.kind, item_events.c.at)
        with reading(self.engine) as conn:
            rows = conn.execute(select(*columns).where(of_item).order_by(items.c.item_id)).all()
            events = conn.execute(happened.where(item_events.c.target == self.name)).all()
        return [tuple(row) for row in rows], sorted(tuple(row) for row in events)

    def pages(self):
        with reading(self.engine) as conn:
            return conn.execute(select(sync_log_pages).where(sync_log_pages.c.target == self.name)).all()

    def add_canary(self, item_id):
        values = {
            "environment": "e",
            "epoch": 1,
            "name": f"{self.name} {item_id} {next(numbers)}",
            "marker": "m",
            "status": "ok",
        }
        times = {"started_at": NOW, "slow_after_s": 1.0, "clean_up": "done"}
        with writing(self.engine) as conn:
            known = {each.name for each in canaries.c}
            given = {key: value for key, value in (values | times).items() if key in known}
            conn.execute(insert(canaries).values(target=self.name, item_id=item_id, **given))


def change(log, targets, what, *values):
    """One change of the log, or a canary."""
    if what == "add":
        return log.add(*values)
    if what == "empty":
        return log.execute("DELETE FROM log")
    if what == "vacuum":
        return log.execute("VACUUM")
    if what == "canary":
        return [each.add_canary(values[0]) for each in targets]
    rows = log.rows()
    if not rows:
        return None
    rowid, *row = rows[values[0] % len(rows)]
    if what in {"delete", "move"}:
        log.execute(f"DELETE FROM log WHERE {log.key} = ?", rowid)
        if what == "move":
            log.insert(*row)
        return None
    column, value = {"rename": "id", "date": "at", "group": "grp"}[what], values[1]
    if value == row[["id", "at", "grp"].index(column)]:
        return None  # on PostgreSQL it would only move the row behind others with its id
    return log.update(column, at(value) if what == "date" else value, rowid)


class CutError(Exception):
    """Ends a sync between two statements."""


def cut(target, now, number, **options):
    """A sync that ends before its nth statement; whether it did."""
    left = itertools.count(number, -1)

    def end(*_):
        if next(left) == 0:
            raise CutError

    event.listen(target.engine, "before_cursor_execute", end)
    try:
        target.sync(now, **options)
    except CutError:
        return True
    finally:
        event.remove(target.engine, "before_cursor_execute", end)
    return False


def comparable(report, layout):
    """A report for a comparison. On a server rows may come in another order each time: there samples are sorted, or,
    if there may be more of them, counted.
    """
    found = asdict(report)
    if layout != SERVER:
        return found
    samples = {name: value for name, value in found.items() if isinstance(value, tuple)}
    full = {name: MAX_TIME_SAMPLES if name.endswith("_times") else MAX_SAMPLES for name in samples}
    return found | {name: sorted(v) if len(v) < full[name] else len(v) for name, v in samples.items()}
