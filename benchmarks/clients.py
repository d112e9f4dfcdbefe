"""The client beside its peers, the build before and its goals, as one table: `make bench-client`.

Each figure comes from real runs of the installed command: item ids in a SQLite sync log, requests over loopback to a
server process, outcomes in SQLite. `--only` and `--quick` shorten it.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import builds
import cpu_profile
import faults
import speed
from builds import Build
from processes import serving
from table import Row, print_footer, print_table

_SPEED: Mapping[str, Callable[..., list[Row]]] = {"speed": speed.plain, "tls": speed.tls, "latency": speed.latency}
_FAULTS: Mapping[str, Callable[..., list[Row]]] = {
    "failures": faults.failures,
    "rate-limits": faults.rate_limits,
    "overruns": faults.overruns,
    "bomb": faults.bomb,
}
ITEMS, QUICK_ITEMS = 20_000, 4_000


def figures(options: argparse.Namespace, found: Sequence[Build]) -> list[Row]:
    """The rows of the chosen figures."""
    items, rounds = (
        options.items or (QUICK_ITEMS if options.quick else ITEMS),
        options.rounds or (3 if options.quick else 5),
    )
    works: dict[str, Callable[[], list[Row]]] = {
        name: partial(work, found, items=items, rounds=rounds, only=options.peer) for name, work in _SPEED.items()
    }
    works |= {name: partial(work, found[0], quick=options.quick) for name, work in _FAULTS.items()}
    return [row for name in options.only or works for row in works[name]()]


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(description=__doc__)
    found.add_argument("--only", choices=[*_SPEED, *_FAULTS], action="append", help="this figure; may be repeated")
    found.add_argument("--peer", action="append", default=[], help="only beside this peer; may be repeated")
    found.add_argument("--quick", action="store_true", help=f"{QUICK_ITEMS:,} items, three rounds: rougher")
    found.add_argument("--items", type=int, help=f"of speed and latency; default {ITEMS:,}")
    found.add_argument("--rounds", type=int, help="of speed and latency; default 5")
    found.add_argument("--profile", action="store_true", help="show where the CPU time goes instead")
    builds.add_options(found)
    return found


def main() -> None:
    """Measures the chosen figures and prints them beside their goals."""
    options = parser().parse_args()
    began_s = time.monotonic()
    with builds.chosen(options) as found:
        if options.profile:
            with serving("plain") as server:
                cpu_profile.show(found[0], server, options.items or ITEMS, strategy="items", in_flight=speed.IN_FLIGHT)
            return
        print_table(figures(options, found))
    print_footer(options.before, began_s)


if __name__ == "__main__":
    main()
