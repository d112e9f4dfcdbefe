"""`check --dry-run` goes on from what is stored, and leaves no trace."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from support.receiver import Receiver
from waits.test_store import ended

from monitor.database.engine import writing
from monitor.waits.rules import WaitResult

CHANNEL = '[[channels]]\nname = "oncall"\ntype = "webhook"\nurl = "{}"\n'


@pytest.fixture
def watched(world):
    """Two runs over ten items, of which one failed."""
    failed, *_ = world.track(10)
    world.sandbox.set_status(failed, "FAILED")
    world.run()
    world.run()
    world.failed = failed
    return world


TABLES = ["runs", "snapshots", "items", "item_events", "incidents", "notifications", "evidence", "throttles", "leases"]


def contents(world):
    with world.app.engine.connect() as conn:
        return {name: sorted(map(repr, conn.execute(text(f"SELECT * FROM {name}")))) for name in TABLES}


def test_it_prints_what_the_next_run_would_change_and_writes_and_sends_nothing(here, watched):
    with Receiver() as receiver:
        watched.configure(more=CHANNEL.format(receiver.url))
        before = contents(watched)
        watched.sandbox.set_status(watched.failed, "COMPLETED")
        done = here(watched, "check", "--dry-run", "--json")
        assert (done.returncode, contents(watched), receiver.got) == (0, before, [])
    value = json.loads(done.stdout)
    (target,) = value["targets"]
    assert (value["dry_run"], target["run_id"], target["health"]["completed"]) == (True, 3, 10)
    assert target["sync_log"]["new"] == 0
    assert [(each["from"], each["to"], each["count"]) for each in target["changes"] if each["kind"] == "state"] == [
        ("failed", "completed", 1)
    ]
    assert [(each["id"], each["action"]) for each in target["incident_changes"]] == [(1, "resolve")]


def test_it_says_that_it_started_from_what_is_stored(here, watched):
    shown = here(watched, "check", "--dry-run").stdout
    assert shown.startswith("gloo: run 3, complete\n")
    assert "Changed:" not in shown
    assert "#1 items_failed" in shown
    assert shown.splitlines()[-1] == "Dry run: nothing was stored or sent; it started from what is stored."


def test_without_a_stored_database_it_starts_from_nothing_and_says_why(here, small_world):
    small_world.track(2)
    small_world.configure(database=f"sqlite:///{small_world.folder / 'new.db'}")
    shown = here(small_world, "check", "--dry-run").stdout
    assert "2 items new → completed" in shown
    assert "it started from nothing, because " in shown
    assert not (small_world.folder / "new.db").exists()


def test_an_incident_about_waits_goes_on_in_a_dry_run(here, small_world):
    small_world.clock.now = datetime.now(UTC) - timedelta(minutes=5)
    small_world.track(1)
    with writing(small_world.app.engine) as conn:
        for second in range(3):
            ended(conn, WaitResult.TIMED_OUT, at=small_world.clock() - timedelta(seconds=9 - second), pending=3)
    small_world.run()
    shown = here(small_world, "check", "--dry-run", "--json")
    (target,) = json.loads(shown.stdout)["targets"]
    assert [
        (each["cause"], each["action"]) for each in target["incident_changes"] if each["action"] != "continue"
    ] == []
    assert [each["cause"] for each in target["open_incidents"]] == ["polling_timeouts"]
