"""What one run learned about the API and how the next one uses it, from cron and in the daemon."""

import asyncio
import time
from datetime import UTC, datetime

import pytest
import structlog
from support.thinned import first_only

from monitor.app import App, open_database
from monitor.config import load_config
from monitor.model import Cause, ItemState, RunStatus
from monitor.runs.progress import NoProgress
from monitor.runs.run import Run

LATER = {"Retry-After": "600"}


def asked(world):
    return world.sandbox.requests("items")


@pytest.fixture(params=["one process", pytest.param("a process per run", marks=pytest.mark.process)])
def next_run(request, world):
    """Runs again like the daemon, or like cron: in a new process that has only the database."""

    def run():
        if request.param == "a process per run":
            world.close()
        return world.run()

    return run


def test_after_an_outage_one_probe_decides_whether_all_items_are_checked(world, next_run):
    world.track(60)
    world.sandbox.add_fault(path="/engine", status=503)
    assert next_run().abort_reason == "outage"
    met = asked(world)
    assert 5 <= met <= 9, "five items, and what was tried again before the fifth had failed"
    for probes in (1, 2):
        report = next_run()
        assert (report.status, report.abort_reason) == (RunStatus.ABORTED, "outage")
        assert asked(world) == met + probes
    world.sandbox.clear_faults()
    report = next_run()
    assert (report.status, report.snapshot.checked) == (RunStatus.COMPLETE, 60)
    assert len(world.rows("SELECT * FROM incidents")) == 1


def test_a_retry_after_beyond_the_deadline_ends_the_run_and_the_next_one_sends_nothing(world, next_run):
    world.configure(check='deadline = "60s"\nconcurrency = 2')
    world.track(30)
    world.sandbox.add_fault(path="/engine", status=429, headers=LATER, body={"detail": {"code": "TOO_FAST"}})
    first = next_run()
    assert (first.status, first.abort_reason) == (RunStatus.ABORTED, "rate_limited")
    sent = asked(world)
    assert 1 <= sent <= 2
    world.sandbox.clear_faults()
    for _ in range(2):
        report = next_run()
        assert (report.status, report.abort_reason) == (RunStatus.ABORTED, "rate_limited")
        assert {state.value: count for state, count in report.snapshot.states.items() if count} == {"unknown": 30}
    assert asked(world) == sent
    evidence = world.rows("SELECT cause, code FROM evidence ORDER BY run_id")
    assert evidence == [{"cause": "rate_limited", "code": "TOO_FAST"}] * 3
    assert [incident.cause for incident in report.open_incidents] == [Cause.RATE_LIMITED]
    (row,) = world.rows("SELECT status, code, origin FROM throttles")
    assert (row["status"], row["code"]) == (429, "TOO_FAST")
    assert row["origin"] == world.sandbox.url


HINTS = [
    ("items", 503, {}, "outage"),
    ("list", 503, {}, "outage"),
    ("list", 429, {"code": "TOO_FAST"}, "rate_limited"),
    ("items", 429, {"code": "SPENDING_LIMIT_EXCEEDED"}, "spending_limit"),
    ("items", 429, {"type": "insufficient_quota"}, "spending_limit"),
]


@pytest.mark.parametrize(("strategy", "status", "body", "cause"), HINTS)
def test_a_run_stopped_by_a_stored_hint_has_the_cause_of_the_hint_as_evidence(
    world, next_run, strategy, status, body, cause
):
    world.configure(check='deadline = "60s"\nconcurrency = 1', strategy=strategy)
    world.track(8)
    world.sandbox.add_fault(path="/engine", status=status, headers=LATER, body=body)
    assert next_run().abort_reason == cause
    sent = world.sandbox.requests("/engine")
    world.sandbox.clear_faults()
    for _ in range(2):
        report = next_run()
        assert (report.abort_reason, report.snapshot.unknown) == (cause, 8)
    assert world.sandbox.requests("/engine") == sent
    assert [row["cause"] for row in world.rows("SELECT cause FROM evidence ORDER BY run_id")] == [cause] * 3


@pytest.mark.parametrize("strategy", first_only(["items", "list"]))
def test_a_run_whose_probe_fails_has_the_outage_as_evidence(world, next_run, strategy):
    world.configure(strategy=strategy, check="max_attempts = 5")
    world.track(60)
    world.sandbox.add_fault(path="/engine", status=503)
    for _ in range(3):
        assert next_run().abort_reason == "outage"
    counts = world.rows("SELECT run_id, cause FROM evidence ORDER BY run_id")
    assert [row["cause"] for row in counts] == ["outage"] * 3


@pytest.mark.process
def test_a_run_waits_for_a_hint_within_the_deadline_and_then_sends_one_probe(world):
    world.configure(check="concurrency = 8")
    world.track(10)  # after a 429 each further request waits
    world.sandbox.add_fault(path="/engine", status=429, headers={"Retry-After": "1"}, count=1)
    started = time.monotonic()
    report = world.run()
    assert time.monotonic() - started >= 1.0
    assert (report.status, report.snapshot.checked) == (RunStatus.COMPLETE, 10)
    assert asked(world) <= 14


def test_two_targets_with_one_key_share_learned_limits(small_world):
    world = small_world
    origin = world.sandbox.url.replace("http://", "HTTP://")  # the same in another spelling
    world.configure(check='deadline = "60s"', more=world.another_target("same-key", base_url=origin))
    world.track(30)
    world.sandbox.add_fault(path="/engine", status=429, headers=LATER)
    assert world.run().abort_reason == "rate_limited"
    sent = asked(world)
    job = world.app.job(world.app.config.targets[1])
    report = asyncio.run(Run(job, interrupt=asyncio.Event(), progress=NoProgress())())
    assert (report.abort_reason, asked(world)) == ("rate_limited", sent)
    assert len(world.rows("SELECT * FROM throttles")) == 1


@pytest.mark.parametrize(
    "share", [0.1, *(pytest.param(share, marks=pytest.mark.process) for share in (0.05, 0.3, 0.5))]
)
def test_a_partial_outage_adds_at_most_a_tenth_of_requests_and_resolves_in_the_next_run(small_world, share):
    world = small_world
    world.configure(check="concurrency = 8")
    world.track(300)
    world.sandbox.add_fault(path="/engine", status=503, share=share)
    report = world.run()
    assert asked(world) <= 330
    states = {state.value: count for state, count in report.snapshot.states.items() if count}
    assert set(states) <= {"completed", "unknown"}
    assert sum(states.values()) == 300
    world.sandbox.clear_faults()
    report = world.run()
    if report.snapshot.states.get("unknown"):
        report = world.run()
    assert {state.value: count for state, count in report.snapshot.states.items() if count} == {"completed": 300}


def test_items_with_a_transient_failure_are_asked_again_at_the_end(small_world):
    world = small_world
    world.configure(check="max_attempts = 1\nconcurrency = 1")
    world.track(80)
    world.run()
    world.sandbox.add_fault(path="/engine", status=503, count=4)
    before = asked(world)
    report = world.run()
    assert {state.value: count for state, count in report.snapshot.states.items() if count} == {"completed": 80}
    assert asked(world) - before == 84
    assert world.rows("SELECT retries FROM snapshots ORDER BY run_id DESC LIMIT 1") == [{"retries": 4}]
    assert world.rows("SELECT cause FROM evidence") == []


def test_a_run_logs_each_class_of_failures_once(small_world):
    world = small_world
    world.configure(check="max_attempts = 1\nconcurrency = 4")
    ids = world.track(40)
    world.sandbox.add_fault(path="/engine", status=502, body="<h1>x</h1>", headers={"Server": "nginx"}, share=0.5)
    world.sandbox.add_fault(path="/engine", status=418, count=2)
    with structlog.testing.capture_logs() as events:
        world.run()
    found = [event for event in events if event["event"] == "requests_failed"]
    assert sorted(event["http_status"] for event in found) == [418, 502]
    for event in found:
        assert event["log_level"] == "warning"
        assert event["endpoint"] == "/engine/v2/items/{item_id}"
        assert set(event["sample_ids"]) <= set(ids)
        assert event["first_at"] <= event["last_at"]
    assert next(event for event in found if event["http_status"] == 502)["gateway"]["server"] == "nginx"


def test_a_run_without_readable_learned_limits_still_checks_all_items(small_world):
    world = small_world
    world.track(6)
    config = load_config(world.config_path, environ={})
    engine = open_database(config)
    with engine.begin() as conn:
        conn.exec_driver_sql("DROP TABLE throttles")
    app = App(config=config, engine=engine)
    reports = []
    with structlog.testing.capture_logs() as events:
        for status in (None, 429):
            if status:
                world.sandbox.add_fault(path="/engine", status=status, headers=LATER)
            run = Run(app.job(config.targets[0]), interrupt=asyncio.Event(), progress=NoProgress())
            reports.append(asyncio.run(run()))
    engine.dispose()
    assert (reports[0].status, reports[0].snapshot.checked) == (RunStatus.COMPLETE, 6)
    assert reports[1].abort_reason == "rate_limited", "nor does it matter that the hint can't be stored"
    assert {"throttle_not_read", "throttle_not_written"} <= {event["event"] for event in events}


def test_nothing_is_stored_until_a_limit_is_met(small_world):
    small_world.track(3)
    small_world.run()
    assert small_world.rows("SELECT * FROM throttles") == []
    small_world.sandbox.add_fault(path="/engine", status=429, headers=LATER)
    small_world.run()
    assert len(small_world.rows("SELECT * FROM throttles WHERE not_before IS NOT NULL")) == 1


@pytest.mark.process
def test_learned_limits_are_shared_with_other_processes_during_a_run(small_world, monkeypatch):
    world = small_world
    monkeypatch.setattr("monitor.app.throttles.SYNC_INTERVAL_S", 0.05)
    world.configure(check="concurrency = 1")
    world.track(4)
    world.sandbox.add_fault(path="/engine", status=429, headers={"Retry-After": "3"}, count=1)
    began = datetime.now(UTC)

    async def main():
        run = asyncio.create_task(Run(world.job(), interrupt=asyncio.Event(), progress=NoProgress())())
        found = []
        while not (found or run.done()):
            await asyncio.sleep(0.02)
            found = await asyncio.to_thread(world.rows, "SELECT not_before FROM throttles WHERE not_before IS NOT NULL")
        assert not run.done(), "limits were stored during the run"
        return found, await run

    found, report = asyncio.run(main())
    assert report.status is RunStatus.COMPLETE
    assert datetime.fromisoformat(found[0]["not_before"]).replace(tzinfo=UTC) > began


@pytest.mark.process
@pytest.mark.parametrize("first_run", first_only([True, False]), ids=["nothing known yet", "all known"])
def test_a_failing_shard_affects_only_its_own_items(small_world, first_run):
    world = small_world
    world.configure(check="max_attempts = 1\nconcurrency = 8")
    ids = world.track(240, "COMPLETED" if first_run else "QUEUED")
    if not first_run:
        world.run()
    shard = [item_id for item_id in ids if item_id[0] == "0"]
    world.sandbox.add_fault(path="/engine/v2/items/0", status=503)
    report = world.run()
    assert report.status is RunStatus.COMPLETE
    assert report.snapshot.states[ItemState.UNKNOWN] == len(shard)
    assert report.snapshot.checked == 240 - len(shard)


def test_a_dry_run_respects_a_stored_hint(small_world):
    world = small_world
    world.configure(check='deadline = "60s"')
    world.track(10)
    world.sandbox.add_fault(path="/engine", status=429, headers=LATER)
    world.run()
    sent = asked(world)
    dry = world.cli("check", "--dry-run")
    assert (dry.returncode, asked(world)) == (4, sent)
    assert "unknown" in dry.stdout
    assert len(world.rows("SELECT * FROM runs")) == 1


def test_a_dry_run_needs_no_database(small_world):
    world = small_world
    world.track(3)
    world.configure(database=f"sqlite:///{world.folder / 'none-yet.db'}")
    dry = world.cli("check", "--dry-run")
    assert (dry.returncode, dry.stderr.count("throttle")) == (0, 0)
    assert not (world.folder / "none-yet.db").exists()
