"""A daemon whose workers are in the middle of a run, for the pictures of its page: the figures are made up.

No worker runs. What they would have stored is written into a private PostgreSQL, and stays as it is for minutes.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from demo_page import serving
from support.fleets import fill, queued
from support.postgres import private_server

from monitor.database.schema import upgrade
from monitor.fleet import queue_schema

CONFIG = """
database = "{url}"
environment = "production"

[schedule]
every = "1d"

[fleet]
workers = true
stalled_after = "10m"

[web]
listen = "127.0.0.1:{port}"
"""
TARGET = """
[[targets]]
name = "{name}"
provider = "gloo"
publisher_id = "p1"
auth = {{ api_key = "key of {name}" }}
base_url = "http://127.0.0.1:1"
allow_http = true
check = {{ concurrency = {concurrency} }}
"""
EU, US, ARCHIVE, HANDBOOK = "gloo-eu", "gloo-us", "archive", "handbook"
CONCURRENCY = {EU: 128, US: 64, ARCHIVE: 32, HANDBOOK: 32}


@contextlib.contextmanager
def fleet_daemon(*, port: int) -> Iterator[None]:
    """A daemon that serves its page there."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ingestion-monitor-fleet-")))
        url = stack.enter_context(private_server())
        upgrade(url)
        queue_schema.upgrade(url)
        write(url)
        config = folder / "monitor.toml"
        targets = "".join(TARGET.format(name=name, concurrency=number) for name, number in CONCURRENCY.items())
        config.write_text(CONFIG.format(url=url, port=port) + targets, encoding="utf-8")
        stack.enter_context(serving(config))
        yield


def write(url: str) -> None:
    """Two runs in shares, four workers, and jobs that wait for several reasons."""
    minute, now = timedelta(minutes=1), datetime.now(UTC)
    fill(url, target=EU, items=20_000, deadline=now + 3 * minute, workers=("worker-1:7", "worker-2:7"))
    fill(url, target=US, items=20_000, deadline=now + 2 * minute, workers=("worker-3:7", "worker-4:7"))
    with psycopg.connect(url) as conn:
        conn.execute("UPDATE run_shares SET seen_at = now() WHERE state = 'running'")
        queued(conn, "plan", {"target": ARCHIVE, "run_key": "k"}, worker="worker-2:7")
        queued(conn, "plan", {"target": HANDBOOK, "run_key": "k"}, worker="worker-4:7")
        for name, holder in ((EU, "fleet"), (US, "fleet"), (ARCHIVE, "worker-2:7")):
            conn.execute(
                "INSERT INTO leases (target, holder, epoch, acquired_at, expires_at) "
                "VALUES (%s, %s, 1, now(), now() + interval '10 min')",
                [name, holder],
            )
