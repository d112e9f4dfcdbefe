"""How fast a year is replayed: `python benchmarks/backtest.py [--postgresql URL] [--runs N] [--targets N]`.

A generated year of five-minute runs of 20 targets: every thousandth run has evidence and is followed by an
incident, and one target has a document that stays failed all year. Prints the rows, the CPU and wall-clock seconds of
`rules backtest`, its peak memory, and the load of the machine.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.years import Years

from monitor.database.engine import connect, writing
from monitor.database.schema import upgrade

_TARGET = """
[[targets]]
name = "{name}"
provider = "gloo"
publisher_id = "p"
auth = {{ api_key = "k" }}
"""
RUNS, TARGETS, EVERY_S = 105_120, 20, 300
_FAILED_ALL_YEAR = """
INSERT INTO incidents (id, target, environment, cause, state, severity, opened_at, first_evidence_at, last_evidence_at,
    last_message_at, team, member_count, channels)
SELECT 1, 't000', 'production', 'items_failed', 'open', 'warning', min(started_at), min(started_at), min(started_at),
    min(started_at), 'pipeline', 1, '["log"]' FROM runs WHERE target = 't000';
INSERT INTO incident_events (id, incident_id, run_id, at, kind, reason, data)
SELECT 1, 1, min(id), min(started_at), 'joined', 'x', '{"count": 1}' FROM runs WHERE target = 't000';
INSERT INTO incident_events (id, incident_id, run_id, at, kind, reason, data)
SELECT 2, 1, min(id), min(started_at), 'opened', 'x', '{"channels": ["log"]}' FROM runs WHERE target = 't000';
"""


def fill(url: str, *, targets: int, runs: int) -> None:
    """The history, with an open incident about a failed document."""
    upgrade(url)
    engine = connect(url)
    names = tuple(f"t{number:03}" for number in range(targets))
    with writing(engine) as conn:
        Years(
            targets=names, runs=runs, end=datetime.now(UTC), every_s=EVERY_S, events_per_run=0, runs_per_incident=1_000
        ).fill(conn)
        for statement in filter(str.strip, _FAILED_ALL_YEAR.split(";")):
            conn.exec_driver_sql(statement)
    engine.dispose()


def main() -> None:
    """Measures one replay."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--postgresql", metavar="URL", help="an empty database; default: SQLite in a temporary folder")
    options.add_argument("--runs", type=int, default=RUNS, help="of each target")
    options.add_argument("--targets", type=int, default=TARGETS)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = given.postgresql or f"sqlite:///{folder}/monitor.db"
        fill(url, targets=given.targets, runs=given.runs)
        tables = [_TARGET.format(name=f"t{number:03}") for number in range(given.targets)]
        Path(folder, "monitor.toml").write_text("\n".join([f'database = "{url}"', *tables]), encoding="utf-8")
        began_s = time.monotonic()
        command = [sys.executable, "-m", "monitor", "rules", "backtest", "--since", "366d", "--limit", "1"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        wall_s, used = time.monotonic() - began_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    print(done.stdout.splitlines()[0])
    print(
        f"{used.ru_utime + used.ru_stime:.1f} s of CPU, {wall_s:.1f} s by the clock, {used.ru_maxrss / 1024:.0f} MB; "
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
    )


if __name__ == "__main__":
    main()
