import contextlib
import socket
import sqlite3
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import bindparam, insert, make_url, select, text

from monitor.database.engine import connect, connect_read_only, reading, writing
from monitor.database.tables import leases, runs
from monitor.errors import LeaseLostError, StoreError

NOW = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
LEASE = insert(leases).values(target="a", epoch=1, acquired_at=NOW)


def file_of(url):
    return Path(url.removeprefix("sqlite:///"))


@pytest.fixture
def connected():
    """Creates engines that are disposed at the end."""
    with contextlib.ExitStack() as stack:

        def make(url, by=connect, **options):
            engine = by(url, **options)
            stack.callback(engine.dispose)
            return engine

        yield make


def targets(engine):
    with reading(engine) as conn:
        return conn.execute(select(leases.c.target)).scalars().all()


def test_times_are_read_back_to_the_microsecond_in_utc(engine):
    with writing(engine) as conn:
        conn.execute(LEASE)
    with reading(engine) as conn:
        assert conn.execute(select(leases.c.acquired_at)).scalar_one() == NOW


def test_an_exception_rolls_back_and_propagates(engine):
    def lose():
        with writing(engine) as conn:
            conn.execute(LEASE)
            raise LeaseLostError("gone")

    with pytest.raises(LeaseLostError, match="gone"):
        lose()
    assert targets(engine) == []


def test_a_transaction_uses_utc_and_our_application_name(new_postgres, connected):
    with reading(connected(new_postgres())) as conn:
        assert conn.scalar(text("SHOW timezone")) == "UTC"
        assert conn.scalar(text("SHOW application_name")) == "ingestion-monitor"


def test_settings_in_the_url_take_precedence(new_postgres, connected):
    with reading(connected(new_postgres() + "?application_name=mine")) as conn:
        assert conn.scalar(text("SHOW application_name")) == "mine"


def test_a_read_only_connection_writes_nothing(store_url, connected):
    with pytest.raises(StoreError, match="read-only"), writing(connected(store_url, connect_read_only)) as conn:
        conn.execute(LEASE)
    assert targets(connected(store_url)) == []


def test_two_writers_are_serialised_even_if_they_read_first(store_url, connected):
    engines = connected(store_url), connected(store_url)
    for n, engine in enumerate(engines * 3):
        with writing(engine) as conn:
            known = len(conn.execute(select(leases)).all())
            conn.execute(insert(leases).values(target=str(n), epoch=known))
    assert len(targets(engines[0])) == 6


def test_a_locked_database_is_reported_after_the_busy_timeout(store_url, database_kind, connected, engine):
    if database_kind == "sqlite":
        impatient = connected(store_url, busy_timeout_s=0.1)
        with writing(engine), pytest.raises(StoreError) as caught, writing(impatient):
            raise AssertionError("two writers at once")
    else:
        impatient = connected(store_url + "?options=-c%20lock_timeout%3D100")
        with writing(engine) as conn:
            conn.execute(text("LOCK TABLE leases"))
            with pytest.raises(StoreError) as caught, writing(impatient) as other:
                other.execute(LEASE)
    assert "is locked by another process; try again" in str(caught.value)
    assert targets(engine) == []


AS_NOBODY = """
import os, pwd, sys
from sqlalchemy import text
from monitor.database.engine import connect, writing
if os.geteuid() == 0:  # root may write anywhere
    os.setuid(pwd.getpwnam("nobody").pw_uid)
try:
    with writing(connect(sys.argv[1])) as conn:
        conn.execute(text("INSERT INTO t VALUES (1)"))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(("wal", "said"), [(False, "can't be written: it, its folder or"), (True, "can't be ")])
def test_a_sqlite_folder_or_file_without_write_permission_is_named(wal, said):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with contextlib.closing(sqlite3.connect(folder / "m.db")) as conn:
            conn.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
            conn.execute("CREATE TABLE t (a)")
        (folder / "m.db").chmod(0o444)
        folder.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, f"sqlite:///{folder}/m.db"],
            cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True, timeout=240,
        )  # fmt: skip
        folder.chmod(0o755)
        assert done.stdout.startswith(f"StoreError database SQLite {folder}/m.db {said}")
        assert [path.name for path in folder.iterdir()] == ["m.db"]


def fill_up(engine):
    row = {"target": "t", "environment": "e", "epoch": 1, "status": "running", "started_at": NOW, "error": "x" * 2000}
    with writing(engine) as conn:
        if engine.dialect.name == "sqlite":
            conn.execute(text(f"PRAGMA max_page_count = {conn.scalar(text('PRAGMA page_count')) + 3}"))
        conn.execute(insert(runs), [row] * 50)
        conn.execute(text("DO $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = 'disk_full'; END $$"))


def test_a_full_disk_is_reported_and_writes_nothing_partially(engine):
    with pytest.raises(StoreError, match=r"has no space left; free some and run again$"):
        fill_up(engine)
    with reading(engine) as conn:
        assert conn.execute(select(runs)).all() == []


def test_a_killed_connection_is_reported_and_the_next_one_works(new_postgres, postgres_url, connected):
    engine = connected(new_postgres(migrated=True))

    def write_and_be_killed():
        with writing(engine) as conn, psycopg.connect(postgres_url, autocommit=True) as admin:
            conn.execute(LEASE)
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [conn.scalar(text("SELECT pg_backend_pid()"))])
            conn.execute(select(leases))

    with pytest.raises(StoreError, match="dropped the connection; check"):
        write_and_be_killed()
    assert targets(engine) == []


def test_idle_connections_dropped_by_the_server_are_replaced(new_postgres, postgres_url, connected):
    engine = connected(new_postgres(migrated=True))
    assert targets(engine) == []
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [engine.url.database]
        )
    assert targets(engine) == []


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


SECRET = "canary-s3cret"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"username": "canary_user", "password": SECRET}, "refused the user or the password; check the credentials"),
        ({"database": "no_such_db"}, "does not exist on that server; create it"),
        ({"port": "free", "password": SECRET}, "can't be reached; check that the server runs"),
        ({"host": "host.invalid", "password": SECRET}, "can't be reached; check that the server runs"),
    ],
    ids=["login", "database", "refused", "name"],
)
def test_an_unusable_server_is_named_without_user_or_password(postgres_url, connected, change, said):
    if change.get("port") == "free":
        change = {**change, "port": _free_port()}
    url = make_url(postgres_url).set(**change)
    with pytest.raises(StoreError) as caught, reading(connected(url.render_as_string(hide_password=False))):
        raise AssertionError("connected")
    text_ = str(caught.value)
    assert said in text_
    assert f"database PostgreSQL {url.host}:{url.port}/{url.database} " in text_
    assert "canary" not in text_
    assert make_url(postgres_url).password not in text_


def test_a_missing_privilege_is_named(new_postgres, connected):
    engine = connected(new_postgres(migrated=True))
    with writing(engine) as conn:
        conn.execute(text(f"ALTER DATABASE {engine.url.database} SET ROLE pg_monitor"))
    engine.dispose()
    with pytest.raises(StoreError, match="this user lacks a privilege; grant it"):
        targets(engine)


def test_a_missing_table_names_the_command_that_makes_it(database_url, connected):
    with pytest.raises(StoreError, match=r"lacks a table of this program; run `ingestion-monitor db upgrade`$"):
        targets(connected(database_url))


def test_other_errors_show_their_class_without_sql_or_values(engine):
    with writing(engine) as conn:
        conn.execute(LEASE)
    with pytest.raises(StoreError) as caught, writing(engine) as conn:
        conn.execute(insert(leases).values(target="a", epoch=1, holder=SECRET))
    said = str(caught.value)
    assert "failed with IntegrityError" in said or "failed with UniqueViolation" in said
    assert SECRET not in said + str(caught.value.__cause__)
    assert "INSERT" not in said


def test_a_naive_time_is_refused(engine):
    with pytest.raises(StoreError, match="failed with ValueError"), reading(engine) as conn:
        conn.execute(select(leases).where(leases.c.acquired_at > bindparam("t")), {"t": datetime(2026, 3, 1)})  # noqa: DTZ001  # that is the point


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://u:canary@h/d", "must start with sqlite:/// or postgresql://"),
        ("canary", "must start with"),
        ("postgresql://u:canary@h:port/d", "a port that is no number"),
        ("postgresql://u:can@ary@h/d", "not escaped"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
    ],
)
def test_an_unusable_url_is_refused_without_repeating_it(url, said):
    for use in (connect, connect_read_only):
        with pytest.raises(StoreError, match=said) as caught:
            use(url)
        assert "canary" not in str(caught.value)
