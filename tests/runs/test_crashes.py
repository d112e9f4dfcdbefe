"""Runs that end by an error that nobody foresaw."""

import asyncio

import pytest

from monitor.app import App
from monitor.cli.check import Session
from monitor.cli.doctor.database import HostInfo
from monitor.cli.doctor.examine import Doctor
from monitor.database.engine import reading
from monitor.errors import RunCrashedError
from monitor.incidents.evidence import detect_crashing
from monitor.incidents.store import crash_streak
from monitor.model import Cause, Evidence, RunStatus
from monitor.runs import store as run_store
from monitor.web.database_probe import read

CANARY = "canary-of-the-user"


def broken(*_):
    """A sync log that ends in a defect, whose text holds the user's data."""
    raise ZeroDivisionError(CANARY)
    yield


def crash(world, **more):
    with pytest.raises(RunCrashedError) as caught:
        world.run(read_pages=broken, **more)
    return str(caught.value)


def incidents(world):
    query = "SELECT cause, state, severity, team FROM incidents ORDER BY id"
    return [tuple(row.values()) for row in world.rows(query)]


OPEN = ("run_crashing", "open", "critical", "monitor")


def test_the_third_crash_in_a_row_opens_an_incident_and_two_good_runs_resolve_it(world):
    world.track(1)
    said = crash(world)
    assert said.startswith("target gloo: the run ended by an error that nobody foresaw (ZeroDivisionError in ")
    assert "test_crashes.py" in said
    crash(world)
    assert incidents(world) == []
    crash(world)
    assert incidents(world) == [OPEN]
    world.run()
    crash(world)
    world.run()
    assert incidents(world) == [OPEN], "a single crash goes on with an incident that is open"
    world.run()
    assert [state for _, state, *_ in incidents(world)] == ["resolved"]
    stored = world.rows("SELECT status, abort_reason, error FROM runs ORDER BY id")
    assert (stored[0]["status"], stored[0]["abort_reason"]) == ("crashed", "run_crashing")
    told = [row["kind"] for row in world.rows("SELECT kind FROM notifications ORDER BY id")]
    assert told == ["opened", "resolved"]
    everything = str(stored) + str(world.rows("SELECT * FROM notifications")) + said
    assert CANARY not in everything
    assert "ZeroDivisionError" in str(world.rows("SELECT message FROM notifications"))


def test_good_runs_and_dead_processes_in_between(world):
    world.track(1)
    crash(world), crash(world), world.run(), crash(world), crash(world)
    assert incidents(world) == [], "a good run ends a streak"
    with world.app.engine.begin() as conn:
        run_store.start(conn, target="gloo", environment="test", run_key=None, epoch=0, started_at=world.clock())
    crash(world)
    assert incidents(world) == [OPEN], "a process that was killed neither counts nor ends a streak"
    assert [row["status"] for row in world.rows("SELECT status FROM runs")].count(RunStatus.CRASHED) == 6


def test_a_run_key_that_several_daemons_try_counts_once(world):
    world.track(1)
    for _ in range(3):
        crash(world, run_key="every 5m at noon")
    with reading(world.app.engine) as conn:
        assert crash_streak(conn, target="gloo", at_most=9) == 1
    assert incidents(world) == []


def test_an_error_while_the_crash_is_stored_does_not_hide_the_first(world):
    world.track(1)

    class Broken:
        def __getattr__(self, name):
            raise KeyError(name)

    assert "ZeroDivisionError" in crash(world, evaluator=Broken())
    assert [row["status"] for row in world.rows("SELECT status FROM runs")] == ["crashed"]


@pytest.mark.parametrize(
    ("streak", "known", "count"), [(0, False, None), (2, False, None), (3, False, 3), (7, False, 7), (1, True, 1)]
)
def test_evidence_needs_three_crashes_in_a_row_or_an_incident(streak, known, count):
    wanted = count and Evidence(cause=Cause.RUN_CRASHING, count=count, breakdown={"runs in a row": count})
    assert detect_crashing(streak, known=known) == wanted


TWO = """
[[targets]]
name = "other"
provider = "gloo"
base_url = "{base}"
publisher_id = "{publisher}"
auth = {auth}
check = {{ strategy = "items" }}
sync_log = {{ url = "{log}", submitted_at_column = "uploaded_at" }}
"""


def two_targets(world):
    more = TWO.format(
        base=world.sandbox.url,
        publisher=world.sandbox.settings.publisher_id,
        auth=world.client_auth,
        log=world.sync_log,
    )
    world.configure(more=more)
    return world.app


class FirstIsBroken(App):
    """Where a target's run, or already its set-up, meets an error that nobody foresaw."""

    def read_pages(self, target, known, **limits):
        return broken() if target.name == "gloo" else super().read_pages(target, known, **limits)


class FirstCannotBeBuilt(App):
    def job(self, target, **more):
        if target.name == "gloo":
            raise ZeroDivisionError(CANARY)
        return super().job(target, **more)


@pytest.mark.parametrize("kind", [FirstIsBroken, FirstCannotBeBuilt])
def test_the_other_targets_are_checked(world, kind):
    app = two_targets(world)
    world.track(2)
    session = Session(app=kind(config=app.config, engine=app.engine))
    results, _ = asyncio.run(session.run(app.config.targets))
    assert [(each.target, each.exit_code) for each in results] == [("gloo", 3), ("other", 0)]
    assert "ZeroDivisionError" in results[0].error
    assert CANARY not in results[0].error
    assert results[1].report.snapshot.completed == 2


def test_readiness_counts_crashes_of_any_process(world):
    world.track(1)
    for crashes in (1, 2, 3, 3):
        crash(world)
        assert probed(world).crashes == crashes
    world.run()
    assert probed(world).crashes == 0


def probed(world):
    with reading(world.app.engine) as conn:
        return read(conn, targets=["gloo"], throttle_keys={}, timeout_s=5).targets["gloo"]


class FirstCannotBeExamined(Doctor):
    def _inherited_limits(self, target):
        if target.name == "gloo":
            raise ZeroDivisionError(CANARY)
        return super()._inherited_limits(target)


def test_doctor_examines_the_other_targets(world):
    app = two_targets(world)
    world.track(1)

    async def examined():
        doctor = FirstCannotBeExamined(config=app.config, host=HostInfo(in_container=False))
        return [each async for each in doctor.examine(["gloo", "other"], test_channels=False)]

    findings = asyncio.run(examined())
    (fault,) = [each.message for each in findings if each.part == "target"]
    assert "ZeroDivisionError" in fault
    assert CANARY not in fault
    assert {each.part for each in findings if each.about == "target other"} >= {"sync log", "ids"}
