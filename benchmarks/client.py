"""The client beside its peers and its goals, as one table: `make bench-client`, or `python benchmarks/client.py`.

Each figure comes from real runs: item ids in a SQLite sync log, requests over loopback to a server process, outcomes in
SQLite. It needs two cores and an otherwise idle machine, and about six minutes; `--only` and `--quick` shorten it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import faults
import speed
from processes import serving, stats
from table import Row, print_table

_FIGURES: Mapping[str, Callable[..., list[Row]]] = {
    "speed": speed.no_latency,
    "latency": speed.with_latency,
    "failures": faults.failures,
    "rate-limits": faults.rate_limits,
    "overruns": faults.overruns,
    "bomb": faults.bomb,
}

_BUSY = 0.5
"""Load average above which other processes slow down the measurement."""


def _profile(transport: str, in_flight: int) -> None:
    """Prints where our own time goes, without the thread that stores."""
    with serving("plain") as url:
        options = {"url": url, "items": 5000, "concurrency": in_flight, "check": {"http": transport}, "profile": True}
        command = [sys.executable, str(Path(__file__).with_name("ours.py")), json.dumps(options)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"{stats(url)['requests']} requests over http = {transport}, {in_flight} in flight", file=sys.stderr)


def main() -> None:
    """Measures the chosen figures and prints them beside their goals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=_FIGURES, action="append", help="this figure; may be given several times")
    parser.add_argument("--quick", action="store_true", help="fewer items and one round: rough figures in a minute")
    parser.add_argument(
        "--profile", action="store_true", help="run ours under cProfile instead: the top 25 by own time"
    )
    parser.add_argument(
        "--transport", choices=speed.transports(), default=speed.transports()[0], help="of --profile: `http`"
    )
    parser.add_argument("--concurrency", type=int, default=64, help="of --profile: requests in flight")
    options = parser.parse_args()
    if options.profile:
        _profile(options.transport, options.concurrency)
        return
    started_s, load = time.monotonic(), os.getloadavg()[0]
    rows = [row for name in options.only or _FIGURES for row in _FIGURES[name](quick=options.quick)]
    print_table(rows)
    print(f"took {time.monotonic() - started_s:.0f} s; one core for the clients, another for the server")
    if load > _BUSY:
        print(f"the machine was busy at the start (load {load:.1f}): trust only the ratios per second of CPU")


if __name__ == "__main__":
    main()
