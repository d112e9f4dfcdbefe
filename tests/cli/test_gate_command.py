"""`gate`: the answer comes from the database alone, at once or when the gate opens."""

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.observed import until
from support.samples import incident
from support.world import environment

from monitor.cli import gate as command
from monitor.database.engine import writing
from monitor.incidents import store as incidents
from monitor.model import Cause, RunStatus
from monitor.runs import store as runs


def ran(world, *, ago=timedelta(seconds=5), status=RunStatus.COMPLETE, reason=None, target="gloo"):
    """Stores a run that ended like this."""
    ended = datetime.now(UTC) - ago
    with writing(world.app.engine) as conn:
        begun = {"target": target, "environment": "test", "run_key": None, "epoch": 1}
        run_id = runs.start(conn, started_at=ended - timedelta(seconds=2), **begun)
        about = {"abort_reason": reason, "owner_cause": None, "due": 1, "answered": 1, "error": None}
        runs.finish(conn, run_id=run_id, status=status, finished_at=ended, snapshot=None, **about)
    return ended


def opened(world, cause, state="open"):
    with writing(world.app.engine) as conn:
        number = incidents.open_incident(conn, incident(target="gloo", cause=cause), evidence_id=None)
        conn.exec_driver_sql(f"UPDATE incidents SET state = '{state}' WHERE id = {number}")
    return number


def resolve(world):
    with writing(world.app.engine) as conn:
        conn.exec_driver_sql("UPDATE incidents SET state = 'resolved'")


def test_it_is_open_after_a_healthy_run(world, here):
    world.sandbox.stop()
    at = ran(world)
    said = here(world, "gate", "gloo", "--json")
    assert said.returncode == 0
    result = json.loads(said.stdout)
    assert result["text"].startswith("proceed: ")
    assert {**result, "text": ""} == {
        "target": "gloo", "proceed": True, "reason": "clear", "cause": None, "incident_id": None, "since": None,
        "last_run_at": at.isoformat(), "text": "", "incidents": [],
    }  # fmt: skip


@pytest.mark.parametrize("state", ["open", "acknowledged"])
def test_an_incident_closes_it_until_it_is_resolved(world, here, state):
    ran(world)
    opened(world, Cause.ITEMS_FAILED)
    number = opened(world, Cause.OUTAGE, state)
    said = here(world, "gate", "gloo")
    assert (said.returncode, said.stdout.count("\n")) == (75, 1)
    assert f"(incident {number}): the API is failing or can't be reached" in said.stdout
    result = json.loads(here(world, "gate", "gloo", "--json").stdout)
    assert (result["proceed"], result["reason"], result["cause"]) == (False, "incident", "outage")
    assert [each["incident_id"] for each in result["incidents"]] == [number]
    resolve(world)
    assert here(world, "gate", "gloo").returncode == 0


STALE = [
    ("no run yet", lambda _: None, 75),
    ("eleven minutes ago, every five", lambda world: ran(world, ago=timedelta(minutes=11)), 75),
    ("nine minutes ago", lambda world: ran(world, ago=timedelta(minutes=9)), 0),
    ("another target's run", lambda world: ran(world, target="other"), 75),
    ("a log that could not be read asked nothing", lambda world: ran(world, status=RunStatus.FAILED), 75),
    ("a run that died", lambda world: ran(world, status=RunStatus.CRASHED), 75),
    ("a run that was stopped", lambda world: ran(world, status=RunStatus.ABORTED, reason="unauthorized"), 0),
]


@pytest.mark.parametrize(("before", "code"), [row[1:] for row in STALE], ids=[row[0] for row in STALE])
def test_it_is_stale_after_two_intervals_without_a_run(world, here, before, code):
    before(world)
    said = here(world, "gate", "gloo")
    assert (said.returncode, "stale" in said.stdout) == (code, code == 75)


def test_the_targets_own_schedule_takes_precedence(small_world, here):
    world = small_world
    world.configure(more='[targets.schedule]\nevery = "1h"')
    ran(world, ago=timedelta(minutes=110))
    assert here(world, "gate", "gloo").returncode == 0


def test_an_unknown_target_and_an_invalid_wait_are_usage_errors(small_world, here):
    for arguments, words in (
        (("glo",), "there is no target 'glo'; choose from gloo"),
        (("gloo", "--wait", "x"), "--wait"),
    ):
        said = here(small_world, "gate", *arguments)
        assert (said.returncode, said.stdout) == (2, "")
        assert words in said.stderr


def test_an_unreadable_database_is_an_error(small_world, here):
    small_world.configure(database="sqlite:///nowhere/monitor.db")
    said = here(small_world, "gate", "gloo")
    assert (said.returncode, said.stdout) == (3, "")
    began_s = time.monotonic()
    said = here(small_world, "gate", "gloo", "--wait", "1s")
    assert (said.returncode, said.stdout) == (3, "")
    assert time.monotonic() - began_s >= 1


def test_a_wait_ends_as_soon_as_the_incident_does(world):
    ran(world)
    opened(world, Cause.RATE_LIMITED)
    waiting = world.start("gate", "gloo", "--wait", "5m", "--json")
    resolve(world)
    out, err = waiting.communicate(timeout=120)
    assert (waiting.returncode, json.loads(out)["reason"]) == (0, "clear"), err


def test_a_wait_that_times_out_prints_the_reason(small_world, here):
    ran(small_world)
    opened(small_world, Cause.SPENDING_LIMIT)
    began_s = time.monotonic()
    said = here(small_world, "gate", "gloo", "--wait", "1s")
    assert (said.returncode, "spending_limit" in said.stdout) == (75, True)
    assert time.monotonic() - began_s >= 1


@pytest.mark.process
def test_a_wait_continues_when_the_database_is_back(small_world):
    world = small_world
    ran(world)
    world.close()
    path = world.folder / "monitor.db"
    (world.folder / "away").mkdir()
    for part in world.folder.glob("monitor.db*"):
        part.rename(world.folder / "away" / part.name)
    path.mkdir()
    waiting = world.start("gate", "gloo", "--wait", "5m")
    time.sleep(1)
    assert waiting.poll() is None
    path.rmdir()
    for part in (world.folder / "away").iterdir():
        part.rename(world.folder / part.name)
    out, err = waiting.communicate(timeout=120)
    assert (waiting.returncode, out[:8]) == (0, "proceed:"), err


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_wait(small_world, sign, code, tmp_path):
    waiting = small_world.start("gate", "gloo", "--wait", "5m")

    def heeds():
        lines = Path(f"/proc/{waiting.pid}/status").read_text(encoding="ascii").splitlines()
        caught = next(line for line in lines if line.startswith("SigCgt"))
        return int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1)

    until(heeds, "a process that heeds signals")
    waiting.send_signal(sign)
    out, err = waiting.communicate(timeout=120)
    assert (waiting.returncode, out, err) == (code, "", "")


def test_it_imports_neither_an_http_client_nor_the_scheduler(small_world):
    probe = (
        "import sys; from monitor.cli import main; code = main(sys.argv[1:]); "
        "print(code, [name for name in ('httpx', 'pyreqwest', 'monitor.daemon', 'alembic') if name in sys.modules])"
    )
    ran(small_world)
    done = subprocess.run(
        [sys.executable, "-c", probe, "gate", "gloo", "--config", str(small_world.config_path)],
        capture_output=True, text=True, env=environment(), check=False, timeout=240,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0 []", done.stdout + done.stderr


def test_the_exit_code_of_a_pause_is_ex_tempfail():
    assert command.PAUSE == 75
