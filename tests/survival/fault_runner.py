"""The set-up for database faults: a small world with a slow run, and an audit."""

import contextlib
import json
import re
import time
from dataclasses import dataclass

from sqlalchemy import create_engine, make_url, text
from support.observed import until, until_asked
from support.world import World

from monitor.database.schema import upgrade
from monitor.sandbox import Sandbox

ITEMS = 40
AUDIT = {
    "runs left open": "SELECT count(*) FROM runs WHERE status = 'running'",
    "complete runs without a snapshot": (
        "SELECT count(*) FROM runs WHERE status = 'complete' AND id NOT IN (SELECT run_id FROM snapshots)"
    ),
    "snapshots of runs that never ended": (
        "SELECT count(*) FROM snapshots WHERE run_id IN (SELECT id FROM runs WHERE finished_at IS NULL)"
    ),
    "sums that are wrong": (
        "SELECT count(*) FROM snapshots WHERE total <> completed + pending + failed + not_found + invalid + unknown"
    ),
    "outcomes without their event, or with two": (
        "SELECT count(*) FROM items i WHERE i.known_state IS NOT NULL AND 1 <> (SELECT count(*) FROM item_events e "
        "WHERE e.target = i.target AND e.item_id = i.item_id AND e.kind = 'state')"
    ),
    "items that are not as they are": f"SELECT {ITEMS} - count(*) FROM items WHERE known_state = 'completed'",
    "leases held": "SELECT count(*) FROM leases WHERE holder IS NOT NULL",
}
"""None of these rows exist after the next run: each item was found completed, once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultResult:
    """The result of one fault."""

    fault: str
    database: str
    command: str
    ended: str
    """Its exit code, or what the daemon did."""
    said: str
    half_written: int
    recovered_s: float
    """From the end of the fault to the next consistent state."""


@contextlib.contextmanager
def faulty(folder, database, **options):
    """A World with `ITEMS` items and slow answers, and a sync log in a file."""
    folder.mkdir(parents=True, exist_ok=True)
    upgrade(database)
    with Sandbox() as sandbox:
        world = World(folder, sandbox, database=database, sync_log=f"sqlite:///{folder / 'pipeline.db'}")
        options.setdefault("check", "concurrency = 2")
        world.configure(**options)
        world.track(ITEMS)
        try:
            yield world
        finally:
            world.close()


def slow(world, delay_s=0.1):
    """Makes later runs last some seconds."""
    world.sandbox.add_fault(path="/engine", delay_s=delay_s, passes=True)


def start_mid_run(world):
    """Starts `check` and returns it when it has requested some items."""
    slow(world)
    process = world.start("check", "--json")
    until_asked(world, 8)
    return process


def row(world, fault, process, *, over_s, command="check"):
    """Returns the result of a `check` during a fault, and of the next one.

    Args:
        world: where.
        fault: what it is called.
        process: the command that met it.
        over_s: when the fault was over, on the monotonic clock.
        command: what people call.
    """
    _, err = process.communicate(timeout=200)
    half, recovered_s = recover(world, over_s)
    return FaultResult(
        fault=fault,
        database=kind_of(world),
        command=command,
        ended=f"exit {process.returncode}",
        said=said(err),
        half_written=half,
        recovered_s=recovered_s,
    )


def recover(world, over_s, *, after=lambda: None):
    """Runs until one succeeds; returns what is wrong afterwards, and how long it took.

    Args:
        world: where.
        over_s: when the fault was over, on the monotonic clock.
        after: an action before that.
    """
    after()
    world.sandbox.clear_faults()
    until(lambda: world.cli("check", "--quiet").returncode == 0, "a run that gets through", timeout_s=120)
    return sum(audit(world).values()), time.monotonic() - over_s


def audit(world):
    """Counts each kind of inconsistency."""
    url = make_url(world.database)
    engine = create_engine(url.set(drivername="sqlite" if url.drivername == "sqlite" else "postgresql+psycopg"))
    with engine.connect() as conn:
        found = {what: conn.scalar(text(query)) for what, query in AUDIT.items()}
    engine.dispose()
    return found


def said(err):
    """The last error message of a command, or the last warning of its log; never a traceback."""
    lines = err.splitlines()
    assert "Traceback" not in err, err
    errors = [line.removeprefix("error: ") for line in lines if line.startswith(("error: ", "skipped: "))]
    logged = [json.loads(line) for line in lines if line.startswith("{")]
    warned = [
        event["reason"] for event in logged if event["event"] in {"database_away", "database_not_ready", "run_error"}
    ]
    return tidy((errors or warned or ["nothing"])[-1])


def tidy(sentence):
    """The text without paths and ports of this machine."""
    return re.sub(r"(?<=database )(SQLite|PostgreSQL) \S+", r"\1 …", sentence)


def kind_of(world):
    return "SQLite" if world.database.startswith("sqlite") else "PostgreSQL"
