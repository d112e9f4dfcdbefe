"""Sync logs that real tools wrote (`make sync-logs`), read with their presets; and the presets themselves."""

import json
import shutil
import sqlite3
import tomllib
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import sync_log_tables
from support.synclog_fixtures import (
    FOLDER,
    all_fixtures,
    load_fixture,
    read_fixture,
    set_server_zone,
    wrong_ids,
    wrong_times,
)

from monitor.cli import main
from monitor.config.sync_log import SyncLogConfig
from monitor.config.sync_log_presets import load_preset, preset_names

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = all_fixtures()
TOOLS = tomllib.loads((ROOT / "scripts/sync_logs/tools.toml").read_text(encoding="utf-8"))
URLS = {"sqlite": "sqlite:///pipeline.db", "postgresql": "postgresql://db/pipeline"}
MAX_BYTES = 20_000


@pytest.fixture
def load(request, tmp_path):
    """Fills a database with a fixture, on a server in the fixture's time zone; returns the URL."""
    shutil.copyfile(request.getfixturevalue("_sqlite_template"), tmp_path / "monitor.db")  # quicker than migrations

    def load(fixture):
        if fixture.database == "postgresql":
            url = request.getfixturevalue("new_postgres")()
            set_server_zone(url, fixture.server_timezone)
        else:
            url = f"sqlite:///{tmp_path / 'tool.db'}"
        load_fixture(fixture, url)
        return url

    return load


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda each: each.name)
def test_ids_and_times_are_what_the_tool_was_given(fixture, load, tmp_path):
    found = read_fixture(fixture, load(fixture), tmp_path)
    if fixture.refused:
        assert fixture.refused in found.report.unusable_kind
        assert (found.items, found.report.unusable) == ({}, len(fixture.given))
        return
    assert wrong_ids(fixture, found) == set()
    assert wrong_times(fixture, found) == {}
    assert (found.report.unusable, found.report.unreadable, found.report.future) == (0, 0, 0)
    if "group_column" in fixture.sync_log:
        groups = {row["id"]: row["group"] for row in fixture.given if "group" in row}
        assert {item_id: found.items[item_id][1] for item_id in groups} == groups


def test_the_record_managers_keys_are_no_ids_of_documents(load, tmp_path):
    """Why the preset reads `group_id`."""
    (fixture,) = (each for each in FIXTURES if each.name == "langchain-sqlite")
    with closing(sqlite3.connect(load(fixture).removeprefix("sqlite:///"))) as conn:
        keys = {key for (key,) in conn.execute("SELECT key FROM upsertion_record")}
    assert len(keys) == 2 * len(fixture.given)
    assert keys & set(fixture.times) == set()


def test_the_record_manager_loses_ids_while_it_indexes(load, tmp_path):
    """It sets `group_id` to null at unchanged rows until the new ones are stored; docs/sync-log.md has a trigger."""
    (fixture,) = (each for each in FIXTURES if each.name == "langchain-sqlite")
    url, (lost, *kept) = load(fixture), [row["id"] for row in fixture.given]
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as conn, conn:
        rows = conn.execute("UPDATE upsertion_record SET group_id = NULL WHERE group_id = ?", (lost,)).rowcount
    found = read_fixture(fixture, url, tmp_path)
    assert (set(found.items), found.report.null) == (set(kept), rows)


def test_the_time_of_dramatiq_pg_is_not_the_time_of_its_messages(load, tmp_path):
    """Why the preset reads no time."""
    (fixture,) = (each for each in FIXTURES if each.name == "dramatiq_pg-postgresql")
    assert fixture.server_timezone == "Asia/Kolkata"
    url = load(fixture)
    with psycopg.connect(url) as conn:
        rows = conn.execute("SELECT result->>'item_id', (message->>'message_timestamp')::bigint FROM dramatiq.queue")
        sent = {item_id: datetime.fromtimestamp(at / 1000, UTC) for item_id, at in rows if item_id}
    given = [{"id": item_id, "times": [time.isoformat()]} for item_id, time in sent.items()]
    timed = replace(fixture, sync_log={**fixture.sync_log, "submitted_at_column": "mtime"}, given=given)
    found = read_fixture(timed, url, tmp_path).items
    assert set(found) == set(fixture.times)
    off = [sent[item_id] - time for item_id, (time, _) in found.items()]
    assert timedelta(hours=5, minutes=29) < min(off) < max(off) < timedelta(hours=5, minutes=30)


# --- the fixtures ----------------------------------------------------------------------------------------------------


def test_every_case_has_a_small_fixture_of_its_pinned_version():
    cases = {f"{name}-{case}": tool for name, tool in TOOLS.items() for case in tool["cases"]}
    assert set(cases) == {each.name for each in FIXTURES} == {path.stem for path in FOLDER.glob("*.sql")}
    for fixture in FIXTURES:
        first = [*cases[fixture.name].get("without_dependencies", []), *cases[fixture.name]["packages"]][0]
        assert first.endswith(fixture.version), f"{fixture.name}: make sync-logs"
        assert (FOLDER / f"{fixture.name}.sql").stat().st_size < MAX_BYTES
        settings = TOOLS[fixture.name.split("-")[0]]["cases"][fixture.name.split("-", 1)[1]]
        assert fixture.sync_log == settings["sync_log"]
        assert fixture.stores == settings["stores"]


def test_every_package_is_pinned():
    packages = [each for tool in TOOLS.values() for each in (*tool.get("without_dependencies", []), *tool["packages"])]
    assert [each for each in packages if "==" not in each and "@" not in each[1:]] == []


# --- the presets -----------------------------------------------------------------------------------------------------


def test_every_preset_is_tested_on_what_its_tool_wrote():
    assert {each.sync_log["preset"] for each in FIXTURES if "preset" in each.sync_log} == set(preset_names())


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("kind", URLS)
def test_a_preset_fills_valid_settings_on_both_databases(name, kind):
    preset = load_preset(name)
    filled = SyncLogConfig(url=URLS[kind], preset=name)
    given = json.loads(filled.model_dump_json(exclude={"url"}))
    without_server = {"timezone": "UTC"} if kind == "sqlite" and "timezone" in preset.settings else {}
    assert {key: given[key] for key in preset.settings} == {**preset.settings, **without_server}
    assert not {"url", "preset"} & set(preset.settings)
    assert preset.title
    assert preset.about.endswith(".")


def test_a_key_of_the_users_own_wins():
    log = SyncLogConfig(url=URLS["postgresql"], preset="celery", table="tasks", where={"status": "DONE"})
    assert (log.table, log.where, log.id_path, log.timezone) == ("tasks", {"status": "DONE"}, "$.item_id", "server")


def test_an_unknown_preset_has_no_file():
    with pytest.raises(KeyError):
        load_preset("../django")


CONFIGURED = """
database = "sqlite:///monitor.db"

[[targets]]
name = "engine"
provider = "gloo"
publisher_id = "p"
auth = { api_key = "k" }

[targets.sync_log]
url = "sqlite:///pipeline.db"
"""


def configured(folder, settings):
    path = folder / "monitor.toml"
    path.write_text(CONFIGURED + settings, encoding="utf-8")
    return ["--config", str(path)]


def test_config_check_names_the_presets_if_one_is_unknown(tmp_path, capsys):
    assert main(["config", "check", *configured(tmp_path, 'preset = "djanga"')]) == 2
    said = capsys.readouterr().err
    assert "targets.engine.sync_log.preset" in said
    assert 'did you mean "django"?' in said
    assert all(name in said for name in preset_names())


def test_config_show_tells_what_the_preset_filled(tmp_path, capsys):
    arguments = configured(tmp_path, 'preset = "sequelize_paranoid"\ntable = "Uploads"')
    assert main(["config", "show", "--json", *arguments]) == 0
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)["settings"]}
    prefix = "targets[0].sync_log"
    assert rows[f"{prefix}.preset"]["source"] == rows[f"{prefix}.table"]["source"] == "file"
    for key, value in (("submitted_at_column", "createdAt"), ("where.deletedAt", "null")):
        row = rows[f"{prefix}.{key}"]
        assert (row["value"], row["source"], row["origin"]) == (value, "preset", "preset sequelize_paranoid")
    assert rows[f"{prefix}.id_format"]["source"] == "default"


# --- the document ----------------------------------------------------------------------------------------------------


def test_the_tables_of_the_document_are_made_from_presets_and_fixtures():
    document = (ROOT / "docs/sync-log.md").read_text(encoding="utf-8")
    assert sync_log_tables.renewed(document) == document, "make docs"
