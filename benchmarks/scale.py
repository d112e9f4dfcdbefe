"""What a million items, a thousand targets and a year of runs cost, as one table: `make bench-scale`.

Each figure comes from whole commands of the installed wheel, in turns with the build before. At full size it takes
hours on two cores; `--quick` ends in minutes, and `--only` chooses.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import builds
import many_targets
import pages
import steady
import year
from builds import Build
from table import Row, print_footer, print_table

ITEMS, QUICK_ITEMS = 1_000_000, 20_000
RUNS, QUICK_RUNS = year.RUNS, 10_000
TARGETS, QUICK_TARGETS = (200, 1_000), (20,)
NAMES = ("steady", "postgresql", "targets", "year", "year-postgresql", "pages", "pages-postgresql")


def figures(options: argparse.Namespace, found: Sequence[Build], folder: Path) -> list[Row]:
    """The rows of the chosen figures."""
    items = options.items or (QUICK_ITEMS if options.quick else ITEMS)
    runs = options.runs or (QUICK_RUNS if options.quick else RUNS)
    counts = options.targets or (QUICK_TARGETS if options.quick else TARGETS)
    rounds = options.rounds
    works: tuple[Callable[[], list[Row]], ...] = (
        partial(steady.on_sqlite, found, folder, items=items, rounds=rounds),
        partial(steady.on_postgresql, found, folder, items=items, rounds=rounds),
        partial(many_targets.rows, found, folder, counts=counts, rounds=rounds),
        partial(year.on_sqlite, found, folder, runs=runs, rounds=rounds),
        partial(year.on_postgresql, found, folder, runs=runs, rounds=rounds),
        partial(pages.on_sqlite, found, folder, runs=runs, rounds=rounds),
        partial(pages.on_postgresql, found, folder, runs=runs, rounds=rounds),
    )
    chosen = dict(zip(NAMES, works, strict=True))
    return [row for name in options.only or NAMES for row in chosen[name]()]


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(description=__doc__)
    found.add_argument("--only", choices=NAMES, action="append", help="this figure; may be repeated")
    found.add_argument("--quick", action="store_true", help=f"{QUICK_ITEMS:,} items: minutes")
    found.add_argument("--items", type=int, help=f"of steady and postgresql; default {ITEMS:,}")
    found.add_argument("--runs", type=int, help=f"of each of 20 targets, of the years; default {RUNS:,}")
    found.add_argument("--targets", type=int, action="append", help=f"of targets; may be repeated; default {TARGETS}")
    found.add_argument("--rounds", type=int, default=3)
    found.add_argument("--folder", type=Path, help="for databases; default: a temporary one")
    builds.add_options(found)
    return found


def main() -> None:
    """Measures the chosen figures and prints them beside their goals."""
    options = parser().parse_args()
    began_s = time.monotonic()
    with (
        builds.chosen(options) as found,
        tempfile.TemporaryDirectory(prefix="monitor-scale-", dir=options.folder) as made,
    ):
        print_table(figures(options, found, Path(made)))
    print_footer(options.before, began_s)


if __name__ == "__main__":
    main()
