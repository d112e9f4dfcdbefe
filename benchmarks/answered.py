"""What a question costs in a process that goes on: `BUILD/bin/python benchmarks/answered.py [QUESTION TIMES]`.

It asks as the daemon would, by the configuration in this folder, on a connection that is open, and prints the CPU of
its thread per answer in ms, without the first answers. Without a question it prints the questions.
"""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from monitor.config import Config, load_config
from monitor.config.slos import objectives_of
from monitor.database.engine import connect, reading
from monitor.reports.build import build_report
from monitor.reports.overview_json import overview_json
from monitor.reports.slos import read_all_slos
from monitor.web import database_probe

WARM_UP = 3
DAYS = (1, 7, 30, 90, 365)
DENSE = "t001"


def report(conn: Connection, config: Config, *, days: int, target: str | None = None) -> None:
    """A report as JSON."""
    now = datetime.now(UTC)
    overview, _ = build_report(conn, config, target=target, since=timedelta(days=days), now=now)
    json.dumps(overview_json(overview))


def objectives(conn: Connection, config: Config) -> None:
    """All objectives of all targets."""
    read_all_slos(conn, objectives={target.name: objectives_of(config.slos, target.name) for target in config.targets})


def probe(conn: Connection, config: Config) -> None:
    """What /metrics reads."""
    names = [target.name for target in config.targets]
    promised = {name: objectives_of(config.slos, name) for name in names}
    asked = database_probe.Objectives(promised=promised)
    database_probe.read(conn, targets=names, throttle_keys={}, timeout_s=60, objectives=asked, canaries=names)


QUESTIONS: dict[str, Callable[[Connection, Config], None]] = {
    **{f"report over {days} d, all targets": partial(report, days=days) for days in DAYS},
    **{f"report over {days} d, one target": partial(report, days=days, target=DENSE) for days in (7, 365)},
    "objectives": objectives,
    "/metrics' probe": probe,
}


def main() -> None:
    """Asks and prints."""
    if len(sys.argv) == 1:
        print(json.dumps(list(QUESTIONS)))
        return
    work, times = QUESTIONS[sys.argv[1]], int(sys.argv[2])
    config = load_config()
    engine = connect(config.database.reveal())
    costs_ms = []
    for _ in range(times):
        with reading(engine) as conn:
            began_s = time.thread_time()
            work(conn, config)
            costs_ms.append((time.thread_time() - began_s) * 1000)
    print(sum(costs_ms[WARM_UP:]) / (times - WARM_UP))


if __name__ == "__main__":
    main()
