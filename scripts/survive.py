"""`make survive`: the effects of kills, races and database faults as tables; exit code 1 if a promise was broken.

Each section is a module of tests/survival with TITLE, HEAD and `rows(full=, seed=, postgres_url=)`, which yields rows
as they are measured: whether the promise holds, and the cells. `--short` plays a few of each; `--seed` repeats random
times; arguments select sections.
"""

import argparse
import importlib
import logging
import random
import sys
import time

import structlog
from support.postgres import private_server

SECTIONS = ("kills", "races", "signals", "faults", "growth", "canary", "waits", "sync", "fleet")


def main() -> int:
    """Prints the tables; returns 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", default=SECTIONS, help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--short", action="store_true", help="a few of each")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    print(f"seed {asked.seed}: `make survive SEED={asked.seed}` kills at the same random moments\n", flush=True)
    held = True
    with private_server() as url:
        for name in asked.sections:
            module = importlib.import_module(f"survival.{name}")
            held &= _section(module, full=not asked.short, seed=asked.seed, postgres_url=url)
    return 0 if held else 1


def _section(module, **options) -> bool:
    began_s, held = time.monotonic(), True
    print(f"### {module.TITLE}\n\n| {' | '.join(module.HEAD)} |\n|{'---|' * len(module.HEAD)}", flush=True)
    for holds, cells in module.rows(**options):
        held &= holds
        print(f"| {' | '.join(cells)} |{'' if holds else '  <-- FAILED'}", flush=True)
    print(f"\n{'All held' if held else 'NOT ALL HELD'}, in {time.monotonic() - began_s:.0f} s.\n", flush=True)
    return held


if __name__ == "__main__":
    sys.exit(main())
