"""Workers on this machine beside one process: items per second, and the use of a rate limit: `make bench-fleet`.

Each measurement has a new database, one daemon that plans, and so many worker processes, all of the installed command.
A worker has one share at a time, which has 64 requests in flight at most. Of a run in shares, the time from the first
share's begin to the last one's end counts: the sync before it is one process's work, and has a row of its own.
"""

import argparse
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import builds
import postgresql
import psycopg
from builds import Build
from postgresql import Postgres
from processes import ENVIRONMENT, LONGEST_S, Server, serving
from table import Row, print_footer, print_table
from targets import Folder

__all__ = ["limited", "main", "unlimited"]

ITEMS, WORKERS = 200_000, (1, 2, 4, 8)
LATENCY_S, RATE, RATE_S = 0.2, 500, 90
GOAL_EFFICIENCY, GOAL_USED, GOAL_REFUSED = 0.85, 0.95, 0.005
JUDGED = 4
"""The number of workers whose efficiency has a goal."""
SHARES, SHARES_AT_LIMIT = 80, 4
"""Of a run: ten for each of eight workers, so that the last ones do not wait long for each other. At a rate limit so
many for each worker: what counts there is the middle of the run.
"""
LEAST_SHARE, IN_FLIGHT = 100, 64
STEADY = (0.15, 0.9)
"""Between these parts of all answers a rate limit is in steady use: learned before, and not running out yet."""
_STOP_S = 30
_FLEET = """
[schedule]
every = "24h"

[web]
listen = "off"

[fleet]
workers = true
share = {share}
share_concurrency = {in_flight}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """One run in shares."""

    workers: int
    items: int
    """Of all shares."""
    shares: int
    checked_s: float
    """From the first begin of a share to the last end."""
    run_s: float
    cpu_s: float
    """Of all workers together; what their start took is in it."""
    server_cpu_s: float
    stats: Mapping[str, Any]
    """The API's counts."""

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.items / self.checked_s


@dataclass(slots=True)
class _Process:
    """A command that goes on until it is ended; its output is in a file."""

    popen: "subprocess.Popen[bytes]"
    log: Path
    cpu_s: float = field(default=0.0)

    @property
    def ended(self) -> bool:
        return self.popen.poll() is not None

    def stop(self) -> None:
        """SIGTERM; SystemExit if it does not end by that."""
        if self.popen.returncode is not None:
            return
        self.popen.send_signal(signal.SIGTERM)
        until_s = time.monotonic() + _STOP_S
        while time.monotonic() < until_s:
            pid, status, usage = os.wait4(self.popen.pid, os.WNOHANG)
            if pid:
                self.popen.returncode = os.waitstatus_to_exitcode(status)
                self.cpu_s = usage.ru_utime + usage.ru_stime
                return
            time.sleep(0.05)
        self.popen.kill()
        raise SystemExit(f"{self.log.name} did not end within {_STOP_S} s:\n{self.tail()}")

    def tail(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]


@contextmanager
def _started(folder: Folder, name: str, *words: str) -> Iterator[_Process]:
    log = folder.path / f"{name}.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [str(folder.build.command), *words], cwd=folder.path, stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, env=ENVIRONMENT,
        )  # fmt: skip
        process = _Process(popen, log)
        try:
            yield process
        finally:
            process.stop()


def unlimited(
    build: Build, database: Postgres, folder: Path, *, items: int = ITEMS, workers: Sequence[int] = WORKERS,
    latency_s: float = LATENCY_S,
) -> list[Row]:  # fmt: skip
    """An API with latency and without a limit: items per second by the number of workers, beside one `check`."""
    title = f"{items:,} items, {latency_s * 1000:.0f} ms, no limit"
    with serving("late", seconds=latency_s) as server:
        alone = _alone(build, database, server, folder, items)
        ended = [
            _fleet(build, database, server, folder / f"fast-{n}", items=items, workers=n, shares=SHARES)
            for n in workers
        ]
    table = [Row(figure=f"{title}: one process, {IN_FLIGHT} in flight: items/s", measured=f"{alone:.0f}")]
    for each in ended:
        efficiency = each.rate / each.workers / ended[0].rate * ended[0].workers
        judged = each.workers == JUDGED
        table.append(
            Row(
                figure=f"{title}: {_count(each.workers)}: items/s, efficiency",
                measured=f"{each.rate:.0f}, {efficiency:.2f} ({each.shares} shares in {each.checked_s:.1f} s)",
                goal=f"≥ {GOAL_EFFICIENCY}" if judged else "",
                met=efficiency >= GOAL_EFFICIENCY if judged else None,
            )
        )
    last = ended[-1]
    table += [
        Row(figure="… the whole run, with plan and close", measured=f"{last.run_s:.1f} s"),
        Row(figure="… CPU of the workers per item", measured=f"{last.cpu_s / last.items * 1e6:.0f} µs"),
        Row(figure="… CPU of PostgreSQL per item", measured=f"{last.server_cpu_s / last.items * 1e6:.0f} µs"),
    ]
    return table


def limited(
    build: Build, database: Postgres, folder: Path, *, rate: int = RATE, seconds: int = RATE_S,
    workers: Sequence[int] = WORKERS,
) -> list[Row]:  # fmt: skip
    """An API with a rate limit: how much of it is used in the steady window, and the share of 429 there."""
    table = []
    for count in workers:
        with serving("bucket", rate=rate) as server:
            path = folder / f"limited-{count}"
            shares = SHARES_AT_LIMIT * count
            ended = _fleet(build, database, server, path, items=rate * seconds, workers=count, shares=shares)
        used, refused, window_s = _use(ended.stats, rate)
        table.append(
            Row(
                figure=f"limit of {rate}/s: {_count(count)}: share used, share of 429",
                measured=f"{used:.1%}, {refused:.2%} ({window_s} s)",
                goal=f"≥ {GOAL_USED:.0%}, ≤ {GOAL_REFUSED:.1%}",
                met=used >= GOAL_USED and refused <= GOAL_REFUSED,
            )
        )
    return table


def _count(workers: int) -> str:
    return f"{workers} worker{'' if workers == 1 else 's'}"


def _use(stats: Mapping[str, Any], rate: int) -> tuple[float, float, int]:
    """The share of a rate limit that was used in the steady window, the share of refusals there, and its seconds."""
    accepted = {int(second): count for second, count in stats["accepted"].items()}
    refused = {int(second): count for second, count in stats["refused_in"].items()}
    total, so_far, window = sum(accepted.values()), 0, []
    for second in range(min(accepted), max(accepted) + 1):
        before, so_far = so_far, so_far + accepted.get(second, 0)
        if before >= STEADY[0] * total and so_far <= STEADY[1] * total:
            window.append(second)
    took = sum(accepted.get(second, 0) for second in window)
    lost = sum(refused.get(second, 0) for second in window)
    return took / (rate * max(1, len(window))), lost / max(1, took + lost), len(window)


def _folder(
    build: Build, database: Postgres, server: Server, path: Path, *, items: int, in_flight: int, shares: int
) -> Folder:
    """A new database with the newest schema, a sync log, and a configuration; with workers for so many shares (≥ 0)."""
    name = path.name.replace("-", "_")
    share = max(LEAST_SHARE, items // shares) if shares else 0
    found = Folder(
        build=build, path=path, server=server, database=database.create(name), log=database.create(f"{name}_log"),
        check_settings={"strategy": "items", "concurrency": in_flight, "deadline": "1h", "rate_share": 1.0},
        more=_FLEET.format(share=share, in_flight=IN_FLIGHT) if shares else "",
    )  # fmt: skip
    found.make(range(items))
    found.run("db", "upgrade")
    return found


def _alone(build: Build, database: Postgres, server: Server, folder: Path, items: int) -> float:
    """Items per second of one `check`, from its first request on."""
    target = _folder(build, database, server, folder / "alone", items=items, in_flight=IN_FLIGHT, shares=0)
    return items / target.check(completed=items, watched=True).asking_wall_s


def _fleet(
    build: Build, database: Postgres, server: Server, path: Path, *, items: int, workers: int, shares: int
) -> _Ended:
    """One run by so many workers, which must end complete."""
    in_flight = IN_FLIGHT * max(WORKERS)
    target = _folder(build, database, server, path, items=items, in_flight=in_flight, shares=shares)
    before = database.cpu_s()
    with ExitStack() as started, psycopg.connect(target.database, autocommit=True) as conn:
        processes = [
            started.enter_context(_started(target, f"worker-{n}", "worker", "--concurrency", "1"))
            for n in range(workers)
        ]
        _wait(processes, lambda: _one(conn, "SELECT count(*) = %s FROM procrastinate.monitor_workers", workers))
        processes.append(started.enter_context(_started(target, "daemon", "daemon")))
        _wait(processes, lambda: _one(conn, "SELECT count(*) > 0 FROM runs WHERE status <> 'running'"))
        for process in processes:
            process.stop()
        return _read(conn, processes[:workers], server, items, database.cpu_s() - before)


def _wait(processes: Sequence[_Process], done: Callable[[], object]) -> None:
    until_s = time.monotonic() + LONGEST_S
    while not done():
        for process in processes:
            if process.ended:
                raise SystemExit(f"{process.log.name} ended early:\n{process.tail()}")
        if time.monotonic() > until_s:
            raise SystemExit(f"no end within {LONGEST_S} s:\n{processes[-1].tail()}")
        time.sleep(0.2)


def _one(conn: "psycopg.Connection[Any]", query: str, *values: object) -> Any:  # noqa: ANN401  # of a query
    row = conn.execute(query.encode(), values).fetchone()
    return row[0] if row else None


def _read(
    conn: "psycopg.Connection[Any]", workers: Sequence[_Process], server: Server, items: int, server_cpu_s: float
) -> _Ended:
    """The run, as the database has it. SystemExit if it is not complete."""
    run_id, status, run_s, completed = conn.execute(
        "SELECT id, status, extract(epoch FROM finished_at - started_at)::float, completed "
        "FROM runs LEFT JOIN snapshots ON run_id = id ORDER BY id LIMIT 1"
    ).fetchone() or (0, "missing", 0.0, 0)
    if (status, completed) != ("complete", items):
        raise SystemExit(f"the run ended {status} with {completed} of {items} items:\n{workers[0].tail()}")
    shares, checked, checked_s = conn.execute(
        "SELECT count(*), coalesce(sum(items), 0), extract(epoch FROM max(ended_at) - min(begun_at))::float "
        "FROM run_shares WHERE run_id = %s",
        [run_id],
    ).fetchone() or (0, 0, 0.0)
    if not shares:
        raise SystemExit("the run was not cut into shares")
    return _Ended(
        workers=len(workers), items=int(checked), shares=shares, checked_s=checked_s, run_s=run_s,
        cpu_s=sum(each.cpu_s for each in workers), server_cpu_s=server_cpu_s, stats=server.stats(),
    )  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(description=__doc__)
    found.add_argument("--only", choices=["unlimited", "limited"], help="one figure instead of both")
    found.add_argument("--items", type=int, default=ITEMS, help="of the API without a limit: %(default)s")
    found.add_argument("--seconds", type=int, default=RATE_S, help="of the rate limit: %(default)s")
    found.add_argument("--workers", type=int, action="append", help=f"may be repeated; default {WORKERS}")
    found.add_argument("--here", action="store_true", help="this environment's command instead of a new wheel")
    return found


def main() -> None:
    """Measures and prints the table."""
    options = parser().parse_args()
    counts, began_s = options.workers or WORKERS, time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="monitor-fleet-")))
        build = builds.here() if options.here else builds.install(folder / "build")
        database = stack.enter_context(postgresql.running())
        rows = []
        if options.only != "limited":
            rows += unlimited(build, database, folder, items=options.items, workers=counts)
        if options.only != "unlimited":
            rows += limited(build, database, folder, seconds=options.seconds, workers=counts)
        print_table(rows)
    print_footer("none", began_s)


if __name__ == "__main__":
    main()
