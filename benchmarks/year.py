"""`check` and the commands that read, beside a year of one-minute runs of 20 targets and beside none.

The year is inserted into the schema of the build before, if there is one, copied, and upgraded by the build now, as a
user would. What a command costs on the database's side is, on SQLite, the CPU of its threads inside SQLite
(`counted.py`); on PostgreSQL the CPU of the server's processes.
"""

import contextlib
import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import past
import postgresql
from builds import BEFORE, NOW, Build
from many_targets import ITEMS, sql_of
from postgresql import Postgres
from processes import ENVIRONMENT, Server, measure, serving
from rounds import in_turns, middle, ratio, spread
from table import Row
from targets import Folder

__all__ = ["address_of", "make_folder", "names", "on_postgresql", "on_sqlite"]

TARGETS, RUNS = 20, 365 * 24 * 60
GOAL_CHECK, GOAL_MS = 1.1, 100.0
_CHECK = {"strategy": "items", "deadline": "4m"}
_SCHEDULE = '[schedule]\nevery = "1d"\n[[slos]]\nname = "in time"\nobjective = 0.95\nwithin = "2d"\nwindow = "30d"\n'
FAILED = float("inf")
_ANY_CODE = tuple(range(-20, 256))
_CLOSED = (0, 75)
"""`gate` ends with 75 if it is closed."""
COMMANDS = (
    "gate t000", "history --limit 20", "history --limit 20 --target t000", "report --peek", "report",
    "report --peek --since 30d", "report --peek --since 90d", "report --peek --since 365d",
    "report --peek --json --since 365d", "report --format csv --since 365d", "report --peek --target t000",
    "report --peek --since 365d --target t000", "report --peek --since 365d --target t001", "incidents list",
    "incidents list --all --limit 20", "items list --limit 20", "slo", "slo --json --target t001", "metrics",
)  # fmt: skip
"""`metrics` is a daemon that answers /metrics. Uploads of t000 are of five groups, those of t001 are dense."""


def on_sqlite(builds: Sequence[Build], folder: Path, *, runs: int, rounds: int) -> list[Row]:
    """On SQLite files, with `runs` of each target."""
    with serving("plain") as server:
        fresh = {build.name: make_folder(build, server, folder / "fresh" / build.name) for build in builds}
        years = {build.name: make_folder(build, server, folder / "year" / build.name) for build in builds}
        oldest = list(years.values())[-1]
        oldest.run("db", "upgrade")
        past.fill(f"sqlite:///{oldest.path}/monitor.db", names(), runs)
        if BEFORE in years:
            shutil.copyfile(oldest.path / "monitor.db", years[NOW].path / "monitor.db")
            years[NOW].run("db", "upgrade")
        found = _beside(fresh, years, runs, rounds)
        title = f"SQLite, {TARGETS * runs:,} runs"
        found += _reading(title, partial(_in_sqlite, years[NOW]), rounds)
        return [*found, *_answers(title, years[NOW], rounds)]


def on_postgresql(builds: Sequence[Build], folder: Path, *, runs: int, rounds: int) -> list[Row]:
    """The same commands of the build now on PostgreSQL."""
    with serving("plain") as server, postgresql.running() as postgres:
        year = make_folder(builds[0], server, folder / "postgresql-year", postgres.create("year"))
        year.run("db", "upgrade")
        past.fill(year.database, names(), runs)
        year.check(completed=ITEMS)
        title = f"PostgreSQL, {TARGETS * runs:,} runs"
        found = _reading(title, partial(_in_postgresql, year, postgres), rounds)
        return [*found, *_answers(title, year, rounds, postgres.cpu_s)]


def names() -> list[str]:
    """The targets."""
    return [f"t{number:03}" for number in range(TARGETS)]


def make_folder(build: Build, server: Server, path: Path, database: str = "sqlite:///monitor.db") -> Folder:
    """A folder of these targets, whose daemon would listen on a free port."""
    more = f'{_SCHEDULE}[web]\nlisten = "127.0.0.1:{_free_port()}"\n'
    made = Folder(
        build=build, path=path, server=server, names=names(), database=database, check_settings=_CHECK, more=more
    )
    made.make(range(ITEMS))
    return made


def address_of(folder: Folder) -> str:
    """Where the daemon of such a folder listens."""
    found = re.search(r'listen = "([^"]+)"', folder.more)
    return found[1] if found else ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _beside(fresh: Mapping[str, Folder], years: Mapping[str, Folder], runs: int, rounds: int) -> list[Row]:
    """One `check` beside few runs and beside the year. The build before may fail at it."""
    works: dict[str, Callable[[], float]] = {}
    for name, folder in fresh.items():
        for each in (folder, years[name]):  # the next run is measured, beside both
            _check(each)
        works[f"{name}, fresh"] = partial(_check, folder)
        works[f"{name}, year"] = partial(_check, years[name])
    cpu_s = in_turns(works, rounds, title="check beside a year")
    title = f"check of {TARGETS} targets beside {TARGETS * runs:,} runs"
    failed = {name: [each for each in found if each == FAILED] for name, found in cpu_s.items()}
    table = [
        Row(
            figure=f"{title}: CPU",
            measured=", ".join(
                f"{name} {'FAILED' if failed[name] else f'{middle(found):.2f} s'}" for name, found in cpu_s.items()
            ),
        )
    ]
    now, beside = cpu_s[f"{NOW}, fresh"], cpu_s[f"{NOW}, year"]
    if failed[f"{NOW}, year"]:
        return [*table, Row(figure=f"{title} ÷ fresh", measured="failed", goal=f"≤ {GOAL_CHECK}", met=False)]
    reached = ratio(beside, now)
    measured = f"{reached:.2f} ({spread(beside, now)}); all complete: no lease lost"
    return [
        *table,
        Row(figure=f"{title} ÷ fresh", measured=measured, goal=f"≤ {GOAL_CHECK}", met=reached <= GOAL_CHECK),
    ]


def _check(folder: Folder) -> float:
    """CPU seconds, or `FAILED` if a run was not complete."""
    spent = folder.run("check", "--json", codes=_ANY_CODE)
    complete = spent.code == 0 and all(run["status"] == "complete" for run in spent.json()["targets"])
    return spent.cpu_s if complete else FAILED


def _reading(title: str, cost_ms: Callable[[str], float], rounds: int) -> list[Row]:
    """What each command costs in the database; the first `report` only once."""
    rows = [_cost(title, "report, the first", [cost_ms("report")])]
    cost_ms("metrics")  # the daemon runs what is due today
    found = in_turns({words: partial(cost_ms, words) for words in COMMANDS}, rounds, title=title)
    return [*rows, *(_cost(title, words, costs) for words, costs in found.items())]


def _answers(title: str, folder: Folder, rounds: int, cpu_s: Callable[[], float] = lambda: 0.0) -> list[Row]:
    """What questions cost a process that goes on, such as the daemon's: its CPU, and that of the database's server."""
    script = Path(__file__).with_name("answered.py")
    found = defaultdict[str, list[tuple[float, float]]](list)
    for question in measure([folder.build.python, script], folder.path).json():
        for _ in range(rounds):
            before_s = cpu_s()
            own_ms = measure([folder.build.python, script, question, str(ASKED)], folder.path).json()
            found[question].append((own_ms, (cpu_s() - before_s) * 1000 / ASKED))
    rows = []
    for question, costs in found.items():
        own, server = middle([own for own, _ in costs]), middle([server for _, server in costs])
        in_all = f"{own + server:,.1f} ms of CPU" + (f", {server:,.1f} of them the server's" if server else "")
        goal = {"goal": f"≤ {GOAL_MS:g} ms", "met": own + server <= GOAL_MS}
        rows.append(Row(figure=f"{title}: {question}, in a process that goes on", measured=in_all, **goal))
    return rows


ASKED = 20
"""Times in a row; the first ones are left out of the CPU of the process."""


def _cost(title: str, words: str, costs_ms: Sequence[float]) -> Row:
    reached = middle(costs_ms)
    if words == "metrics":  # most of it is the start: the probe has a row of its own
        figure = f"{title}: start of a daemon and its first /metrics, CPU in the database"
        return Row(figure=figure, measured=f"{reached:,.1f} ms ({min(costs_ms):,.1f} to {max(costs_ms):,.1f})")
    return Row(
        figure=f"{title}: {words}, CPU in the database",
        measured=f"{reached:,.1f} ms ({min(costs_ms):,.1f} to {max(costs_ms):,.1f})",
        goal=f"≤ {GOAL_MS:g} ms",
        met=reached <= GOAL_MS,
    )


def _in_sqlite(folder: Folder, words: str) -> float:
    if words == "metrics":
        return _metrics_in_sqlite(folder)
    return sql_of(folder, *words.split(), codes=_CLOSED)["cpu_s"] * 1000


def _in_postgresql(folder: Folder, postgres: Postgres, words: str) -> float:
    before_s = postgres.cpu_s()
    if words == "metrics":
        _serve_metrics(folder, [str(folder.build.command)])
    else:
        folder.run(*words.split(), codes=_CLOSED)
    return (postgres.cpu_s() - before_s) * 1000


def _metrics_in_sqlite(folder: Folder) -> float:
    with tempfile.TemporaryDirectory() as made:
        path = Path(made, "counts.json")
        _serve_metrics(folder, [str(folder.build.python), str(Path(__file__).with_name("counted.py")), str(path)])
        return float(json.loads(path.read_text())["cpu_s"]) * 1000


def _serve_metrics(folder: Folder, command: Sequence[str]) -> None:
    """Runs the daemon until it has answered /metrics with what is stored."""
    with subprocess.Popen([*command, "daemon"], cwd=folder.path, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as process:
        try:
            _await_metrics(address_of(folder), process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def _await_metrics(address: str, process: "subprocess.Popen[bytes]") -> None:
    deadline_s = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline_s:
        connection = http.client.HTTPConnection(address, timeout=60)
        with contextlib.closing(connection), contextlib.suppress(ConnectionError):  # not yet listening
            connection.request("GET", "/metrics")
            if b"t000" in connection.getresponse().read():
                return
        time.sleep(0.1)
    raise SystemExit("the daemon did not answer /metrics")
