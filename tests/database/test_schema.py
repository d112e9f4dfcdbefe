import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from monitor.database import history_view, schema
from monitor.database.engine import connect, reading, writing
from monitor.database.migrate import migration_transaction
from monitor.database.sync_tables import metadata
from monitor.database.tables import complete_for_postgresql
from monitor.errors import SchemaError, StoreError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def disposing():
    with contextlib.ExitStack() as stack:

        def opened(url):
            engine = connect(url)
            stack.callback(engine.dispose)
            return engine

        yield opened


def test_the_migrated_schema_matches_the_tables(engine):
    opts = {"compare_type": True, "compare_server_default": True, "version_table": "ingestion_monitor_version"}
    with reading(engine) as conn:
        context = MigrationContext.configure(conn, opts=opts)
        assert compare_metadata(context, metadata) == []


def shape(engine):
    """Parts of the schema that compare_metadata ignores: keys, checks, partial indexes, and the view."""
    with reading(engine) as conn:
        found = inspect(conn)
        tables = {
            name: (
                [
                    (c["name"], str(c["type"]), c["nullable"], str(c["default"]).strip("()"))
                    for c in found.get_columns(name)
                ],
                found.get_pk_constraint(name),
                sorted(found.get_check_constraints(name), key=str),
                sorted(found.get_foreign_keys(name), key=str),
                sorted(found.get_unique_constraints(name), key=str),
                sorted(_index(index) for index in found.get_indexes(name)),
            )
            for name in metadata.tables
        }
        return tables, [c["name"] for c in found.get_columns("history")], found.get_view_definition("history").strip()


def _index(index):
    only = {option: str(value) for option, value in index.get("dialect_options", {}).items()}
    return index["name"], str(index["column_names"]), bool(index["unique"]), str(only)


def test_a_migrated_database_and_one_made_from_the_tables_are_the_same(engine, database_url, disposing):
    other = disposing(database_url)
    complete_for_postgresql()
    with writing(other) as conn:
        metadata.create_all(conn)
        history_view.create(conn)
    assert shape(engine) == shape(other)


def test_the_newest_file_is_alembics_head():
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert [script.revision for script in reversed(list(scripts.walk_revisions()))] == schema._revisions()


def test_an_upgrade_reports_its_steps_and_a_second_one_does_nothing(database_url, disposing, capfd):
    assert schema.upgrade(database_url) == schema._revisions()
    assert schema.upgrade(database_url) == []
    version = schema.current(disposing(database_url))
    assert version.current == version.head
    assert capfd.readouterr() == ("", "")


def test_reading_the_version_of_a_missing_file_does_not_create_it(tmp_path, disposing):
    version = schema.current(disposing(f"sqlite:///{tmp_path}/none.db"))
    assert (version.current, version.fit) == (None, schema.SchemaFit.MISSING)
    assert list(tmp_path.iterdir()) == []


def test_a_new_sqlite_file_can_shrink(tmp_path, disposing):
    engine = schema.ensure(f"sqlite:///{tmp_path}/new.db")
    with reading(engine) as conn:
        pragmas = [
            conn.scalar(text(f"PRAGMA {name}"))
            for name in ("auto_vacuum", "journal_mode", "synchronous", "foreign_keys")
        ]
    engine.dispose()
    assert pragmas == [2, "wal", 2, 1]


def test_down_and_up_again_leaves_the_same(engine, store_url):
    before = shape(engine)
    with migration_transaction(store_url) as conn:
        config = Config()
        config.set_main_option("script_location", str(ROOT / "migrations"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = conn
        command.downgrade(config, "base")
        assert set(inspect(conn).get_table_names()) == {"ingestion_monitor_version"}
        assert inspect(conn).get_view_names() == []
    assert schema.current(engine).fit is schema.SchemaFit.MISSING
    assert schema.upgrade(store_url) == schema._revisions()
    assert shape(engine) == before


def test_an_older_or_missing_schema_is_upgraded_on_sqlite_and_reported_on_a_server(database_url, database_kind):
    if database_kind == "sqlite":
        engine = schema.ensure(database_url)
        assert schema.current(engine).fit is schema.SchemaFit.CURRENT
        engine.dispose()
        return
    with pytest.raises(SchemaError, match=r"is empty; run `ingestion-monitor db upgrade`$"):
        schema.ensure(database_url)
    schema.upgrade(database_url)
    engine = schema.ensure(database_url)
    assert schema.current(engine).fit is schema.SchemaFit.CURRENT
    engine.dispose()


def test_a_schema_counts_as_older_when_its_revision_is_known_and_not_the_last():
    first = schema._revisions()[0]
    assert schema.SchemaVersion(current=first, head="9999").fit is schema.SchemaFit.OLDER


@pytest.mark.parametrize("use", [schema.ensure, schema.upgrade], ids=["ensure", "upgrade"])
def test_a_newer_schema_is_refused_without_a_write(store_url, engine, database_kind, use):
    with writing(engine) as conn:
        conn.execute(text("UPDATE ingestion_monitor_version SET version_num = '9999'"))
        conn.execute(text("INSERT INTO leases (target, epoch) VALUES ('kept', 1)"))
    engine.dispose()
    before = _bytes(store_url) if database_kind == "sqlite" else None
    with pytest.raises(
        SchemaError, match=r"has the schema 9999, which is newer than this program's \(\d{4}\); install"
    ):
        use(store_url)
    assert before == (_bytes(store_url) if database_kind == "sqlite" else None)
    with reading(engine) as conn:
        assert conn.scalar(text("SELECT version_num FROM ingestion_monitor_version")) == "9999"
        assert conn.scalar(text("SELECT count(*) FROM leases")) == 1


def _bytes(url):
    return Path(url.removeprefix("sqlite:///")).read_bytes()


def test_foreign_tables_are_not_changed(database_url, disposing):
    with writing(disposing(database_url)) as conn:
        conn.execute(text("CREATE TABLE items (id INTEGER PRIMARY KEY)"))
    with pytest.raises(SchemaError, match="already has items, not created by this program"):
        schema.upgrade(database_url)
    with reading(disposing(database_url)) as conn:
        assert inspect(conn).get_table_names() == ["items"]


@pytest.mark.process
def test_six_processes_at_once_upgrade_it_once(database_url):
    script = "import sys; from monitor.database.schema import upgrade; print(len(upgrade(sys.argv[1])))"
    started = [
        subprocess.Popen([sys.executable, "-c", script, database_url], cwd=ROOT, stdout=-1, stderr=-1, text=True)
        for _ in range(6)
    ]
    ended = [process.communicate(timeout=120) for process in started]
    assert [error for _, error in ended] == [""] * 6
    assert sorted(out.strip() for out, _ in ended) == ["0"] * 5 + [str(len(schema._revisions()))]


def test_a_migration_that_would_orphan_rows_is_rolled_back(tmp_path):
    url = f"sqlite:///{tmp_path}/m.db"
    schema.upgrade(url)
    orphan = "INSERT INTO snapshots SELECT 7, 0,0,0,0,0,0,0,0,0,0,0,0,0,0"
    with pytest.raises(StoreError, match="was not changed"), migration_transaction(url) as conn:
        conn.execute(text(orphan))
    with contextlib.closing(sqlite3.connect(f"{tmp_path}/m.db")) as conn:
        assert conn.execute("SELECT count(*) FROM snapshots").fetchone() == (0,)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(
        StoreError, match=rf"database SQLite {tmp_path}/no/m.db can't be locked .*check that its folder"
    ):
        schema.ensure(f"sqlite:///{tmp_path}/no/m.db")


def test_a_file_that_is_not_a_database_is_not_changed(tmp_path):
    path = tmp_path / "notes.db"
    path.write_text("these are my notes, not a database\n" * 40)
    with pytest.raises(StoreError, match=r"notes\.db is not a SQLite database"):
        schema.ensure(f"sqlite:///{path}")
    assert path.read_text().startswith("these are my notes")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.db"]


def test_a_folder_in_place_of_the_file_is_named(tmp_path):
    with pytest.raises(StoreError, match="check that it is a file"):
        schema.ensure(f"sqlite:///{tmp_path}")


@pytest.mark.process
def test_waiting_for_another_upgrade_has_an_end(database_url, database_kind, disposing):
    with migration_transaction(database_url), pytest.raises(StoreError, match="another process"):  # noqa: SIM117  # one holds, one waits
        with migration_transaction(database_url, wait_s=0.2):
            raise AssertionError("two at once")


def alembic(*arguments, **environ):
    return subprocess.run(
        [sys.executable, "-m", "alembic", "-c", ROOT / "alembic.ini", *arguments],
        cwd="/", capture_output=True, text=True, check=False, env={**os.environ, **environ},
    )  # fmt: skip


@pytest.mark.slow_twice
def test_alembics_own_command_reaches_the_database_by_environment_or_argument(database_url, disposing):
    done = alembic("upgrade", "head", MONITOR_DATABASE=database_url)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert schema.current(disposing(database_url)).fit is schema.SchemaFit.CURRENT
    shown = alembic("-x", f"url={database_url}", "current")
    assert shown.stdout.strip() == f"{schema._revisions()[-1]} (head)"


@pytest.fixture
def clone(tmp_path):
    """The files that are needed to write a revision, without the rest of the repository."""
    for folder in ("monitor", "migrations"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "alembic.ini", tmp_path)
    return tmp_path


@pytest.mark.process
@pytest.mark.slow_twice
def test_a_new_column_of_snapshots_is_one_line_in_an_up_and_down_revision(clone, database_url, disposing):
    """`make migration` in four processes: the generated revision works unchanged, and the view has the new column."""

    def alembic(*arguments):
        command = [sys.executable, "-m", "alembic", "-x", f"url={database_url}", *arguments]
        done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def columns():
        with reading(disposing(database_url)) as conn:
            assert sorted(each["name"] for each in inspect(conn).get_check_constraints("snapshots")) == checks
            return [each["name"] for each in inspect(conn).get_columns("history")]

    schema.upgrade(database_url)
    with reading(disposing(database_url)) as conn:
        checks = sorted(each["name"] for each in inspect(conn).get_check_constraints("snapshots"))
    before = columns()
    tables = clone / "monitor" / "database" / "tables.py"
    line = '    Column("duration_s", Float, nullable=False),\n'
    added = (
        line
        + '    Column("latency_p99_ms", Float),\n    Column("waits", Integer, nullable=False, server_default="0"),\n'
    )
    tables.write_text(tables.read_text().replace(line, added))
    alembic("revision", "--autogenerate", "-m", "add p99")
    (written,) = clone.glob(f"migrations/versions/{int(schema._revisions()[-1]) + 1:04d}_add_p99.py")
    assert "batch_alter_table" not in written.read_text()
    alembic("upgrade", "head")
    assert columns() == [*before, "latency_p99_ms", "waits"]
    alembic("downgrade", "-1")
    assert columns() == before


@pytest.mark.process
def test_alembics_own_command_reports_what_is_missing_without_a_secret(postgres_url):
    nothing = alembic("current", MONITOR_DATABASE="")
    assert (nothing.returncode, "set MONITOR_DATABASE" in nothing.stdout + nothing.stderr) == (255, True)
    refused = alembic("-x", "url=postgresql://postgres:canary-s3cret@127.0.0.1:1/db", "current")
    said = refused.stdout + refused.stderr
    assert "can't be reached" in said
    assert "canary" not in said
    assert "Traceback" not in said


def test_a_deleted_file_is_an_error_and_not_an_empty_database(tmp_path):
    """The error must not suggest an upgrade, which would create a new file and hide that the old one is missing."""
    path = tmp_path / "monitor.db"
    schema.upgrade(f"sqlite:///{path}")
    engine = schema.ensure(f"sqlite:///{path}")
    schema.verify(engine)
    engine.dispose()
    path.unlink()
    with pytest.raises(StoreError, match=r"can't be opened") as refused:
        schema.verify(engine)
    assert not isinstance(refused.value, SchemaError)
    engine.dispose()
    assert not path.exists()
