"""Measures growth: a daemon ticks on a fast clock, and its memory, files and threads are sampled.

    python tests/survival/growth.py [RUNS] [sqlite|postgresql]

The whole daemon runs, with scheduler and deliveries, against a data engine and a receiver in another process; a
minute passes from one run to the next.
Now and then a document fails and is fixed, and a key is revoked and restored; two channels are notified.
"""

import asyncio
import contextlib
import gc
import io
import os
import sqlite3
import sys
import tempfile
import threading
import time
import tracemalloc
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.fastclock import FastClock, driven
from support.postgres import private_server
from survival.peers import peers

from monitor import logs as log
from monitor.app import open_database
from monitor.config import load_config
from monitor.database.engine import reading
from monitor.database.schema import upgrade
from monitor.sandbox.requests import StatusChange

CONFIG = """\
database = "{database}"
environment = "test"

[schedule]
every = "1m"

[web]
listen = "off"

[[targets]]
name = "gloo"
provider = "gloo"
base_url = "{sandbox}"
publisher_id = "{publisher}"
auth = {{ client_id = "{client}", client_secret_file = "{secret_file}" }}

[targets.sync_log]
url = "sqlite:///{folder}/pipeline.db"

[[channels]]
name = "hook"
type = "webhook"
url = "{hook}"

[[channels]]
name = "apprise"
type = "apprise"
url = "{apprise}"

[[routes]]
channels = ["hook", "apprise"]
"""
TITLE = "Growth of a daemon over its runs (second half of them)"
HEAD = ("database", "runs", "incidents / messages", "memory", "objects", "open files", "threads", "tasks")
MAX_KIB_PER_RUN, MAX_OBJECTS_PER_RUN = 60, 20
STEP_KIB = 4 * 1024
"""The allocator takes memory in steps: one of them is no growth."""
ITEMS = 20
PER_FAILURE, PER_REVOCATION = 30, 70
"""Ticks from one failed document to the next, and from one revoked key to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Memory, files and threads of the process between two ticks."""

    runs: int
    resident_kib: int
    objects: int
    """The objects of the garbage collector."""
    files: int
    threads: int
    tasks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """The samples of one process."""

    database: str
    samples: tuple[Sample, ...]
    incidents: int
    messages: int
    took_s: float
    blocks: tuple[str, ...] = ()
    """Where memory allocated in the second half is still in use, the most first."""

    @property
    def settled(self):
        """The second half of the samples: by then, everything that is created once exists."""
        return self.samples[len(self.samples) // 2 :]

    def slope(self, of):
        """The growth per run, by least squares over the second half."""
        points = [(each.runs, getattr(each, of)) for each in self.settled]
        mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
        return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def grow(database, runs, *, stretch, trace=False):
    """Lets a daemon tick and samples its process at intervals.

    Args:
        database: the URL of a database with the newest schema.
        runs: the number of ticks.
        stretch: ticks between two samples.
        trace: whether to trace allocations; that takes twice the time.
    """
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, peers() as there, _logging_to_nowhere():
        config = _configured(Path(folder), database, there)
        samples, blocks = asyncio.run(_ticks(config, there, runs, stretch, trace))
        engine = open_database(config)
        with reading(engine) as conn:
            sent = conn.exec_driver_sql("SELECT count(*) FROM notifications WHERE status = 'sent'").scalar()
            incidents = conn.exec_driver_sql("SELECT count(*) FROM incidents WHERE state = 'resolved'").scalar()
        engine.dispose()
    return Growth(
        database=engine.dialect.name,
        samples=tuple(samples),
        incidents=incidents,
        messages=sent,
        took_s=time.monotonic() - started_s,
        blocks=tuple(blocks),
    )


async def _ticks(config, there, runs, stretch, trace):
    samples, before = [], None
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    async with driven(config, FastClock(begin)) as daemon:
        for run in range(1, runs + 1):
            _change_the_world(there, config, run)
            await daemon.until(begin + timedelta(minutes=run, seconds=30))
            if run % stretch == 0:
                samples.append(_sample(run))
                if trace and before is None and run >= runs // 2:
                    tracemalloc.start(12)
                    before = tracemalloc.take_snapshot()
        if before is None:
            return samples, []
        after = tracemalloc.take_snapshot()
        tracemalloc.stop()
    grew = [each for each in after.compare_to(before, "traceback") if each.size_diff > 0][:10]
    return samples, [f"{each.size_diff / 1024:.0f} KiB, {each.count_diff} blocks\n" + _place(each) for each in grew]


def _place(statistic):
    return "\n".join(statistic.traceback.format(limit=6))


def _change_the_world(there, config, run):
    """Changes the world before a run; most of the time nothing."""
    match run % PER_FAILURE:
        case 1 if run == 1:
            _record(config, there.call("create_items", ITEMS, status="COMPLETED"))
        case 10:
            _record(config, there.call("create_items", 1, status="FAILED"))
        case 14:
            there.call("set_statuses", _restored())
    match run % PER_REVOCATION:
        case 40:
            there.call("revoke_client")
        case 44:
            there.call("restore_client")


def _restored():
    return StatusChange(status="COMPLETED", filename="made.txt")


def _record(config, item_ids):
    path = config.targets[0].sync_log.url.reveal().removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path)) as conn, conn:
        conn.executemany("INSERT INTO sync_log VALUES (?)", [(each,) for each in item_ids])


def _sample(runs):
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sample(
        runs=runs,
        resident_kib=pages * os.sysconf("SC_PAGE_SIZE") // 1024,
        objects=len(gc.get_objects()),
        files=sum(1 for _ in Path("/proc/self/fd").iterdir()),
        threads=threading.active_count(),
        tasks=len(asyncio.all_tasks()),
    )


def _configured(folder, database, there):
    with contextlib.closing(sqlite3.connect(folder / "pipeline.db")) as conn:
        conn.execute("CREATE TABLE sync_log (item_id TEXT)")
    (folder / "secret").write_text(there.settings.client_secret)
    (folder / "secret").chmod(0o600)
    path = folder / "monitor.toml"
    path.write_text(
        CONFIG.format(
            database=database,
            folder=folder,
            sandbox=there.sandbox_url,
            publisher=there.settings.publisher_id,
            client=there.settings.client_id,
            secret_file=folder / "secret",
            hook=there.hook_url,
            apprise=there.hook_url.replace("http://", "json://"),
        )
    )
    return load_config(path, environ={})


@contextlib.contextmanager
def _logging_to_nowhere():
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123  # a stream, not a file of ours
        log.configure(stream=nowhere)
        yield
        log.configure(stream=io.TextIOWrapper(io.BytesIO()))


def described(growth):
    """The figures of one process, as lines."""
    first, last = growth.settled[0], growth.settled[-1]
    yield (
        f"{growth.database}: {last.runs} runs, {growth.incidents} incidents opened and resolved, "
        f"{growth.messages} messages in {growth.took_s:.0f} s"
    )
    for name, unit in (("resident_kib", "KiB"), ("objects", ""), ("files", ""), ("threads", ""), ("tasks", "")):
        before, after = getattr(first, name), getattr(last, name)
        yield f"  {name:<12} {before:>8} -> {after:>8} {unit:<3} {growth.slope(name):+.3f} per run"
    yield from growth.blocks


def rows(*, full=True, seed=0, postgres_url=""):
    """The rows of `make survive`: whether nothing grew, and the cells."""
    with tempfile.TemporaryDirectory() as folder, private_server() as server:
        for url in (f"sqlite:///{folder}/monitor.db", server):
            upgrade(url)
            growth = grow(url, 2000 if full else 150, stretch=50 if full else 10)
            yield not grown(growth), _cells(growth)


def grown(growth):
    """What grew; empty if nothing did. Caches may grow a little; a leaked client per run is far above that."""
    first, last = growth.settled[0], growth.settled[-1]
    found = {
        "tasks": len({each.tasks for each in growth.samples}) > 1,
        "files": last.files > first.files,
        "threads": last.threads > first.threads + 1,  # of the pool, which starts them on demand
        "objects": growth.slope("objects") > MAX_OBJECTS_PER_RUN,
        "memory": growth.slope("resident_kib") > MAX_KIB_PER_RUN and last.resident_kib - first.resident_kib > STEP_KIB,
    }
    return [what for what, is_so in found.items() if is_so]


def _cells(growth):
    first, last = growth.settled[0], growth.settled[-1]
    return (
        growth.database,
        str(last.runs),
        f"{growth.incidents} / {growth.messages}",
        f"{first.resident_kib // 1024} -> {last.resident_kib // 1024} MiB, {growth.slope('resident_kib'):+.1f} KiB/run",
        *(f"{getattr(first, name)} -> {getattr(last, name)}" for name in ("objects", "files", "threads", "tasks")),
    )


def main(runs=2000, kind="sqlite", trace=""):
    """Prints the figures of one database."""
    with contextlib.ExitStack() as stack:
        if kind == "sqlite":
            url = f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/monitor.db"
        else:
            url = stack.enter_context(private_server())
        upgrade(url)
        runs = int(runs)
        for line in described(grow(url, runs, stretch=max(1, runs // 40), trace=bool(trace))):
            print(line)


if __name__ == "__main__":
    main(*sys.argv[1:])
