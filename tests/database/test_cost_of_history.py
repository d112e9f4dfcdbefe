"""What a run, a command and an endpoint cost beside a short and a long history: counted, never timed."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from support.receiver import Receiver
from support.statements import COMMANDS, Recorder, analyse, postgres_plan, rows_read
from support.years import GROWING, Years

from monitor.database.engine import reading, writing
from monitor.reports import formatting
from monitor.runs import store as run_store
from monitor.runs import throttle_store
from monitor.web import database_probe

SHORT, LONG = 300, 3_000
EVERY_S = 600
"""Two days of runs are longer than anything that a rule or a report looks back; an objective's window is three."""
MORE = (
    '[schedule]\nevery = "1m"\n\n[[slos]]\nname = "in time"\nobjective = 0.95\nwithin = "15m"\nwindow = "3d"\n\n'
    '[[channels]]\nname = "oncall"\ntype = "webhook"\nurl = "{}"\n'
)


@pytest.fixture
def watched(world):
    """A target that was checked once, with a channel that was notified of an incident."""
    with Receiver() as receiver:
        world.clock.now = datetime.now(UTC) - timedelta(minutes=3)
        world.configure(more=MORE.format(receiver.url))
        world.items = world.track(20)
        world.sandbox.set_status(world.items[0], "FAILED")
        world.run()
        yield world


def fill(world, *, runs, first_id, end, status):
    with writing(world.app.engine) as conn:
        message = conn.scalar(text("SELECT CAST(message AS TEXT) FROM notifications LIMIT 1"))
        Years(
            targets=("gloo",), runs=runs, every_s=EVERY_S, end=end, status=status, first_id=first_id, message=message
        ).fill(conn)
    with writing(world.app.engine) as conn:
        analyse(conn)


def operate(world, here):
    """Two runs, one of which opens an incident and one of which resolves it, every command, and the endpoints."""
    incident = world.rows("SELECT id FROM incidents WHERE cause = 'items_failed' ORDER BY id")[0]["id"]
    world.close()
    recorder = Recorder()
    with recorder.recording():
        for status in ("FAILED", "COMPLETED"):
            world.sandbox.set_status(world.items[1], status)
            world.clock.now = datetime.now(UTC)
            world.run()
        for command in COMMANDS:
            words = command.format(target="gloo", incident=incident, item=world.items[0]).split()
            done = here(world, *words)
            # 75: the gate is closed; 1: the item that `wait` is about has failed
            assert done.returncode in {0, 1, 75}, (words, done.stderr)
        with reading(world.app.engine) as conn:
            database_probe.read(conn, targets=["gloo"], throttle_keys={}, timeout_s=10)
            run_store.last_run_key(conn, target="gloo")
            throttle_store.look_up(conn, origin="", targets=["gloo"])
    return recorder.statements


def work(world, statements):
    """What each statement did: instructions of SQLite, or on PostgreSQL the rows read from tables that grow."""
    if world.app.engine.dialect.name == "sqlite":
        # the schema's version is read every few seconds: more often where the machine is slow
        return {shape: statement.steps for shape, statement in statements.items() if "version_num" not in shape}
    done = {}
    with world.app.engine.connect() as conn:
        # on so few rows the planner would rather read them all
        conn.execute(text("SET enable_seqscan = off"))
        for shape, statement in statements.items():
            plan = postgres_plan(conn, statement)
            read = {} if plan is None else rows_read(plan)
            done[shape] = sum(rows for table, rows in read.items() if table in GROWING)
        conn.rollback()
    return done


@pytest.mark.process
@pytest.mark.parametrize("status", ["complete", "failed"])
def test_no_statement_reads_more_when_the_history_is_ten_times_as_long(
    watched, here, status, database_kind, monkeypatch
):
    """Also where runs could not read their sync log all the time. Over 2 s: two dozen commands, twice."""
    monkeypatch.setattr(formatting, "COUNTED_ROWS", SHORT // 10)
    now = datetime.now(UTC)
    fill(watched, runs=SHORT, first_id=100_000, end=now, status=status)
    operate(watched, here)
    short = work(watched, operate(watched, here))
    fill(watched, runs=LONG, first_id=1_000, end=now - timedelta(seconds=SHORT * EVERY_S), status=status)
    long = work(watched, operate(watched, here))
    allowed = 2_000 if database_kind == "sqlite" else 200
    grown = {shape: (short.get(shape, 0), cost) for shape, cost in long.items()
             if cost > short.get(shape, 0) * 1.5 + allowed}  # fmt: skip
    assert not grown, "\n".join(f"{before} → {after}: {shape}" for shape, (before, after) in grown.items())
    assert len(long) > 60
