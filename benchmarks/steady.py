"""The first run over many items, and later ones in which little or nothing changed: CPU of whole `check` commands, by
the list, beside the build before. On SQLite, and on PostgreSQL with the server's CPU.

Each build has a folder of its own with the same ids. Between two measured runs a row is written into another table of
the sync log's database, so its file is not the same; that it is the same is a figure of its own.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import id_logs
import postgresql
from builds import BEFORE, NOW, Build
from postgresql import Postgres
from processes import Server, Spent, serving
from rounds import in_turns, middle, ratio, spread
from table import Row
from targets import Folder

__all__ = ["on_postgresql", "on_sqlite"]

GOAL_STEADY, GOAL_WATERMARK, GOAL_PENDING, GOAL_FIRST, GOAL_PEAK_MB = 0.10, 0.06, 0.15, 0.4, 150
GOAL_HERE_S, GOAL_SERVER_S = 3.0, 1.0
"""For a million items."""
FULL, FEW = 1_000_000, 20
PENDING_SHARE, NEW_ROWS = 0.005, 1_000
_CHECK = {"strategy": "list", "deadline": "1h"}


@dataclass(slots=True, kw_only=True)
class _Watched:
    """One build's folder, and how many of its items are completed."""

    folder: Folder
    completed: int
    start_up_s: float = 0.0
    """CPU seconds of a `check` of few items."""
    server_cpu_s: Callable[[], float] = lambda: 0.0
    """CPU seconds of the database server so far."""
    spent: list[Spent] = field(default_factory=list)
    server_s: list[float] = field(default_factory=list)
    """Of the database server, for each of `spent`."""

    def check(self, prepare: Callable[[], None] = lambda: None, *, new: int = 0) -> Spent:
        """One measured run, after a preparation that adds so many completed items."""
        prepare()
        self.completed += new
        before_s = self.server_cpu_s()
        spent = self.folder.check(completed=self.completed)
        self.server_s.append(self.server_cpu_s() - before_s)
        self.spent.append(spent)
        return spent

    @property
    def name(self) -> str:
        """The build's."""
        return self.folder.build.name

    def touch(self) -> None:
        id_logs.touch(self.folder.log_url)


def on_sqlite(builds: Sequence[Build], folder: Path, *, items: int, rounds: int) -> list[Row]:
    """First run, steady runs and peak memory on SQLite files."""
    with _engine(items, rounds) as server:
        watched = [_made(build, server, folder / "sqlite" / build.name, items) for build in builds]
        _measure_start_up(watched, rounds)
        rows = _series(watched, 1, f"first run over {items:,} items by list", lambda each: each.check, GOAL_FIRST)
        first_mb = watched[0].spent[0].peak_mb
        rows += _series(watched, rounds, f"steady, {items:,}, file unchanged", lambda each: each.check, GOAL_STEADY)
        rows += _series(
            watched,
            rounds,
            f"steady, {items:,}, file written, rows unchanged",
            lambda each: partial(each.check, each.touch),
            GOAL_STEADY,
        )
        steady_mb = max(each.peak_mb for each in watched[0].spent)
        rows.append(_absolute("peak memory by list, first run", first_mb, "MB", GOAL_PEAK_MB, items))
        rows.append(_absolute("peak memory by list, steady", steady_mb, "MB", GOAL_PEAK_MB, items))
        rows += _by_watermark(watched, items, rounds)
        rows += _pending(watched, items, rounds)
    return rows


def on_postgresql(builds: Sequence[Build], folder: Path, *, items: int, rounds: int) -> list[Row]:
    """Steady runs with the sync log and the monitor's database on one PostgreSQL server, which is counted too."""
    with _engine(items, rounds) as server, postgresql.running() as postgres:
        watched = [_made(build, server, folder / "postgresql" / build.name, items, postgres) for build in builds]
        _measure_start_up(watched, rounds)
        rows = _series(watched, 1, f"PostgreSQL, first run over {items:,} items", lambda each: each.check, None)
        for each in watched:
            postgresql.vacuum(each.folder.database)
            postgresql.vacuum(each.folder.log)
        rows += _series(
            watched,
            rounds,
            f"PostgreSQL, steady, {items:,}, rows unchanged",
            lambda each: partial(each.check, each.touch),
            None,
        )
        now = watched[0]
        here_s, server_s = middle([each.cpu_s for each in now.spent]), middle(now.server_s)
        rows.append(_absolute("PostgreSQL, steady: CPU here", here_s, "s", GOAL_HERE_S, items))
        rows.append(_absolute("PostgreSQL, steady: CPU in the server", server_s, "s", GOAL_SERVER_S, items))
        rows += [
            Row(figure=f"PostgreSQL, steady: CPU in the server, {each.name}", measured=f"{middle(each.server_s):.2f} s")
            for each in watched[1:]
        ]
    return rows


def _measure_start_up(watched: Sequence[_Watched], rounds: int) -> None:
    """A `check` of few items on SQLite, which no figure of many can go below."""
    works = {}
    for each in watched:
        folder = Folder(
            build=each.folder.build,
            path=each.folder.path.with_name(f"{each.name}-few"),
            server=each.folder.server,
            check_settings=_CHECK | {"strategy": "items"},
        )
        folder.make(range(FEW))
        folder.check(completed=FEW)
        works[each.name] = partial(folder.check, completed=FEW)
    spent = in_turns(works, rounds, title="start-up")
    for each in watched:
        each.start_up_s = middle([found.cpu_s for found in spent[each.name]])


@contextlib.contextmanager
def _engine(items: int, rounds: int) -> Iterator[Server]:
    """An API with all items that are ever added; those after the first `items` are pending for a while."""
    pending = int(items * PENDING_SHARE)
    settings = {"items": items + pending + rounds * NEW_ROWS, "pending_from": items, "pending_to": items + pending}
    with serving("engine", **settings) as server:
        yield server


def _made(build: Build, server: Server, path: Path, items: int, postgres: Postgres | None = None) -> _Watched:
    if postgres is None:
        folder = Folder(build=build, path=path, server=server, check_settings=_CHECK)
        folder.make(range(items))
        return _Watched(folder=folder, completed=items)
    database, log = (postgres.create(f"{build.name}_{part}") for part in ("monitor", "log"))
    folder = Folder(build=build, path=path, server=server, check_settings=_CHECK, database=database, log=log)
    folder.make(range(items))
    folder.run("db", "upgrade")
    return _Watched(folder=folder, completed=items, server_cpu_s=postgres.cpu_s)


def _by_watermark(watched: Sequence[_Watched], items: int, rounds: int) -> list[Row]:
    """With `updated_at_column`, beside the build before as it is."""
    now, *before = watched
    now.folder.configure(updated_at_column="updated_at")
    figure = f"steady, {items:,} items, file written, with updated_at_column"
    if now.folder.run("config", "check", codes=(0, 2, 3)).code:
        now.folder.configure()
        return [
            Row(figure=figure, measured="this build has no updated_at_column", goal=f"≤ {GOAL_WATERMARK}", met=False)
        ]
    now.folder.check(completed=now.completed)  # which compares all once
    rows = _series([now, *before], rounds, figure, lambda each: partial(each.check, each.touch), GOAL_WATERMARK)
    now.folder.configure()
    now.folder.check(completed=now.completed)
    return rows


def _pending(watched: Sequence[_Watched], items: int, rounds: int) -> list[Row]:
    """A share of the items is pending, and each run finds new rows."""
    pending = int(items * PENDING_SHARE)
    for each in watched:
        id_logs.append(each.folder.log_url, range(items, items + pending), updated_at=_now())
        each.folder.check(completed=each.completed)
    started = {each.name: items + pending for each in watched}

    def add(each: _Watched) -> None:
        first = started[each.name]
        started[each.name] = first + NEW_ROWS
        id_logs.append(each.folder.log_url, range(first, first + NEW_ROWS), updated_at=_now())

    return _series(
        watched, rounds, f"steady, {items:,} items, {PENDING_SHARE:.1%} pending, {NEW_ROWS:,} new rows",
        lambda each: partial(each.check, partial(add, each), new=NEW_ROWS), GOAL_PENDING,
    )  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _series(
    watched: Sequence[_Watched],
    rounds: int,
    figure: str,
    work: Callable[[_Watched], Callable[[], Spent]],
    goal: float | None,
) -> list[Row]:
    """Measured runs in turns, as rows: CPU seconds, and the ratio to the build before."""
    for each in watched:
        each.spent, each.server_s = [], []
    spent = in_turns({each.name: work(each) for each in watched}, rounds, title=figure)
    cpu = {name: [each.cpu_s for each in found] for name, found in spent.items()}
    measured = ", ".join(f"{name} {middle(found):.2f} s" for name, found in cpu.items())
    rows = [
        Row(figure=f"{figure}: CPU", measured=f"{measured}; peak {max(each.peak_mb for each in spent[NOW]):.0f} MB")
    ]
    if BEFORE not in cpu:
        return rows
    started = {each.name: each.start_up_s for each in watched}
    without = {name: [cpu_s - started[name] for cpu_s in found] for name, found in cpu.items()}
    whole, sloped = ratio(cpu[NOW], cpu[BEFORE]), ratio(without[NOW], without[BEFORE])
    reached = whole if watched[0].completed >= FULL else sloped
    measured = f"{whole:.3f} ({spread(cpu[NOW], cpu[BEFORE])}); without start-up {sloped:.3f}"
    met = reached <= goal if goal else None
    return [*rows, Row(figure=f"{figure}: CPU ÷ before", measured=measured, goal=f"≤ {goal}" if goal else "", met=met)]


def _absolute(figure: str, value: float, unit: str, goal: float, items: int) -> Row:
    """A row whose goal is for a million items."""
    met = value <= goal if items >= FULL else None
    return Row(figure=figure, measured=f"{value:.2f} {unit}", goal=f"≤ {goal:g} {unit} for {FULL:,}", met=met)
