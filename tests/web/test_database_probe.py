"""What the health endpoints read from the database, on both databases."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import insert

from monitor.database.engine import reading, writing
from monitor.database.tables import incidents, notifications
from monitor.model import NOTHING_LEARNED, ChannelState, LearnedLimits, RunStatus, Snapshot
from monitor.notifications import channel_state as channels
from monitor.runs import store as runs
from monitor.runs import throttle_store as throttles
from monitor.web import database_probe
from monitor.web.database_probe import QueueStats, TargetState

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def ended(conn, *, target="gloo", ago, status=RunStatus.COMPLETE, snapshot=None, reason=None):
    at = NOW - ago
    run_id = runs.start(conn, target=target, environment="test", run_key=None, epoch=1, started_at=at)
    runs.finish(
        conn,
        run_id=run_id,
        status=status,
        abort_reason=reason,
        owner_cause=None,
        due=0,
        answered=0,
        error=None,
        finished_at=at + timedelta(seconds=10),
        snapshot=snapshot,
    )


def read(engine, *targets, throttle_keys=None):
    with reading(engine) as conn:
        return database_probe.read(conn, targets=targets or ("gloo",), throttle_keys=throttle_keys or {}, timeout_s=5)


def test_the_state_of_a_target_is_that_of_its_newest_runs(engine):
    with writing(engine) as conn:
        ended(conn, ago=timedelta(hours=4), snapshot=Snapshot(completed=1))
        ended(conn, ago=timedelta(hours=3), snapshot=Snapshot(completed=2, pending=3, stuck=1))
        ended(conn, ago=timedelta(hours=2), status=RunStatus.ABORTED, reason="outage", snapshot=Snapshot(unknown=5))
        ended(conn, ago=timedelta(hours=1), status=RunStatus.FAILED)
        ended(conn, target="other", ago=timedelta(minutes=1), snapshot=Snapshot(failed=7))
        runs.start(conn, target="gloo", environment="test", run_key=None, epoch=2, started_at=NOW)
    stored = read(engine, "gloo", "none yet").targets
    assert stored == {
        "gloo": TargetState(
            last_run_at=NOW - timedelta(hours=1) + timedelta(seconds=10),
            last_success_at=NOW - timedelta(hours=3) + timedelta(seconds=10),
            snapshot=Snapshot(unknown=5),
        ),
        "none yet": TargetState(),
    }


def test_a_crashed_run_does_not_count_as_finished(engine):
    with writing(engine) as conn:
        runs.start(conn, target="gloo", environment="test", run_key=None, epoch=1, started_at=NOW - timedelta(hours=1))
        runs.abandon(conn, target="gloo", before_epoch=2, at=NOW)
    assert read(engine).targets == {"gloo": TargetState()}


def test_more_targets_than_fit_one_statement_are_all_read(engine):
    names = [f"t{number}" for number in range(1203)]
    with writing(engine) as conn:
        ended(conn, target=names[-1], ago=timedelta(0), snapshot=Snapshot(completed=4))
    stored = read(engine, *names).targets
    assert list(stored) == names
    assert stored[names[-1]].snapshot == Snapshot(completed=4)


def incident(conn, **fields):
    row = {
        "target": "gloo",
        "environment": "test",
        "cause": "outage",
        "state": "open",
        "severity": "critical",
        "team": "operations",
        "opened_at": NOW,
        "first_evidence_at": NOW,
        "last_evidence_at": NOW,
        "channels": [],
        **fields,
    }
    return conn.execute(insert(incidents).values(row).returning(incidents.c.id)).scalar_one()


def test_incidents_count_until_they_are_resolved(engine):
    with writing(engine) as conn:
        incident(conn)
        incident(conn, cause="items_failed", severity="warning", state="acknowledged", group_name="faq")
        incident(conn, cause="items_failed", severity="warning", group_name="news")
        incident(conn, cause="forbidden", state="resolved", resolved_at=NOW)
    assert read(engine).incidents == {("gloo", "outage", "critical"): 1, ("gloo", "items_failed", "warning"): 2}


def test_messages_count_by_channel_until_they_are_delivered(engine):
    with writing(engine) as conn:
        about = incident(conn)
        rows = [
            ("hook", "due", timedelta(hours=3), None),
            ("hook", "due", timedelta(hours=9), timedelta(hours=1)),
            ("hook", "sent", timedelta(hours=9), None),
            ("hook", "dead", timedelta(hours=9), None),
            ("mail", "dead", timedelta(hours=9), None),
            ("mail", "superseded", timedelta(hours=9), None),
        ]
        for number, (channel, status, ago, retried) in enumerate(rows):
            values = {
                "key": f"k{number}",
                "incident_id": about,
                "channel": channel,
                "kind": "opened",
                "message": {},
                "status": status,
                "created_at": NOW - ago,
                "next_attempt_at": NOW,
                "retried_at": NOW - retried if retried else None,
            }
            conn.execute(insert(notifications).values(values))
        channels.save(conn, ChannelState(name="mail", suspended_at=NOW))
    stored = read(engine)
    assert stored.queues == {
        "hook": QueueStats(due=2, oldest_due_at=NOW - timedelta(hours=3), dead=1),
        "mail": QueueStats(dead=1),
    }
    assert stored.channels["mail"].suspended_at == NOW


def test_learned_limits_are_reported_for_each_target_with_the_key(engine):
    learned = LearnedLimits(at=NOW, rate_per_s=7.5, down=True)
    with writing(engine) as conn:
        throttles.write(conn, key="k", origin="https://api.example:443", limits=learned)
    stored = read(engine, throttle_keys={"gloo": "k", "other": "k", "third": "unknown", "fourth": None})
    nothing = dict.fromkeys(("third", "fourth"), NOTHING_LEARNED)
    assert stored.learned == {"gloo": learned, "other": learned, **nothing}
