"""The main job end to end, on SQLite and PostgreSQL: snapshots, incidents and notifications of runs."""

import asyncio
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update
from support.observed import until, until_asked

from monitor.app import utcnow
from monitor.database import leases, tables
from monitor.database.engine import writing
from monitor.errors import LeaseHeldError, LeaseLostError, RunAlreadyExecutedError
from monitor.model import Cause, IncidentState, RunStatus
from monitor.reports.runs import run_text
from monitor.runs import store as runs
from monitor.runs.progress import NoProgress
from monitor.runs.run import LEASE_TTL, Run


def causes(report):
    return [incident.cause for incident in report.open_incidents]


def messages(world):
    return [(row["kind"], row["cause"]) for row in world.rows(
        "SELECT n.kind, i.cause FROM notifications n JOIN incidents i ON i.id = n.incident_id ORDER BY n.id"
    )]  # fmt: skip


def states(snapshot):
    return {state.value: count for state, count in snapshot.states.items() if count}


@pytest.mark.smoke
def test_a_run_counts_completed_pending_failed_and_missing_items(world):
    world.track(2)
    world.track(3, "EMBEDDING", uploaded_at=world.clock() - timedelta(minutes=5))
    world.track(1, "FAILED")
    world.record(str(uuid.uuid4()), "not-a-uuid")
    report = world.run()
    assert report.status is RunStatus.COMPLETE
    assert states(report.snapshot) == {"completed": 2, "pending": 3, "failed": 1, "not_found": 1, "invalid": 1}
    assert report.snapshot.requests == 7
    (row,) = world.rows("SELECT * FROM history")
    assert (row["total"], row["checked"], row["completed"], row["not_found"]) == (8, 7, 2, 1)
    assert row["status"] == "complete"
    assert "Health: 2 completed, 3 pending, 1 failed, 1 not found, 1 invalid" in run_text(report, now=world.clock())


def test_a_second_run_writes_no_event_twice(world):
    world.track(3)
    world.track(2, "QUEUED", uploaded_at=world.clock())
    world.run()
    events = world.rows("SELECT * FROM item_events")
    world.run()
    assert len(events) == 5
    assert world.rows("SELECT * FROM item_events") == events
    assert len(world.rows("SELECT * FROM history")) == 2


def test_an_unrecognised_status_is_pending_and_never_terminal(world):
    world.track(1, "MARINATING", uploaded_at=world.clock())
    report = world.run()
    assert states(report.snapshot) == {"pending": 1}
    assert "  MARINATING: 1 item" in run_text(report, now=world.clock()).splitlines()
    assert world.rows("SELECT stage, recognised FROM items") == [{"stage": "MARINATING", "recognised": False}]


@pytest.mark.smoke
def test_a_revoked_client_is_one_incident_with_one_opening_and_one_resolution(world):
    world.track(8)
    world.run()
    world.sandbox.revoke_client()
    first, second, third = (world.run() for _ in range(3))
    assert [causes(report) for report in (first, second, third)] == [[], [Cause.UNAUTHORIZED], [Cause.UNAUTHORIZED]]
    assert (third.status, third.abort_reason) == (RunStatus.ABORTED, "unauthorized")
    assert states(third.snapshot) == {"unknown": 8}
    assert messages(world) == [("opened", "unauthorized")]
    world.sandbox.restore_client()
    assert causes(world.run()) == [Cause.UNAUTHORIZED]
    assert causes(world.run()) == []
    assert messages(world) == [("opened", "unauthorized"), ("resolved", "unauthorized")]
    assert len(world.rows("SELECT * FROM incidents")) == 1


def test_a_renamed_environment_keeps_its_open_incidents(world):
    world.track(2)
    world.sandbox.revoke_client()
    world.run()
    world.run()
    config = world.config_path.read_text(encoding="utf-8")
    world.config_path.write_text(config.replace('environment = "test"', 'environment = "renamed"'), encoding="utf-8")
    world.close()
    world.run()
    assert world.rows("SELECT environment, state FROM incidents") == [{"environment": "renamed", "state": "open"}]


def test_a_revoked_api_key_stops_the_target_after_five_items(world):
    world.configure(auth=world.key_auth)
    world.track(50)
    world.run()
    world.sandbox.revoke_key()
    before = world.sandbox.requests("items")
    report = world.run()
    assert (report.status, report.abort_reason) == (RunStatus.ABORTED, "forbidden")
    assert world.sandbox.requests("items") - before == 5
    assert states(report.snapshot) == {"unknown": 50}
    opened = world.run().open_incidents
    assert [incident.cause for incident in opened] == [Cause.FORBIDDEN]
    (row,) = world.rows("SELECT message FROM notifications")
    assert "rotated key" in str(row["message"])


def test_one_foreign_item_among_a_hundred_stops_nothing(world):
    foreign, *_ = world.track(100)
    world.sandbox.assign_to_other_publisher(foreign)
    report = world.run()
    assert report.status is RunStatus.COMPLETE
    assert states(report.snapshot) == {"completed": 99, "unknown": 1}
    assert report.snapshot.checked == 99
    (incident,) = world.run().open_incidents
    assert incident.cause is Cause.FORBIDDEN
    assert incident.evidence.sample_ids == (foreign,)
    assert len(world.rows("SELECT * FROM incidents")) == 1


def test_an_api_that_is_down_gets_five_requests_and_one_incident(world):
    world.track(300)
    world.run()
    world.sandbox.add_fault(path="/engine", status=503)
    before = world.sandbox.requests("items")
    report = world.run()
    assert world.sandbox.requests("items") - before == 5
    assert (report.status, report.abort_reason) == (RunStatus.ABORTED, "outage")
    assert states(report.snapshot) == {"completed": 100, "unknown": 200}
    assert causes(report) == []
    world.clock.advance(minutes=3)
    assert causes(world.run()) == [Cause.OUTAGE]
    assert [incident["cause"] for incident in world.rows("SELECT cause FROM incidents")] == ["outage"]


def test_an_unreachable_api_is_an_outage_and_recovers(world):
    world.configure(check="max_attempts = 1")
    world.track(3)
    world.run()
    world.sandbox.stop()
    for _ in range(5):
        report = world.run()
        assert states(report.snapshot) == {"unknown": 3}
    assert causes(report) == [Cause.OUTAGE]
    assert set(report.open_incidents[0].evidence.breakdown) == {"refused from the token endpoint"}
    world.sandbox.start()
    world.run()
    assert causes(world.run()) == []


@pytest.mark.smoke
def test_failed_items_open_one_incident_that_resolves_when_all_recover(world):
    first, second, third = world.track(3)
    world.sandbox.set_status(first, "FAILED")
    report = world.run()
    (incident,) = report.open_incidents
    assert (incident.cause, incident.member_count) == (Cause.ITEMS_FAILED, 1)
    world.sandbox.set_status(second, "ERROR")
    assert world.run().open_incidents[0].member_count == 2
    world.sandbox.set_status(first, "COMPLETED")
    world.sandbox.set_status(second, "QUEUED")
    report = world.run()
    assert causes(report) == []
    assert messages(world) == [("opened", "items_failed"), ("resolved", "items_failed")]
    assert third not in str(world.rows("SELECT message FROM notifications"))


def test_a_reminder_names_the_items_that_are_still_in_a_bad_state(world):
    first, second, *_ = world.track(4)
    world.sandbox.set_status(first, "FAILED")
    world.run()
    world.sandbox.set_status(first, "COMPLETED")
    world.sandbox.set_status(second, "FAILED")
    world.run()
    world.clock.advance(days=1)
    world.run()
    reminder = world.rows("SELECT message FROM notifications ORDER BY id")[-1]["message"]
    assert second in str(reminder)
    assert first not in str(reminder)


def test_new_members_are_sent_in_one_update_after_half_an_hour(world):
    ids = world.track(4)
    for minutes, item_id in zip((0, 5, 30), ids, strict=False):
        world.clock.advance(minutes=minutes)
        world.sandbox.set_status(item_id, "FAILED")
        world.run()
    assert messages(world) == [("opened", "items_failed"), ("updated", "items_failed")]
    assert world.rows("SELECT member_count, unnotified_count FROM incidents") == [
        {"member_count": 3, "unnotified_count": 0}
    ]


def test_missing_uploads_are_one_incident_after_missing_after(world):
    world.track(30)
    lost = [str(uuid.uuid4()) for _ in range(3)]
    world.record(*lost, uploaded_at=world.clock() - timedelta(minutes=10))
    assert causes(world.run()) == []
    world.clock.advance(minutes=5)
    (incident,) = world.run().open_incidents
    assert incident.cause is Cause.ITEMS_MISSING
    assert sorted(incident.evidence.sample_ids) == sorted(lost)


def test_an_item_that_disappears_is_missing_at_once_and_recovers_when_it_leaves_the_log(world):
    item_id, *_ = world.track(12)
    world.run()
    world.sandbox.remove(item_id)
    assert causes(world.run()) == [Cause.ITEMS_MISSING]
    world.log(f"DELETE FROM sync_log WHERE item_id = '{item_id}'")
    report = world.run()
    assert causes(report) == []
    assert report.snapshot.total == 11


def test_hanging_items_are_stuck_and_one_incident(world):
    world.track(157, "CHUNKING", uploaded_at=world.clock() - timedelta(minutes=29))
    assert world.run().snapshot.stuck == 0
    world.clock.advance(minutes=1)
    report = world.run()
    assert (report.snapshot.pending, report.snapshot.stuck) == (157, 157)
    (incident,) = report.open_incidents
    assert (incident.cause, incident.member_count) == (Cause.ITEMS_STUCK, 157)
    assert world.run().open_incidents[0].id == incident.id


def test_a_wrong_publisher_explains_missing_items(world):
    world.track(10)
    world.run()
    with world.app.engine.connect():
        elsewhere = [str(uuid.uuid4()) for _ in range(10)]
    world.log("DELETE FROM sync_log")
    world.record(*elsewhere, uploaded_at=world.clock() - timedelta(hours=2))
    report = world.run()
    assert causes(report) == []
    assert causes(world.run()) == [Cause.WRONG_SCOPE]
    evidence = world.rows("SELECT cause, inhibited_by FROM evidence WHERE cause = 'items_missing'")
    assert evidence == [{"cause": "items_missing", "inhibited_by": "wrong_scope"}] * 2


def test_a_cut_run_leaves_the_rest_unknown_and_no_incident_of_theirs_resolves(world):
    failed, *_ = world.track(6)
    world.sandbox.set_status(failed, "FAILED")
    assert causes(world.run()) == [Cause.ITEMS_FAILED]
    world.sandbox.set_status(failed, "COMPLETED")
    world.sandbox.add_fault(path=f"/engine/v2/items/{failed}", delay_s=4, passes=True)
    report = world.run(deadline=timedelta(seconds=1))
    assert (report.status, report.abort_reason) == (RunStatus.PARTIAL, "deadline")
    assert (report.snapshot.unknown, report.last_known) == (1, {"failed": 1})
    assert causes(report) == [Cause.ITEMS_FAILED]
    world.sandbox.clear_faults()
    assert causes(world.run()) == []


def test_a_cut_run_asks_about_members_first_and_resolves_their_incident(world):
    world.configure(check="concurrency = 1")
    *_, failed = sorted(world.track(40, "QUEUED", uploaded_at=world.clock()))
    world.sandbox.set_status(failed, "FAILED")
    assert causes(world.run()) == [Cause.ITEMS_FAILED]
    world.sandbox.set_status(failed, "COMPLETED")
    world.sandbox.add_fault(path="/engine", delay_s=0.1, passes=True)
    report = cut_short(world, after=5)
    assert report.status is RunStatus.PARTIAL
    assert report.snapshot.unknown >= 30
    assert causes(report) == []


def test_an_unknown_item_keeps_its_last_known_state(world):
    world.configure(check="max_attempts = 1")
    (item_id,) = world.track(1)
    world.run()
    world.sandbox.add_fault(path="/engine", status=500, body={"request_id": "req_1", "code": "BOOM"})
    world.run()
    (row,) = world.rows("SELECT state, reason, known_state, http_status, request_id FROM items")
    assert row["state"] == "unknown"
    assert row["known_state"] == "completed"
    assert row["reason"] == "outage"
    assert item_id in str(world.rows("SELECT sample_ids FROM evidence"))


def test_items_that_leave_the_log_are_removed_and_return_with_their_state(world):
    gone, _ = world.track(2)
    world.run()
    world.log(f"DELETE FROM sync_log WHERE item_id = '{gone}'")
    report = world.run()
    assert (report.sync.removed, report.snapshot.total) == (1, 1)
    world.record(gone)
    report = world.run()
    assert (report.sync.returned, report.snapshot.total) == (1, 2)
    kinds = [row["kind"] for row in world.rows(f"SELECT kind FROM item_events WHERE item_id = '{gone}' ORDER BY id")]
    assert kinds == ["state", "removed", "returned"]


def test_null_blank_duplicate_and_invalid_ids_cause_no_request_and_are_named(world):
    (good,) = world.track(1)
    world.record(None, "  ", good, good, "x" * 600)
    report = world.run()
    sync = report.sync
    assert (sync.null, sync.blank, sync.duplicate, sync.unusable, sync.tracked) == (1, 1, 2, 1, 1)
    assert report.snapshot.requests == 1
    text = " ".join(run_text(report, now=world.clock()).split())
    assert "Sync log: 1 row without an id" in text
    assert f"2 rows with a duplicate id: {good} " in text


def test_an_empty_sync_log_resolves_nothing(world):
    item_id, *_ = world.track(3)
    world.sandbox.set_status(item_id, "FAILED")
    world.run()
    world.log("DELETE FROM sync_log")
    for _ in range(3):
        report = world.run()
    assert report.snapshot.total == 3, "none is taken for removed"
    assert set(causes(report)) == {Cause.ITEMS_FAILED, Cause.SYNC_LOG_EMPTY}
    assert "it is empty; its 3 items stay tracked" in run_text(report, now=world.clock())


def test_an_unreadable_sync_log_makes_a_failed_run_without_a_snapshot(world):
    world.track(3)
    world.run()
    world.log("ALTER TABLE sync_log RENAME TO elsewhere")
    first, second = world.run(), world.run()
    assert first.snapshot is None
    assert first.status is RunStatus.FAILED
    assert "sync_log" in first.error
    assert causes(first) == []
    assert causes(second) == [Cause.SYNC_LOG_UNREADABLE]
    assert len(world.rows("SELECT * FROM history")) == 1
    world.log("ALTER TABLE elsewhere RENAME TO sync_log")
    world.run()
    assert causes(world.run()) == []


def test_a_second_concurrent_run_is_refused(world):
    world.track(1)
    with writing(world.app.engine) as conn:
        epoch = leases.acquire(conn, target="gloo", holder="elsewhere:1", now=world.clock(), ttl=timedelta(seconds=30))
    with pytest.raises(LeaseHeldError, match="elsewhere:1"):
        world.run()
    assert epoch == 1
    assert world.run().snapshot.total == 1, "a lease that was not renewed for a minute has expired"


@pytest.mark.parametrize("apart", [timedelta(days=-1), timedelta(days=1)], ids=["behind", "ahead"])
def test_machines_with_clocks_a_day_apart_never_run_at_the_same_time(small_world, new_postgres, apart):
    small_world.configure(database=new_postgres(migrated=True))
    small_world.track(4)
    small_world.sandbox.add_fault(path="/engine", delay_s=0.5, passes=True)

    def run(clock):
        """The result of one run with this clock."""
        job = replace(small_world.app, clock=clock).job(small_world.app.config.targets[0])
        return Run(job, interrupt=asyncio.Event(), progress=NoProgress())()

    async def race():
        return await asyncio.gather(run(utcnow), run(lambda: utcnow() + apart), return_exceptions=True)

    ends = asyncio.run(race())
    assert sorted(type(end) for end in ends if isinstance(end, Exception)) == [LeaseHeldError]
    assert len(small_world.rows("SELECT 1 FROM runs")) == 1


def test_a_killed_run_between_two_refused_ones_does_not_delay_the_incident(world):
    world.track(3)
    world.run()
    world.sandbox.revoke_client()
    world.run()
    with writing(world.app.engine) as conn:
        epoch = leases.acquire(conn, target="gloo", holder="killed:1", now=world.clock(), ttl=LEASE_TTL)
        runs.start(conn, target="gloo", environment="test", run_key=None, epoch=epoch, started_at=world.clock())
    world.clock.advance(minutes=1)
    assert causes(world.run()) == [Cause.UNAUTHORIZED]
    assert len(world.rows("SELECT 1 FROM runs WHERE status = 'crashed'")) == 1


def test_a_killed_run_with_its_clock_a_day_ahead_blocks_no_later_run(world):
    world.track(1)
    ahead, now = world.clock() + timedelta(days=1), world.clock()
    with writing(world.app.engine) as conn:
        epoch = leases.acquire(conn, target="gloo", holder="killed:1", now=ahead, ttl=LEASE_TTL)
        runs.start(conn, target="gloo", environment="test", run_key=None, epoch=epoch, started_at=ahead)
    assert world.clock() == now
    assert world.run().snapshot.total == 1
    assert [row["status"] for row in world.rows("SELECT status FROM runs ORDER BY id")] == ["crashed", "complete"]


def test_a_run_key_is_checked_under_the_lease(small_world, new_postgres):
    """A run that waited for the lease must check the run key again under it."""
    small_world.configure(database=new_postgres(migrated=True))
    small_world.track(1)
    small_world.run(run_key="other")
    lease, ends = {"target": "gloo"}, []
    with writing(small_world.app.engine) as conn:
        lease["epoch"] = leases.acquire(conn, holder="first:1", now=small_world.clock(), ttl=LEASE_TTL, **lease)
    job = small_world.job()

    async def second():
        run = Run(job, interrupt=asyncio.Event(), progress=NoProgress(), run_key="job-1")
        ends.extend(await asyncio.gather(run(), return_exceptions=True))

    with writing(small_world.app.engine) as releasing:
        leases.release(releasing, **lease)
        contender = threading.Thread(target=lambda: asyncio.run(second()))
        contender.start()
        blocked = "SELECT 1 FROM pg_locks WHERE NOT granted"
        until(lambda: small_world.rows(blocked), "a contender that waits for the lease's row")
        with writing(small_world.app.engine) as conn:  # the first one executes the run key
            times = {"epoch": lease["epoch"], "started_at": job.utcnow()}
            run_id = runs.start(conn, target="gloo", environment="test", run_key="job-1", **times)
            conn.execute(update(tables.runs).where(tables.runs.c.id == run_id).values(status="complete"))
    contender.join()
    assert [type(end) for end in ends] == [RunAlreadyExecutedError]
    assert len(small_world.rows("SELECT 1 FROM runs WHERE run_key = 'job-1'")) == 1


@pytest.mark.smoke
def test_a_run_that_lost_its_lease_writes_nothing(world):
    world.track(40)
    world.configure(check="concurrency = 1")
    world.sandbox.add_fault(path="/engine", delay_s=0.1, passes=True)

    def take_over():
        with writing(world.app.engine) as conn:
            leases.acquire(
                conn, target="gloo", holder="thief:2", now=world.clock() + timedelta(hours=1), ttl=timedelta(hours=2)
            )

    thief = threading.Timer(1.0, take_over)
    thief.start()
    with pytest.raises(LeaseLostError):
        world.run()
    thief.join()
    assert world.rows("SELECT * FROM history") == []
    assert world.rows("SELECT * FROM snapshots") == []


def test_an_executed_run_key_is_not_executed_again(world):
    world.track(1)
    world.run(run_key="job-1")
    with pytest.raises(RunAlreadyExecutedError, match="job-1"):
        world.run(run_key="job-1")
    world.run(run_key="job-2")
    assert [row["run_key"] for row in world.rows("SELECT run_key FROM history ORDER BY run_id")] == ["job-1", "job-2"]


def cut_short(world, *, after):
    """The report of a run that a signal ends after this many answers."""

    async def cut():
        interrupt = asyncio.Event()
        before = world.sandbox.requests("items")

        async def watch():
            while world.sandbox.requests("items") < before + after:  # noqa: ASYNC110  # the sandbox has no event for it
                await asyncio.sleep(0.01)
            interrupt.set()

        watching = asyncio.create_task(watch())
        try:
            return await Run(world.job(), interrupt=interrupt, progress=NoProgress())()
        finally:
            watching.cancel()

    try:
        return asyncio.run(cut())
    finally:
        world.clock.advance(minutes=1)


def test_an_interrupted_run_stores_finished_outcomes(world):
    world.configure(check="concurrency = 2")
    world.track(60)
    world.sandbox.add_fault(path="/engine", delay_s=0.1, passes=True)

    report = cut_short(world, after=6)
    assert (report.status, report.abort_reason) == (RunStatus.PARTIAL, "interrupted")
    assert 0 < report.snapshot.completed < 60
    assert report.snapshot.completed + report.snapshot.unknown == 60


@pytest.mark.process
def test_an_expired_token_is_refreshed_during_the_run(world):
    world.configure(check="concurrency = 8")
    world.track(200)
    world.sandbox.add_fault(path="/engine", delay_s=0.1, passes=True)

    def expire():
        until_asked(world, 20)
        world.sandbox.expire_tokens()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(expire)
        report = world.run()
    assert states(report.snapshot) == {"completed": 200}
    assert world.sandbox.requests("token") == 2


def test_a_cause_that_returns_within_a_quarter_of_an_hour_reopens_the_incident(world):
    world.track(3)
    for revoked in (False, True, True, False, False, True, True):
        world.sandbox.revoke_client() if revoked else world.sandbox.restore_client()
        report = world.run()
    (incident,) = report.open_incidents
    assert incident.state is IncidentState.OPEN
    assert len(world.rows("SELECT * FROM incidents")) == 1
    assert messages(world) == [("opened", "unauthorized"), ("resolved", "unauthorized"), ("opened", "unauthorized")]


def test_many_one_shot_processes_decide_like_one_long_lived_process(world):
    """The rules count runs in the database, so a new App per run changes nothing."""
    world.track(4)
    script = [False, True, True, True, False, False, False, True, False]
    for revoked in script:
        world.sandbox.revoke_client() if revoked else world.sandbox.restore_client()
        world.run()
        world.close()
    assert messages(world) == [("opened", "unauthorized"), ("resolved", "unauthorized")]


def test_refused_runs_leave_most_completed_items_completed(world):
    """An outage must not make more and more completed items unknown, since these would flood the API afterwards."""
    world.track(1000)
    world.run()
    world.sandbox.revoke_client()
    for _ in range(4):
        assert states(world.run().snapshot) == {"completed": 800, "unknown": 200}
    world.sandbox.restore_client()
    before = world.sandbox.requests("items")
    assert states(world.run().snapshot) == {"completed": 1000}
    assert world.sandbox.requests("items") - before <= 205


@pytest.mark.process
def test_runs_that_are_always_cut_short_reach_every_item(world):
    world.configure(check="concurrency = 2")
    world.track(24, "QUEUED", uploaded_at=world.clock())
    world.sandbox.add_fault(path="/engine", delay_s=0.15, passes=True)

    def never_checked():
        return world.rows("SELECT count(*) AS items FROM items WHERE checked_at IS NULL")[0]["items"]

    runs = 0
    while runs == 0 or (never_checked() and runs < 60):  # a cut run may lose requests in flight
        assert cut_short(world, after=6).abort_reason == "interrupted"
        runs += 1
    assert never_checked() == 0
    assert runs > 1


@pytest.mark.parametrize("ailment", ["foreign", "broken"])
def test_a_few_failing_items_do_not_affect_the_others(world, ailment):
    ids = sorted(world.track(60))
    world.run()
    for item_id in ids[:5]:
        if ailment == "foreign":
            world.sandbox.assign_to_other_publisher(item_id)
        else:
            world.sandbox.add_fault(path=f"/engine/v2/items/{item_id}", status=500)
    world.configure(check="max_attempts = 1\nconcurrency = 4")
    for _ in range(3):
        report = world.run()
        assert report.status is RunStatus.COMPLETE
        assert states(report.snapshot) == {"completed": 55, "unknown": 5}


@pytest.mark.parametrize("odd", ["malformed", "foreign"])
def test_an_item_without_an_answer_does_not_delay_a_resolution(world, odd):
    first, *_ = world.track(3)
    if odd == "malformed":
        world.record("not-a-uuid")
    else:
        world.sandbox.assign_to_other_publisher(first)
    world.run()
    world.sandbox.revoke_client()
    world.run()
    assert Cause.UNAUTHORIZED in causes(world.run())
    world.sandbox.restore_client()
    world.run()
    assert Cause.UNAUTHORIZED not in causes(world.run())


def test_invalid_ids_are_an_incident(world):
    world.record("2026-03-01", "2026-03-02", "2026-03-03")
    (incident,) = world.run().open_incidents
    assert (incident.cause, incident.member_count) == (Cause.ITEMS_INVALID, 3)
    world.log("DELETE FROM sync_log")
    world.track(2)
    assert causes(world.run()) == []


def test_an_item_that_goes_from_stuck_to_failed_changes_its_incident_in_one_run(world):
    (item_id,) = world.track(1, "CHUNKING", uploaded_at=world.clock() - timedelta(hours=1))
    assert causes(world.run()) == [Cause.ITEMS_STUCK]
    world.sandbox.set_status(item_id, "FAILED")
    assert causes(world.run()) == [Cause.ITEMS_FAILED]
    assert messages(world) == [("opened", "items_stuck"), ("opened", "items_failed"), ("resolved", "items_stuck")]


@pytest.mark.process
def test_an_incident_whose_items_recovered_ends_while_runs_are_cut_short(world):
    world.configure(check="concurrency = 1")
    failed, *_ = sorted(world.track(30))
    world.sandbox.set_status(failed, "FAILED")
    world.run()
    world.sandbox.set_status(failed, "COMPLETED")
    world.sandbox.add_fault(path="/engine", delay_s=0.1, passes=True)
    for _ in range(2):
        report = cut_short(world, after=20)
        assert report.status is RunStatus.PARTIAL
        assert [each for each in report.open_incidents if each.cause is Cause.ITEMS_FAILED] == []
        world.clock.advance(days=1)
    assert [each for each in messages(world) if each[1] == "items_failed"] == [
        ("opened", "items_failed"),
        ("resolved", "items_failed"),
    ]


def test_a_retry_after_beyond_the_deadline_ends_the_run(world):
    world.track(200)
    world.sandbox.add_fault(path="/engine", status=429, headers={"Retry-After": "3600"})
    report = world.run()
    assert (report.status, report.abort_reason) == (RunStatus.ABORTED, "rate_limited")
    assert world.sandbox.requests("items") <= 5
    assert states(report.snapshot) == {"unknown": 200}


def test_one_refusal_after_a_resolution_does_not_reopen_the_incident(world):
    world.track(3)
    for revoked in (False, True, True, False, False, True):
        world.sandbox.revoke_client() if revoked else world.sandbox.restore_client()
        report = world.run()
    assert causes(report) == []
    assert messages(world) == [("opened", "unauthorized"), ("resolved", "unauthorized")]


def test_a_token_in_a_status_is_not_stored(world):
    world.configure(auth=world.key_auth)
    (item_id,) = world.track(1)
    key = world.sandbox.settings.api_key
    world.sandbox.add_fault(path="/engine", status=200, body={"item_id": item_id, "status": f"Bearer {key}"})
    world.run()
    (row,) = world.rows("SELECT stage, state FROM items")
    assert key not in row["stage"]
    assert row["state"] == "pending"
