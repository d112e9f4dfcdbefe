"""Races: many processes try the same run keys, and one of them is stopped during a run for longer than its lease.

Triggers record the epoch under which each row of a run was written, and the epoch of the target's lease at that time.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.observed import until
from support.world import World, environment
from survival.environments import KINDS, Environments, paths

from monitor.database.engine import writing
from monitor.runs.run import LEASE_TTL

TITLE = "Races"
HEAD = ("race", "database", "run once", "run twice", "refused", "the stopped one lost", "rows written", "stale rows")
RACER = Path(__file__).with_name("racer.py")
ITEMS = 2
POINTS = ("record.enter", "close.enter")
"""Where the stopped process holds a lease, has something to write, and no lock of the database."""
INSIDE = "record.commit"
"""Where it is inside a transaction: a server ends that after a while, a SQLite file stays locked."""

_WRITES = {
    "snapshots": ("INSERT", ""),
    "evidence": ("INSERT", ""),
    "item_events": ("INSERT", ""),
    "incident_events": ("INSERT", ""),
    "items": ("UPDATE", "NEW.asked_run_id <> OLD.asked_run_id"),
    "runs": ("UPDATE", "NEW.status NOT IN ('running', 'crashed')"),
}
"""What a run writes, and when it is the run itself: the next holder closes the run of another as crashed."""
_RUN_ID = {"items": "asked_run_id", "runs": "id"}
_NOTE = """
INSERT INTO watched SELECT '{table}', r.id, r.epoch, l.epoch FROM runs r JOIN leases l ON l.target = r.target
WHERE r.id = NEW.{run_id};
"""
STALE = "SELECT what, run_id, run_epoch, lease_epoch FROM watched WHERE run_epoch <> lease_epoch"


@dataclass(frozen=True, kw_only=True)
class RaceResult:
    """The result of a race."""

    wrong: list
    once: int
    twice: int
    refused: int
    lost: int
    written: int
    stale: int


def watch(world: World):
    """Adds triggers that record under which epoch rows are written."""
    with writing(world.app.engine) as conn:
        conn.exec_driver_sql("CREATE TABLE watched (what TEXT, run_id INTEGER, run_epoch INTEGER, lease_epoch INTEGER)")
        for table, (verb, when) in _WRITES.items():
            note = _NOTE.format(table=table, run_id=_RUN_ID.get(table, "run_id"))
            condition = f"WHEN ({when})" if when else ""
            head = f"CREATE TRIGGER watch_{table} AFTER {verb} ON {table} FOR EACH ROW {condition}"
            if conn.dialect.name == "sqlite":
                conn.exec_driver_sql(f"{head} BEGIN {note} END")
                continue
            body = f"BEGIN {note} RETURN NULL; END"
            conn.exec_driver_sql(f"CREATE FUNCTION watch_{table}() RETURNS trigger LANGUAGE plpgsql AS $${body}$$")
            conn.exec_driver_sql(f"{head} EXECUTE FUNCTION watch_{table}()")


def race(world: World, *, processes: int, run_keys: int, point: str, waits: bool) -> RaceResult:
    """Runs the race.

        Args:
            world: a new one.
            processes: how many; one of them is stopped.
    run_keys: how many there are to execute.
            point: where it is stopped, in its first run.
            waits: whether to wait until its lease expires; otherwise its expiry is set to the past.
    """
    world.configure(check="concurrency = 2")
    world.track(ITEMS, "QUEUED")
    watch(world)
    stopped, *_ = racers = [_start(world, run_keys, *([point] if n == 0 else [])) for n in range(processes)]
    try:
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
            if racer is stopped:
                os.waitid(os.P_PID, racer.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        _outlive(world, waits=waits)
        stopped.send_signal(signal.SIGCONT)
        ends = [racer.communicate() for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    return _evaluate(world, ends, run_keys=run_keys, inside=point == INSIDE)


def _start(world: World, run_keys: int, *point: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(RACER), str(world.config_path), str(run_keys), *point],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=world.folder, env=environment(paths()),
    )  # fmt: skip


def _outlive(world: World, *, waits: bool):
    """Waits until another process has taken over the lease of the stopped one."""
    (before,) = world.rows("SELECT epoch FROM leases")
    if waits:
        time.sleep(LEASE_TTL.total_seconds())
    else:
        with writing(world.app.engine) as conn:
            conn.exec_driver_sql("UPDATE leases SET expires_at = '2026-01-01 00:00:00.000000'")
    until(lambda: world.rows("SELECT epoch FROM leases") != [before], "a run of another process", timeout_s=90)


def _evaluate(world: World, ends, *, run_keys: int, inside: bool) -> RaceResult:
    results = [json.loads(out) if out else {"ran": [], "errors": [err]} for out, err in ends]
    per_run_key = {
        row["run_key"]: row["n"] for row in world.rows("SELECT run_key, count(*) AS n FROM history GROUP BY run_key")
    }
    ran = sorted(run_key for each in results for run_key in each["ran"])
    stale = world.rows(STALE)
    abandoned = world.rows("SELECT run_key FROM runs WHERE status = 'crashed'")
    wrong = [f"written under a stale epoch: {row}" for row in stale]
    wrong += [error for each in results for error in each["errors"]]
    wrong += [f"run key {run_key}: {n} runs" for run_key, n in per_run_key.items() if n != 1]
    wrong += [f"{len(per_run_key)} run keys of {run_keys} were executed"] if len(per_run_key) != run_keys else []
    wrong += [f"the processes believe that they ran {ran}"] if ran != list(range(run_keys)) else []
    wrong += [f"runs that were never closed: {abandoned}"] if len(abandoned) != 1 else []
    if inside:  # its session was ended, so it gets that error instead of LeaseLostError
        wrong = [each for each in wrong if each not in results[0]["errors"]]
        lost = len(results[0]["errors"])
    else:
        lost = results[0].get("lost", 0)
    wrong += ["the stopped process did not notice that its lease was lost"] if lost != 1 else []
    return RaceResult(
        wrong=wrong,
        once=sum(n == 1 for n in per_run_key.values()),
        twice=sum(n > 1 for n in per_run_key.values()),
        refused=sum(each.get("held", 0) for each in results),
        lost=lost,
        written=world.rows("SELECT count(*) AS n FROM watched")[0]["n"],
        stale=len(stale),
    )


def rows(*, full: bool, seed: int, postgres_url: str) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """One row per race and database."""
    processes, run_keys = (8, 500) if full else (4, 40)
    with Environments(postgres_url) as environments:
        for kind in KINDS:
            points = POINTS if kind == "sqlite" else (*POINTS, INSIDE)
            for point in points if full else points[:1]:
                with environments.world(kind) as world:
                    end = race(world, processes=processes, run_keys=run_keys, point=point, waits=full)
                for each in end.wrong:
                    print(f"{kind}, stopped at {point}: {each}", file=sys.stderr)
                what = f"{processes} processes, {run_keys} run keys, one stopped at {point}"
                numbers = (end.once, end.twice, end.refused, end.lost, end.written, end.stale)
                yield not end.wrong, (what, kind, *map(str, numbers))
