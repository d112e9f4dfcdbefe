"""Many targets in one `check`: CPU and statements per target, the configuration's CPU, and peak memory."""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from builds import BEFORE, NOW, Build
from processes import Server, Spent, measure, serving
from rounds import in_turns, middle, ratio
from table import Row
from targets import Folder

__all__ = ["rows", "sql_of"]

ITEMS = 20
GOAL_TARGET_MS, GOAL_STATEMENTS, GOAL_CONFIG_S, GOAL_PEAK_MB = 20.0, 25, 1.0, 200
FULL = 1_000
"""Targets that the goals of the configuration and of the peak are for."""
COUNTED = 20
"""Targets whose SQL statements are counted, beside one more."""
_CHECK = {"strategy": "items", "deadline": "1h"}


def rows(builds: Sequence[Build], folder: Path, *, counts: Sequence[int], rounds: int) -> list[Row]:
    """`check` over each number of targets with 20 items, on SQLite."""
    found: list[Row] = []
    with serving("plain") as server:
        ones = {build.name: _folder(build, server, folder, 1) for build in builds}
        for count in counts:
            many = {build.name: _folder(build, server, folder, count) for build in builds}
            found += _checks(ones, many, count, 1, "first run")
            found += _checks(ones, many, count, 1 if count >= FULL else rounds, "next run")
        found += _configuration(ones, many, counts[-1])
        found.append(_statements(builds[0], server, folder))
    return found


def _folder(build: Build, server: Server, folder: Path, count: int) -> Folder:
    names = [f"t{number:04}" for number in range(count)]
    path = folder / "targets" / f"{build.name}-{count}"
    made = Folder(build=build, path=path, server=server, names=names, check_settings=_CHECK)
    made.make(range(ITEMS))
    return made


def _checks(ones: dict[str, Folder], many: dict[str, Folder], count: int, rounds: int, which: str) -> list[Row]:
    """CPU per target: what all take, less what one takes. Every run must be complete, so that no lease was lost."""
    title = f"{count:,} targets, {which}"
    works: dict[str, Callable[[], Spent | None]] = {}
    for name, one in ones.items():
        works[f"{name}, one"] = partial(one.check, completed=ITEMS)
        works[name] = partial(_check, many[name])
    results = in_turns(works, rounds, title=title)
    spent = {name: [each for each in found if each is not None] for name, found in results.items()}
    if len(spent.get(BEFORE, ())) < rounds:
        many = {NOW: many[NOW]}  # it lost its lock or a lease, which is what it is compared for
    per_target = {
        name: [
            (all_of_them.cpu_s - one.cpu_s) / (count - 1) * 1000
            for all_of_them, one in zip(spent[name], spent[f"{name}, one"], strict=True)
        ]
        for name in many
    }
    reached = middle(per_target[NOW])
    table = [
        Row(
            figure=f"{title}: CPU per target",
            measured=", ".join(f"{name} {middle(each):.1f} ms" for name, each in per_target.items()),
            goal=f"≤ {GOAL_TARGET_MS:g} ms",
            met=reached <= GOAL_TARGET_MS,
        ),
        _peak(f"{title}: peak", spent[NOW], count),
        _leases(f"{title}: leases lost", spent[NOW]),
    ]
    if BEFORE in ones and BEFORE not in per_target:
        table.append(Row(figure=f"{title}: before", measured="did not end complete"))
    if BEFORE in per_target:
        text = f"{ratio(per_target[NOW], per_target[BEFORE]):.2f}"
        table.append(Row(figure=f"{title}: CPU per target ÷ before", measured=text))
    return table


def _check(folder: Folder) -> Spent | None:
    """One `check`; None if the build before could not end it, as it may with so many targets on a busy machine."""
    try:
        return folder.check(completed=ITEMS)
    except SystemExit as error:
        if folder.build.name == NOW:
            raise
        print(error, file=sys.stderr)
        return None


def _peak(figure: str, spent: Sequence[Spent], count: int) -> Row:
    peak_mb = max(each.peak_mb for each in spent)
    met = peak_mb <= GOAL_PEAK_MB if count >= FULL else None
    return Row(figure=figure, measured=f"{peak_mb:.0f} MB", goal=f"≤ {GOAL_PEAK_MB} MB for {FULL:,}", met=met)


def _leases(figure: str, spent: Sequence[Spent]) -> Row:
    """Warnings about leases and locks; a lost lease would have ended the benchmark, since its run is not complete."""
    warned = sum(each.errors.count("lease_not") + each.errors.count("locked") for each in spent)
    return Row(figure=figure, measured=f"0, all complete, {warned} warnings of locks and leases", goal="0", met=True)


def _configuration(ones: dict[str, Folder], many: dict[str, Folder], count: int) -> list[Row]:
    works = {f"{name}, one": partial(one.run, "config", "check") for name, one in ones.items()}
    works |= {name: partial(each.run, "config", "check") for name, each in many.items()}
    spent = in_turns(works, 1, title=f"configuration of {count:,} targets")
    cpu_s = {name: middle([each.cpu_s for each in spent[name]]) - spent[f"{name}, one"][0].cpu_s for name in many}
    measured = ", ".join(f"{name} {each:.2f} s" for name, each in cpu_s.items())
    met = cpu_s[NOW] <= GOAL_CONFIG_S if count >= FULL else None
    goal = f"≤ {GOAL_CONFIG_S:g} s for {FULL:,}"
    return [Row(figure=f"configuration of {count:,} targets: CPU beside one", measured=measured, goal=goal, met=met)]


def _statements(build: Build, server: Server, folder: Path) -> Row:
    """Statements of a target's next run: those of several targets less those of one."""
    counts = []
    for count in (1, 1 + COUNTED):
        target = _folder(build, server, folder / "statements", count)
        target.check(completed=ITEMS)
        counts.append(sql_of(target, "check", "--quiet")["statements"])
    per_target = (counts[1] - counts[0]) / COUNTED
    met = per_target <= GOAL_STATEMENTS
    return Row(figure="SQL statements per target", measured=f"{per_target:.1f}", goal=f"≤ {GOAL_STATEMENTS}", met=met)


def sql_of(folder: Folder, *words: str, codes: Sequence[int] = (0,)) -> dict[str, float]:
    """Statements and CPU seconds in SQLite of one command."""
    with ExitStack() as open_parts:
        path = Path(open_parts.enter_context(tempfile.TemporaryDirectory()), "counts.json")
        line = [folder.build.python, Path(__file__).with_name("counted.py"), path, *words]
        measure(line, folder.path, codes=codes)
        found: dict[str, float] = json.loads(path.read_text())
    return found
