"""The view of workers: what is wrong with them, in which order, and the same figures as JSON."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from monitor.fleet.state import FleetState, QueueAccess, QueueState, SharedRunState, ShareInHand, WorkerState
from monitor.fleet.waiting import JobInHand, TargetUse, WaitingJob, WaitReason
from monitor.reports.fleet import (
    FleetView,
    JobWait,
    fleet_json,
    fleet_problems,
    fleet_trouble,
    fleet_verdict,
    job_text,
    wait_groups,
    wait_text,
    worker_name,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STALL = timedelta(seconds=30)
SHARE = JobInHand(task="share", target="gloo", run_id=17, number=3)
BUSY = WorkerState(worker_id=1, name="a:7", seen_at=NOW - timedelta(seconds=4), jobs=(SHARE,))
IDLE = WorkerState(worker_id=2, name=None, seen_at=NOW - timedelta(seconds=29))
DEAD = WorkerState(worker_id=3, name="b:9", seen_at=NOW - STALL)
RUN = SharedRunState(
    run_id=17,
    target="gloo",
    planned_at=NOW - timedelta(minutes=2),
    deadline_at=NOW + timedelta(minutes=2),
    stopped_by=None,
    waiting=1,
    running=1,
    done=2,
    items=80_000,
    items_done=45_000,
    in_hand=(ShareInHand(number=3, items=20_000, attempt=1, worker="a:7", begun_at=NOW, seen_at=NOW),),
)


def view(*, workers=(BUSY, IDLE, DEAD), access=QueueAccess.READABLE, waits=None, waiting=0, runs=(RUN,), task="share"):
    """`waits`: how long the oldest job waits; all jobs are of one task."""
    queue = QueueState(
        access=access,
        workers=workers,
        waiting={task: waiting},
        running={"share": 1},
        waits_since={} if waits is None else {task: NOW - waits},
    )
    return FleetView(state=FleetState(now=NOW, queue=queue, runs=runs), stalled_after=STALL)


def test_a_worker_counts_until_it_was_not_seen_for_the_stall_time():
    assert view().alive == [BUSY, IDLE]


SECONDS, MINUTES = timedelta(seconds=1), timedelta(minutes=1)
PROBLEMS = {
    "nothing waits": (view(), None),
    "nothing waits, and nobody is there": (
        view(workers=()),
        (False, "no worker is alive, and no job waits", "ingestion-monitor worker"),
    ),
    "a job of a moment": (
        view(workers=[DEAD], waits=29 * SECONDS, waiting=1),
        (False, "no worker is alive, and 1 job waits", "ingestion-monitor worker"),
    ),
    "nobody is alive": (
        view(workers=[DEAD], waits=30 * SECONDS, waiting=2),
        (True, "no worker is alive, and 2 jobs wait", "ingestion-monitor worker"),
    ),
    "shares of a long run": (view(waits=50 * MINUTES, waiting=3), None),
    "a run that is soon late": (view(task="plan", waits=14 * MINUTES, waiting=3), None),
    "a late run": (
        view(task="plan", waits=15 * MINUTES, waiting=3),
        (False, "a run that is due has waited for 15 min", "more workers"),
    ),
    "no tables": (view(access=QueueAccess.MISSING, workers=()), (True, "missing", "db upgrade")),
    "no right to read": (view(access=QueueAccess.FORBIDDEN, workers=()), (True, "may not read", "grant")),
}


@pytest.mark.parametrize(("shown", "expected"), PROBLEMS.values(), ids=PROBLEMS)
def test_what_is_wrong_is_said_with_a_remedy(shown, expected):
    found = list(fleet_problems(shown))
    if expected is None:
        assert found == []
        return
    serious, sentence, remedy = expected
    (problem,) = found
    assert problem.serious is serious
    assert sentence in problem.sentence
    assert remedy in problem.remedy
    verdict = fleet_verdict(shown)
    assert verdict.kind == ("bad" if serious else "warning")
    assert sentence[1:] in verdict.sentence


def test_without_a_problem_the_verdict_counts_workers_and_jobs():
    assert fleet_verdict(view(waits=SECONDS, waiting=1)).sentence == "2 workers, of which 1 is busy; 1 job waits."
    assert fleet_trouble(view(waits=SECONDS, waiting=1)) is None
    busy, idle = replace(BUSY, worker_id=4), replace(IDLE, worker_id=5)
    said = [fleet_verdict(view(workers=each)).sentence for each in ([BUSY], [IDLE], [BUSY, busy], [IDLE, idle])]
    assert [each.partition(";")[0] for each in said] == [
        "1 worker is busy", "1 worker is idle", "All 2 workers are busy", "All 2 workers are idle",
    ]  # fmt: skip


def test_shares_of_a_run_that_wait_for_the_same_reason_are_one_line():
    plan = replace(wait(WaitReason.ALL_BUSY), job=WaitingJob(job=JobInHand(task="plan", target="a"), since=NOW))
    busy, older = wait(WaitReason.ALL_BUSY), replace(wait(WaitReason.ALL_BUSY))
    older = replace(older, job=replace(older.job, since=NOW - 5 * MINUTES))
    later = [wait(WaitReason.LATER, due_at=NOW + number * SECONDS) for number in (3, 4)]
    groups = wait_groups(replace(view(), waits=(plan, busy, *later, older)))
    assert [(each.name, each.age) for each in groups] == [
        ("run of a", timedelta(0)),
        ("2 shares of run 17 of gloo", 5 * MINUTES),
        ("share 3 of run 17 of gloo", None),
        ("share 3 of run 17 of gloo", None),
    ]
    assert groups[1].why == "all workers are busy"


def wait(reason, **job):
    waiting = WaitingJob(job=SHARE, since=NOW - 90 * SECONDS, **job)
    return JobWait(job=waiting, reason=reason, use=TargetUse(shares=3, concurrency=32, rate_per_s=12.5))


TEXTS = {
    WaitReason.NO_WORKER: ({}, "no worker is alive"),
    WaitReason.LEASE_HELD: ({"lease_holder": "host:1"}, "another run of the target is in progress (host:1)"),
    WaitReason.LATER: ({"due_at": NOW + 4 * SECONDS}, "an attempt could not do it; the next one comes in 4 s"),
    WaitReason.JUST_QUEUED: ({}, "it was queued a moment ago"),
    WaitReason.SLOTS_USED: ({}, "use all 32 requests in flight of the credential and share a limit of 12.5/s, so more"),
    WaitReason.RATE_USED: ({}, "shares a limit of 12.5/s, so more workers do not help"),
    WaitReason.ALL_BUSY: ({}, "all workers are busy"),
    WaitReason.NOT_TAKEN: ({}, "look in its log for job_ended"),
}


@pytest.mark.parametrize("reason", WaitReason)
def test_each_reason_to_wait_is_a_phrase(reason):
    job, said = TEXTS[reason]
    assert said in wait_text(wait(reason, **job), NOW)


def test_a_run_that_is_not_closed_is_no_other_process():
    held = wait(WaitReason.LEASE_HELD, lease_holder="fleet")
    assert wait_text(held, NOW) == "the last run of the target is still in shares"


def test_ages_count_from_the_servers_clock_and_only_for_what_is_not_done():
    ended = replace(RUN, run_id=16, planned_at=NOW - timedelta(hours=1), waiting=0, running=0)
    ahead = replace(RUN, planned_at=NOW + SECONDS)
    assert view(runs=[ended, RUN]).oldest_share_age == timedelta(minutes=2)
    assert view(runs=[ended]).oldest_share_age is None
    assert view(runs=[ahead]).oldest_share_age == timedelta(0)
    assert view().oldest_waiting_age is None


def test_jobs_and_workers_are_named():
    close, plan = replace(SHARE, task="close"), JobInHand(task="plan", target="gloo")
    assert [job_text(each) for each in (SHARE, close, plan, replace(SHARE, target=None))] == [
        "share 3 of run 17 of gloo",
        "end of run 17 of gloo",
        "run of gloo",
        "share 3 of run 17 of a target that is gone",
    ]
    assert [worker_name(each) for each in (BUSY, IDLE)] == ["a:7", "worker 2"]


def test_json_has_the_figures_of_the_view():
    found = fleet_json(replace(view(waits=90 * SECONDS, waiting=4), waits=(wait(WaitReason.ALL_BUSY),)))
    (job,) = found["jobs"].pop("waiting")
    assert found["jobs"] == {"total": 4, "shown": 1}
    assert (job["reason"], job["text"], job["waiting_age_s"]) == ("all_busy", "all workers are busy", 90.0)
    assert (job["task"], job["target"], job["number"], job["due_at"]) == ("share", "gloo", 3, None)
    assert found["problems"] == []
    assert found["queue"] == {
        "access": "readable",
        "waiting": {"plan": 0, "share": 4, "close": 0},
        "running": {"plan": 0, "share": 1, "close": 0},
        "failed": 0,
        "oldest_waiting_age_s": 90.0,
    }
    assert [(each["name"], each["alive"]) for each in found["workers"]] == [("a:7", True), (None, True), ("b:9", False)]
    assert found["workers"][0]["jobs"] == [{"task": "share", "target": "gloo", "run_id": 17, "number": 3}]
    (run,) = found["runs"]
    assert (run["shares"], run["share_age_s"]) == ({"waiting": 1, "running": 1, "done": 2}, 120.0)
    assert (run["items"], run["items_done"], run["in_hand"][0]["worker"]) == (80_000, 45_000, "a:7")
