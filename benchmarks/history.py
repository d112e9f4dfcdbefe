"""What commands cost beside a year of runs: `python benchmarks/history.py [--postgresql] [--runs N] [--before CLONE]`.

Two tables. The first: CPU seconds of whole commands beside a few runs and beside the history, for this clone and, with
`--before`, for another one (a work tree with its own `.venv`), in turns. The second: every SQL statement of these
commands and of the health endpoints over the history, with its plan, the rows or instructions that it cost, and its
time; then the indexes that no statement used.

The history: 500 targets that ran every minute for RUNS minutes, five item events per run, and YEARS of them that ran
for a year and are checked. It is inserted by the database itself, in a minute or two.
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from sqlalchemy import Connection, text

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from startup import TARGET_CONFIG, cpu_seconds, sandbox
from support.samples import message
from support.statements import COMMANDS, Recorder, Statement, analyse, nodes, postgres_plan, rows_read, sqlite_plan
from support.years import GROWING, Years

from monitor.cli import main as command_line
from monitor.database.engine import connect, reading, writing
from monitor.runs import store as run_store
from monitor.web import database_probe

TARGETS, RUNS, EVENTS_PER_RUN, YEAR = 500, 2_000, 5, 365 * 24 * 60
ROUNDS = 3
FEW = 2_000
"""Rows or steps that a statement may cost without an index."""
TARGET = "t000"
_MESSAGE = msgspec.json.encode(message()).decode()
_TIMED = (
    "check --quiet", "history --limit 20", "history --limit 20 --target t000", "gate t000",
    "report --peek --target t000",
    "incidents list", "notifications list --all --limit 20",
)  # fmt: skip
_CONFIG = """\
database = "{database}"
[schedule]
every = "1m"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A clone, and a folder with a configuration and a database of its own."""

    name: str
    python: Path
    folder: Path
    database: str

    def run(self, words: str) -> float:
        """CPU seconds of one command; SystemExit if it fails."""
        return cpu_seconds([str(self.python), "-m", "monitor", *words.split()], self.folder)

    def best_of(self, words: str) -> float:
        """The least of some rounds: other work on the machine makes it only larger."""
        return min(self.run(words) for _ in range(ROUNDS))


def fill(build: Build, runs: int, years: int) -> float:
    """Inserts the history, without indexes, which are made afterwards. Returns seconds."""
    began_s, engine, end = time.monotonic(), connect(build.database), datetime.now(UTC)
    names = tuple(f"t{number:03}" for number in range(TARGETS))
    all_targets = Years(
        targets=names, runs=runs, end=end, events_per_run=EVENTS_PER_RUN, first_id=100_000_000, message=_MESSAGE
    )
    before = end - timedelta(minutes=runs)
    older = Years(
        targets=names[:years],
        runs=YEAR,
        end=before,
        events_per_run=0,
        runs_per_incident=1_000,
        first_id=1_000_000,
        message=_MESSAGE,
    )
    with writing(engine) as conn:
        indexes = _drop_indexes(conn)
        older.fill(conn)
        all_targets.fill(conn)
        for index in indexes:
            conn.exec_driver_sql(index)
    with writing(engine) as conn:
        analyse(conn)
    engine.dispose()
    return time.monotonic() - began_s


def _drop_indexes(conn: Connection) -> list[str]:
    """Drops the indexes of tables that grow, and returns the statements that make them."""
    if conn.dialect.name == "sqlite":
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN ({})"
    else:
        query = (
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema AND tablename IN ({}) "
            "AND indexname NOT IN (SELECT conname FROM pg_constraint)"
        )
    found = conn.execute(text(query.format(", ".join(f"'{name}'" for name in GROWING)))).all()
    for name, _ in found:
        conn.exec_driver_sql(f'DROP INDEX "{name}"')
    return [sql for _, sql in found]


def time_commands(builds: list[Build], runs: int, years: int) -> None:
    """Prints the CPU seconds of commands beside few runs and beside the history."""
    fresh = {}
    for build in builds:
        build.run("check --quiet")
        fresh[build.name] = {words: build.best_of(words) for words in _TIMED}
        print(f"{build.name}: history inserted in {fill(build, runs, years):.0f} s", flush=True)
    print(f"\n{'CPU seconds':<40}" + "".join(f"{build.name:>12} few  many" for build in builds))
    for words in _TIMED:
        cells = []
        for build in builds:
            try:
                many = f"{build.best_of(words):5.2f}"
            except SystemExit as failed:
                many = f"fails: {str(failed).splitlines()[-1][:60]}"
            cells.append(f"{fresh[build.name][words]:>16.2f} {many}")
        print(f"{words:<40}" + "".join(cells), flush=True)


def look_at_statements(build: Build) -> None:
    """Prints each statement of the commands and endpoints with its plan and cost, and the unused indexes."""
    recorder, engine = Recorder(), connect(build.database)
    with contextlib.chdir(build.folder), recorder.recording():
        for command in COMMANDS:
            words = command.format(target=TARGET, incident=100_000_000, item="item-1").split()
            said = io.TextIOWrapper(io.BytesIO())
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                command_line(words)
        with reading(engine) as conn:
            names = [f"t{number:03}" for number in range(TARGETS)]
            database_probe.read(conn, targets=names, throttle_keys={}, timeout_s=60)
            run_store.last_run_key(conn, target=TARGET)
            run_store.min_throttle_factor(conn, targets=names)
    used: set[str] = set()
    rows = []
    with engine.connect() as conn:
        for shape, statement in recorder.statements.items():
            if (row := _looked_at(conn, statement, used)) is not None:
                rows.append((*row, shape))
        conn.rollback()
        unused = [name for name in _index_names(conn) if name not in used]
    engine.dispose()
    counted = "rows read" if build.database.startswith("postgresql") else "steps"
    print(f"\n{'plan':<6}{counted:>12}{'ms':>9}  statement")
    for verdict, cost, took_ms, shape in sorted(rows, key=lambda row: -row[1]):
        print(f"{verdict:<6}{cost:>12,}{took_ms:>9.1f}  {shape[:150]}")
    print(f"\n{len(rows)} statements, {sum(row[0] == 'scan' for row in rows)} scan a table that grows")
    print(f"indexes that none of them used: {', '.join(unused) or 'none'}")


def _looked_at(conn: Connection, statement: Statement, used: set[str]) -> tuple[str, int, float] | None:
    """Verdict, cost and time in ms of one statement; None if it does not read a table.

    It is no scan if a limit ends it after a few rows.
    """
    if conn.dialect.name == "postgresql":
        plan = postgres_plan(conn, statement)
        if plan is None:
            return None
        used.update(str(node["Index Name"]) for node in nodes(plan["Plan"]) if "Index Name" in node)
        scans = [node for node in nodes(plan["Plan"]) if node["Node Type"] == "Seq Scan"]
        cost, scanned = sum(rows_read(plan).values()), {node["Relation Name"] for node in scans}
        return _verdict(scanned, cost), cost, float(plan["Execution Time"])
    lines = sqlite_plan(conn, statement)
    if not any(line.startswith(("SCAN", "SEARCH")) for line in lines):
        return None
    used.update(word for line in lines for word in line.split() if word.startswith(("ix_", "uq_")))
    scans = [line.split()[1] for line in lines if line.startswith("SCAN") and "INDEX" not in line]
    began_s = time.perf_counter()
    if statement.sql.lstrip().upper().startswith(("SELECT", "WITH")):
        conn.exec_driver_sql(statement.sql, statement.parameters).fetchall()
    took_ms = (time.perf_counter() - began_s) * 1000
    cost = statement.steps // statement.times
    return _verdict(set(scans), cost), cost, took_ms


def _verdict(scanned: set[str], cost: int) -> str:
    return "scan" if scanned & set(GROWING) and cost > FEW else "index"


def _index_names(conn: Connection) -> list[str]:
    if conn.dialect.name == "sqlite":
        query = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name"
    else:
        query = (
            "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema AND indexname LIKE 'ix%' "
            "ORDER BY indexname"
        )
    return list(conn.execute(text(query)).scalars())


@contextlib.contextmanager
def _databases(folder: Path, count: int, *, postgresql: bool) -> Iterator[list[str]]:
    if not postgresql:
        yield [f"sqlite:///{folder / str(number)}/monitor.db" for number in range(count)]
        return
    import psycopg
    from support.postgres import private_server

    with private_server() as url:
        with psycopg.connect(url, autocommit=True) as conn:
            for number in range(count):
                conn.execute(f"CREATE DATABASE bench{number}")
        yield [url.removesuffix("/postgres") + f"/bench{number}" for number in range(count)]


def main() -> None:
    """Builds the history once per build, measures, and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgresql", action="store_true", help="on a private PostgreSQL server")
    parser.add_argument("--runs", type=int, default=RUNS, help="of each of the 500 targets")
    parser.add_argument("--years", type=int, default=1, help="targets that ran for a year")
    parser.add_argument("--before", type=Path, help="a clone with its .venv, measured beside this one")
    options = parser.parse_args()
    clones = {"now": Path(__file__).parent.parent}
    if options.before:
        clones["before"] = options.before.absolute()
    with tempfile.TemporaryDirectory(prefix="monitor-history-") as name, sandbox() as api:
        folder = Path(name)
        with _databases(folder, len(clones), postgresql=options.postgresql) as urls:
            builds = []
            for number, (clone, url) in enumerate(zip(clones.items(), urls, strict=True)):
                own = folder / str(number)
                own.mkdir()
                _prepare(own, url, api, options.years)
                python = clone[1] / ".venv" / "bin" / "python"
                builds.append(Build(name=clone[0], python=python, folder=own, database=url))
                subprocess.run([python, "-m", "monitor", "db", "upgrade"], cwd=own, check=True, capture_output=True)
            time_commands(builds, options.runs, options.years)
            look_at_statements(builds[0])


def _prepare(folder: Path, database: str, api: dict[str, object], years: int) -> None:
    import sqlite3

    with contextlib.closing(sqlite3.connect(folder / "pipeline.db")) as conn, conn:
        conn.execute("CREATE TABLE sync_log (item_id TEXT)")
        conn.executemany("INSERT INTO sync_log VALUES (?)", [(item,) for item in list(api["items"])])
    targets = "".join(TARGET_CONFIG.format(name=f"t{number:03}", **api) for number in range(years))
    (folder / "monitor.toml").write_text(_CONFIG.format(database=database) + targets, encoding="utf-8")


if __name__ == "__main__":
    for name in [name for name in os.environ if name.startswith(("MONITOR_", "GLOO_"))]:
        del os.environ[name]
    main()
