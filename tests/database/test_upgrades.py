"""Upgrades with data from every revision, by many processes at once, killed at each step, and with other sessions."""

import json
import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from database.older import (
    MONDAY,
    bring_to,
    fingerprint,
    history_columns,
    history_rows,
    in_old_shape,
    in_utc,
    move_to,
    revisions,
    stored,
    version,
)
from sqlalchemy import inspect, make_url, text
from support.scale import THOROUGH
from support.thinned import ends

from monitor.database import migrate as migrating_module
from monitor.database import schema
from monitor.database.engine import connect, reading, writing
from monitor.database.migrate import migration_transaction
from monitor.errors import SchemaError, StoreError

pytestmark = pytest.mark.slow_twice

HERE = Path(__file__).parent
OLDER = revisions()[:-1]
HEAD = revisions()[-1]
LOCKED = "0004"
"""From here on, an upgrade changes tables that others read."""


def forks(*arguments):
    paths = [HERE, HERE.parent, HERE.parents[1], os.environ.get("PYTHONPATH", "")]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, HERE.parent / "support" / "forks.py", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def short_waits(monkeypatch):
    """Shortens the waits for table locks and the pauses between them."""
    monkeypatch.setattr(migrating_module, "_TABLE_LOCK_TIMEOUT_S", 0.1)
    monkeypatch.setattr(migrating_module, "_RETRY_PAUSE_S", (0.01, 0.05))


@pytest.mark.parametrize("revision", ends(OLDER))
def test_an_upgrade_from_every_revision_keeps_every_row(database_url, revision):
    before = bring_to(database_url, revision)
    assert all(len(rows) == 7 for rows in before.values())
    assert schema.upgrade(database_url) == revisions()[revisions().index(revision) + 1 :]
    assert in_old_shape(before, stored(database_url)) == before
    assert history_rows(database_url) == 7


def test_uploads_that_were_counted_once_are_in_slots_of_every_width_and_back(database_url):
    """Hours were merged up to noon; an upload of ten in the morning came after that."""
    day, noon = MONDAY, MONDAY + timedelta(hours=12)
    slots = ((3600, 10, 600), (3600, 11, 60), (300, 10, 60), (300, 12, 60), (300, 13, -1), (86400, -48, 60), (0, 0, 60))
    rows = [
        {"target": "gloo", "group_name": "", "slot_s": width_s, "starts_at": day + timedelta(hours=hour),
         "le_ms": le_ms, "uploads": 2, "sum_s": 4.0}
        for width_s, hour, le_ms in slots
    ]  # fmt: skip
    before = bring_to(database_url, "0017", overwrite={"time_to_indexed": rows})["time_to_indexed"]
    schema.upgrade(database_url)
    found = {
        (row["slot_s"], row["starts_at"]): (json.loads(row["buckets"]), row["indexed"], row["sum_s"])
        for row in in_utc(stored(database_url)["time_to_indexed"])
    }
    ten = day + timedelta(hours=10)
    assert found[3600, ten] == ({"600": 2, "60": 2}, 4, 8.0)
    assert (300, ten) not in found
    assert found[300, noon] == found[3600, noon] == ({"60": 2}, 2, 4.0)
    assert found[86400, day] == ({"600": 2, "60": 6, "-1": 2}, 8, 20.0)
    week = day - timedelta(days=7)
    assert found[604800, day] == found[86400, day]
    assert found[604800, week] == found[86400, day - timedelta(days=2)] == ({"60": 2}, 2, 4.0)
    move_to(database_url, "0017")
    after = stored(database_url)["time_to_indexed"]
    assert sum(row["uploads"] for row in after) == sum(row["uploads"] for row in before)
    assert {row["slot_s"] for row in after} == {0, 300, 3600, 86400}


@pytest.mark.process
@pytest.mark.parametrize("revision", [None, *(OLDER if THOROUGH else (OLDER[0], OLDER[-1]))])
def test_one_of_six_processes_upgrades_and_the_others_do_nothing(database_url, revision):
    before = bring_to(database_url, revision) if revision else {}
    steps = len(revisions()) - (revisions().index(revision) + 1 if revision else 0)
    assert sorted(forks("race", database_url, 6)) == [0] * 5 + [steps]
    assert in_old_shape(before, stored(database_url)) == before
    assert version(database_url) == HEAD


@pytest.mark.process
@pytest.mark.parametrize("revision", [None, OLDER[0], OLDER[-1]])
def test_an_upgrade_killed_at_any_step_loses_nothing_and_the_next_one_succeeds(database_url, revision):
    before = bring_to(database_url, revision) if revision else {}
    was = fingerprint(database_url) if revision else ""
    seen = forks("kill", database_url, 3 if revision == OLDER[-1] else 9)
    assert len(seen["after_kills"]) > 3
    assert {json.dumps(each) for each in seen["after_kills"]} <= {json.dumps([revision, was])}
    assert seen["version"] == HEAD
    assert in_old_shape(before, stored(database_url)) == before
    assert schema.upgrade(database_url) == []


def test_a_newer_schema_is_refused_with_only_read_access(store_url, engine, database_kind, tmp_path):
    with writing(engine) as conn:
        conn.execute(text("UPDATE ingestion_monitor_version SET version_num = '9999'"))
        if database_kind == "postgresql":
            role = f"reader_{make_url(store_url).database}"
            conn.execute(text(f"CREATE ROLE {role} LOGIN PASSWORD 'reads'"))
            conn.execute(text(f"GRANT SELECT ON ingestion_monitor_version TO {role}"))
            store_url = make_url(store_url).set(username=role, password="reads").render_as_string(hide_password=False)
    engine.dispose()
    before = _written(tmp_path)
    for use in (schema.upgrade, schema.ensure):
        with pytest.raises(SchemaError, match="newer than this program"):
            use(store_url)
    assert _written(tmp_path) == before
    if database_kind == "postgresql":
        with writing(engine) as conn:
            conn.execute(text(f"DROP OWNED BY {role}"))
            conn.execute(text(f"DROP ROLE {role}"))


def _written(folder):
    """All files with data: without the index of the write-ahead log, which readers share, and without an empty log."""
    files = [path for path in folder.iterdir() if not path.name.endswith("-shm")]
    return {path.name: path.read_bytes() for path in files if not path.name.endswith("-wal") or path.stat().st_size}


@pytest.mark.process
def test_history_can_be_read_during_an_upgrade(database_url):
    bring_to(database_url, OLDER[-1])
    reading_on, ended, counts, faults = threading.Event(), threading.Event(), [], []

    def read():
        try:
            while not ended.is_set():
                counts.append(history_rows(database_url))
                reading_on.set()
        except StoreError as error:
            faults.append(error)
            reading_on.set()

    reader = threading.Thread(target=read)
    reader.start()
    reading_on.wait(30)
    schema.upgrade(database_url)
    ended.set()
    reader.join()
    assert (faults, set(counts)) == ([], {7})


@pytest.mark.process
def test_an_upgrade_waits_for_a_run_that_is_storing(database_url, short_waits):
    """The upgrade waits for a write of the program, and neither is lost."""
    bring_to(database_url, OLDER[-1])
    engine, begun, release = connect(database_url), threading.Event(), threading.Event()

    def store():
        with writing(engine) as conn:
            conn.execute(text("UPDATE items SET stage = 'stored' WHERE target = 'target-1-é'"))
            conn.execute(text("UPDATE runs SET answered = 77 WHERE id = 1"))
            begun.set()
            release.wait(30)

    writer = threading.Thread(target=store)
    writer.start()
    begun.wait(30)
    upgrading = threading.Thread(target=schema.upgrade, args=(database_url,))
    upgrading.start()
    threading.Timer(0.5, release.set).start()
    for thread in (writer, upgrading):
        thread.join()
    engine.dispose()
    assert version(database_url) == HEAD
    assert stored(database_url)["runs"][0]["answered"] == 77


@pytest.fixture
def old_server(new_postgres):
    url = new_postgres()
    bring_to(url, LOCKED)
    return url


@pytest.fixture
def long_reader(old_server):
    """A transaction that has read a table and does not end, like a dump or a forgotten psql session."""
    with psycopg.connect(old_server) as conn:
        conn.execute("SELECT count(*) FROM runs")
        conn.execute("SELECT count(*) FROM notifications")
        yield conn


@pytest.mark.process
def test_an_upgrade_that_waits_for_a_long_reader_blocks_nobody(old_server, long_reader, short_waits):
    upgrading = threading.Thread(target=schema.upgrade, args=(old_server,))
    upgrading.start()
    with psycopg.connect(old_server, autocommit=True) as other:
        other.execute("SET statement_timeout = '20s'")
        for _ in range(40):
            assert other.execute("SELECT count(*) FROM notifications").fetchone() == (7,)
    assert version(old_server) == LOCKED
    long_reader.commit()
    upgrading.join()
    assert version(old_server) == HEAD


@pytest.mark.process
def test_a_reader_that_never_ends_is_reported(old_server, long_reader, short_waits):
    before = fingerprint(old_server)
    with pytest.raises(StoreError, match=r"was not changed: a table was locked .* see pg_stat_activity"):
        schema.upgrade(old_server, wait_s=0.3)
    assert (version(old_server), fingerprint(old_server)) == (LOCKED, before)


def test_of_the_servers_limits_only_a_shorter_wait_for_locks_holds_in_an_upgrade(new_postgres):
    url = new_postgres()
    with psycopg.connect(url, autocommit=True) as conn:
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout"):
            conn.execute(f"ALTER DATABASE {make_url(url).database} SET {limit} = '900ms'")
    with migration_transaction(url) as conn:
        conn.execute(text("SELECT pg_sleep(1.2)"))
        shown = [conn.scalar(text(f"SHOW {name}")) for name in ("statement_timeout", "lock_timeout")]
    assert shown == ["0", "900ms"]


def test_a_running_process_notices_a_changed_schema(engine):
    schema.verify(engine)
    for found, said in (("9999", "is newer than this program's"), ("0001", "has the older schema 0001; run")):
        with writing(engine) as conn:
            conn.execute(text("UPDATE ingestion_monitor_version SET version_num = :found"), {"found": found})
        with pytest.raises(SchemaError, match=said):
            schema.verify(engine)
    with writing(engine) as conn:
        conn.execute(text("DROP TABLE ingestion_monitor_version"))
    with pytest.raises(SchemaError, match="is empty; run"):
        schema.verify(engine)
    with reading(engine) as conn:
        assert conn.scalar(text("SELECT count(*) FROM runs")) == 0


SILENCED = ["coverage", "outage"]
OPENED = {"channels": ["log"], "rule": {"runs": 2, "of": 2, "span_s": 0.0, "remind_every_s": 14400.0}}
MERGED = {
    "cause": "coverage",
    "title": "coverage",
    "parts": [{"cause": "coverage", "parts": []}, {"cause": "coverage"}],
}
OLD_WORDS = {
    "runs": [
        {"status": "unread", "abort_reason": None}, {"status": "aborted", "abort_reason": "interrupted"},
        {"status": "aborted", "abort_reason": "outage"}, {"status": "partial", "abort_reason": "interrupted"},
    ],
    "evidence": [{"cause": "coverage"}],
    "incidents": [{"cause": "coverage"}],
    "incident_events": [{"kind": "told"}, {"data": OPENED}, {"data": {"error": "span_s", "rule": "none"}}],
    "item_events": [{"kind": "heeded"}],
    "notifications": [{"cause": "coverage", "message": MERGED}, {"message": {"cause": "outage", "title": "coverage"}}],
    "silences": [{"matchers": {"cause": SILENCED, "target": ["coverage"]}}, {"matchers": {"cause": ["c*e"]}}],
}  # fmt: skip
NEW_WORDS = {
    "runs": [
        {"status": "failed", "abort_reason": None}, {"status": "crashed", "abort_reason": None},
        {"status": "aborted", "abort_reason": "outage"}, {"status": "partial", "abort_reason": "interrupted"},
    ],
    "evidence": [{"cause": "too_many_unknown"}],
    "incidents": [{"cause": "too_many_unknown"}],
    "incident_events": [
        {"kind": "notified"},
        {"data": {**OPENED, "rule": {"runs": 2, "of": 2, "for_s": 0.0, "repeat_interval_s": 14400.0}}},
        {"data": {"error": "span_s", "rule": "none"}},
    ],
    "item_events": [{"kind": "unignored"}],
    "notifications": [
        {"cause": "too_many_unknown", "message": {
            "cause": "too_many_unknown", "title": "coverage",
            "parts": [{"cause": "too_many_unknown", "parts": []}, {"cause": "too_many_unknown"}],
        }},
        {"message": {"cause": "outage", "title": "coverage"}},
    ],
    "silences": [
        {"matchers": {"cause": ["too_many_unknown", "outage"], "target": ["coverage"]}},
        {"matchers": {"cause": ["c*e", "too_many_unknown"]}},
    ],
}  # fmt: skip


def written(url, like):
    """The stored values of the rows and columns of an example."""
    rows = stored(url)
    return {
        table: [{name: rows[table][n][name] for name in example} for n, example in enumerate(examples)]
        for table, examples in like.items()
    }


def test_stored_names_are_converted_up_and_down(database_url):
    """Values are converted, also inside JSON; texts that only contain such a word are not."""
    bring_to(database_url, "0004", overwrite=OLD_WORDS)
    before = stored(database_url)
    assert written(database_url, OLD_WORDS) == OLD_WORDS
    schema.upgrade(database_url)
    assert written(database_url, NEW_WORDS) == NEW_WORDS
    move_to(database_url, "0004")
    after = stored(database_url)
    assert after["silences"][1]["matchers"] == {"cause": ["c*e", "coverage"]}, "a pattern more, which matches the same"
    after["silences"][1]["matchers"] = {"cause": ["c*e"]}
    assert after == before
    assert history_columns(database_url)[3] == "slot"
    schema.upgrade(database_url)
    assert history_columns(database_url)[3] == "run_key"


def test_the_indexes_of_history_come_and_go_with_data(database_url):
    before = bring_to(database_url, "0005")
    had = indexes(database_url)
    schema.upgrade(database_url)
    assert indexes(database_url) - had >= {
        "ix_incidents_target_id", "ix_incidents_target_resolved_at", "ix_notifications_channel_id",
        "ix_notifications_thread", "ix_runs_target_status_id",
    }  # fmt: skip
    assert in_old_shape(before, stored(database_url)) == before
    move_to(database_url, "0005")
    assert (indexes(database_url), stored(database_url)) == (had, before)
    schema.upgrade(database_url)


COLUMNS_OF_ITEMS = {
    "reasons of failures": ("0008", "failure_reason = 'server_error', failure_message = 'It broke.'", "failure_reason"),
    "path parameters": ("0009", """params = '{"store": "s1"}'""", "params"),
}


@pytest.mark.parametrize(("older", "values", "column"), COLUMNS_OF_ITEMS.values(), ids=COLUMNS_OF_ITEMS)
def test_columns_of_items_come_and_go_and_leave_all_else_as_it_was(database_url, older, values, column):
    before = bring_to(database_url, older)
    schema.upgrade(database_url)
    assert {row[column] for row in stored(database_url)["items"]} == {None}
    engine = connect(database_url)
    with writing(engine) as conn:
        conn.execute(text(f"UPDATE items SET {values}"))
    engine.dispose()
    move_to(database_url, older)
    assert stored(database_url) == before
    schema.upgrade(database_url)
    assert {row[column] for row in stored(database_url)["items"]} == {None}


def indexes(url):
    """The names of the indexes of all tables."""
    engine = connect(url)
    with reading(engine) as conn:
        found = inspect(conn)
        names = {index["name"] for table in found.get_table_names() for index in found.get_indexes(table)}
    engine.dispose()
    return names


@pytest.mark.parametrize("revision", ends(OLDER))
def test_the_view_exists_at_every_revision(database_url, revision):
    bring_to(database_url, revision)
    name = "slot" if revision < "0005" else "run_key"
    assert (history_rows(database_url), history_columns(database_url)[3]) == (7, name)


def test_grants_on_the_view_are_kept(new_postgres):
    url = new_postgres()
    bring_to(url, OLDER[-1])
    role = f'"Reader of {make_url(url).database}"'
    with psycopg.connect(url) as conn:
        conn.execute(f"CREATE ROLE {role}")
        conn.execute(f"GRANT SELECT ON history TO {role} WITH GRANT OPTION")
        conn.execute("GRANT SELECT ON history TO PUBLIC")
    rights = (
        "SELECT grantee, privilege_type, is_grantable FROM information_schema.role_table_grants "
        "WHERE table_name = 'history'"
    )
    with psycopg.connect(url) as conn:
        before = sorted(conn.execute(rights).fetchall())
    schema.upgrade(url)
    with psycopg.connect(url) as conn:
        assert sorted(conn.execute(rights).fetchall()) == before
        assert (role.strip('"'), "SELECT", "YES") in before
        conn.execute(f"DROP OWNED BY {role}")
        conn.execute(f"DROP ROLE {role}")
