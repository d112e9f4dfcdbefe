"""Probes: what a run sends while the API refuses the target, and how the run notices the recovery."""

from datetime import timedelta

import pytest
import structlog

from monitor.model import Cause, RunStatus

KINDS = ("/items/{", "token", "publisher/")
SPENT = {"status": 429, "body": {"detail": {"code": "SPENDING_LIMIT_EXCEEDED"}}}


def sent(world, run):
    """The numbers of requests of a run for items, tokens and the list; and its report."""
    before = [world.sandbox.requests(kind) for kind in KINDS]
    report = run()
    after = [world.sandbox.requests(kind) for kind in KINDS]
    return tuple(now - then for now, then in zip(after, before, strict=True)), report


def opened(world, cause):
    """Runs until the incident opens."""
    for _ in range(2):
        report = world.run()
    assert [incident.cause for incident in report.open_incidents] == [cause]
    return report


@pytest.mark.parametrize("strategy", ["items", "list"])
def test_with_a_revoked_key_each_run_sends_one_request(world, strategy):
    world.configure(auth=world.key_auth, strategy=strategy)
    world.track(60)
    world.run()
    world.sandbox.add_fault(path="/engine", status=401)
    opened(world, Cause.UNAUTHORIZED)
    for _ in range(3):
        counts, report = sent(world, world.run)
        assert counts == (1, 0, 0)
        assert (report.status, report.abort_reason) == (RunStatus.ABORTED, "unauthorized")
        assert report.probed_for is Cause.UNAUTHORIZED
        assert report.snapshot.unknown == 60
        assert [piece.cause for piece in report.evaluation.evidence] == [Cause.UNAUTHORIZED]
    world.sandbox.clear_faults()
    (items, _, lists), report = sent(world, world.run)
    assert (report.status, report.snapshot.checked, report.snapshot.completed) == (RunStatus.COMPLETE, 60, 60)
    assert (items, lists) == ((60, 0) if strategy == "items" else (1, 1))
    assert report.probed_for is Cause.UNAUTHORIZED
    report = world.run()
    assert report.open_incidents == ()
    assert world.run().probed_for is None


def test_with_a_revoked_client_each_run_sends_one_token_request(world):
    world.track(60)
    world.run()
    world.sandbox.revoke_client()
    opened(world, Cause.UNAUTHORIZED)
    counts, report = sent(world, world.run)
    assert counts == (0, 1, 0)
    assert report.abort_reason == "unauthorized"


def test_a_404_answers_a_probe(world):
    world.configure(auth=world.key_auth)
    world.record(*(f"00000000-0000-4000-8000-0000000000{n:02}" for n in range(10)))
    world.sandbox.add_fault(path="/engine", status=401)
    opened(world, Cause.UNAUTHORIZED)
    world.sandbox.clear_faults()
    report = world.run()
    assert (report.status, report.snapshot.not_found) == (RunStatus.COMPLETE, 10)


def test_an_acknowledged_spending_limit_is_probed_too(world):
    world.track(60)
    world.run()
    world.sandbox.add_fault(path="/engine", **SPENT)
    world.run()
    with world.app.engine.begin() as conn:
        conn.exec_driver_sql("UPDATE incidents SET state = 'acknowledged'")
    counts, report = sent(world, world.run)
    assert counts[0] == 1
    assert report.probed_for is Cause.SPENDING_LIMIT


def test_while_forbidden_each_run_probes_another_item_and_stops_after_one_403(world):
    ids = world.track(6)
    world.run()
    world.sandbox.add_fault(path="/engine", status=403)
    opened(world, Cause.FORBIDDEN)
    probed = set()
    for _ in range(6):
        counts, report = sent(world, world.run)
        assert (counts[0], report.abort_reason) == (1, "forbidden")
        (row,) = world.rows(f"SELECT item_id FROM items WHERE asked_run_id = {report.run_id}")
        probed.add(row["item_id"])
    assert probed == set(ids)


def test_one_foreign_item_does_not_keep_a_target_stopped(world):
    ids = world.track(8)
    world.run()
    world.sandbox.add_fault(path="/engine", status=403)
    opened(world, Cause.FORBIDDEN)
    world.sandbox.clear_faults()
    world.sandbox.add_fault(path=f"/engine/v2/items/{ids[0]}", status=403)
    reports = [world.run() for _ in range(3)]
    assert RunStatus.COMPLETE in [report.status for report in reports]
    assert (reports[-1].snapshot.completed, reports[-1].snapshot.unknown) == (7, 1)


def test_a_single_foreign_item_causes_no_probe(world):
    ids = world.track(8)
    world.run()
    world.sandbox.add_fault(path=f"/engine/v2/items/{ids[0]}", status=403)
    opened(world, Cause.FORBIDDEN)
    counts, report = sent(world, world.run)
    assert (counts[0], report.probed_for, report.status) == (8, None, RunStatus.COMPLETE)


def test_after_another_failure_of_the_probe_the_run_continues(world):
    world.configure(auth=world.key_auth, check="max_attempts = 1\nconcurrency = 1")
    world.track(30)
    world.run()
    world.sandbox.add_fault(path="/engine", status=401)
    opened(world, Cause.UNAUTHORIZED)
    world.sandbox.clear_faults()
    world.sandbox.add_fault(path="/engine", status=503, count=2)
    report = world.run()
    assert (report.status, report.snapshot.checked, report.snapshot.unknown) == (RunStatus.COMPLETE, 29, 1)


@pytest.mark.parametrize("strategy", ["items", "list"])
def test_without_tracked_items_nothing_is_sent(world, strategy):
    world.configure(auth=world.key_auth, strategy=strategy)
    ids = world.track(8)
    world.sandbox.add_fault(path="/engine", status=401)
    opened(world, Cause.UNAUTHORIZED)
    assert world.cli("items", "ignore", *ids, "--reason", "moved").returncode == 0
    counts, report = sent(world, world.run)
    assert counts == (0, 0, 0)
    assert (report.status, report.probed_for) == (RunStatus.COMPLETE, None)


def test_malformed_ids_are_not_probed(world):
    world.configure(auth=world.key_auth, strategy="list")
    world.record("not-an-id", "neither is this")
    (item,) = world.track(1)
    world.sandbox.add_fault(path="/engine", status=401)
    opened(world, Cause.UNAUTHORIZED)
    counts, report = sent(world, world.run)
    assert (counts, report.abort_reason) == ((1, 0, 0), "unauthorized")
    world.log(f"DELETE FROM sync_log WHERE item_id = '{item}'")
    counts, report = sent(world, world.run)
    assert (counts, report.snapshot.invalid, report.probed_for) == ((0, 0, 0), 2, None)


def test_a_deadline_during_the_probe_makes_the_run_partial(small_world):
    world = small_world
    world.configure(auth=world.key_auth)
    world.track(8)
    world.sandbox.add_fault(path="/engine", status=401)
    opened(world, Cause.UNAUTHORIZED)
    world.sandbox.clear_faults()
    world.sandbox.add_fault(path="/engine", delay_s=30)
    report = world.run(deadline=timedelta(seconds=1))
    assert (report.status, report.abort_reason, report.snapshot.unknown) == (RunStatus.PARTIAL, "deadline", 8)


def test_the_command_and_the_log_name_the_probe(small_world, here):
    world = small_world
    world.configure(auth=world.key_auth)
    world.track(60)
    world.sandbox.add_fault(path="/engine", status=401)
    for _ in range(2):
        here(world, "check")
    said = here(world, "check")
    assert "incident unauthorized is open; the API refused it" in " ".join(said.stdout.split())
    with structlog.testing.capture_logs() as logged:
        world.run()
    assert [event["probed_for"] for event in logged if event["event"] == "run_finished"] == ["unauthorized"]
