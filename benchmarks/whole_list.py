"""A publisher's list of 1,000,000 items in one request, read by `check`: `python benchmarks/whole_list.py [--items N]`.

The target tracks few of these items, so that what grows with the list is receiving and reading it. A figure is the CPU
of the process from its first request to its end, less the same with a list of few; beside the build before, and beside
httpx with `json.loads` of the whole body.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import builds
from builds import NOW, Build
from processes import Server, Spent, measure, serving
from rounds import in_turns, middle, ratio
from table import Row, print_footer, print_table
from targets import Folder

ITEMS, TRACKED = 1_000_000, 20
GOAL_RATE, GOAL_MB = 500_000, 150
_PEER = "httpx and json.loads, stores nothing"
_CHECK = {"strategy": "list", "deadline": "1h"}


def rows(found: Sequence[Build], items: int, rounds: int) -> list[Row]:
    """Items per second of CPU, and peaks."""
    with ExitStack() as open_parts:
        few = open_parts.enter_context(serving("engine", items=TRACKED))
        many = open_parts.enter_context(serving("engine", items=items))
        works: dict[str, Callable[[], tuple[Spent, Spent]]] = {
            each.name: partial(_both, partial(_ours, each), few, many) for each in found
        }
        works[_PEER] = partial(_both, _peer, few, many)
        spent = in_turns(works, rounds, title="list")
    rates = {
        name: [(items - TRACKED) / (large.asking_cpu_s - small.asking_cpu_s) for small, large in pairs]
        for name, pairs in spent.items()
    }
    peaks = {name: max(large.peak_mb for _, large in pairs) for name, pairs in spent.items()}
    table = [
        Row(
            figure=f"list of {items:,} items: items per second of CPU, {name}",
            measured=f"{middle(rate):,.0f} ({min(rate):,.0f} to {max(rate):,.0f})",
            goal=f"≥ {GOAL_RATE:,}" if name == NOW else "",
            met=middle(rate) >= GOAL_RATE if name == NOW else None,
        )
        for name, rate in rates.items()
    ]
    table += [
        Row(
            figure=f"list of {items:,} items: peak, {name}",
            measured=f"{peak_mb:.0f} MB",
            goal=f"≤ {GOAL_MB} MB" if name == NOW else "",
            met=peak_mb <= GOAL_MB if name == NOW else None,
        )
        for name, peak_mb in peaks.items()
    ]
    others = [name for name in rates if name != NOW]
    return [
        *table,
        *(Row(figure=f"list: ÷ {name}", measured=f"{ratio(rates[NOW], rates[name]):.2f}") for name in others),
    ]


def _both(ask: Callable[[Server], Spent], few: Server, many: Server) -> tuple[Spent, Spent]:
    return ask(few), ask(many)


def _ours(build: Build, server: Server) -> Spent:
    with tempfile.TemporaryDirectory(prefix="monitor-bench-") as folder:
        target = Folder(build=build, path=Path(folder), server=server, check_settings=_CHECK)
        target.make(range(TRACKED))
        return target.check(completed=TRACKED, watched=True)


def _peer(server: Server) -> Spent:
    options = json.dumps({"peer": "list", "url": server.url})
    return measure([sys.executable, Path(__file__).with_name("peers.py"), options], server=server)


def main() -> None:
    """Measures the readers in turns and prints their figures beside the goals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--rounds", type=int, default=3)
    builds.add_options(parser)
    options, began_s = parser.parse_args(), time.monotonic()
    with builds.chosen(options) as found:
        print_table(rows(found, options.items, options.rounds))
    print_footer(options.before, began_s)


if __name__ == "__main__":
    main()
