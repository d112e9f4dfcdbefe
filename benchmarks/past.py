"""A year of runs in a database, with their rollups and times to indexed as such a year leaves them."""

import importlib.util
import random
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, inspect, text, update

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.samples import message
from support.statements import analyse
from support.years import GROWING, Years

from monitor.database.engine import connect, writing
from monitor.database.tables import incidents, slowest_uploads
from monitor.rollups.bounds import BOUNDS_MS, KEPT, SLOTS, slot_start

__all__ = ["LONG_INCIDENT", "fill", "indexes_set_aside", "make_indexes"]

EVERY = timedelta(minutes=1)
RUNS_PER_INCIDENT = 1_000
LONG_INCIDENT = 1_000_000
"""The id of an incident that lasted for the whole past; the others ended after half a minute."""
GROUPS, FEW_BUCKETS, BUCKETS, DENSE, SLOWEST_PER_DAY = 5, 3, 40, 60, 5
"""Groups of the first target (the others have one); buckets in use in slots of minutes or an hour, and in longer ones;
in any slot of the second target, whose uploads are dense."""
_CLONE = Path(__file__).parent.parent


def fill(url: str, names: Sequence[str], runs: int) -> None:
    """So many one-minute runs (> 0) of each target until now, in a migrated database without runs.

    Indexes are made afterwards.
    """
    engine, end = connect(url, statement_timeout_s=None), datetime.now(UTC)
    past = Years(
        targets=tuple(names),
        runs=runs,
        end=end,
        events_per_run=0,
        runs_per_incident=RUNS_PER_INCIDENT,
        first_id=LONG_INCIDENT,
        message=msgspec.json.encode(message()).decode(),
        rollups=False,
    )
    with writing(engine) as conn:
        indexes = indexes_set_aside(conn)
        past.fill(conn)
        make_indexes(conn, indexes)
        whole = update(incidents).where(incidents.c.id == LONG_INCIDENT)
        conn.execute(whole.values(last_evidence_at=end, resolved_at=end))
        _roll_up(conn, names)
        for number, name in enumerate(names):
            _count(conn, name, list(_uploads(name, end, runs * EVERY, number)))
            conn.execute(insert(slowest_uploads), list(_slowest(name, end, runs * EVERY)))
    with writing(engine) as conn:
        analyse(conn)
    engine.dispose()


def indexes_set_aside(conn: Connection) -> list[str]:
    """Drops the indexes of tables that grow, and returns the statements that make them."""
    if conn.dialect.name == "sqlite":
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN ({})"
    else:
        query = (
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema AND tablename IN ({}) "
            "AND indexname NOT IN (SELECT conname FROM pg_constraint)"
        )
    found = conn.execute(text(query.format(", ".join(f"'{name}'" for name in GROWING)))).all()
    for name, _ in found:
        conn.exec_driver_sql(f'DROP INDEX "{name}"')
    return [sql for _, sql in found]


def make_indexes(conn: Connection, statements: Sequence[str]) -> None:
    """Makes indexes again."""
    for statement in statements:
        conn.exec_driver_sql(statement)


def _roll_up(conn: Connection, names: Sequence[str]) -> None:
    """As the revision does that made the rollups of a past without any."""
    revision = vars(_revision("0013_rollups"))
    for name in names:
        for table, period in revision["_TABLES"].items():
            conn.execute(text(revision["_past"](table, period, conn.dialect.name)), {"target": name})


def _revision(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, _CLONE / "migrations" / "versions" / f"{name}.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"there is no revision {name}")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def _count(conn: Connection, target: str, rows: Sequence[dict[str, Any]]) -> None:
    """Inserts histograms in the shape of the database: before revision 0018 it has a row per bucket."""
    revision = vars(_revision("0018_slots_of_every_width"))
    if "le_ms" in {column["name"] for column in inspect(conn).get_columns("time_to_indexed")}:
        conn.execute(insert(revision["_rows_of_buckets"]("time_to_indexed")), rows)
    else:
        found = [{"target": target, **row} for row in revision["_in_every_width"](rows)]
        conn.execute(insert(revision["_rows_of_slots"]("time_to_indexed")), found)


def _uploads(target: str, end: datetime, length: timedelta, number: int) -> Iterator[dict[str, Any]]:
    """Histograms of uploads in every slot, each as wide as its age makes it, of the target of this number."""
    at, rand = end - length, random.Random(target)  # noqa: S311  # repeatable, not secret
    groups, is_dense = (GROUPS if number == 0 else 1), number == 1
    while at < end:
        age = end - at
        width = SLOTS[sum(age > kept for kept in KEPT)]
        for group in range(groups):
            few = DENSE if is_dense else FEW_BUCKETS
            for bound in rand.sample(BOUNDS_MS[60:160], max(few, BUCKETS) if width >= SLOTS[2] else few):
                yield {
                    "target": target, "slot_s": int(width.total_seconds()), "starts_at": slot_start(at, width),
                    "group_name": f"group-{group}", "le_ms": bound, "uploads": 7, "sum_s": bound / 200,
                }  # fmt: skip
        at += width


def _slowest(target: str, end: datetime, length: timedelta) -> Iterator[dict[str, object]]:
    rand = random.Random(target)  # noqa: S311  # as above
    for day in range(max(1, length.days)):
        at = slot_start(end, timedelta(days=1)) - timedelta(days=day)
        for number in range(SLOWEST_PER_DAY):
            yield {"target": target, "starts_at": at, "item_id": f"{day}-{number}", "took_s": 60 + rand.random() * 900,
                   "indexed_at": at}  # fmt: skip
