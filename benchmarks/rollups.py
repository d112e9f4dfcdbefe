"""What a report over a year costs out of the rollups: `python benchmarks/rollups.py [--targets N] [--groups N]`.

A SQLite file with a year of five-minute runs of 20 targets and the uploads of 5 groups each. Printed: how long the
upgrade takes that rolls up such a past, then the parts of `report --since 365d` over all targets, out of the rollups
and out of the single runs, and again after the runs of all but the last 31 days were pruned.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, delete, insert, text

from monitor.database import schema
from monitor.database.engine import connect, reading, writing
from monitor.database.migrate import migration_transaction
from monitor.database.tables import runs, time_to_indexed
from monitor.reports import changes, trends
from monitor.reports.formatting import spans
from monitor.reports.indexing import indexing_report
from monitor.rollups.bounds import BOUNDS_MS, KEPT, SLOTS, slot_start

NOW = datetime.now(UTC).replace(microsecond=0)
YEAR, EVERY = timedelta(days=365), timedelta(minutes=5)
ROUNDS = 3
GOAL_MS = 100
"""Of a report over a year of one target; of 20, what a person waits for."""
_BEFORE_ROLLUPS = "0010"
_NUMBERS = "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :runs - 1) SELECT i FROM n)"
_AT = "strftime('%Y-%m-%d %H:%M:%f000', :now, '-' || ((:runs - i) / :targets * 300) || ' seconds')"
_RUNS = f"""INSERT INTO runs (id, target, environment, epoch, status, due, answered, started_at, finished_at)
SELECT i + 1, 't' || (i % :targets), 'bench', 0, 'complete', 20, 20, {_AT}, {_AT} FROM {_NUMBERS}"""  # noqa: S608  # our own names
_SNAPSHOTS = "INSERT INTO snapshots SELECT id, 20, 20, 20, 0, 0, 0, 0, 0, 0, 20, 0, 1, 1, 1 FROM runs"


def _fill(url: str, targets: int) -> float:
    """Runs of a year, as of before the rollups, and the upgrade; returns its seconds."""
    with migration_transaction(url) as conn:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = conn
        command.upgrade(config, _BEFORE_ROLLUPS)
    engine = connect(url)
    with writing(engine) as conn:
        values = {"runs": YEAR // EVERY * targets, "targets": targets, "now": NOW.strftime("%Y-%m-%d %H:%M:%S")}
        conn.execute(text(_RUNS), values)
        conn.execute(text(_SNAPSHOTS))
    engine.dispose()
    began_s = time.monotonic()
    schema.upgrade(url)
    return time.monotonic() - began_s


def _uploads(target: str, groups: int) -> Iterator[dict[str, object]]:
    """The histograms of a year: up to 40 buckets in use per group and slot, as wide as their age makes them."""
    at, rand = NOW - YEAR, random.Random(target)  # noqa: S311  # no secret
    while at < NOW:
        age = NOW - at
        width = SLOTS[sum(age > kept for kept in KEPT)]
        for group in range(groups):
            for bound in rand.sample(BOUNDS_MS[60:160], 40 if width >= SLOTS[2] else 3):
                yield {
                    "target": target, "slot_s": int(width.total_seconds()), "starts_at": slot_start(at, width),
                    "group_name": f"group-{group}", "le_ms": bound, "uploads": 7, "sum_s": bound / 200,
                }  # fmt: skip
        at += width


def _best_ms(work: Callable[[Connection], object], url: str) -> float:
    took, engine = [], connect(url)
    for _ in range(ROUNDS):
        with reading(engine) as conn:
            began_s = time.perf_counter()
            work(conn)
            took.append((time.perf_counter() - began_s) * 1000)
    engine.dispose()
    return min(took)


def _of_each(conn: Connection, *, part: Callable[[Connection, str], object], names: list[str]) -> None:
    for name in names:
        part(conn, name)


def _measure(url: str, names: list[str]) -> None:
    since, bounds = NOW - YEAR, tuple(spans(NOW - YEAR, NOW))
    parts: dict[str, Callable[[Connection, str], object]] = {
        "trend: last snapshot of each span": lambda conn, name: trends.snapshot_samples(
            conn, target=name, bounds=bounds
        ),
        "runs by status, out of the rollups": lambda conn, name: changes.count_runs_since(
            conn, target=name, after=0, since=since, now=NOW
        ),
        "runs by status, one by one": lambda conn, name: changes.count_runs(conn, target=name, after=0),
        "time to indexed: all, groups, spans": lambda conn, name: indexing_report(
            conn, target=name, bounds=bounds, limit=15
        ),
    }
    print(f"{'part':<40}{'one target':>12}{f'{len(names)} targets':>12}")
    for title, part in parts.items():
        one = _best_ms(partial(_of_each, part=part, names=names[:1]), url)
        every = _best_ms(partial(_of_each, part=part, names=names), url)
        print(f"{title:<40}{one:>9.1f} ms{every:>9.1f} ms", flush=True)


def main() -> None:
    """Fills a file and prints what the parts of a report cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=20)
    parser.add_argument("--groups", type=int, default=5, help="of each target")
    options = parser.parse_args()
    names = [f"t{number}" for number in range(options.targets)]
    with tempfile.TemporaryDirectory(prefix="monitor-rollups-") as folder:
        url = f"sqlite:///{folder}/monitor.db"
        took_s = _fill(url, options.targets)
        print(f"upgrade that rolls up {YEAR // EVERY * options.targets:,} runs: {took_s:.0f} s", flush=True)
        engine = connect(url)
        with writing(engine) as conn:
            for name in names:
                conn.execute(insert(time_to_indexed), list(_uploads(name, options.groups)))
            conn.exec_driver_sql("ANALYZE")
        _measure(url, names)
        with writing(engine) as conn:
            conn.execute(delete(runs).where(runs.c.started_at < NOW - timedelta(days=31)))
        engine.dispose()
        print("after pruning:")
        _measure(url, names)
        print(f"goal: a report on one target {GOAL_MS} ms")


if __name__ == "__main__":
    main()
