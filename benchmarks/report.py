"""Time of the query for the charts of `report` over a year of one-minute snapshots: `python benchmarks/report.py
[--runs N]`.

On a SQLite file with 525,600 runs of one target, beside fetching all rows of `history` and picking the same points.
"""

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from monitor.database.engine import reading
from monitor.database.schema import ensure
from monitor.reports.formatting import spans
from monitor.reports.trends import snapshot_samples
from monitor.runs.store import history

GOAL_MS = 100
ROUNDS = 5
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_RUN = (
    "INSERT INTO runs (id, target, environment, epoch, status, started_at, finished_at)"
    " VALUES (?, 'year', 'bench', 1, ?, ?, ?)"
)
_SNAPSHOT = "INSERT INTO snapshots VALUES (?, 1000, 1000, ?, 0, ?, 0, 0, 0, 0, 1000, 0, 20.0, 80.0, 30.0)"


def _fill(path: Path, count: int) -> None:
    times = [(NOW - timedelta(minutes=count - 1 - n)).strftime("%Y-%m-%d %H:%M:%S.000000") for n in range(count)]
    with sqlite3.connect(path) as conn:
        conn.executemany(_RUN, ((n, "complete", at, at) for n, at in enumerate(times, 1)))
        conn.executemany(_SNAPSHOT, ((n, 1000 - n % 7, n % 7) for n in range(1, count + 1)))
    conn.close()


def _best_ms(work: Callable[[], object], rounds: int) -> float:
    took = []
    for _ in range(rounds):
        started_s = time.perf_counter()
        work()
        took.append((time.perf_counter() - started_s) * 1000)
    return min(took)


def main() -> None:
    """Measures both and prints them beside the goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=365 * 24 * 60)
    count = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "monitor.db")
        engine = ensure(f"sqlite:///{path}")
        _fill(path, count)
        bounds = spans(NOW - timedelta(minutes=count), NOW)

        def sampled() -> list[object]:
            with reading(engine) as conn:
                return list(snapshot_samples(conn, target="year", bounds=bounds))

        def fetched() -> dict[int, object]:
            with reading(engine) as conn:
                rows = history(conn, target="year", limit=count)
            marks: dict[int, object] = {}
            for row in rows:
                marks.setdefault(sum(bound < row.started_at for bound in bounds), row)
            return marks

        if [mark for _, mark in sorted(fetched().items())] != [mark for mark in sampled() if mark]:
            raise SystemExit("the two ways differ")
        fast_ms, slow_ms = _best_ms(sampled, ROUNDS), _best_ms(fetched, 1)
        engine.dispose()
    print(
        f"{count:>9,} snapshots, {len(bounds) - 1} marks: {fast_ms:.1f} ms per target (goal ≤ {GOAL_MS}); "
        f"all rows fetched: {slow_ms:,.0f} ms, {slow_ms / fast_ms:,.0f} times as long"
    )


if __name__ == "__main__":
    main()
