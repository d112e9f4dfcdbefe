"""Kills of waits: SIGKILL ends the real command in each step; a later run or wait closes the row, and counts it once.

The sign of life of the killed one is made to expire. A wait changes no item, so that nothing else can be left.
"""

import random
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import text
from support.world import World
from survival.environments import KINDS, Environments, summed_row
from survival.kills import Kill, started

TITLE = "Killed waits (SIGKILL)"
HEAD = ("killed", "database", "kills", "rows left open", "not counted once", "items changed")
ITEMS = 3
RANDOM_KILLS = 20
POINTS = (
    "wait_begin.enter", "wait_begin.commit", "wait_begin.committed", "wait_begin.leave",
    "token.enter", "ask.enter", "ask.leave",
    "wait_renew.enter", "wait_renew.commit", "wait_renew.committed",
    "wait_finish.enter", "wait_finish.leave",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class WaitKill:
    """What a kill cost."""

    wrong: list
    killed: bool
    unclosed: int
    uncounted: int
    """Rows that the totals do not count, or count twice."""
    changed: int


def survive(world: World, *, point: str = "", after_s: float = 0.0, closed_by: str = "check") -> WaitKill:
    """Kills a wait at a point or after some seconds; then a run, or another wait, closes its row."""
    ids = world.track(ITEMS)
    state = world.sandbox._state
    state.engine.settings = replace(world.sandbox.settings, item_seconds=0.2)
    world.run()
    before = world.rows("SELECT * FROM items ORDER BY item_id")
    killed, said = _kill(world, point, after_s, ids)
    wrong = [f"it did not die at {point}: {said}"] if point and not killed else []
    after = world.rows("SELECT * FROM items ORDER BY item_id")
    changed = sum(one != other for one, other in zip(before, after, strict=True))
    wrong += [f"{changed} items are changed"] if changed else []
    _write(world, "UPDATE waits SET alive_until = '2000-01-01 00:00:00.000000' WHERE result IS NULL")
    _close(world, closed_by, ids)
    unclosed = len(world.rows("SELECT id FROM waits WHERE result IS NULL"))
    wrong += [f"{unclosed} rows are left open"] if unclosed else []
    rows = world.rows("SELECT count(*) AS rows FROM waits")[0]["rows"]
    counted = world.rows("SELECT coalesce(sum(waits), 0) AS waits FROM wait_totals")[0]["waits"]
    wrong += [f"{rows} waits are counted as {counted}"] if rows != counted else []
    return WaitKill(wrong=wrong, killed=killed, unclosed=unclosed, uncounted=abs(rows - counted), changed=changed)


def _kill(world: World, point: str, after_s: float, ids: Sequence[str]) -> tuple[bool, str]:
    if point.startswith("wait_renew"):
        for item_id in ids:
            world.sandbox.set_status(item_id, "PROCESSING")  # so that it lives until its renewal
    kill = Kill(point=point, after_s=after_s, command="wait", renew_every_s=0.2 if "renew" in point else None)
    report_at = None if point else "wait_begin.enter"
    with started(world, kill, arguments=("gloo", *ids, "--timeout", "60s"), report_at=report_at) as (process, reported):
        if not point:
            with open(reported, "rb", closefd=False) as pipe:
                pipe.readline()
            time.sleep(after_s)
            process.kill()
        _, said = process.communicate(timeout=100)
        return process.returncode == -signal.SIGKILL, said


def _close(world: World, closed_by: str, ids: Sequence[str]):
    for item_id in ids:
        world.sandbox.set_status(item_id, "COMPLETED")
    if closed_by == "check":
        world.run()
    else:
        world.cli("wait", "gloo", *ids, "--timeout", "60s")


def _write(world: World, statement: str):
    with world.app.engine.begin() as conn:
        conn.execute(text(statement))


# --- what `make survive` prints ---------------------------------------------------------------------------------------


_SUMS = ("killed", "unclosed", "uncounted", "changed")


def rows(*, full: bool, seed: int, postgres_url: str) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """One row per kind of kill and database."""
    row = partial(summed_row, survive=survive, sums=_SUMS)
    rng = random.Random(seed)  # reproducible with --seed
    with Environments(postgres_url) as environments:
        for kind in KINDS:
            points = POINTS if full else POINTS[::4]
            yield row("at each step", kind, environments, [{"point": each} for each in points])
            times = [
                {"after_s": rng.uniform(0, 0.6), "closed_by": rng.choice(["check", "wait"])}
                for _ in range(RANDOM_KILLS if full else 2)
            ]
            yield row(f"{len(times)} random times", kind, environments, times)
