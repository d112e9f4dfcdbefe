"""Every SQL statement of the commands over a long history: `python benchmarks/plans.py [--postgresql] [--runs N]`.

Each with its plan, the rows or instructions that it cost, and its time; then the indexes that no statement used. The
history: 500 targets that ran every minute for RUNS minutes, five item events per run, and YEARS of them that ran for a
year and are checked. It is inserted by the database itself, in a minute or two. It measures this clone, in its own
environment.
"""

import argparse
import contextlib
import io
import os
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import past
import postgresql
from builds import here
from processes import serving
from sqlalchemy import Connection, text
from targets import Folder

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.samples import message
from support.statements import COMMANDS, Recorder, Statement, analyse, nodes, postgres_plan, rows_read, sqlite_plan
from support.years import GROWING, Years

from monitor.cli import main as command_line
from monitor.database.engine import connect, reading, writing
from monitor.runs import store as run_store
from monitor.runs import throttle_store
from monitor.web import database_probe

TARGETS, RUNS, EVENTS_PER_RUN, YEAR = 500, 2_000, 5, 365 * 24 * 60
ITEMS = 20
FEW = 2_000
"""Rows or steps that a statement may cost without an index."""
TARGET = "t000"
_MESSAGE = msgspec.json.encode(message()).decode()


def fill(database: str, runs: int, years: int) -> float:
    """Inserts the history, without indexes, which are made afterwards. Returns seconds."""
    began_s, engine, end = time.monotonic(), connect(database), datetime.now(UTC)
    names = tuple(f"t{number:03}" for number in range(TARGETS))
    all_targets = Years(
        targets=names, runs=runs, end=end, events_per_run=EVENTS_PER_RUN, first_id=100_000_000, message=_MESSAGE
    )
    older = Years(
        targets=names[:years],
        runs=YEAR,
        end=end - timedelta(minutes=runs),
        events_per_run=0,
        runs_per_incident=1_000,
        first_id=1_000_000,
        message=_MESSAGE,
    )
    with writing(engine) as conn:
        indexes = past.indexes_set_aside(conn)
        older.fill(conn)
        all_targets.fill(conn)
        past.make_indexes(conn, indexes)
    with writing(engine) as conn:
        analyse(conn)
    engine.dispose()
    return time.monotonic() - began_s


def look_at_statements(folder: Folder, database: str) -> None:
    """Prints each statement of the commands and endpoints with its plan and cost, and the unused indexes."""
    recorder, engine = Recorder(), connect(database)
    with contextlib.chdir(folder.path), recorder.recording():
        for command in COMMANDS:
            words = command.format(target=TARGET, incident=100_000_000, item="item-1").split()
            said = io.TextIOWrapper(io.BytesIO())
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                command_line(words)
        with reading(engine) as conn:
            names = [f"t{number:03}" for number in range(TARGETS)]
            database_probe.read(conn, targets=names, throttle_keys={}, timeout_s=60)
            run_store.last_run_key(conn, target=TARGET)
            throttle_store.look_up(conn, origin="", targets=names)
    used: set[str] = set()
    rows = []
    with engine.connect() as conn:
        for shape, statement in recorder.statements.items():
            if (row := _looked_at(conn, statement, used)) is not None:
                rows.append((*row, shape))
        conn.rollback()
        unused = [name for name in _index_names(conn) if name not in used]
    engine.dispose()
    counted = "rows read" if database.startswith("postgresql") else "steps"
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


def main() -> None:
    """Makes the history, runs the commands, and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgresql", action="store_true", help="on a private PostgreSQL server")
    parser.add_argument("--runs", type=int, default=RUNS, help="of each of the 500 targets")
    parser.add_argument("--years", type=int, default=1, help="targets that ran for a year")
    options = parser.parse_args()
    with contextlib.ExitStack() as open_parts:
        path = Path(open_parts.enter_context(tempfile.TemporaryDirectory(prefix="monitor-plans-")))
        server, database = open_parts.enter_context(serving("plain")), f"sqlite:///{path}/monitor.db"
        if options.postgresql:
            database = open_parts.enter_context(postgresql.running()).create("plans")
        names = [f"t{number:03}" for number in range(options.years)]
        folder = Folder(
            build=here(), path=path, server=server, names=names, database=database, more='[schedule]\nevery = "1m"\n'
        )
        folder.make(range(ITEMS))
        folder.check(completed=ITEMS)
        print(f"history inserted in {fill(database, options.runs, options.years):.0f} s", flush=True)
        look_at_statements(folder, database)


if __name__ == "__main__":
    for name in [name for name in os.environ if name.startswith(("MONITOR_", "GLOO_"))]:
        del os.environ[name]
    main()
