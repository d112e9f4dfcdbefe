"""Every page of the daemon, and its API, beside a year of one-minute runs of 20 targets.

A real daemon is asked over HTTP on loopback. What an answer costs is the CPU of its process, and of PostgreSQL's.
"""

import http.client
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import past
import postgresql
from builds import Build
from many_targets import ITEMS
from processes import ENVIRONMENT, cpu_clock_s, serving
from rounds import in_turns, middle
from table import Row
from targets import Folder
from year import GOAL_MS, address_of, make_folder, names

__all__ = ["on_postgresql", "on_sqlite"]

_PERIODS = ("24h", "7d", "30d", "90d", "365d")
PATHS = (
    *(f"/?since={each}" for each in _PERIODS),
    *(f"/targets/t000?since={each}" for each in _PERIODS), "/targets/t001?since=365d",
    "/incidents", "/incidents?state=resolved&page=2", f"/incidents/{past.LONG_INCIDENT}",
    f"/incidents/{past.LONG_INCIDENT + 1}", "/items", "/items → next", "/items → an item", "/status", "/status.json",
    "/badge/t000.svg", "/metrics", *(f"/api/v1/report?since={each}" for each in _PERIODS),
    "/api/v1/report?since=365d&target=t001", "/api/v1/slos", "/api/v1/targets", "/api/v1/incidents?limit=1000",
    f"/api/v1/incidents/{past.LONG_INCIDENT}/explain", "/api/v1/history?limit=1000", "/api/v1/items?limit=1000",
    "/api/v1/notifications?limit=1000",
)  # fmt: skip
"""Uploads of t000 are of five groups, those of t001 are dense. After an arrow: a link on that page."""
_LINKS = {"next": r'href="([^"]*\bafter=[^"]*)"', "an item": r'href="(/items/[^"]+)"'}
ANSWERS_PER_ROUND = 5
_STARTED_WITHIN_S = 120.0
_Cost = tuple[float, float]
"""CPU and seconds of an answer."""


def on_sqlite(builds: Sequence[Build], folder: Path, *, runs: int, rounds: int) -> list[Row]:
    """What each page costs on SQLite, after `runs` of each target."""
    with serving("plain") as server:
        made = make_folder(builds[0], server, folder / "pages")
        made.run("db", "upgrade")
        past.fill(f"sqlite:///{made.path}/monitor.db", names(), runs)
        return _costs(f"SQLite, {len(names()) * runs:,} runs", made, rounds)


def on_postgresql(builds: Sequence[Build], folder: Path, *, runs: int, rounds: int) -> list[Row]:
    """The same on PostgreSQL, whose CPU is counted too."""
    with serving("plain") as server, postgresql.running() as postgres:
        made = make_folder(builds[0], server, folder / "pages-postgresql", postgres.create("pages"))
        made.run("db", "upgrade")
        past.fill(made.database, names(), runs)
        return _costs(f"PostgreSQL, {len(names()) * runs:,} runs", made, rounds, postgres.cpu_s)


def _costs(title: str, folder: Folder, rounds: int, database_s: Callable[[], float] = lambda: 0.0) -> list[Row]:
    folder.check(completed=ITEMS)  # so that nothing is due while pages are asked for
    with _daemon(folder) as process:
        host = address_of(folder)

        def answer(path: str) -> _Cost:
            began_s, cpu_s = time.monotonic(), cpu_clock_s(process.pid) + database_s()
            _get(host, path)
            return cpu_clock_s(process.pid) + database_s() - cpu_s, time.monotonic() - began_s

        first = answer("/")
        addresses = {path: _address(host, path) for path in PATHS}
        for path in addresses.values():
            _get(host, path)
        works = {name: partial(_answers, partial(answer, path)) for name, path in addresses.items()}
        found = in_turns(works, rounds, title=title)
    return [_row(f"{title}: the first page after the start", [first])] + [
        _row(f"{title}: {name}", [cost for each in costs for cost in each]) for name, costs in found.items()
    ]


def _answers(answer: Callable[[], _Cost]) -> list[_Cost]:
    return [answer() for _ in range(ANSWERS_PER_ROUND)]


def _row(figure: str, costs: Sequence[_Cost]) -> Row:
    cpu_ms, wall_ms = (middle(found) * 1000 for found in zip(*costs, strict=True))
    measured = f"{cpu_ms:,.1f} ms of CPU, {wall_ms:,.1f} ms by the clock"
    return Row(figure=figure, measured=measured, goal=f"≤ {GOAL_MS:g} ms", met=cpu_ms <= GOAL_MS)


def _address(host: str, path: str) -> str:
    """The path itself, or a link of a page."""
    page, _, link = path.partition(" → ")
    if not link:
        return path
    found = re.search(_LINKS[link], _get(host, page))
    return found[1].replace("&amp;", "&") if found else page


def _get(host: str, path: str) -> str:
    with closing(http.client.HTTPConnection(host, timeout=60)) as connection:
        connection.request("GET", path, headers={"Accept": "text/html, application/json;q=0.9, */*;q=0.8"})
        found = connection.getresponse()
        text = found.read().decode()
    if found.status != http.HTTPStatus.OK:
        raise SystemExit(f"{path} was answered with {found.status}: {text[:500]}")
    return text


@contextmanager
def _daemon(folder: Folder) -> Iterator["subprocess.Popen[bytes]"]:
    """The daemon, once it listens and has been asked for its health."""
    command = [folder.build.command, "daemon"]
    with subprocess.Popen(command, cwd=folder.path, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as process:
        try:
            _await_health(address_of(folder), process)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def _await_health(host: str, process: "subprocess.Popen[bytes]") -> None:
    ends_s = time.monotonic() + _STARTED_WITHIN_S
    while process.poll() is None and time.monotonic() < ends_s:
        try:
            _get(host, "/readyz")
        except (ConnectionError, SystemExit):  # not yet listening, or not yet ready
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the daemon did not become ready")
