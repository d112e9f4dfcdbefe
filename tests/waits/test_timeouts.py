"""`polling_timeouts`: three of the last ten waits ran out of time, and the end of any run says so."""

from datetime import timedelta

import pytest
from support.samples import NOW
from waits.test_store import begin, ended

from monitor.database.engine import reading, writing
from monitor.incidents.decide import DecisionReason
from monitor.incidents.rulebook import DEFAULT_RULES
from monitor.model import Cause
from monitor.waits import store
from monitor.waits.rules import WaitResult
from monitor.waits.timeouts import PollingTimeouts

TIMED_OUT, COMPLETED = WaitResult.TIMED_OUT, WaitResult.COMPLETED
MINUTE = timedelta(minutes=1)


def add(world, *results):
    """Waits that ended so, a second apart, just before the clock's time."""
    with writing(world.app.engine) as conn:
        for number, result in enumerate(results):
            at = world.clock() - timedelta(seconds=len(results) - number)
            left = {"completed": 3} if result is COMPLETED else {"pending": 3}
            ended(conn, result, at=at, duration_s=0.5, **left)


def changes(report):
    return [(each.incident.cause, each.decision.action.value) for each in report.evaluation.changes]


@pytest.fixture
def site(small_world):
    small_world.track(1)
    return small_world


def test_three_of_the_last_ten_waits_open_it_and_two_good_ones_end_it(site):
    add(site, TIMED_OUT, COMPLETED, TIMED_OUT)
    assert changes(site.run()) == []
    add(site, TIMED_OUT)
    report = site.run()
    assert changes(report) == [(Cause.POLLING_TIMEOUTS, "open")]
    (incident,) = report.open_incidents
    assert (incident.team.value, incident.evidence.count, incident.evidence.breakdown) == (
        "operations", 3, {"timed out": 3},
    )  # fmt: skip
    add(site, COMPLETED)
    assert changes(site.run())[0][1] != "resolve"
    add(site, COMPLETED)
    assert changes(site.run()) == [(Cause.POLLING_TIMEOUTS, "resolve")]


def test_waits_that_did_not_end_by_themselves_do_not_count(site):
    others = [WaitResult.INTERRUPTED, WaitResult.KILLED, WaitResult.CRASHED] * 4
    add(site, TIMED_OUT, TIMED_OUT, TIMED_OUT, *others)
    assert changes(site.run()) == [(Cause.POLLING_TIMEOUTS, "open")]
    add(site, *others)
    assert "resolve" not in dict(changes(site.run())).values()


def test_a_wait_that_stopped_confirms_no_recovery(site):
    add(site, TIMED_OUT, TIMED_OUT, TIMED_OUT)
    site.run()
    add(site, WaitResult.STOPPED, WaitResult.STOPPED)
    assert "resolve" not in dict(changes(site.run())).values()
    add(site, COMPLETED, WaitResult.FAILED)
    assert changes(site.run()) == [(Cause.POLLING_TIMEOUTS, "resolve")]


def test_it_ends_when_nobody_waits_any_more(site):
    add(site, TIMED_OUT, TIMED_OUT, TIMED_OUT)
    site.run()
    site.clock.advance(days=8)
    report = site.run()
    (change,) = [each for each in report.evaluation.changes if each.incident.cause is Cause.POLLING_TIMEOUTS]
    assert change.decision.reason is DecisionReason.NOT_OBSERVED


def test_a_run_closes_what_a_killed_wait_left(site):
    with writing(site.app.engine) as conn:
        begin(conn, at=site.clock() - 2 * MINUTE)
    assert changes(site.run()) == []
    with reading(site.app.engine) as conn:
        assert [each.result for each in store.newest(conn, target="gloo", limit=9)] == [WaitResult.KILLED]


def test_a_target_that_nobody_waits_for_says_nothing(engine):
    with writing(engine) as conn:
        assert PollingTimeouts().observe(conn, target="gloo", rules=DEFAULT_RULES, now=NOW) == ()
        ended(conn, WaitResult.INTERRUPTED, at=NOW, pending=3)
        assert PollingTimeouts().observe(conn, target="gloo", rules=DEFAULT_RULES, now=NOW) == ()
