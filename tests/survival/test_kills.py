"""The short form of the kills on both databases, and tests of the audit."""

import pytest
from survival import audit
from survival.canary import POINTS as CANARY_POINTS
from survival.environments import sqlite_world
from survival.fault_injection import STEPS, WAITS
from survival.kills import DAEMON_POINTS, DELIVERY_POINTS, ENDS, OPENS, REFUSED, RUN_POINTS, Kill, survive
from survival.scenario import Scenario, ScriptedReceiver, outcome_without_kills
from survival.sync import POINTS as SYNC_POINTS
from survival.waits import POINTS as WAIT_POINTS

from monitor.database.engine import writing

pytestmark = pytest.mark.process

STORIES = {
    "half begun, a batch not stored, a snapshot not committed": [
        Kill(point="begin.committed"),
        Kill(point="record.commit", stage=REFUSED),
        Kill(point="close.commit", stage=ENDS),
    ],
    "a sync log half compared, a run just closed, a message not marked": [
        Kill(point="sync.statement"),
        Kill(point="close.committed", stage=REFUSED),
        Kill(point="send.leave", command="notify", stage=ENDS),
    ],
}


@pytest.fixture(scope="module")
def expected(_sqlite_template):
    """The result of the scenario without kills."""
    with sqlite_world(_sqlite_template) as world:
        return outcome_without_kills(world)


@pytest.mark.parametrize("kills", STORIES.values(), ids=STORIES)
def test_the_next_run_and_delivery_recover_from_a_kill_at_any_point(world, kills, expected):
    survived = survive(world, kills, expected)
    assert survived.wrong == []
    assert survived.killed == len(kills)
    assert survived.duplicates == sum(kill.point == "send.leave" for kill in kills)


@pytest.mark.smoke
def test_a_daemon_that_is_killed_loses_nothing(small_world, expected):
    survived = survive(small_world, [Kill(point="close.commit", command="daemon", stage=ENDS)], expected)
    assert (survived.wrong, survived.killed) == ([], 1)


def test_a_kill_at_any_other_moment_loses_nothing(small_world, expected):
    survived = survive(small_world, [Kill(after_s=0.1), Kill(after_s=0.3, stage=REFUSED)], expected)
    assert survived.wrong == []


@pytest.mark.smoke
def test_every_kill_point_wraps_an_existing_step():
    points = (
        *(kill.point for kill in (*RUN_POINTS, *DELIVERY_POINTS, *DAEMON_POINTS)),
        *CANARY_POINTS,
        *WAIT_POINTS,
        *SYNC_POINTS,
    )
    steps = {point.partition(".")[0] for point in points}
    assert steps == STEPS.keys() | WAITS.keys()


DAMAGES = {
    "a snapshot that is lost": "DELETE FROM snapshots WHERE run_id = 1",
    "a snapshot that is changed": "UPDATE snapshots SET requests = requests + 1 WHERE run_id = 1",
    "a run that stays open": "UPDATE runs SET status = 'running' WHERE id = 2",
    "a message that is not there": "DELETE FROM notifications WHERE id = 1",
    "a claim that stays": "UPDATE notifications SET claimed_by = 'gone:1' WHERE id = 1",
    "a lease that stays": "UPDATE leases SET holder = 'gone:1'",
    "an event of no run": "UPDATE item_events SET run_id = 99 WHERE id = 1",
    "an upload that is counted twice": "UPDATE time_to_indexed SET buckets = '{\"60000\":99}' WHERE slot_s = 0",
    "a run that is not rolled up": "UPDATE history_daily SET runs_complete = runs_complete - 1",
    "an incident that is not as it was": "UPDATE incidents SET state = 'resolved' WHERE id = 1",
}


def test_the_audit_finds_violations(small_world):
    file = small_world.folder / "monitor.db"
    with ScriptedReceiver() as receiver:
        scenario = Scenario(small_world, receiver, slow=False)
        for stage in (0, OPENS):
            scenario.play(stage)
        whole = {"kept": audit.stored(small_world), "expected": scenario.outcome(), "kills": 0}
        assert audit.find_violations(small_world, outcome=scenario.outcome(), **whole) == []
        small_world.close()
        kept, seen = file.read_bytes(), {}
        for damage, statement in DAMAGES.items():
            with writing(small_world.app.engine) as conn:
                conn.exec_driver_sql(statement)
            seen[damage] = bool(audit.find_violations(small_world, outcome=scenario.outcome(), **whole))
            small_world.close()
            file.write_bytes(kept)
        assert seen == dict.fromkeys(DAMAGES, True)


@pytest.mark.smoke
def test_the_audit_finds_duplicate_messages():
    once, other = ("k1", {"kind": "opened"}), ("k2", {"kind": "opened"})
    assert audit.duplicates([once, other]) == (0, True)
    assert audit.duplicates([once, other, once]) == (1, True)
    assert audit.duplicates([once, ("k1", {"kind": "resolved"})]) == (1, False)
