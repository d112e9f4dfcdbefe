"""Kills of syncs: SIGKILL ends the real command while it merges pages that changed; the next run ends as usual.

Rows of the log are added, changed, moved and deleted, and one id comes into a second page, so that a sync also meets a
doubt. The oracle is a copy of the whole log: after the next run it finds nothing to change.
"""

import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import text
from support.world import World
from survival.environments import KINDS, Environments, summed_row
from survival.kills import Kill, started

TITLE = "Killed syncs (SIGKILL)"
HEAD = ("killed", "database", "kills", "items lost", "changed twice", "missed by the digests")
ITEMS = 1100
"""More than one page of a SQLite table."""
RANDOM_KILLS = 20
POINTS = ("sync.enter", "sync.batch", *["sync.statement"] * 7, "sync.commit", "sync.committed", "sync.leave")


@dataclass(frozen=True, kw_only=True)
class SyncKill:
    """What a kill cost."""

    wrong: list
    killed: bool
    lost: int
    repeated: int
    """Items that left the log, or came back, more than once by their events."""
    missed: int
    """Items that a copy of the whole log still changes."""


def survive(world: World, *, point: str = "", nth: int = 1, after_s: float = 0.0, doubt: bool = False) -> SyncKill:
    """Kills a run at a point, or after some seconds, while it syncs; then another run has to end as usual."""
    if world.database.startswith("postgresql"):
        world.sync_log = world.database
        world.log("CREATE TABLE sync_log (item_id TEXT, uploaded_at TEXT)")
        world.configure(sync_log=world.sync_log)
    ids = world.track(ITEMS)
    _run(world)
    in_log = _change(world, ids, doubt=doubt)
    killed, said = _kill(world, point, nth, after_s)
    wrong = [f"it did not die at {point}: {said}"] if point and not killed else []
    _write(world, "UPDATE leases SET holder = NULL")
    _run(world)
    tracked = {row["item_id"] for row in world.rows("SELECT item_id FROM items WHERE removed_at IS NULL")}
    lost = len(tracked ^ in_log)
    wrong += [f"{lost} items are lost, or too many"] if lost else []
    events = (
        "SELECT item_id FROM item_events WHERE kind IN ('removed', 'returned') GROUP BY item_id HAVING count(*) > 1"
    )
    repeated = len(world.rows(events))
    wrong += [f"{repeated} items changed twice"] if repeated else []
    before = _items(world)
    _write(world, "DELETE FROM sync_logs")
    _run(world)
    missed = sum(one != other for one, other in zip(before, _items(world), strict=True))
    wrong += [f"{missed} items differ after a copy of the whole log"] if missed else []
    return SyncKill(wrong=wrong, killed=killed, lost=lost, repeated=repeated, missed=missed)


def _change(world: World, ids: list[str], *, doubt: bool) -> set[str]:
    """Changes the log; returns the ids that it then has."""
    gone, moved, dated = ids[:5], ids[5:10], ids[-5:]
    for item_id in (*gone, *moved):
        world.log(f"DELETE FROM sync_log WHERE item_id = '{item_id}'")
    world.record(*moved)
    for item_id in dated:
        world.log(f"UPDATE sync_log SET uploaded_at = '2026-01-01T00:00:00Z' WHERE item_id = '{item_id}'")
    added = world.track(3)
    if doubt:
        world.record(ids[20])
    return {*ids, *added} - {*gone}


def _run(world: World):
    # by the clock of the command
    world.run(utcnow=lambda: datetime.now(UTC), lease_now=lambda _conn: datetime.now(UTC))


def _items(world: World):
    return world.rows("SELECT item_id, submitted_at, group_name, removed_at, first_seen_at FROM items ORDER BY item_id")


def _write(world: World, statement: str):
    with world.app.engine.begin() as conn:
        conn.execute(text(statement))


def _kill(world: World, point: str, nth: int, after_s: float) -> tuple[bool, str]:
    kill = Kill(point=point, nth=nth, after_s=after_s)
    with started(world, kill, report_at=None if point else "sync.enter") as (process, reported):
        if not point:
            with open(reported, "rb", closefd=False) as pipe:
                pipe.readline()
            time.sleep(after_s)
            process.kill()
        _, said = process.communicate(timeout=100)
        return process.returncode == -signal.SIGKILL, said


def steps() -> list[dict]:
    """A kill at each point; at every third of the statements."""
    found, before = [], 0
    for point in POINTS:
        nth = 1 + 3 * before if point == "sync.statement" else 1
        before += point == "sync.statement"
        found.append({"point": point, "nth": nth})
    return found


# --- what `make survive` prints ---------------------------------------------------------------------------------------


_SUMS = ("killed", "lost", "repeated", "missed")


def rows(*, full: bool, seed: int, postgres_url: str) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """One row per kind of kill and database."""
    row = partial(summed_row, survive=survive, sums=_SUMS)
    rng = random.Random(seed)  # reproducible with --seed
    with Environments(postgres_url) as environments:
        for kind in KINDS:
            kills = steps() if full else steps()[::4]
            yield row("at each step, of some pages", kind, environments, kills)
            yield row("at each step, after a doubt", kind, environments, [{**each, "doubt": True} for each in kills])
            times = [
                {"after_s": rng.uniform(0, 0.2), "doubt": rng.random() < 0.5}
                for _ in range(RANDOM_KILLS if full else 2)
            ]
            yield row(f"{len(times)} random times", kind, environments, times)
