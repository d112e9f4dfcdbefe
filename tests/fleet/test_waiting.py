"""Why a job waits: one reason for each situation."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from monitor.fleet.waiting import FLEET_HOLDER, JobInHand, TargetUse, WaitingJob, WaitReason, why_waits

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SHARE = WaitingJob(job=JobInHand(task="share", target="docs", run_id=1, number=3), since=NOW - 30 * SECOND)
PLAN = replace(SHARE, job=JobInHand(task="plan", target="docs"))
HELD = replace(PLAN, lease_holder="host:1")
ONE_SHARE = TargetUse(shares=1, share_concurrency=64, concurrency=128)
BUSY = {"alive": 2, "idle": 0}

REASONS = {
    "nobody": (HELD, {"alive": 0, "idle": 0}, TargetUse(), WaitReason.NO_WORKER),
    "another run": (HELD, BUSY, TargetUse(), WaitReason.LEASE_HELD),
    "another run, tried again later": (replace(HELD, due_at=NOW + SECOND), BUSY, TargetUse(), WaitReason.LEASE_HELD),
    "the lease of its run": (replace(SHARE, lease_holder=FLEET_HOLDER), BUSY, TargetUse(), WaitReason.ALL_BUSY),
    "tried again later": (replace(PLAN, due_at=NOW + SECOND), {"alive": 2, "idle": 1}, TargetUse(), WaitReason.LATER),
    "queued now": (replace(PLAN, since=NOW - 5 * SECOND), {"alive": 2, "idle": 1}, TargetUse(), WaitReason.JUST_QUEUED),
    "due now": (replace(PLAN, due_at=NOW), {"alive": 2, "idle": 1}, TargetUse(), WaitReason.JUST_QUEUED),
    "an idle worker": (PLAN, {"alive": 2, "idle": 1}, TargetUse(), WaitReason.NOT_TAKEN),
    "busy workers": (PLAN, BUSY, TargetUse(), WaitReason.ALL_BUSY),
    "busy with other targets": (SHARE, BUSY, replace(ONE_SHARE, shares=0, rate_per_s=5.0), WaitReason.ALL_BUSY),
    "slots are left": (SHARE, BUSY, ONE_SHARE, WaitReason.ALL_BUSY),
    "slots are used": (SHARE, BUSY, replace(ONE_SHARE, shares=2, rate_per_s=5.0), WaitReason.SLOTS_USED),
    "a rate limit": (SHARE, BUSY, replace(ONE_SHARE, rate_per_s=5.0), WaitReason.RATE_USED),
}  # fmt: skip


@pytest.mark.parametrize(("job", "workers", "use", "expected"), REASONS.values(), ids=REASONS)
def test_a_job_waits_for_one_reason(job, workers, use, expected):
    assert why_waits(job, now=NOW, use=use, **workers) is expected


def test_each_reason_has_a_situation():
    assert {expected for *_, expected in REASONS.values()} == set(WaitReason)


def test_a_job_waits_from_when_it_is_due():
    assert SHARE.waits_since(NOW) == SHARE.since
    assert replace(SHARE, due_at=NOW).waits_since(NOW) == NOW
    assert replace(SHARE, due_at=SHARE.since - SECOND).waits_since(NOW) == SHARE.since
    assert replace(SHARE, due_at=NOW + SECOND).waits_since(NOW) is None
