"""Peak memory of `check`, item by item, over 100,000 and over 1,000,000 ids: `python benchmarks/memory.py [--ids N]`.

A real `ingestion-monitor check` in its own process, a sync log in SQLite, and a data engine in a third process that
answers every item as COMPLETED. Peaks are the kernel's (`ru_maxrss`).
"""

import argparse
import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

GOAL_MB, GOAL_RATIO = 150, 1.1
_CONFIG = """\
database = "sqlite:///monitor.db"
[[targets]]
name = "bench"
provider = "gloo"
base_url = "http://127.0.0.1:{port}"
publisher_id = "11111111-1111-4111-8111-111111111111"
auth = {{ api_key = "bench" }}
[targets.sync_log]
url = "sqlite:///pipeline.db"
[targets.check]
strategy = "items"
concurrency = 64
deadline = "12h"
"""


class _Engine(asyncio.Protocol):
    """Answers `GET …/items/{id}` with that id, COMPLETED; keeps the connection alive."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for request in data.split(b"\r\n\r\n")[:-1]:
            path = request.split(b" ", 2)[1]
            body = b'{"item_id":"' + path.rpartition(b"/")[2] + b'","status":"COMPLETED"}'
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
            self._transport.write(head + body)  # type: ignore[attr-defined]  # of TCP, so it can be written to


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Engine, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _make_log(path: Path, count: int) -> None:
    with sqlite3.connect(path) as conn:
        conn.execute("CREATE TABLE sync_log (item_id TEXT)")
        conn.executemany("INSERT INTO sync_log VALUES (?)", ((str(uuid.uuid4()),) for _ in range(count)))


def _measure(count: int, port: int) -> tuple[float, float]:
    """Peak in MB and seconds of one `check` over this many ids."""
    with tempfile.TemporaryDirectory() as folder:
        _make_log(Path(folder, "pipeline.db"), count)
        Path(folder, "monitor.toml").write_text(_CONFIG.format(port=port), encoding="utf-8")
        started_s = time.monotonic()
        command = [sys.executable, "-m", "monitor", "check", "--quiet"]
        process = subprocess.Popen(command, cwd=folder, env={**os.environ, "MONITOR_CONFIG": "monitor.toml"})
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"check over {count} ids ended with {os.waitstatus_to_exitcode(status)}")
        with sqlite3.connect(Path(folder, "monitor.db")) as conn:
            (stored,) = conn.execute("SELECT completed FROM history").fetchone()
        if stored != count:
            raise SystemExit(f"check stored {stored} of {count} items")
        return usage.ru_maxrss / 1024, time.monotonic() - started_s


def main() -> None:
    """Measures a tenth of the ids and all of them, and prints both beside their goals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ids", type=int, default=1_000_000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(_serve())
        return
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline()) if server.stdout else 0
        peaks = []
        for count in (options.ids // 10, options.ids):
            peak_mb, took_s = _measure(count, port)
            peaks.append(peak_mb)
            print(
                f"{count:>9,} ids item by item: peak {peak_mb:6.1f} MB (goal ≤ {GOAL_MB}), {count / took_s:,.0f} ids/s"
            )
        print(f"ratio of the peaks: {peaks[1] / peaks[0]:.2f} (goal ≤ {GOAL_RATIO})")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
