"""Runs the SQL, Python and commands of docs/sync-log.md, and reads the result as a sync log."""

import contextlib
import io
import re
import shlex
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege, ReadOnlySqlTransaction
from sqlalchemy import make_url

from monitor.cli import main
from monitor.errors import SyncLogError
from monitor.synclog import SyncLogSpec, read, verify

TEXT = (Path(__file__).resolve().parents[2] / "docs/sync-log.md").read_text(encoding="utf-8")
DATABASES = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

BOOKS = """
CREATE TABLE uploads (remote_id TEXT, finished_at TEXT, dag_id TEXT, state TEXT);
INSERT INTO uploads VALUES ('air-1', '2026-03-01T12:00:00Z', 'nightly', 'success'),
    ('air-1', '2026-03-01T13:00:00Z', 'nightly', 'success'), ('air-2', NULL, 'nightly', 'failed'),
    (NULL, '2026-03-01T12:00:00Z', 'nightly', 'success');
CREATE TABLE documents (api_document_id TEXT, uploaded_at TEXT, source_name TEXT, deleted_at TEXT);
INSERT INTO documents VALUES ('dbt-1', '2026-03-01 12:00', 'wiki', NULL), (NULL, NULL, 'wiki', NULL),
    ('dbt-2', '2026-03-01 12:00', 'wiki', '2026-03-02');
CREATE TABLE upsertion_record (uuid TEXT PRIMARY KEY, key TEXT, namespace TEXT, group_id TEXT,
    updated_at DOUBLE PRECISION, UNIQUE (key, namespace));
INSERT INTO upsertion_record VALUES ('u1', 'k1', 'library', 'lc-1', 1), ('u2', 'k2', 'library', 'lc-2', 1);
"""
"""The tables of the pipelines, for the views of the document."""


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def statements(kind):
    """The SQL of the document for one database, in order."""
    named = [(block.splitlines()[0], block) for block in blocks("sql")]
    return [block for first, block in named if DATABASES[kind] in first.removeprefix("-- ").split(" and ")]


def execute(url, *scripts):
    """Runs SQL as the owner of the pipeline's database."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as conn:
            for script in scripts:
                conn.executescript(script)
        return
    with psycopg.connect(url, autocommit=True) as conn:
        for script in scripts:
            conn.execute(script)


def entries(url, table):
    spec = SyncLogSpec(
        url=url, table=table, id_column="item_id", submitted_at_column="uploaded_at", group_column="collection"
    )
    return [(entry.item_id, entry.submitted_at, entry.group) for batch in read(spec) for entry in batch]


def test_every_block_of_sql_names_its_database():
    first_lines = {block.splitlines()[0] for block in blocks("sql")}
    assert first_lines == {"-- PostgreSQL", "-- SQLite", "-- PostgreSQL and SQLite"}


@pytest.fixture
def pipeline(synclog_kind, synclog_url):
    """The URL of a database with everything that the document creates, except roles."""
    execute(synclog_url, BOOKS, *(block for block in statements(synclog_kind) if "CREATE ROLE" not in block))
    return synclog_url


@pytest.mark.parametrize(
    ("view", "found"), [("airflow_sync_log", [("air-1", NOON, "nightly")]), ("dbt_sync_log", [("dbt-1", NOON, "wiki")])]
)
def test_the_views_over_other_tools_tables_are_sync_logs(pipeline, view, found):
    assert entries(pipeline, view) == found


def test_the_trigger_keeps_the_source_that_an_index_takes_away(pipeline):
    upsert = """
    INSERT INTO upsertion_record VALUES ('u3', 'k1', 'library', {first}, 2), ('u4', 'k2', 'library', {second}, 2)
    ON CONFLICT (key, namespace) DO UPDATE SET updated_at = excluded.updated_at, group_id = excluded.group_id
    """
    log = SyncLogSpec(url=pipeline, table="upsertion_record", id_column="group_id", submitted_at_column="updated_at")
    execute(pipeline, upsert.format(first="NULL", second="NULL"))
    assert sorted(entry.item_id for batch in read(log) for entry in batch) == ["lc-1", "lc-2"]
    execute(pipeline, upsert.format(first="'lc-1'", second="'moved'"))
    assert sorted(entry.item_id for batch in read(log) for entry in batch) == ["lc-1", "moved"]


def test_the_table_records_when_and_the_view_keeps_one_environment_and_90_days(pipeline):
    execute(
        pipeline,
        "INSERT INTO sync_log (item_id, collection) VALUES ('new', 'books')",
        "INSERT INTO sync_log (item_id, environment) VALUES ('elsewhere', 'staging')",
        "INSERT INTO sync_log (item_id, uploaded_at) VALUES ('old', '2020-01-01T00:00:00Z')",
    )
    assert {item_id for item_id, *_ in entries(pipeline, "sync_log")} == {"new", "elsewhere", "old"}
    ((item_id, uploaded_at, collection),) = entries(pipeline, "recent_uploads")
    assert (item_id, collection) == ("new", "books")
    assert abs((datetime.now(UTC) - uploaded_at).total_seconds()) < 600


@pytest.fixture
def reader(new_postgres):
    """The URLs of the document's role and of the owner, in a database created as documented."""
    owner, role = new_postgres(), f"monitor_reader_{uuid4().hex[:8]}"
    database = make_url(owner).database
    adapted = [
        block.replace("monitor_reader", role).replace("DATABASE pipeline", f"DATABASE {database}")
        for block in statements("postgresql")
    ]
    execute(owner, BOOKS, *adapted, "INSERT INTO sync_log (item_id) VALUES ('a')")
    url = make_url(owner).set(username=role, password="choose-one")
    yield url.render_as_string(hide_password=False), owner
    execute(owner, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_the_role_of_the_document_reads_the_view_and_nothing_else(reader):
    url, _ = reader
    assert [item_id for item_id, *_ in entries(url, "recent_uploads")] == ["a"]
    for table in ("sync_log", "documents"):
        with pytest.raises(SyncLogError, match="this user may not read it; grant it SELECT"):
            verify(SyncLogSpec(url=url, table=table, id_column="item_id" if table == "sync_log" else "api_document_id"))


def test_the_role_of_the_document_writes_nothing_even_without_its_second_safeguard(reader):
    url, _ = reader
    with psycopg.connect(url, autocommit=True) as conn:
        with pytest.raises(ReadOnlySqlTransaction):
            conn.execute("CREATE TEMPORARY TABLE mine (a int); CREATE TABLE mine (a int)")
        conn.execute("SET default_transaction_read_only = off")
        for statement in ("DELETE FROM sync_log", "INSERT INTO recent_uploads (item_id) VALUES ('x')"):
            with pytest.raises(InsufficientPrivilege):
                conn.execute(statement)


def test_the_role_of_the_document_has_its_second_safeguard(reader):
    url, _ = reader
    with psycopg.connect(url) as conn:
        settings = ("default_transaction_read_only", "statement_timeout", "idle_in_transaction_session_timeout")
        assert [conn.execute(f"SHOW {name}").fetchone()[0] for name in settings] == ["on", "1min", "5min"]


def test_the_uploader_of_the_document_records_new_documents_and_duplicates(small_world):
    """The same file is uploaded twice; the second upload returns a duplicate, which is tracked too."""
    sandbox, path = small_world.sandbox, small_world.folder / "documented.db"
    made = {}
    (source,) = blocks("python")
    exec(source, made)  # noqa: S102  # the document's own code is what is tested
    execute(f"sqlite:///{path}", *(block for block in statements("sqlite") if "sync_log (" in block))

    def upload(*names):
        answer = httpx.post(
            f"{sandbox.url}/ingestion/v2/files",
            headers={"Authorization": f"Bearer {sandbox.settings.api_key}"},
            data={"publisher_id": sandbox.settings.publisher_id},
            files=[("files", (name, name.encode())) for name in names],
        )
        return answer.json()

    upload("a.txt")
    answer = upload("a.txt", "b.txt")
    assert (len(answer["ingesting"]), len(answer["duplicates"])) == (1, 1)
    with contextlib.closing(sqlite3.connect(path)) as conn:
        made["record_upload"](conn, answer, "books")
        made["record_upload"](conn, answer, "books")
    small_world.configure(sync_log=f"sqlite:///{path}")
    small_world.clock.now = datetime.now(UTC)
    report = small_world.run()
    assert (report.snapshot.total, report.snapshot.not_found, report.sync.duplicate) == (2, 0, 0)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if "ingestion-monitor items" in line]


def test_the_documented_commands_work(small_world, monkeypatch, capsys):
    item_id = "6c0d4c44-3f5e-4a39-a0cf-4b0a3b3f6a11"
    small_world.configure(built_in_log=True)
    config = small_world.config_path
    config.write_text(config.read_text().replace('name = "gloo"', 'name = "gloo-prod"'))
    files = {
        "uploads.csv": f"item_id,uploaded_at,collection\n{item_id},2026-03-01,books\n",
        "ids.txt": "a\nb\n",
        "records.jsonl": '{"id": "c"}\n',
        "deleted.csv": "item_id\nb\n",
    }
    for name, content in files.items():
        (small_world.folder / name).write_text(content)
    monkeypatch.chdir(small_world.folder)
    assert len(COMMANDS) == 10
    for command in COMMANDS:
        if command == COMMANDS[6]:  # the first that needs the item on the work list
            monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(item_id.encode())))
            assert main(["items", "import", "-", "--config", str(config)]) == 0
            small_world.run()
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"d\n")))
        words = shlex.split(command.partition("ingestion-monitor ")[2])
        code = main([*words, "--config", str(config)])
        assert code == 0, (command, capsys.readouterr().err)
