"""Kills of workers: SIGKILL or SIGSTOP meets one while it plans, checks or closes a run that workers share.

Others go on, and the run must be closed once with every item. A worker that was frozen, and is thawed once its share
was taken over, must write nothing.
"""

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from support.observed import until
from support.world import World
from survival import audit
from survival.environments import Environments
from survival.kills import Kill, started
from survival.server import own_server

from monitor.config import load_config
from monitor.database.schema import upgrade
from monitor.fleet import queue_schema
from monitor.fleet.queue import Queue

TITLE = "Killed and frozen workers of shared runs (PostgreSQL)"
HEAD = ("what", "kills", "items lost", "written by a stale worker", "runs not closed once", "taken over within")
ITEMS = 500
STALLED_AFTER_S, TICK_S = 5, 5
SLOW_S = 10
"""For what a busy machine delays."""
IDLE_S = 30
"""How long PostgreSQL keeps the locks of a worker that was frozen inside a transaction."""
FLEET = f'[fleet]\nworkers = true\nshare = 100\nstalled_after = "{STALLED_AFTER_S}s"\n'
QUIET = ("--log-level", "error")


@dataclass(frozen=True, kw_only=True)
class FleetKill:
    """What a kill cost."""

    wrong: list
    killed: bool
    lost: int
    """Items without an outcome of the run that was closed."""
    stale: int
    """Rows that a worker wrote although its share was taken over, and changes that were stored twice."""
    unclosed: int
    """Runs that were not closed once."""
    free_s: float
    """From when others were there until the last takeover; 0: nothing had to be taken over."""


POINTS = (
    "plan.enter", "hand_over.enter", "hand_over.statement", "hand_over.statement", "hand_over.commit",
    "hand_over.committed", "defer_share.enter", "defer_share.enter", "defer_share.leave",
    "share_begin.enter", "share_begin.commit", "share_begin.committed",
    "share_record.enter", "share_record.statement", "share_record.statement", "share_record.commit",
    "share_record.committed", "share_life.commit", "share_end.enter", "share_end.commit", "share_end.committed",
    "defer_close.enter", "defer_close.leave", "seal.commit", "seal.committed",
    "close.statement", "close.statement", "close.statement", "close.commit", "close.committed",
)  # fmt: skip
FROZEN_AT = ("share_begin.committed", "share_record.enter", "share_record.commit", "share_end.enter", "close.enter")
RANDOM_KILLS, RESTARTS = 24, 3


def survive(world: World, *, point: str = "", nth: int = 1, after_s: float = 0.0, do: str = "KILL") -> FleetKill:
    """Plays one shared run, of which the first worker meets a signal at a point, or after some seconds."""
    _prepare(world)
    kill = Kill(point=point, nth=nth, command="worker")
    with started(world, kill, arguments=(*QUIET, "--concurrency", "2"), do=do) as (victim, _):
        _defer_plan(world)
        if point:
            killed = _meets_signal(victim, do)
        else:
            time.sleep(after_s)
            killed = victim.poll() is None
            victim.kill()
            victim.wait()
        with _workers(world, 2):
            died_at = datetime.now(UTC)
            wrong = _await_close(world)
            wrong += [f"it was not killed at {point}"] if point and not killed else []
            before = _written(world)
            stale = 0
            if do == "STOP":
                victim.send_signal(signal.SIGCONT)
                time.sleep(3)
                victim.send_signal(signal.SIGTERM)
                victim.wait(timeout=60)
                stale = sum(one != other for one, other in zip(before, _written(world), strict=True))
    return _judged(world, wrong, killed=killed, stale=stale, died_at=died_at, locks_s=IDLE_S if do == "STOP" else 0)


def survive_restart(server, folder: Path) -> FleetKill:
    """PostgreSQL is restarted, without a shutdown, while two workers share a run."""
    with _world_on(server, folder) as world:
        _prepare(world)
        with _workers(world, 2):
            _defer_plan(world)
            until(lambda: world.rows("SELECT 1 FROM run_shares WHERE state = 'running'"), "a share", timeout_s=60)
            world.app.engine.dispose()
            died_at = datetime.now(UTC)
            server.stop()
            time.sleep(1)
            server.start()
            wrong = _await_close(world)
        return _judged(world, wrong, killed=True, stale=0, died_at=died_at)


def _prepare(world: World):
    world.sync_log = world.database
    world.log("CREATE TABLE sync_log (item_id TEXT, uploaded_at TEXT)")
    world.configure(auth=world.key_auth, sync_log=world.sync_log, more=FLEET)
    queue_schema.upgrade(world.database)
    ids = world.track(ITEMS)
    for item_id in ids[:5]:
        world.sandbox.set_status(item_id, "FAILED")
    world.sandbox.add_fault(path="/engine/v2/items", passes=True, delay_s=0.15)  # a share takes longer than a beat


def _defer_plan(world: World, run_key: str = "fleet@1"):
    async def defer():
        config = load_config(world.config_path, environ={})
        async with Queue.open(config) as queue:
            await queue.defer_plan("gloo", run_key)

    asyncio.run(defer())


def _meets_signal(victim: subprocess.Popen, do: str) -> bool:
    """Waits until the worker has met the signal; returns whether it did."""
    ends_s = time.monotonic() + 60
    while time.monotonic() < ends_s:
        if do == "KILL" and victim.poll() is not None:
            return victim.returncode == -signal.SIGKILL
        if do == "STOP" and _is_stopped(victim.pid):
            return True
        time.sleep(0.02)
    return False


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "T"


@contextlib.contextmanager
def _workers(world: World, count: int) -> Iterator[None]:
    """Further workers, which are ready, until the end of the block."""
    before = _registered(world)
    processes = [world.start("worker", *QUIET) for _ in range(count)]
    try:
        until(lambda: _registered(world) >= before + count, f"{count} workers")
        yield
    finally:
        for each in processes:
            each.terminate()
        for each in processes:
            each.communicate(timeout=60)


def _registered(world: World) -> int:
    return world.rows("SELECT coalesce(max(id), 0) AS number FROM procrastinate.procrastinate_workers")[0]["number"]


def _await_close(world: World) -> list[str]:
    """Waits until the run was closed and nothing is left to do; returns what is wrong."""
    try:
        until(lambda: _is_closed(world), "a closed run", timeout_s=90)
    except AssertionError:
        return [f"the run was not closed: {world.rows('SELECT number, state, attempt FROM run_shares')}"]
    return []


def _is_closed(world: World) -> bool:
    try:
        closed = world.rows("SELECT count(*) AS runs FROM snapshots")[0]["runs"]
        jobs = world.rows(
            "SELECT count(*) AS jobs FROM procrastinate.procrastinate_jobs WHERE status IN ('todo', 'doing')"
        )
    except Exception:  # noqa: BLE001  # the server is just restarted
        world.app.engine.dispose()
        return False
    return bool(closed) and not jobs[0]["jobs"]


def _written(world: World) -> list:
    """All that a stale worker could write."""
    return [
        *world.rows("SELECT * FROM items ORDER BY item_id"),
        *world.rows("SELECT count(*) FROM item_events"),
        *world.rows("SELECT * FROM snapshots"),
        *world.rows("SELECT run_id, number, state, attempt, checked::text FROM run_shares ORDER BY 1, 2"),
    ]


TWICE = "SELECT item_id FROM item_events WHERE kind = 'state' GROUP BY item_id HAVING count(*) > 1"
TAKEN_OVER = """
SELECT max(at) AS at FROM (
    SELECT begun_at AS at FROM run_shares WHERE attempt > 1
    UNION ALL SELECT max(started_at) FROM runs HAVING count(*) > 1
) AS found
"""


def _judged(world: World, wrong: list, *, killed: bool, stale: int, died_at: datetime, locks_s: int = 0) -> FleetKill:
    last = "(SELECT max(run_id) FROM snapshots)"
    lost = world.rows(f"SELECT count(*) AS items FROM items WHERE asked_run_id IS DISTINCT FROM {last}")[0]["items"]
    stale += len(world.rows(TWICE))
    ends = [(row["status"], row["runs"]) for row in world.rows("SELECT status, count(*) AS runs FROM runs GROUP BY 1")]
    unclosed = sum(runs for status, runs in ends if status not in {"complete", "crashed"})
    unclosed += abs(dict(ends).get("complete", 0) - 1)
    unclosed += len(world.rows("SELECT 1 FROM shared_runs WHERE state = 'open'"))
    (row,) = world.rows("SELECT total, completed, failed, checked FROM history") or [{"total": None}]
    if tuple(row.values()) != (ITEMS, ITEMS - 5, 5, ITEMS):
        wrong = [*wrong, f"the snapshot is {row}"]
    (uploads,) = world.rows(audit.UPLOADS.format(audit.BUCKETS["postgresql"]))
    if len(set(uploads.values())) > 1:
        wrong = [*wrong, f"uploads are counted wrongly: {uploads}"]
    at = world.rows(TAKEN_OVER)[0]["at"]
    free_s = 0.0 if at is None else max(0.0, (at - died_at).total_seconds())
    if free_s > STALLED_AFTER_S + TICK_S + SLOW_S + locks_s:
        wrong = [*wrong, f"taken over after {free_s:.1f} s"]
    names = {"items lost": lost, "stale writes": stale, "runs not closed once": unclosed}
    wrong = [*wrong, *(f"{count} {name}" for name, count in names.items() if count)]
    return FleetKill(wrong=wrong, killed=killed, lost=lost, stale=stale, unclosed=unclosed, free_s=free_s)


@contextlib.contextmanager
def _world_on(server, folder: Path) -> Iterator[World]:
    from monitor.sandbox import Sandbox

    upgrade(server.url)
    with Sandbox() as sandbox:
        world = World(folder, sandbox, database=server.url, sync_log=f"sqlite:///{folder / 'pipeline.db'}")
        try:
            yield world
        finally:
            world.close()


def steps(points: Sequence[str] = POINTS) -> list[dict]:
    """A kill at each point; at the 1st, 4th, 7th … of the statements and of jobs that are queued."""
    found: list[dict] = []
    for point in points:
        before = sum(each["point"] == point for each in found)
        found.append({"point": point, "nth": 1 + 3 * before})
    return found


# --- what `make survive` prints ---------------------------------------------------------------------------------------


def rows(*, full: bool, seed: int, postgres_url: str) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """One row per kind of kill."""
    rng = random.Random(seed)  # reproducible with --seed
    every = steps() if full else steps()[4::9]
    frozen = [{"point": point, "do": "STOP"} for point in (FROZEN_AT if full else FROZEN_AT[1:2])]
    times = [{"after_s": rng.uniform(0.5, 4)} for _ in range(RANDOM_KILLS if full else 2)]
    with Environments(postgres_url) as environments:
        row = partial(_row, environments)
        yield row("killed at each step of a plan, a share and a close", every)
        yield row("frozen, and thawed when the run was closed", frozen)
        yield row(f"killed at {len(times)} random times", times)
    ends = []
    for _ in range(RESTARTS if full else 1):
        with own_server(max_connections="60") as server, tempfile.TemporaryDirectory() as folder:
            ends.append(survive_restart(server, Path(folder)))
    yield _cells("PostgreSQL restarted (immediate)", ends)


def _row(environments: Environments, what: str, kills: Sequence[dict]) -> tuple[bool, tuple[str, ...]]:
    ends = []
    for kill in kills:
        with environments.world("postgresql") as world:
            ends.append(survive(world, **kill))
        for each in ends[-1].wrong:
            print(f"{kill}: {each}", file=sys.stderr)
    return _cells(what, ends)


def _cells(what: str, ends: Sequence[FleetKill]) -> tuple[bool, tuple[str, ...]]:
    """Whether all promises held, and the sums."""
    sums = (sum(getattr(end, name) for end in ends) for name in ("killed", "lost", "stale", "unclosed"))
    longest_s = max(end.free_s for end in ends)
    return not any(end.wrong for end in ends), (what, *map(str, sums), f"{longest_s:.1f} s")
