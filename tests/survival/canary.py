"""Kills of canaries: SIGKILL ends the real command in each step; the next canary leaves nothing in the engine.

The lease of the killed one is made to expire. If the next one can't know yet whether a document will appear, ten
minutes are made to pass, and one more canary must settle it.
"""

import json
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import text
from support.world import World
from survival.environments import KINDS, Environments, summed_row
from survival.kills import Kill, started

TITLE = "Killed canaries (SIGKILL)"
HEAD = ("killed", "database", "kills", "left in the engine", "removed by the next", "rows left open", "items counted")
UPLOAD = "/ingestion/v2/files"
CANARY = '[targets.canary]\nevery = "1h"\n'
ITEMS = 3
"""Of the user's own, which must stay."""
RANDOM_KILLS = 20
IN_FLIGHT = "the upload was executed, its answer is on its way"

POINTS = (
    "canary_begin.enter", "canary_begin.commit", "canary_begin.committed", "canary_begin.leave",
    "upload.enter", "token.enter", "request.enter", "request.leave", "keep.enter", "keep.leave", "upload.leave",
    "index.enter", "ask.enter", "ask.leave", "index.leave",
    "retrieve.enter", "retrieve.leave",
    "clean_up.enter", "clean_up.leave",
    "canary_close.enter", "canary_close.commit", "canary_close.committed",
    "canary_release.enter", "canary_release.commit", "canary_release.committed",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CanaryKill:
    """What a kill cost."""

    wrong: list
    killed: bool
    left: int
    """Documents of canaries in the engine after the canaries that follow."""
    removed: int
    unclosed: int
    counted: int
    """Documents of canaries among the user's items."""


def survive(world: World, *, point: str = "", after_s: float = 0.0) -> CanaryKill:
    """Kills a canary at a point, after some seconds, or while the answer to its upload is on its way."""
    world.configure(check="max_attempts = 2", more=CANARY)
    world.track(ITEMS)
    state = world.sandbox._state
    state.engine.settings = replace(world.sandbox.settings, item_seconds=0.2)
    killed, said = _kill_in_flight(world) if point == IN_FLIGHT else _kill(world, point, after_s)
    wrong = [f"it did not die at {point}: {said}"] if point and not killed else []
    _expire_lease(world)
    removed = _canary(world, wrong)
    if _pending(world):
        _pass_time(world)
        removed += _canary(world, wrong)
    left = world.sandbox.stats()["items"] - ITEMS
    wrong += [f"{left} documents are left in the engine"] if left else []
    unclosed = len(world.rows("SELECT id FROM canaries WHERE status = 'running'")) + _pending(world)
    wrong += [f"{unclosed} rows are left open"] if unclosed else []
    counted = _run_counts(world, wrong)
    return CanaryKill(wrong=wrong, killed=killed, left=left, removed=removed, unclosed=unclosed, counted=counted)


def _kill(world: World, point: str, after_s: float) -> tuple[bool, str]:
    kill = Kill(point=point, after_s=after_s, command="canary")
    report_at = None if point else "canary_begin.enter"
    with started(world, kill, arguments=("gloo",), report_at=report_at) as (process, reported):
        if not point:
            with open(reported, "rb", closefd=False) as pipe:
                pipe.readline()
            time.sleep(after_s)
            process.kill()
        _, said = process.communicate(timeout=100)
        return process.returncode == -signal.SIGKILL, said


def _kill_in_flight(world: World) -> tuple[bool, str]:
    """The engine has the document, and its answer comes byte by byte."""
    world.sandbox.add_fault(path=UPLOAD, passes=True, drip=4)
    with started(world, Kill(command="canary"), arguments=("gloo",)) as (process, _):
        ends_s = time.monotonic() + 60
        while world.sandbox.stats()["items"] == ITEMS and time.monotonic() < ends_s:
            time.sleep(0.01)
        process.kill()
        _, said = process.communicate(timeout=100)
    world.sandbox.clear_faults()
    assert world.sandbox.stats()["items"] == ITEMS + 1
    return process.returncode == -signal.SIGKILL, said


def _expire_lease(world: World):
    _write(world, "UPDATE leases SET expires_at = acquired_at WHERE target LIKE '%canary gloo' AND holder IS NOT NULL")


def _pass_time(world: World):
    """Eleven minutes: nothing that was uploaded before appears any more."""
    amount = "datetime(started_at, '-11 minutes')" if world.database.startswith("sqlite") else (
        "started_at - interval '11 minutes'"
    )  # fmt: skip
    _write(world, f"UPDATE canaries SET started_at = {amount}")


def _write(world: World, statement: str):
    with world.app.engine.begin() as conn:
        conn.execute(text(statement))


def _pending(world: World) -> int:
    return len(world.rows("SELECT id FROM canaries WHERE clean_up = 'pending'"))


def _canary(world: World, wrong: list) -> int:
    """The next canary, by the command; returns how many documents of earlier ones it removed."""
    done = world.cli("canary", "gloo", "--json")
    if done.returncode != 0:
        wrong.append(f"the next canary exits with {done.returncode}: {done.stdout} {done.stderr}")
        return 0
    return json.loads(done.stdout)["leftovers_removed"]


def _run_counts(world: World, wrong: list) -> int:
    """A run after the pipeline recorded every upload that it saw, those of canaries too."""
    ids = [row["item_id"] for row in world.rows("SELECT item_id FROM canaries WHERE item_id IS NOT NULL")]
    world.record(*ids)
    counted = world.run().snapshot.total - ITEMS
    wrong += [f"{counted} documents of canaries are items"] if counted else []
    return counted


# --- what `make survive` prints ---------------------------------------------------------------------------------------


_SUMS = ("killed", "left", "removed", "unclosed", "counted")


def rows(*, full: bool, seed: int, postgres_url: str) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """One row per kind of kill and database."""
    row = partial(summed_row, survive=survive, sums=_SUMS)
    rng = random.Random(seed)  # reproducible with --seed
    with Environments(postgres_url) as environments:
        for kind in KINDS:
            points = POINTS if full else POINTS[::5]
            yield row("at each step", kind, environments, [{"point": each} for each in points])
            yield row(IN_FLIGHT, kind, environments, [{"point": IN_FLIGHT}] * (3 if full else 1))
            times = [{"after_s": rng.uniform(0, 0.6)} for _ in range(RANDOM_KILLS if full else 2)]
            yield row(f"{len(times)} random times", kind, environments, times)
