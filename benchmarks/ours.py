"""Our part of the client benchmark, in its own process: `python benchmarks/ours.py JSON`, figures as JSON.

A real run in a temporary folder: a sync log in SQLite, a configuration, and the product's own wiring. `took_s` is from
before the first request (the token's) until every outcome is stored; `run_s` is the whole run.
"""

import asyncio
import cProfile
import json
import pstats
import random
import resource
import sqlite3
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from processes import CLIENT_CORE, hold_to, stats

from monitor import logs as log
from monitor.app import App, open_database
from monitor.cli import tune_gc
from monitor.config import Config, load_config
from monitor.runs.check import ApiClient
from monitor.runs.progress import NoProgress
from monitor.runs.report import RunReport
from monitor.runs.run import Job, Run

_CONFIG = """\
database = "sqlite:///{folder}/monitor.db"
[[targets]]
name = "bench"
provider = "gloo"
base_url = "{url}"
publisher_id = "11111111-1111-4111-8111-111111111111"
auth = {{ client_id = "bench", client_secret = "bench-secret" }}
[targets.sync_log]
url = "sqlite:///{folder}/pipeline.db"
[targets.check]
strategy = "items"
concurrency = {concurrency}
deadline = "{deadline_s}s"
{more}
"""
_BETWEEN_RUNS = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    url: str
    items: int
    concurrency: int
    check: Mapping[str, object]
    """More settings of `[targets.check]`, such as `http`."""
    deadline_s: int = 240
    runs: int = 1
    profile: bool = False


@dataclass(slots=True)
class _Span:
    """The check of one run: its duration, and the CPU of both processes."""

    took_s: float = 0.0
    cpu_share: float = 0.0
    server_share: float = 0.0


def _make_log(path: Path, count: int) -> None:
    ids = random.Random(count)  # noqa: S311  # repeatable, not secret
    rows = [(str(uuid.UUID(int=ids.getrandbits(128), version=4)),) for _ in range(count)]
    with sqlite3.connect(path) as conn:
        conn.execute("CREATE TABLE sync_log (item_id TEXT)")
        conn.executemany("INSERT INTO sync_log VALUES (?)", rows)
    conn.close()


def _configured(options: _Options, folder: Path) -> Config:
    _make_log(folder / "pipeline.db", options.items)
    more = "\n".join(f"{name} = {json.dumps(value)}" for name, value in options.check.items())
    path = folder / "monitor.toml"
    path.write_text(
        _CONFIG.format(
            folder=folder, url=options.url, concurrency=options.concurrency, deadline_s=options.deadline_s, more=more
        ),
        encoding="utf-8",
    )
    config = load_config(path, environ={})
    for secret in config.secrets():
        log.register_secret(secret.reveal())
    return config


def _timed(job: Job, url: str, span: _Span) -> Job:
    """The job with a stopwatch around its client, which is open from before the first request until everything is
    stored.
    """

    @asynccontextmanager
    async def open_client() -> AsyncIterator[ApiClient]:
        before, cpu_s, started_s = stats(url), time.process_time(), time.monotonic()
        async with job.open_client() as client:
            yield client
            span.took_s = time.monotonic() - started_s
            span.cpu_share = (time.process_time() - cpu_s) / span.took_s
            after = stats(url)
        span.server_share = (after["cpu_s"] - before["cpu_s"]) / (after["at_s"] - before["at_s"])

    return replace(job, open_client=open_client)


def _clock(ahead: timedelta) -> Callable[[], datetime]:
    return lambda: datetime.now(UTC) + ahead


async def _runs(job: Job, count: int) -> list[tuple[RunReport, float]]:
    """Runs, five minutes apart on the stored clock; each with its seconds."""
    ended = []
    for number in range(count):
        later = replace(job, utcnow=_clock(number * _BETWEEN_RUNS))
        started_s = time.monotonic()
        report = await Run(later, interrupt=asyncio.Event(), progress=NoProgress())()
        ended.append((report, time.monotonic() - started_s))
    return ended


def _measure(options: _Options, folder: Path) -> dict[str, Any]:
    config, span = _configured(options, folder), _Span()
    engine = open_database(config)
    job = _timed(App(config=config, engine=engine).job(config.targets[0]), options.url, span)
    profile = cProfile.Profile()
    if options.profile:
        profile.enable()
    tune_gc()  # as the command does
    ended = asyncio.run(_runs(job, options.runs))
    profile.disable()
    engine.dispose()
    if options.profile:
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)
    report, run_s = ended[-1]
    snapshot = report.snapshot
    return {
        "took_s": span.took_s,
        "run_s": run_s,
        "cpu_share": span.cpu_share,
        "server_share": span.server_share,
        "status": report.status.value,
        "reason": report.abort_reason,
        "completed": snapshot.completed if snapshot else 0,
        "incidents": len(report.open_incidents),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "stats": dict(stats(options.url)),
    }


if __name__ == "__main__":
    hold_to(CLIENT_CORE)
    log.configure(level="info")
    with tempfile.TemporaryDirectory() as made:
        print(json.dumps(_measure(_Options(**json.loads(sys.argv[1])), Path(made))))
