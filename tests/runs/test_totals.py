"""The totals of runs for counters: each run counts once, and pruning does not lower them."""

from collections import Counter

import pytest

from monitor.database.engine import reading, writing
from monitor.errors import RunCrashedError
from monitor.model import RunStatus
from monitor.runs import totals
from monitor.runs.report import RunReport
from monitor.runs.totals import DURATION_BUCKETS_S, RunTotals


def read(engine, *targets):
    with reading(engine) as conn:
        return totals.read(conn, targets=targets)


@pytest.mark.slow_twice
def test_runs_are_added_up_by_target(engine):
    reports = [
        RunReport(target="a", run_id=1, status=RunStatus.COMPLETE, duration_s=2.0, retries=2, attempts={"2xx": 7}),
        RunReport(target="a", run_id=2, status=RunStatus.PARTIAL, duration_s=2.5, attempts={"2xx": 1, "none": 3}),
        RunReport(target="a", run_id=3, status=RunStatus.FAILED, duration_s=9000.0),
        RunReport(target="b", run_id=4, status=RunStatus.COMPLETE),
    ]
    with writing(engine) as conn:
        for each in reports:
            totals.add(conn, each)
        totals.add_crash(conn, target="a")
    found = read(engine, "a", "b", "never ran")
    below = sum(bound < 2 for bound in DURATION_BUCKETS_S)
    assert found == {
        "a": RunTotals(
            runs=Counter({RunStatus.COMPLETE: 1, RunStatus.PARTIAL: 1, RunStatus.FAILED: 1}),
            requests=Counter({"2xx": 8, "none": 3}),
            retries=2,
            durations=(*[0] * below, *[2] * (len(DURATION_BUCKETS_S) - below), 3),
            duration_s=9004.5,
            crashes=1,
        ),
        "b": RunTotals(runs=Counter({RunStatus.COMPLETE: 1}), durations=(1,) * (len(DURATION_BUCKETS_S) + 1)),
    }


def test_each_end_of_a_run_is_counted_with_it(small_world, monkeypatch):
    world = small_world
    world.track(3)
    world.run()
    (found,) = read(world.app.engine, "gloo").values()
    assert (found.runs, found.requests, found.crashes) == (Counter({RunStatus.COMPLETE: 1}), Counter({"2xx": 3}), 0)

    def fail(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr("monitor.runs.close.roll_up", fail)
    with pytest.raises(RunCrashedError):
        world.run()
    monkeypatch.undo()
    (found,) = read(world.app.engine, "gloo").values()
    assert (found.runs.total(), found.crashes) == (1, 1)
