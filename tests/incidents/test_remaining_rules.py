"""Causes about regressed items, unrecognised statuses and the monitor itself, end to end."""

import asyncio
import json
from datetime import timedelta

from support.receiver import Receiver

from monitor.model import Cause, RunStatus
from monitor.reports.runs import run_text

DESCRIBED = "[targets.statuses]\npending = [{}]"
ONCE = "max_attempts = 1"
HOURLY = '[schedule]\nevery = "1h"\n'


def notified(world):
    return [(row["kind"], row["cause"]) for row in world.rows(
        "SELECT n.kind, i.cause FROM notifications n JOIN incidents i ON i.id = n.incident_id ORDER BY n.id"
    )]  # fmt: skip


def last_facts(world):
    (row,) = world.rows("SELECT message FROM notifications ORDER BY id DESC LIMIT 1")
    message = row["message"] if isinstance(row["message"], dict) else json.loads(row["message"])
    return dict(message["facts"])


def causes(report):
    return sorted(incident.cause.value for incident in report.open_incidents)


def interrupted():
    event = asyncio.Event()
    event.set()
    return event


def test_regressed_items_are_one_incident_until_none_is_pending(world):
    one, two, _ = world.track(3)
    world.run()
    world.sandbox.set_status(one, "EMBEDDING")
    report = world.run()
    (opened,) = report.open_incidents
    assert (opened.cause, opened.team.value, opened.member_ids) == (Cause.ITEMS_REGRESSED, "pipeline", (one,))
    assert last_facts(world)["statuses"] == "1 × EMBEDDING"
    assert "Failed requests" not in run_text(report, now=world.clock())
    world.sandbox.set_status(two, "QUEUED")
    assert [each.member_count for each in world.run().open_incidents] == [2]
    world.clock.advance(hours=1)
    (same,) = world.run().open_incidents
    assert (same.cause, same.member_count) == (Cause.ITEMS_REGRESSED, 2), "stuck too by now, but they belong already"
    assert last_facts(world)["statuses"] == "1 × EMBEDDING, 1 × QUEUED"
    world.sandbox.set_status(one, "COMPLETED")
    world.sandbox.set_status(two, "FAILED")
    assert causes(world.run()) == ["items_failed"]
    assert world.rows("SELECT item_id FROM items WHERE regressed_at IS NOT NULL") == []
    assert sorted(notified(world)) == [
        ("opened", "items_failed"), ("opened", "items_regressed"), ("resolved", "items_regressed"),
        ("updated", "items_regressed"),
    ]  # fmt: skip


def test_an_outage_neither_hides_nor_resolves_a_regression(small_world):
    small_world.configure(check=ONCE)
    item_id, *_ = small_world.track(3)
    small_world.run()
    small_world.sandbox.set_status(item_id, "QUEUED")
    small_world.sandbox.add_fault(path="/engine", status=503)
    small_world.run()
    small_world.sandbox.clear_faults()
    assert causes(small_world.run()) == ["items_regressed"]
    small_world.sandbox.add_fault(path="/engine", status=503)
    assert "items_regressed" in causes(small_world.run())


def test_an_unrecognised_status_is_an_incident_until_it_is_described(world):
    world.track(2, "MARINATING", uploaded_at=world.clock())
    world.track(1, "RESTING", uploaded_at=world.clock())
    report = world.run()
    (opened,) = report.open_incidents
    assert (opened.cause, opened.team.value, opened.member_count) == (Cause.UNRECOGNISED_STATUS, "integration", 3)
    assert opened.evidence.breakdown == {"MARINATING": 2, "RESTING": 1}
    assert last_facts(world)["statuses"] == "2 × MARINATING, 1 × RESTING"
    assert report.snapshot.pending == 3
    world.run()
    world.configure(check=DESCRIBED.format('"MARINATING"'))
    assert [each.member_count for each in world.run().open_incidents] == [1]
    world.configure(check=DESCRIBED.format('"MARINATING", "RESTING"'))
    assert causes(world.run()) == []
    assert notified(world) == [("opened", "unrecognised_status"), ("resolved", "unrecognised_status")]


def test_runs_that_are_cut_short_repeatedly_open_too_many_unknown(world):
    world.track(30)
    world.run()
    for _ in range(2):
        report = world.run(interrupt=interrupted())
    assert (report.status, report.snapshot.unknown) == (RunStatus.PARTIAL, 30)
    assert causes(report) == ["too_many_unknown"]
    assert last_facts(world)["evidence"] == "30 × interrupted"
    assert "Failed requests" not in run_text(report, now=world.clock())
    assert causes(world.run()) == ["too_many_unknown"]
    assert causes(world.run()) == []
    assert notified(world) == [("opened", "too_many_unknown"), ("resolved", "too_many_unknown")]


def test_an_outage_does_not_open_too_many_unknown(small_world):
    small_world.configure(check=ONCE)
    small_world.track(30)
    small_world.sandbox.add_fault(path="/engine", status=503)
    for _ in range(5):
        report = small_world.run()
    assert causes(report) == ["outage"]


def test_an_emptied_sync_log_opens_at_once_and_resolves_nothing_else(world):
    failed, *_ = world.track(1, "FAILED")
    world.track(3)
    assert causes(world.run()) == ["items_failed"]
    world.log("DELETE FROM sync_log")
    report = world.run()
    assert causes(report) == ["items_failed", "sync_log_empty"]
    assert causes(world.run()) == ["items_failed", "sync_log_empty"]
    world.record(failed)
    assert causes(world.run()) == ["items_failed", "sync_log_empty"]
    assert causes(world.run()) == ["items_failed"]
    assert notified(world) == [
        ("opened", "items_failed"), ("opened", "sync_log_empty"), ("resolved", "sync_log_empty"),
    ]  # fmt: skip


def test_a_target_that_was_never_filled_opens_no_incident(small_world):
    assert causes(small_world.run()) == []
    assert causes(small_world.run()) == []


def test_missed_runs_open_an_incident_if_there_is_a_schedule(world):
    world.configure(more=HOURLY)
    world.track(2)
    world.run()
    world.clock.advance(hours=5)
    report = world.run()
    assert causes(report) == ["run_missed"]
    assert last_facts(world)["evidence"] == "4 × missed"
    world.clock.advance(hours=1)
    assert causes(world.run()) == ["run_missed"]
    world.clock.advance(hours=1)
    assert causes(world.run()) == []
    assert notified(world) == [("opened", "run_missed"), ("resolved", "run_missed")]


def test_without_a_schedule_only_the_daemon_expects_runs(small_world):
    small_world.track(2)
    small_world.run()
    small_world.clock.advance(days=30)
    assert causes(small_world.run()) == []
    target = small_world.app.config.targets[0]
    kept = small_world.app.job(target, scheduled=True).evaluator
    assert kept.due_times.every == timedelta(minutes=5)
    small_world.clock.advance(days=30)
    assert causes(small_world.run(evaluator=kept)) == [], "its first start has missed nothing"
    small_world.clock.advance(days=30)
    assert causes(small_world.run(evaluator=kept)) == ["run_missed"]


def test_a_suspended_channel_is_notified_on_the_other(world):
    with Receiver((403, {}, b"")) as broken, Receiver() as audit:
        world.configure(more="".join(
            f'[[channels]]\nname = "{name}"\ntype = "webhook"\nurl = "{receiver.url}"\n'
            for name, receiver in (("broken", broken), ("audit", audit))
        ))  # fmt: skip
        world.track(1, "FAILED")
        world.run()
        assert asyncio.run(world.app.sender().deliver()).sent == 2
        (_, _, failed), (_, _, failing) = audit.got
    assert (failed["cause"], failing["cause"]) == ("items_failed", "channel_failing")
    assert (failing["target"], failing["team"]) == ("channel:broken", "monitor")
    assert failing["facts"]["last error"] == "HTTP 403"
    assert len(broken.got) == 1
    assert broken.url not in str(audit.got)


def test_a_rules_table_applies_to_unrecognised_status(small_world):
    small_world.configure(more='[[rules]]\ncause = "unrecognised_status"\nseverity = "critical"\nteam = "operations"\n')
    small_world.track(1, "MARINATING", uploaded_at=small_world.clock())
    (opened,) = small_world.run().open_incidents
    assert (opened.severity.value, opened.team.value) == ("critical", "operations")
