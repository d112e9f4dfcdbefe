"""Real faults and the real command: one clear sentence, the right exit code, nothing half-written.

Tests of signals, locks, rights and kills use a separate process.
"""

import contextlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import make_url
from support.observed import until, until_asked
from support.world import environment

from monitor.database.engine import writing

pytestmark = pytest.mark.process

WHOLE = """
SELECT r.id, r.status, s.total, s.completed + s.pending + s.failed + s.not_found + s.invalid + s.unknown AS sum
FROM runs r LEFT JOIN snapshots s ON s.run_id = r.id ORDER BY r.id
"""


def sentences(done):
    """The sentences on stderr, without log events."""
    assert "Traceback" not in done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


def expect_one_sentence(done, code, *parts):
    """The command ended with this code and one sentence that contains all of this."""
    (sentence,) = sentences(done)
    assert done.returncode == code
    assert [part for part in parts if part not in sentence] == [], sentence


DROP_AND_RUN = """
import ctypes, os, sys
if os.geteuid() == 0:
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP
os.execv(sys.executable, [sys.executable, "-m", "monitor", *sys.argv[1:]])
"""


def without_root_s_rights(world, *arguments):
    """Runs the command without root's rights, so that permissions apply even if the tests run as root."""
    command = [sys.executable, "-c", DROP_AND_RUN, *arguments, "--config", str(world.config_path)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=world.folder, check=False)


def half_written(world):
    """Open runs, snapshots whose states do not add up, and held leases."""
    odd = [row for row in world.rows(WHOLE) if row["status"] == "running" or row["total"] != row["sum"]]
    return odd + world.rows("SELECT holder FROM leases WHERE holder IS NOT NULL")


@pytest.mark.smoke
def test_an_unreachable_api(small_world):
    small_world.configure(check="max_attempts = 1")
    small_world.track(6)
    small_world.cli("check")
    small_world.sandbox.stop()
    expect_one_sentence(small_world.cli("check"), 4, "target gloo: the run stopped early", "can't be reached")
    assert half_written(small_world) == []
    assert small_world.rows("SELECT DISTINCT state, known_state, reason FROM items") == [
        {"state": "unknown", "known_state": "completed", "reason": "outage"}
    ]


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"path": "/oauth2", "status": 503}, "the API is failing or can't be reached"),
        ({"path": "/oauth2", "close": True}, "the API is failing or can't be reached"),
        ({"path": "/oauth2", "status": 400, "body": {"error": "invalid_client"}}, "the API rejects the credentials"),
        ({"path": "/oauth2", "status": 403, "body": {"error": "access_denied"}}, "the API rejects the credentials"),
        ({"path": "/oauth2", "status": 403, "body": "<html>no</html>"}, "the API's responses can't be read"),
        ({"path": "/engine", "status": 502, "body": "<html>bad gateway</html>"}, "the API is failing"),
        ({"path": "/engine", "status": 403, "body": {"code": "forbidden"}}, "the API denies access"),
        ({"path": "/engine", "status": 402}, "the plan's spending limit is reached"),
    ],
    ids=[
        "token-503",
        "token-dropped",
        "token-400",
        "token-403",
        "token-gateway-403",
        "gateway-502",
        "all-403",
        "spending-402",
    ],
)
def test_an_api_that_fails_or_refuses(here, small_world, fault, words):
    small_world.configure(check="max_attempts = 1")
    small_world.track(6)
    small_world.sandbox.add_fault(**fault)
    expect_one_sentence(
        here(small_world, "check"), 4, "target gloo: the run stopped early, 6 items left unknown", words
    )
    assert half_written(small_world) == []


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        ("DROP TABLE sync_log", 'has no table "sync_log"'),
        ("ALTER TABLE sync_log RENAME TO sync_logs", 'has no table "sync_log"; did you mean "sync_logs"?'),
        ("ALTER TABLE sync_log RENAME COLUMN item_id TO itemid", 'has no column "item_id"; did you mean "itemid"?'),
        ("ALTER TABLE sync_log RENAME COLUMN uploaded_at TO sent", 'has no column "uploaded_at"'),
    ],
    ids=["no-table", "other-table", "other-id-column", "no-time-column"],
)
def test_a_sync_log_that_is_not_as_described(here, world, break_it, words):
    world.track(2)
    world.log(break_it)
    expect_one_sentence(here(world, "check"), 3, "target gloo: sync log ", words)
    assert [row["status"] for row in world.rows("SELECT status FROM runs")] == ["failed"]
    assert world.rows("SELECT 1 FROM snapshots") == world.rows("SELECT 1 FROM items") == []
    assert half_written(world) == []
    assert world.sandbox.requests() == 0


def test_a_sync_log_whose_file_is_missing(here, small_world):
    path = small_world.folder / "gone.db"
    small_world.configure(sync_log=f"sqlite:///{path}")
    expect_one_sentence(here(small_world, "check"), 3, f"sync log {path} does not exist")
    assert not path.exists()
    assert half_written(small_world) == []


def test_a_sync_log_locked_by_a_writer(small_world):
    small_world.track(1)
    with contextlib.closing(sqlite3.connect(small_world.folder / "pipeline.db", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        done = small_world.cli("check")
    expect_one_sentence(done, 3, f"sync log {small_world.folder / 'pipeline.db'} is locked by a writer")
    assert half_written(small_world) == []
    assert small_world.cli("check").returncode == 0


def test_a_database_locked_by_another_process(small_world):
    """Two commands wait for the lock: one at its start, one during its run; the latter gets a signal and ends."""
    small_world.configure(check="concurrency = 1")
    small_world.track(60)
    small_world.sandbox.add_fault(path="/engine", delay_s=0.1, passes=True)
    running = small_world.start("check")
    until_asked(small_world, 2)
    with contextlib.closing(sqlite3.connect(small_world.folder / "monitor.db", isolation_level=None)) as holder:
        until(lambda: _began(holder), "the lock")
        running.terminate()
        done = small_world.cli("check")
        ended = running.poll()
    expect_one_sentence(done, 3, f"database SQLite {small_world.folder / 'monitor.db'} is locked by another process")
    out, err = running.communicate(timeout=120)
    assert (ended, out) == (143, ""), err
    assert [row["status"] for row in small_world.rows("SELECT status FROM runs")] == ["running"]
    assert small_world.rows("SELECT 1 FROM snapshots") == []


def _began(connection):
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    return True


@pytest.mark.smoke
@pytest.mark.parametrize("command", ["check", "history", "daemon"])
def test_a_schema_from_the_future(here, small_world, command):
    small_world.track(1)
    with writing(small_world.app.engine) as conn:
        conn.exec_driver_sql("UPDATE ingestion_monitor_version SET version_num = '9999'")
    expect_one_sentence(here(small_world, command), 3, "has the schema 9999, which is newer than this program's")
    assert small_world.rows("SELECT 1 FROM runs") == []
    assert small_world.sandbox.requests() == 0


def test_an_unreachable_server(small_world):
    small_world.track(1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        small_world.configure(database=f"postgresql://monitor:s3cret@127.0.0.1:{port}/monitor")
        done = small_world.cli("check")
    expect_one_sentence(done, 3, f"database PostgreSQL 127.0.0.1:{port}/monitor can't be reached")
    assert "s3cret" not in done.stderr
    assert small_world.sandbox.requests() == 0


def test_a_wrong_server_password(here, small_world, new_postgres):
    url = make_url(new_postgres(migrated=True)).set(password="n0t-it")
    small_world.configure(database=url.render_as_string(hide_password=False))
    expect_one_sentence(here(small_world, "check"), 3, f"/{url.database} refused the user or the password")
    small_world.configure(sync_log=url.render_as_string(hide_password=False))
    done = here(small_world, "check")
    expect_one_sentence(done, 3, "sync log", "refused the user or the password")
    assert "n0t-it" not in done.stderr + done.stdout


def test_a_read_only_server(here, small_world, new_postgres):
    url = new_postgres(migrated=True)
    small_world.configure(database=url)
    small_world.track(1)
    with psycopg.connect(url, autocommit=True) as conn:
        name = make_url(url).database
        conn.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    expect_one_sentence(here(small_world, "check"), 3, f"/{name} can't be written", "read-only")
    assert small_world.rows("SELECT 1 FROM runs") == []


def test_a_role_without_rights(here, small_world, new_postgres):
    url = new_postgres(migrated=True)
    name = make_url(url).database
    role = f"{name}_reader"
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'pw'")
    try:
        small_world.configure(
            database=make_url(url).set(username=role, password="pw").render_as_string(hide_password=False)
        )
        done = here(small_world, "check")
    finally:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(f"DROP ROLE {role}")
    expect_one_sentence(done, 3, f"/{name} refused access: this user lacks a privilege")


def test_a_database_file_without_write_permission(small_world):
    small_world.track(1)
    small_world.cli("check")
    small_world.close()
    folder = small_world.folder / "read-only"
    folder.mkdir()
    shutil.move(small_world.folder / "monitor.db", folder / "monitor.db")
    small_world.configure(database=f"sqlite:///{folder / 'monitor.db'}")
    before = (folder / "monitor.db").read_bytes()
    (folder / "monitor.db").chmod(0o444)
    folder.chmod(0o555)
    done = without_root_s_rights(small_world, "check")
    folder.chmod(0o755)
    expect_one_sentence(done, 3, f"database SQLite {folder / 'monitor.db'} can't be ")
    assert (folder / "monitor.db").read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["monitor.db"]


def test_a_file_that_is_not_a_database(here, small_world):
    (small_world.folder / "monitor.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    expect_one_sentence(here(small_world, "check"), 3, "is not a SQLite database, or is damaged")


def test_a_folder_that_does_not_exist(here, small_world):
    small_world.configure(database=f"sqlite:///{small_world.folder / 'absent' / 'monitor.db'}")
    expect_one_sentence(here(small_world, "check"), 3, "absent/monitor.db", "check that its folder exists")
    assert not (small_world.folder / "absent").exists()


def test_a_missing_outbox_table_fails_the_delivery_and_not_the_run(here, small_world):
    small_world.track(1)
    with writing(small_world.app.engine) as conn:
        conn.exec_driver_sql("ALTER TABLE notifications RENAME TO mislaid")
    done = here(small_world, "check")
    expect_one_sentence(done, 3, "lacks a table of this program")
    assert "Health: 1 completed" in done.stdout
    assert half_written(small_world) == []


def test_the_run_after_a_killed_run_is_complete(world):
    world.configure(check="concurrency = 2")
    world.track(60)
    world.sandbox.add_fault(path="/engine", delay_s=0.1, passes=True)
    running = world.start("check")
    until_asked(world, 30)
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=120)
    assert [row["status"] for row in world.rows("SELECT status FROM runs")] == ["running"]
    assert world.rows("SELECT 1 FROM snapshots") == []
    finished = len(world.rows("SELECT 1 FROM items WHERE state = 'completed'"))
    assert 0 < finished < 60, "what had been stored by then is kept"

    world.sandbox.clear_faults()
    blocked = world.cli("check")
    assert (blocked.returncode, "another run is under way" in blocked.stderr) == (5, True)
    with writing(world.app.engine) as conn:
        (expires_at,) = conn.exec_driver_sql("SELECT expires_at FROM leases").one()
        past = expires_at - timedelta(minutes=1) if hasattr(expires_at, "year") else "2026-01-01 00:00:00.000000"
        mark = "?" if conn.dialect.name == "sqlite" else "%s"
        conn.exec_driver_sql(f"UPDATE leases SET expires_at = {mark}", (past,))
    done = world.cli("check")
    assert done.returncode == 0, done.stderr
    assert "Health: 60 completed" in done.stdout
    assert [row["status"] for row in world.rows("SELECT status FROM runs ORDER BY id")] == ["crashed", "complete"]
    assert [row for row in world.rows(WHOLE) if row["total"] != row["sum"]] == []
    events = world.rows("SELECT item_id FROM item_events WHERE kind = 'state'")
    assert len(events) == len({row["item_id"] for row in events}) == 60
