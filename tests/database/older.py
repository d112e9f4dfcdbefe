"""Databases at older revisions with rows in every table, and the rows after a migration."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import JSON, Boolean, DateTime, Float, Integer, LargeBinary, MetaData, String, inspect, select, text
from support.samples import NOW

from monitor.database import schema
from monitor.database.engine import connect, reading
from monitor.database.migrate import migration_transaction

ROWS = 7
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
RENAMED = {
    "runs": {"slot": "run_key", "restraint": "throttle_factor"},
    "evidence": {"explained_by": "inhibited_by"},
    "incidents": {"untold_count": "unnotified_count"},
    "channels": {"parked_at": "suspended_at", "refreshed_at": "resent_at"},
    "reports": {"made_at": "generated_at"},
}
"""Columns of older revisions, and their present names."""
_STATES = {"status": "sent", "state": "resolved", "known_state": "failed", "kind": "opened", "cause": "outage"}
_PER_TABLE = {("runs", "status"): "complete", ("incidents", "state"): "open", ("notifications", "status"): "due"}


def revisions():
    return schema._revisions()


def bring_to(url, revision, *, rows=ROWS, overwrite=None):
    """Upgrades to a revision and fills every table; returns the rows by table.

    `overwrite` has values for the first rows of some tables.
    """
    with migration_transaction(url) as conn:
        command.upgrade(_config(conn), revision)
        for table in _tables(conn).sorted_tables:
            values = [_row(table, number) for number in range(1, rows + 1)]
            for row, changes in zip(values, (overwrite or {}).get(table.name, ()), strict=False):
                row.update(changes)
            conn.execute(table.insert(), values)
    return stored(url)


def move_to(url, revision):
    """Downgrades to a revision."""
    with migration_transaction(url) as conn:
        command.downgrade(_config(conn), revision)


def _config(conn):
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = conn
    return config


def stored(url):
    """All rows of all tables, each as a dictionary, in the order of their keys."""
    engine = connect(url)
    with reading(engine) as conn:
        found = {
            table.name: [dict(row) for row in conn.execute(select(table).order_by(*table.primary_key)).mappings()]
            for table in _tables(conn).sorted_tables
        }
    engine.dispose()
    return found


def in_old_shape(before, after):
    """The stored rows, with the old names of tables and columns."""
    return {
        table: [{name: row[_now(table, name, row)] for name in rows[0]} for row in _by_bucket(after[table], rows)]
        if rows
        else after[table]
        for table, rows in before.items()
    }


def _by_bucket(rows, before):
    """A row per bucket of the histograms, as they were until revision 0018."""
    if "le_ms" not in before[0]:
        return rows
    pairs = [(row, pair) for row in rows for pair in json.loads(row["buckets"]).items()]
    return [row | {"le_ms": int(bound), "uploads": count} for row, (bound, count) in pairs]


def _now(table, name, row):
    return name if name in row else RENAMED[table][name]


def in_utc(rows):
    """The rows with aware times: SQLite's are naive here."""
    times = ("starts_at",)
    return [row | {name: row[name].replace(tzinfo=row[name].tzinfo or UTC) for name in times} for row in rows]


def version(url):
    engine = connect(url)
    try:
        return schema.current(engine).current
    finally:
        engine.dispose()


def fingerprint(url):
    """A text that is equal for equal rows."""
    return json.dumps(stored(url), default=str, sort_keys=True)


def history_rows(url):
    engine = connect(url)
    try:
        with reading(engine) as conn:
            return conn.scalar(text("SELECT count(*) FROM history"))
    finally:
        engine.dispose()


def history_columns(url):
    engine = connect(url)
    try:
        with reading(engine) as conn:
            return [column["name"] for column in inspect(conn).get_columns("history")]
    finally:
        engine.dispose()


def _tables(conn):
    metadata = MetaData()
    metadata.reflect(conn)
    metadata.remove(metadata.tables["ingestion_monitor_version"])
    return metadata


def _row(table, number):
    if table.name == "snapshots":
        return {**{column.name: number for column in table.c}, "total": 6 * number, "run_id": number}
    if table.name == "waits":  # the parts of `asked` are `number` each
        return {column.name: _value(table, column, number) for column in table.c} | {"asked": 6 * number}
    if table.name == "time_to_indexed":  # weeks, which are kept for good, of Mondays
        row = {column.name: _value(table, column, number) for column in table.c}
        counts = {"buckets": json.dumps({number: number}), "indexed": number} if "buckets" in row else {}
        return row | {"slot_s": 604_800, "starts_at": MONDAY + timedelta(weeks=number)} | counts
    return {column.name: _value(table, column, number) for column in table.c}


def _value(table, column, number):
    fixed = _PER_TABLE.get((table.name, column.name)) or _STATES.get(column.name)
    if fixed and isinstance(column.type, String):
        return fixed
    match column.type:
        case LargeBinary():
            return b"\x00\xff"
        case JSON():
            return {"number": number, "text": "naïve “quotes” 日本"} if number % 2 else [number, None]
        case Boolean():
            return number % 2 == 0
        case Float():
            return number / 2
        case Integer():
            return number
        case DateTime():
            return None if column.nullable and number % 3 == 0 else NOW + timedelta(seconds=number, microseconds=number)
        case String():
            return None if column.nullable and number % 3 == 0 else f"{column.name}-{number}-é"
    raise AssertionError(column)
