"""Sync logs that real tools wrote: `tests/synclog/fixtures/NAME.sql`, and beside each what the tool was given.

`make sync-logs` writes them.
"""

import contextlib
import json
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import select

from monitor.app import App
from monitor.config import load_config
from monitor.database import leases
from monitor.database.engine import reading, writing
from monitor.database.schema import ensure
from monitor.database.tables import items
from monitor.model import SyncReport
from monitor.runs.sync import Sync

FOLDER = Path(__file__).resolve().parents[1] / "synclog/fixtures"

TARGET = {
    "name": "engine",
    "provider": "generic",
    "base_url": "https://engine.test",
    "item": {"path": "/documents/{item_id}", "status": "status"},
    "statuses": {"completed": ["done"]},
}
PRECISION = timedelta(milliseconds=1)
WRITTEN = datetime(2026, 11, 30, tzinfo=UTC)
"""No fixture is older."""


@dataclass(frozen=True, kw_only=True)
class Fixture:
    """One table as a tool wrote it."""

    name: str
    tool: str
    version: str
    database: str
    server_timezone: str
    stores: str
    sync_log: dict
    """The settings that read it, without the URL."""
    refused: str | None
    """What the monitor says if it can't read such a log."""
    given: list

    @classmethod
    def read(cls, name):
        return cls(name=name, **json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))

    @property
    def times(self):
        """Id → the times between which the upload was; once if it is exact."""
        return {row["id"]: [datetime.fromisoformat(time) for time in row["times"]] for row in self.given}


def all_fixtures():
    return [Fixture.read(path.stem) for path in sorted(FOLDER.glob("*.json"))]


def load_fixture(fixture, url):
    """Fills an empty database."""
    script = (FOLDER / f"{fixture.name}.sql").read_text(encoding="utf-8")
    if fixture.database == "postgresql":
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(script)
    else:
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as conn:
            conn.executescript(script)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a run makes of a sync log."""

    items: dict
    """Id → (upload time, group)."""
    report: SyncReport


def read_fixture(fixture, url, folder):
    """Reads a loaded fixture as a run does, with its settings as a user would write them, into a database of ours."""
    config = load_config(
        environ={},
        overrides={
            "database": f"sqlite:///{folder / 'monitor.db'}",
            "targets": [{**TARGET, "sync_log": {"url": url, **fixture.sync_log}}],
        },
    )
    (target,) = config.targets
    now = max(time for times in fixture.times.values() for time in (*times, WRITTEN)) + timedelta(days=1)
    app = App(config=config, engine=ensure(config.database.reveal()))
    try:
        with writing(app.engine) as conn:
            epoch = leases.acquire(conn, target=target.name, holder="h:1", now=now, ttl=timedelta(hours=1))
        report = Sync(
            engine=app.engine,
            target=target.name,
            epoch=epoch,
            run_id=1,
            read_pages=lambda known, since: app.read_pages(target, known, since=since),
            now=now,
            earliest=target.sync_log.duplicates == "earliest",
        )()
        with reading(app.engine) as conn:
            rows = conn.execute(select(items.c.item_id, items.c.submitted_at, items.c.group_name)).all()
    finally:
        app.engine.dispose()
    return Reading(items={row.item_id: (row.submitted_at, row.group_name) for row in rows}, report=report)


def wrong_ids(fixture, found):
    """The ids that are missing or too many."""
    return set(fixture.times) ^ set(found.items)


def wrong_times(fixture, found):
    """Id → upload time, where that is not what the tool was given; equal to the ms if it is exact."""
    wrong = {}
    for item_id, times in fixture.times.items():
        at, _ = found.items.get(item_id, (None, None))
        if not times:
            right = at is None
        elif at is None:
            right = False
        else:
            right = times[0] - PRECISION <= at <= times[-1] + PRECISION
        if not right:
            wrong[item_id] = at
    return wrong


def set_server_zone(url, zone):
    """What the server's own time zone is, for every new connection to this database."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(sql.SQL("ALTER DATABASE {} SET timezone = {}").format(sql.Identifier(conn.info.dbname), zone))
