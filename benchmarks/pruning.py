"""How long a run's writes wait while a million item events are pruned, and the file size before and after.

`python benchmarks/pruning.py [EVENTS] [URL]` uses its own SQLite file unless the URL of an EMPTY database is given. A
writer in another process stores a small batch every 20 ms, as a run does; a reader reads `history`.
"""

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, insert

from monitor.database import pruning as space
from monitor.database.engine import connect, reading, writing
from monitor.database.retention import Pruner, PruneResult
from monitor.database.retention_policy import Ages
from monitor.database.schema import upgrade
from monitor.database.tables import item_events, snapshots
from monitor.database.tables import runs as run_rows
from monitor.runs import store as runs

NOW = datetime.now(UTC)
COUNTS = dict.fromkeys(
    ("total", "checked", "completed", "pending", "failed", "not_found", "invalid", "unknown", "stuck", "requests",
     "retries", "duration_s"), 0
)  # fmt: skip


def main() -> None:
    """Fills, prunes and prints."""
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[2] if len(sys.argv) > 2 else f"sqlite:///{Path(folder) / 'monitor.db'}"
        upgrade(url)
        engine = connect(url)
        with writing(engine) as conn:
            _fill(conn, events)
        space.checkpoint(engine) if url.startswith("sqlite") else None
        before = space.database_size(engine)
        alone = _waits(url, None)
        result, busy, took_s = _pruned_beside(url)
        _print(events, before, space.database_size(engine), alone, busy, result, took_s)
        engine.dispose()


def _fill(conn: Connection, events: int) -> None:
    days = 400
    conn.execute(insert(run_rows), [_run(n, NOW - timedelta(hours=days * 24 - n)) for n in range(days * 24)])
    conn.execute(insert(snapshots), [{"run_id": n + 1, **COUNTS} for n in range(days * 24)])
    for first in range(0, events, 10_000):
        conn.execute(insert(item_events), list(_events(first, min(events, first + 10_000), events)))


def _run(n: int, at: datetime) -> dict[str, object]:
    return {"id": n + 1, "target": "gloo", "environment": "bench", "epoch": n, "status": "complete",
            "started_at": at, "finished_at": at}  # fmt: skip


def _events(first: int, last: int, events: int) -> Iterator[dict[str, object]]:
    for n in range(first, last):
        at = NOW - timedelta(days=400) * (1 - n / events) - timedelta(days=91)
        yield {"target": "gloo", "item_id": f"{n % 100_000:032x}", "run_id": n // 100, "at": at, "kind": "state",
               "old": "pending", "new": "completed"}  # fmt: skip


def _write(url: str, stop: "multiprocessing.synchronize.Event", results: "multiprocessing.Queue[list[float]]") -> None:
    """Small writes, one every 20 ms; returns how long each took to commit."""
    engine, took = connect(url), []
    row = {"target": "gloo", "run_id": 1, "at": NOW, "kind": "state", "old": "pending", "new": "failed"}
    while not stop.is_set():
        begun = time.monotonic()
        with writing(engine) as conn:
            conn.execute(insert(item_events), [{**row, "item_id": f"new-{n}"} for n in range(10)])
        took.append(time.monotonic() - begun)
        time.sleep(0.02)
    results.put(took)


def _read(url: str, stop: "multiprocessing.synchronize.Event", results: "multiprocessing.Queue[list[float]]") -> None:
    engine, took = connect(url), []
    while not stop.is_set():
        begun = time.monotonic()
        with reading(engine) as conn:
            runs.history(conn, target="gloo", limit=50)
        took.append(time.monotonic() - begun)
        time.sleep(0.02)
    results.put(took)


def _waits(url: str, work: "Pruner | None") -> tuple[PruneResult | None, list[float], list[float]]:
    stop = multiprocessing.Event()
    queues = [multiprocessing.Queue() for _ in range(2)]
    beside = [
        multiprocessing.Process(target=each, args=(url, stop, results), daemon=True)
        for each, results in zip((_write, _read), queues, strict=True)
    ]
    for process in beside:
        process.start()
    time.sleep(2)
    try:
        result = work() if work is not None else None
    finally:
        stop.set()
    took = [results.get() for results in queues]
    for process in beside:
        process.join()
    return result, took[0], took[1]


def _pruned_beside(url: str) -> tuple[PruneResult, tuple[PruneResult | None, list[float], list[float]], float]:
    engine = connect(url)
    ages = Ages(item_events=timedelta(days=90), snapshots=timedelta(days=200))
    pruner = Pruner(engine, ages, holder="bench", utcnow=lambda: datetime.now(UTC))
    begun = time.monotonic()
    waits = _waits(url, pruner)
    took_s = time.monotonic() - begun
    engine.dispose()
    if waits[0] is None:
        raise RuntimeError("nothing was pruned")
    return waits[0], waits, took_s


def _print(events: int, before: int, after: int, alone: tuple, busy: tuple, result: PruneResult, took_s: float) -> None:
    print(
        f"{events} item events: {dict(result.rows)} in {took_s:.0f} s; "
        f"longest transaction {result.longest_transaction_s:.3f} s"
    )
    print(f"file: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")
    for name, place in (("write", 1), ("read of history", 2)):
        for when, waits in (("alone", alone[place]), ("while pruning", busy[place])):
            ordered = sorted(waits)
            print(
                f"{name:<16}{when:<14} n={len(ordered):<6} median {ordered[len(ordered) // 2] * 1000:7.1f} ms, "
                f"99% {ordered[int(len(ordered) * 0.99)] * 1000:7.1f} ms, longest {ordered[-1] * 1000:7.1f} ms"
            )


if __name__ == "__main__":
    main()
