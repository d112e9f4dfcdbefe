"""A command imports only what it uses, because start-up is most of the time of a `check` from cron."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
from pathlib import Path
from monitor.cli import main
code = main(sys.argv[2:])
Path(sys.argv[1]).write_text(json.dumps([code, *sys.modules]))
"""
SERVERS = ("fastapi", "uvicorn", "starlette", "prometheus_client", "apscheduler")
RARELY = (
    "alembic", "filelock", "apprise", "httpx", "smtplib", "rich", "dotenv", "psycopg", "procrastinate", "monitor.fleet",
    "sqlalchemy.dialects.postgresql",
)  # fmt: skip
"""Needed only for an old schema, some channels, a terminal, a `.env`, PostgreSQL, workers."""
RUNS = (
    "pyreqwest", "uvloop", "monitor.client.transports", "monitor.client.client",
    "monitor.runs.run", "monitor.runs.check", "monitor.notifications.delivery",
    "monitor.notifications.channels.slack",
)  # fmt: skip
PARTS = (
    "sqlalchemy",
    "pydantic",
    "structlog",
    "msgspec",
    "monitor.config",
    "monitor.database",
    "monitor.app",
    "monitor.model",
)
OF_COMMANDS = [*SERVERS, *RARELY, *RUNS, *(part for part in PARTS if part != "pydantic")]
"""typer itself imports pydantic to parse options."""


def own_environment():
    return {name: value for name, value in os.environ.items() if not name.startswith(("MONITOR_", "GLOO_"))}


def loaded(world, *arguments):
    """The modules that a process imports for a command."""
    listing = world.folder / "modules.json"
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(listing), *arguments],
        cwd=world.folder,
        env=own_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    code, *modules = json.loads(listing.read_text())
    # 75: `gate` is closed because the last run is too old; 1: the item that `wait` is about is none
    assert code in {0, 1, 75}, ended.stderr
    return set(modules)


DATACLASSES = """
import sys
from monitor.cli import main
main(["check", "--quiet"])
found = {
    value
    for name, module in sys.modules.items() if name.startswith("monitor.")
    for value in vars(module).values() if isinstance(value, type) and "__dataclass_fields__" in vars(value)
}
print(len(found))
"""
MOST_DATACLASSES = 110


def test_a_check_makes_few_dataclasses(small_world):
    small_world.track(3)
    ended = subprocess.run(
        [sys.executable, "-c", DATACLASSES],
        cwd=small_world.folder, env=own_environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    # each costs a thousandth of the start: a frozen value is a `msgspec.Struct` (ADR 21)
    assert 0 < int(ended.stdout) <= MOST_DATACLASSES


@pytest.mark.parametrize(
    ("arguments", "unused"),
    [
        pytest.param(["--help"], [*SERVERS, *RARELY, *RUNS, *PARTS], id="help"),
        pytest.param(["check", "--help"], OF_COMMANDS, id="help of a command"),
        pytest.param(["doctor", "--help"], OF_COMMANDS, id="help of doctor", marks=pytest.mark.process),
        pytest.param(["--version"], [*SERVERS, *RARELY, *RUNS, *PARTS], id="version", marks=pytest.mark.process),
        pytest.param(["check"], [*SERVERS, *RARELY, "pyreqwest"], id="check"),
        pytest.param(
            ["notify"], [*SERVERS, *RARELY, "pyreqwest", "monitor.runs.run"], id="notify", marks=pytest.mark.process
        ),
        pytest.param(["gate", "gloo"], [*SERVERS, *RARELY, *RUNS], id="gate", marks=pytest.mark.process),
        pytest.param(["wait", "--help"], OF_COMMANDS, id="help of wait", marks=pytest.mark.process),
        pytest.param(["wait", "gloo", "--ids-from", "ids.txt"], [*SERVERS, *RARELY, "monitor.runs.run"], id="wait"),
        pytest.param(["history"], [*SERVERS, *RARELY, *RUNS], id="history", marks=pytest.mark.process),
        pytest.param(["report"], [*SERVERS, *RARELY, *RUNS], id="report", marks=pytest.mark.process),
        pytest.param(["incidents", "list"], [*SERVERS, *RARELY, *RUNS], id="incidents list", marks=pytest.mark.process),
    ],
)
def test_a_command_imports_only_what_it_uses(small_world, arguments, unused):
    small_world.track(3)
    small_world.run()
    (small_world.folder / "ids.txt").write_text("nonsense\n")

    modules = loaded(small_world, *arguments)

    assert "monitor.cli.app" in modules
    assert sorted(modules & set(unused)) == []


def test_a_library_is_imported_if_it_is_configured(small_world):
    small_world.configure(check='http = "httpx"')
    small_world.track(3)

    assert {"httpx", "pyreqwest", "monitor.runs.run"} <= loaded(small_world, "check")
