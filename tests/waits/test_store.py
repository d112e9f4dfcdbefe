"""The rows of waits on both databases: begun, alive, ended once, killed, counted, summed up."""

from dataclasses import replace
from datetime import timedelta

import pytest
from support.samples import NOW

from monitor.database.engine import reading, writing
from monitor.database.tables import items
from monitor.model import Cause
from monitor.waits import store
from monitor.waits.report import WaitReport
from monitor.waits.rules import Tally, WaitResult

MINUTE = timedelta(minutes=1)


def begin(conn, *, target="gloo", at=NOW, asked=3):
    return store.begin(
        conn,
        target=target,
        environment="test",
        holder="host:1",
        asked=asked,
        timeout=10 * MINUTE,
        started_at=at,
        now=at,
    )


def report(result=WaitResult.COMPLETED, *, at=NOW, duration_s=12.0, target="gloo", cause=None, **counts):
    counted = Tally(asked=3, **(counts or {"completed": 3}))
    return WaitReport(
        target=target,
        result=result,
        cause=cause,
        started_at=at,
        duration_s=duration_s,
        timeout=10 * MINUTE,
        requests=7,
        items=(),
        counts=counted,
    )


def ended(conn, result=WaitResult.COMPLETED, *, at=NOW, **more):
    wait_id = begin(conn, at=at, target=more.get("target", "gloo"))
    assert store.finish(conn, wait_id=wait_id, report=report(result, at=at, **more))
    return wait_id


def test_a_wait_is_stored_with_what_it_found(engine):
    with writing(engine) as conn:
        wait_id = begin(conn)
        assert store.newest(conn, target="gloo", limit=5) == []
        cut = report(WaitResult.TIMED_OUT, cause=Cause.OUTAGE, duration_s=600.0, completed=1, pending=1, unknown=1)
        assert store.finish(conn, wait_id=wait_id, report=cut)
        (stored,) = store.newest(conn, target="gloo", limit=5)
    assert (stored.id, stored.result, stored.cause) == (wait_id, WaitResult.TIMED_OUT, Cause.OUTAGE)
    assert (stored.asked, stored.completed, stored.pending, stored.unknown) == (3, 1, 1, 1)
    assert (stored.started_at, stored.finished_at, stored.timeout_s) == (NOW, NOW + 10 * MINUTE, 600.0)


def test_a_wait_whose_process_is_gone_is_closed_once_it_is_not_renewed(engine):
    with writing(engine) as conn:
        dead, alive = begin(conn), begin(conn, target="other")
        store.renew(conn, wait_id=alive, now=NOW + MINUTE)
        assert store.close_killed(conn, now=NOW + MINUTE) == 0
        assert store.close_killed(conn, now=NOW + 1.5 * MINUTE) == 1
        assert store.close_killed(conn, now=NOW + 1.5 * MINUTE) == 0
        (killed,) = store.newest(conn, target="gloo", limit=5)
        assert (killed.id, killed.result, killed.unknown, killed.duration_s) == (dead, WaitResult.KILLED, 3, 0)
        assert store.newest(conn, target="other", limit=5) == []


def test_a_wait_that_was_taken_for_dead_does_not_end_twice(engine):
    with writing(engine) as conn:
        wait_id = begin(conn)
        store.close_killed(conn, now=NOW + 2 * MINUTE)
        assert not store.finish(conn, wait_id=wait_id, report=report())
        assert [each.result for each in store.newest(conn, target="gloo", limit=5)] == [WaitResult.KILLED]
        assert sum(each.waits for each in store.totals(conn, targets=["gloo"])) == 1


def test_totals_count_by_result_and_duration(engine):
    with writing(engine) as conn:
        for duration_s in (3.0, 4.0, 40.0, 9000.0):
            ended(conn, duration_s=duration_s)
        ended(conn, WaitResult.TIMED_OUT, duration_s=600.0, pending=3)
        ended(conn, target="other")
        found = {
            (each.result.value, each.le_s): (each.waits, each.seconds) for each in store.totals(conn, targets=["gloo"])
        }
    assert found == {
        ("completed", 5): (2, 7.0),
        ("completed", 60): (1, 40.0),
        ("completed", 0): (1, 9000.0),
        ("timed_out", 600): (1, 600.0),
    }


def test_a_summary_covers_the_waits_of_a_period(engine):
    with writing(engine) as conn:
        ended(conn, at=NOW - 60 * MINUTE)
        ended(conn, at=NOW - 2 * MINUTE, duration_s=10.0)
        ended(conn, WaitResult.TIMED_OUT, at=NOW - MINUTE, duration_s=50.0, completed=1, pending=2)
        begin(conn)
        summaries = store.summaries(conn, targets=["gloo", "other"], since=NOW - 30 * MINUTE)
    assert list(summaries) == ["gloo"]
    found = summaries["gloo"]
    assert found.by_result == {WaitResult.COMPLETED: 1, WaitResult.TIMED_OUT: 1}
    assert (found.total, found.asked, found.completed, found.mean_s, found.longest_s) == (2, 6, 4, 30.0, 50.0)
    assert found.last.result is WaitResult.TIMED_OUT


def test_the_database_refuses_counts_that_do_not_add_up(engine):
    with writing(engine) as conn:
        wait_id = begin(conn)
    wrong = replace(report(), counts=Tally(asked=3, completed=1))
    with pytest.raises(Exception, match=r"failed|asked_is_sum"), writing(engine) as conn:
        store.finish(conn, wait_id=wait_id, report=wrong)


def test_what_runs_know_of_items_is_read_by_their_ids(engine):
    row = {"target": "gloo", "first_seen_at": NOW, "state": "pending", "recognised": True}
    with writing(engine) as conn:
        conn.execute(items.insert(), [
            {**row, "item_id": "a", "seen_at": NOW, "submitted_at": NOW, "params": '{"store": "x"}'},
            {**row, "item_id": "b", "seen_at": None, "submitted_at": None, "params": None},
        ])  # fmt: skip
    with reading(engine) as conn:
        found = store.known_items(conn, target="gloo", item_ids=["a", "b", "c"])
    assert (found["a"].seen, found["a"].submitted_at, found["a"].params) == (True, NOW, {"store": "x"})
    assert (found["b"].seen, found["b"].params, "c" in found) == (False, {}, False)
