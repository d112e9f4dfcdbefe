"""CPU of commands beside an interpreter that does nothing: `python benchmarks/startup.py [--rounds N]`.

User and system CPU of whole processes, each command once per round, of this build and of the one before. A figure is
the median of its ratios to `python -c pass`, round by round, with the quartiles.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import builds
import postgresql
from builds import NOW, Build
from postgresql import Postgres
from processes import Server, measure, serving
from rounds import in_turns, middle
from table import Row, print_footer, print_table
from targets import Folder

ROUNDS = 21
ITEMS = 10
GOALS: Mapping[str, float] = {"--help": 7, "check": 50}
"""At most this multiple of `python -c pass`."""
_READING = ("notify", "gate bench", "history", "report", "incidents list", "config check")
_NOTHING = "python -c pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    """A command to measure, and what to undo before each time."""

    line: Sequence[str]
    folder: Path | None = None
    before: Callable[[], None] = lambda: None

    def cpu_s(self) -> float:
        self.before()
        return measure(self.line, self.folder).cpu_s


def _nothing_s(python: Path) -> float:
    """A single process that does nothing is too short to measure."""
    return middle([measure([python, "-c", "pass"]).cpu_s for _ in range(5)])


def _folder(build: Build, path: Path, server: Server, database: str = "sqlite:///monitor.db") -> Folder:
    folder = Folder(build=build, path=path / build.name, server=server, database=database)
    folder.make(range(ITEMS))
    return folder


def _forget(folder: Folder) -> None:
    for path in folder.path.glob("monitor.db*"):
        path.unlink()


def _commands(build: Build, path: Path, server: Server, postgres: Postgres) -> dict[str, _Command]:
    fresh, steady = _folder(build, path / "fresh", server), _folder(build, path / "steady", server)
    there = _folder(build, path / "postgresql", server, postgres.create(build.name))
    there.run("db", "upgrade")
    for each in (steady, there):
        each.check(completed=ITEMS)
    command = str(build.command)
    own = {name: _Command(line=[command, *name.split()], folder=steady.path) for name in ("check", *_READING)}
    return {
        "python -c 'import typer'": _Command(line=[str(build.python), "-c", "import typer"]),
        "--help": _Command(line=[command, "--help"]),
        "--version": _Command(line=[command, "--version"]),
        "check --help": _Command(line=[command, "check", "--help"]),
        "check, first run": _Command(line=[command, "check"], folder=fresh.path, before=partial(_forget, fresh)),
        "check, PostgreSQL": _Command(line=[command, "check"], folder=there.path),
        **own,
    }


def rows(found: Sequence[Build], folder: Path, rounds: int) -> Iterator[Row]:
    """Each command's median and ratio to an interpreter that does nothing."""
    with serving("plain") as server, postgresql.running() as postgres:
        works: dict[str, Callable[[], float]] = {_NOTHING: partial(_nothing_s, found[0].python)}
        for build in found:
            for name, command in _commands(build, folder, server, postgres).items():
                works[f"{build.name}: {name}"] = command.cpu_s
        spent_s = in_turns(works, rounds, title="start-up")
    nothing_s = spent_s.pop(_NOTHING)
    yield Row(figure=_NOTHING, measured=f"{middle(nothing_s) * 1000:6.1f} ms")
    for figure, times_s in spent_s.items():
        low, ratio, high = statistics.quantiles((a / b for a, b in zip(times_s, nothing_s, strict=True)), n=4)
        goal = GOALS.get(figure.removeprefix(f"{NOW}: "))
        yield Row(
            figure=figure,
            measured=f"{middle(times_s) * 1000:6.1f} ms, {ratio:5.1f} times ({low:.1f} to {high:.1f})",
            goal=f"≤ {goal:g} times" if goal else "",
            met=ratio <= goal if goal else None,
        )


def main() -> None:
    """Measures each command in rounds, and prints the ratios beside their goals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="at least 2")
    builds.add_options(parser)
    options, began_s = parser.parse_args(), time.monotonic()
    with builds.chosen(options) as found, tempfile.TemporaryDirectory(prefix="monitor-startup-") as folder:
        print_table(list(rows(found, Path(folder), options.rounds)))
    print_footer(options.before, began_s)


if __name__ == "__main__":
    main()
