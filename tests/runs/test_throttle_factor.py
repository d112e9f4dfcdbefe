"""The throttle factor after 429s, from run to run: stored, used by the next run, and shown."""

import asyncio

import pytest
import structlog

from monitor.model import Cause, RunStatus
from monitor.runs.progress import NoProgress
from monitor.runs.run import Run

AT_ONCE = '[[rules]]\ncause = "rate_limited"\nruns = 1\nof = 1\n'


def factors(world):
    return [row["throttle_factor"] for row in world.rows("SELECT throttle_factor FROM runs ORDER BY id")]


def held_back(world, factor, target="gloo"):
    """Sets the throttle factor of the last run."""
    with world.app.engine.begin() as conn:
        conn.exec_driver_sql(f"UPDATE runs SET throttle_factor = {factor} WHERE target = '{target}'")


def live(world):
    """The throttle of this process."""
    (throttle,) = world.app.throttles._throttles.values()
    return throttle


@pytest.fixture(params=["one process", "a process per run"])
def next_run(request, world):
    def run(**changes):
        if request.param == "a process per run":
            world.close()
        return world.run(**changes)

    return run


def test_429s_halve_the_throttle_factor_run_by_run_and_clean_runs_restore_it(world, next_run):
    world.configure(check="max_attempts = 1\nconcurrency = 8", more=AT_ONCE)
    world.track(1)
    next_run()
    world.sandbox.add_fault(path="/engine", status=429)
    for _ in range(2):
        report = next_run()
        assert [incident.cause for incident in report.open_incidents] == [Cause.RATE_LIMITED]
    assert factors(world) == [1, 0.5, 0.25]
    assert report.throttle_factor == 0.5, "what it was held to itself"
    world.sandbox.clear_faults()
    reports = [next_run() for _ in range(2)]
    assert factors(world)[3:] == [0.3125, 0.390625]
    assert reports[1].open_incidents == (), "it recovers on, with the incident over"
    held_back(world, 0.9)
    assert [next_run().throttle_factor for _ in range(2)] == [0.9, 1]
    assert factors(world)[-2:] == [1, 1]


def test_a_throttled_run_has_fewer_requests_in_flight(world, next_run):
    world.configure(check="concurrency = 8")
    world.track(40)
    world.sandbox.add_fault(path="/engine", delay_s=0.02, passes=True)
    next_run()
    assert world.sandbox.stats()["max_in_flight"] > 2
    held_back(world, 0.25)
    world.sandbox.reset()
    world.sandbox.add_fault(path="/engine", delay_s=0.02, status=404)
    report = next_run()
    assert (report.status, report.throttle_factor) == (RunStatus.COMPLETE, 0.25)
    assert world.sandbox.stats()["max_in_flight"] == 2
    assert live(world).concurrency.ceiling == 2


def test_runs_without_an_answer_keep_the_throttle_factor(world):
    world.track(1)
    world.run()
    held_back(world, 0.25)
    world.configure(sync_log="sqlite:///nowhere.db")
    assert world.run().status is RunStatus.FAILED
    world.configure()
    interrupt = asyncio.Event()
    interrupt.set()
    assert world.run(interrupt=interrupt).status is RunStatus.PARTIAL
    with world.app.engine.begin() as conn:  # like after a kill
        conn.exec_driver_sql(
            "INSERT INTO runs (target, environment, epoch, status, throttle_factor, started_at) "
            f"SELECT target, environment, epoch, 'running', 0.25, started_at FROM runs WHERE id = {len(factors(world))}"
        )
    assert factors(world) == [0.25] * 4
    report = world.run()
    assert (report.throttle_factor, factors(world)[-1]) == (0.25, 0.3125)


def test_a_run_that_sends_nothing_because_of_a_hint_does_not_halve_the_throttle_factor(world):
    world.configure(check='deadline = "60s"\nconcurrency = 1', more=AT_ONCE)
    world.track(3)
    world.sandbox.add_fault(path="/engine", status=429, headers={"Retry-After": "600"})
    for _ in range(3):
        report = world.run()
        assert [piece.cause for piece in report.evaluation.evidence] == [Cause.RATE_LIMITED]
    assert factors(world) == [0.5] * 3


def test_targets_with_one_key_use_the_smallest_throttle_factor(small_world):
    world = small_world
    shares_throttle = world.another_target("same-key", check="concurrency = 8")
    other_key = world.another_target("other-key", auth=world.key_auth, check="concurrency = 8")
    world.configure(check="concurrency = 8", more=shares_throttle + other_key)
    world.track(4)

    def run(row):
        job = world.app.job(world.app.config.targets[row])
        return asyncio.run(Run(job, interrupt=asyncio.Event(), progress=NoProgress())())

    run(1)
    held_back(world, 0.25, target="same-key")
    assert run(0).throttle_factor == 1, "its own"
    assert live(world).concurrency.ceiling == 2
    run(2)
    assert [throttle.concurrency.ceiling for throttle in world.app.throttles._throttles.values()] == [2, 8]
    held_back(world, 1.0, target="same-key")
    run(0)
    assert [throttle.concurrency.ceiling for throttle in world.app.throttles._throttles.values()] == [8, 8]


def test_the_report_and_the_log_show_the_throttle_factor(small_world, here):
    world = small_world
    world.track(2)
    world.run()
    held_back(world, 0.25)
    assert "Throttled to 1/4 of its rate and concurrency after 429s." in here(world, "check").stdout
    assert "Throttled to 31% of" in here(world, "check").stdout
    with structlog.testing.capture_logs() as logged:
        world.run()
    (event,) = [each for each in logged if each["event"] == "run_finished"]
    assert (event["throttle_factor"], event["next_throttle_factor"]) == (0.390625, 0.48828125)
    assert event["throttle_reason"] == "clean run"


def test_a_run_continues_if_the_throttle_factor_cannot_be_read(small_world):
    world = small_world
    world.track(2)
    with structlog.testing.capture_logs() as logged:
        throttle = world.app.throttles

        async def opened():
            async with throttle.throttle(world.app.config.targets[0], (), world.app.engine) as made:
                return made.concurrency.ceiling

        with world.app.engine.begin() as conn:
            conn.exec_driver_sql("ALTER TABLE runs RENAME COLUMN throttle_factor TO gone")
        assert asyncio.run(opened()) == 32
    assert [each["event"] for each in logged] == ["throttle_not_read"]
