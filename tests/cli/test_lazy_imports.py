"""What a command does not use is not loaded: start-up time is most of what a `check` from cron costs."""

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
RARELY = ("alembic", "filelock", "apprise", "httpx", "smtplib", "rich", "dotenv", "psycopg")
"""Needed for a schema that is old, for some channels, on a terminal, where there is a `.env`, for PostgreSQL."""
RUNS = ("pyreqwest", "monitor.run", "monitor.client.client", "monitor.check", "monitor.delivery", "monitor.channels")
PARTS = ("sqlalchemy", "pydantic", "structlog", "msgspec", "monitor.config", "monitor.store", "monitor.wiring")


def loaded(world, *arguments):
    """The modules of a process that has run a command."""
    listing = world.folder / "modules.json"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MONITOR_", "GLOO_"))}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(listing), *arguments],
        cwd=world.folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    code, *modules = json.loads(listing.read_text())
    assert code in {0, 75}, ended.stderr  # `gate` says 75 of a run that was long ago
    return set(modules)


@pytest.mark.parametrize(
    ("arguments", "unused"),
    [
        pytest.param(["--help"], [*SERVERS, *RARELY, *RUNS, *PARTS], id="help"),
        pytest.param(["--version"], [*SERVERS, *RARELY, *RUNS, *PARTS], id="version"),
        pytest.param(["check"], [*SERVERS, *RARELY], id="check"),
        pytest.param(["notify"], [*SERVERS, *RARELY, "pyreqwest", "monitor.run"], id="notify"),
        pytest.param(["gate", "gloo"], [*SERVERS, *RARELY, *RUNS], id="gate"),
        pytest.param(["history"], [*SERVERS, *RARELY, *RUNS], id="history"),
    ],
)
def test_a_command_loads_nothing_that_it_does_not_use(small_world, arguments, unused):
    small_world.track(3)
    small_world.run()

    modules = loaded(small_world, *arguments)

    assert "monitor.cli.app" in modules
    assert sorted(modules & set(unused)) == []


def test_a_library_is_loaded_where_it_is_used(small_world):
    small_world.configure(check='http = "httpx"')
    small_world.track(3)

    assert {"httpx", "pyreqwest", "monitor.run"} <= loaded(small_world, "check")
