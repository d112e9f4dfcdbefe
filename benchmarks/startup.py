"""CPU of commands beside an interpreter that does nothing: `python benchmarks/startup.py [--rounds N] [--here]`.

User and system CPU of whole processes (the kernel's `rusage`), each command once per round. A figure is the median of
its ratios to `python -c pass`, round by round, with the quartiles. `check` asks a sandbox in another process.
"""

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installed import Installed, here, install
from table import Row, print_table

from monitor.sandbox import Sandbox

ROUNDS = 21
ITEMS = 10
GOALS: Mapping[str, float] = {"--help": 16, "check": 90}
"""At most this multiple of `python -c pass`."""
_ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MONITOR_", "GLOO_"))},
    "NO_PROXY": "127.0.0.1",
}
"""Without variables that would load other modules than the installed ones."""
TARGET_CONFIG = """
[[targets]]
name = "{name}"
provider = "gloo"
base_url = "{url}"
publisher_id = "{publisher_id}"
auth = {{ client_id = "{client_id}", client_secret = "{client_secret}" }}
[targets.sync_log]
url = "sqlite:///pipeline.db"
"""
"""A target beside the sandbox, whose sync log is in the folder of the configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    """A command to measure, and what to undo before each time."""

    figure: str
    line: Sequence[str]
    folder: Path | None = None
    before: Callable[[], None] = lambda: None


def _cpu_s(command: _Command) -> float:
    command.before()
    return cpu_seconds(command.line, command.folder)


def cpu_seconds(line: Sequence[str], folder: Path | None) -> float:
    """User and system CPU seconds of one process. SystemExit, with its output, if it fails."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(line, cwd=folder, stdout=said, stderr=said, env=_ENVIRONMENT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            text = said.read().decode(errors="replace")[-2000:]
            raise SystemExit(f"{' '.join(line)} ended with {process.returncode}:\n{text}")
    return usage.ru_utime + usage.ru_stime


def _serve() -> None:
    """Serves the sandbox until stdin ends; prints what a configuration and a sync log need."""
    with Sandbox() as sandbox:
        said = {
            "url": sandbox.url,
            "publisher_id": sandbox.settings.publisher_id,
            "client_id": sandbox.settings.client_id,
            "client_secret": sandbox.settings.client_secret,
            "items": sandbox.create_items(ITEMS, status="COMPLETED"),
        }
        print(json.dumps(said), flush=True)
        sys.stdin.read()


@contextlib.contextmanager
def sandbox() -> Iterator[dict[str, Any]]:
    """A sandbox in another process: its URL, credentials and items."""
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield json.loads(server.stdout.readline() if server.stdout else "")
        finally:
            server.kill()


@contextlib.contextmanager
def _postgres() -> Iterator[str]:
    """A database on the tests' PostgreSQL server."""
    if named := os.environ.get("MONITOR_TEST_POSTGRES_URL"):
        yield named
        return
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from support.postgres import private_server

    with private_server() as url:
        yield url


def _prepared(folder: Path, database: str, engine: Mapping[str, Any]) -> Path:
    """A folder with a configuration and a sync log of ten items."""
    folder.mkdir()
    log = folder / "pipeline.db"
    with contextlib.closing(sqlite3.connect(log)) as conn, conn:
        conn.execute("CREATE TABLE sync_log (item_id TEXT)")
        conn.executemany("INSERT INTO sync_log VALUES (?)", [(each,) for each in engine["items"]])
    settings = {name: value for name, value in engine.items() if name != "items"}
    config = f'database = "{database}"' + TARGET_CONFIG.format(name="bench", **settings)
    (folder / "monitor.toml").write_text(config, encoding="utf-8")
    return folder


def _commands(ours: Installed, folder: Path, engine: Mapping[str, Any], postgres: str) -> list[_Command]:
    python, monitor = str(ours.python), str(ours.command)
    fresh = _prepared(folder / "fresh", "sqlite:///monitor.db", engine)
    steady = _prepared(folder / "steady", "sqlite:///monitor.db", engine)
    server = _prepared(folder / "server", postgres, engine)

    def forget() -> None:
        for path in fresh.glob("monitor.db*"):
            path.unlink()

    _cpu_s(_Command(figure="db upgrade", line=[monitor, "db", "upgrade"], folder=server))
    for each in (steady, server):
        _cpu_s(_Command(figure="check", line=[monitor, "check"], folder=each))
    reading = [
        _Command(figure=name, line=[monitor, *name.split()], folder=steady)
        for name in ("notify", "gate bench", "history", "report", "incidents list", "config check")
    ]
    return [
        _Command(figure="python -c 'import typer'", line=[python, "-c", "import typer"]),
        _Command(figure="--help", line=[monitor, "--help"]),
        _Command(figure="--version", line=[monitor, "--version"]),
        _Command(figure="check --help", line=[monitor, "check", "--help"]),
        _Command(figure="check", line=[monitor, "check"], folder=steady),
        _Command(figure="check, first run", line=[monitor, "check"], folder=fresh, before=forget),
        _Command(figure="check, PostgreSQL", line=[monitor, "check"], folder=server),
        *reading,
    ]


def _rows(nothing_s: Sequence[float], spent_s: Mapping[str, Sequence[float]]) -> Iterator[Row]:
    yield Row(figure="python -c pass", measured=f"{statistics.median(nothing_s) * 1000:6.1f} ms")
    for figure, times_s in spent_s.items():
        low, ratio, high = statistics.quantiles((a / b for a, b in zip(times_s, nothing_s, strict=True)), n=4)
        measured = f"{statistics.median(times_s) * 1000:6.1f} ms, {ratio:5.1f} times ({low:.1f} to {high:.1f})"
        goal = GOALS.get(figure)
        yield Row(
            figure=figure,
            measured=measured,
            goal=f"≤ {goal:g} times" if goal else "",
            met=ratio <= goal if goal else None,
        )


def _measure(ours: Installed, rounds: int, folder: Path, postgres: str) -> None:
    with sandbox() as engine:
        nothing = _Command(figure="python -c pass", line=[str(ours.python), "-c", "pass"])
        commands = _commands(ours, folder, engine, postgres)
        nothing_s: list[float] = []
        spent_s: dict[str, list[float]] = {each.figure: [] for each in commands}
        for _ in range(rounds):
            # a single process that does nothing is too short to measure
            nothing_s.append(statistics.median(_cpu_s(nothing) for _ in range(5)))
            for each in commands:
                spent_s[each.figure].append(_cpu_s(each))
    print(f"{ours.name}, CPU of whole processes, {rounds} rounds; ratios to `python -c pass`, middle half in brackets")
    print_table(list(_rows(nothing_s, spent_s)))


def main() -> None:
    """Installs the wheel, measures each command in rounds, and prints the ratios beside their goals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="at least 2")
    parser.add_argument("--here", action="store_true", help="measure this environment's command, not the wheel's")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        _serve()
        return
    folder = Path(tempfile.mkdtemp(prefix="monitor-startup-"))
    try:
        with _postgres() as postgres:
            _measure(here() if options.here else install(folder), options.rounds, folder, postgres)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
