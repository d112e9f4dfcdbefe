"""Odd values, encodings and errors: they end no read, or only that of their own target."""

import contextlib
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from monitor.database.schema import upgrade
from monitor.errors import SyncLogError, SyncLogUnavailableError
from monitor.synclog import SyncLogSpec, read, verify

ROOT = Path(__file__).parents[2]


def entries(url, **more):
    return [entry for rows in read(SyncLogSpec(url=url, table="log", id_column="id", **more)) for entry in rows]


@pytest.fixture
def ascii_database(new_postgres):
    """A database in SQL_ASCII, as initdb makes it without a locale."""
    url = make_url(new_postgres())
    name = f"{url.database}_ascii"
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        yield url.set(database=name).render_as_string(hide_password=False)
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_database_in_sql_ascii_is_read_and_bytes_that_are_no_text_spoil_one_row(ascii_database):
    with psycopg.connect(ascii_database) as conn:
        conn.execute("CREATE TABLE log (id text, at timestamptz, col text, n numeric, raw bytea, pad char(9))")
        conn.execute(r"INSERT INTO log VALUES (E'caf\303\251', '2026-07-01 12:00+00', 'one', 7.0, 'abc', 'p')")
        conn.execute(r"INSERT INTO log VALUES (E'caf\351', NULL, E'\351', NULL, NULL, NULL)")
    good, bad = entries(ascii_database, submitted_at_column="at", group_column="col")
    assert (good.item_id, good.submitted_at.isoformat(), good.group) == ("café", "2026-07-01T12:00:00+00:00", "one")
    assert (bad.item_id, bad.submitted_at, bad.group) == ("caf\udce9", None, "\udce9")
    for column, found in [("n", "7"), ("raw", "abc"), ("pad", "p")]:
        spec = SyncLogSpec(url=ascii_database, table="log", id_column=column)
        assert [entry.item_id for rows in read(spec) for entry in rows] == [found, None]


def test_our_own_database_may_be_in_sql_ascii(ascii_database):
    assert upgrade(ascii_database)
    assert upgrade(ascii_database) == []


@pytest.mark.parametrize(
    ("kind", "value", "group"),
    [
        ("date", "'infinity'", "infinity"),
        ("date", "'0044-03-15 BC'", "0044-03-15 BC"),
        ("timestamptz", "'-infinity'", "-infinity"),
        ("interval", "'-178000000 years'", "-178000000 years"),
        ("char(12)", "'sermons'", "sermons"),
        ("numeric", "1e30", "1" + "0" * 30),
        ("boolean", "false", "false"),
    ],
)
def test_a_group_of_any_type_is_the_servers_own_text(new_postgres, kind, value, group):
    url = new_postgres()
    with psycopg.connect(url) as conn:
        conn.execute(f"CREATE TABLE log (id text, col {kind}); INSERT INTO log VALUES ('a', {value}), ('b', NULL)")
    assert [entry.group for entry in entries(url, group_column="col")] == [group, None]


def test_a_read_that_a_standby_cancels_may_be_tried_again_and_says_what_helps(new_postgres):
    url = new_postgres()
    with psycopg.connect(url) as conn:
        conn.execute(
            "CREATE FUNCTION conflict() RETURNS text LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE 'canceling statement due to conflict with recovery' USING ERRCODE = '40001'; END $$; "
            "CREATE VIEW log AS SELECT conflict() AS id"
        )
    with pytest.raises(SyncLogUnavailableError, match="hot_standby_feedback"):
        entries(url)


def test_an_error_that_nobody_foresaw_is_named_by_its_type_alone(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "p.db")) as conn:
        conn.execute("CREATE TABLE log (id TEXT)")
    odd = SyncLogSpec(url=f"sqlite:///{tmp_path}/p.db", table="log", id_column="id", busy_timeout_s="canary")
    with pytest.raises(SyncLogError, match=rf"^sync log {tmp_path}/p\.db can't be read: TypeError$"):
        verify(odd)


AS_NOBODY = """
import os, pwd, sys
from monitor.synclog import SyncLogSpec, verify
if os.geteuid() == 0:  # root may enter any folder
    os.setuid(pwd.getpwnam("nobody").pw_uid)
try:
    verify(SyncLogSpec(url=sys.argv[1], table="log", id_column="id"))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(("folder", "file"), [(0o000, 0o644), (0o755, 0o000)], ids=["folder", "file"])
def test_a_folder_or_file_that_this_user_may_not_open_is_named(folder, file):
    with tempfile.TemporaryDirectory() as outer:
        Path(outer).chmod(0o755)
        path = Path(outer) / "theirs" / "p.db"
        path.parent.mkdir()
        with contextlib.closing(sqlite3.connect(path)) as conn:
            conn.execute("CREATE TABLE log (id TEXT)")
        path.chmod(file)
        path.parent.chmod(folder)
        run = [sys.executable, "-c", AS_NOBODY, f"sqlite:///{path}"]
        done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True, timeout=240)
        path.parent.chmod(0o755)
    said = f"SyncLogError sync log {path} can't be opened; check that this user may enter its folder"
    assert done.stdout.startswith(said), done.stdout + done.stderr
