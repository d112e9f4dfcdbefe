"""A daemon and a database that have a value for every metric."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from web.served import config

from monitor.fleet.state import FleetState, QueueState, SharedRunState, WorkerState
from monitor.incidents.slo import Objective, Slot, assess
from monitor.model import ChannelState, LearnedLimits, RunStatus, Snapshot
from monitor.reports.fleet import FleetView
from monitor.rollups.bounds import bound_ms
from monitor.rollups.indexing_queries import TimesToIndexed
from monitor.runs.canary.model import Step
from monitor.runs.canary.store import LastCanary
from monitor.runs.totals import DURATION_BUCKETS_S, RunTotals
from monitor.waits.rules import WaitResult
from monitor.waits.store import WaitTotal
from monitor.web.database_probe import ProbeResult, QueueStats, StoredState, TargetState
from monitor.web.state import DaemonState, StateTracker

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SLO = '[[slos]]\nname = "in time"\nobjective = 0.95\nwithin = "15m"\n'
HOOK = '[[channels]]\nname = "hook"\ntype = "webhook"\nurl = "https://hooks.example/x"\n'


def totals_of(runs):
    """The totals of so many runs, of which each took two seconds."""
    return RunTotals(
        runs=Counter({RunStatus.COMPLETE: runs}),
        requests=Counter({"2xx": 7 * runs, "5xx": 2 * runs, "none": runs}),
        retries=2 * runs,
        durations=(0, 0, *(runs for _ in DURATION_BUCKETS_S[1:])),
        duration_s=2.0 * runs,
    )


BAD = ("outage", "critical")
PROMISE = Objective(name="in time", objective=0.95, within=timedelta(minutes=15))
LATE = Slot(start=NOW - timedelta(hours=2), resolution=timedelta(minutes=5), total=200, good=190)


def shared_run(target):
    """A run in ten shares, planned two minutes ago."""
    return SharedRunState(
        run_id=17,
        target=target,
        planned_at=NOW - timedelta(minutes=2),
        deadline_at=NOW + timedelta(minutes=2),
        stopped_by=None,
        waiting=5,
        running=3,
        done=2,
        items=200_000,
        items_done=40_000,
    )


PROBE = ProbeResult(
    stored=StoredState(
        targets={
            "gloo": TargetState(
                last_run_at=NOW - timedelta(minutes=1),
                last_success_at=NOW - timedelta(minutes=6),
                snapshot=Snapshot(completed=7, pending=2, stuck=1, not_found=3),
            )
        },
        incidents=dict.fromkeys([("gloo", *BAD), ("gone", *BAD), ("channel:hook", "channel_failing", "warning")], 1),
        queues={
            "hook": QueueStats(due=2, oldest_due_at=NOW - timedelta(seconds=90), dead=1),
            "renamed": QueueStats(due=9),
        },
        channels={"hook": ChannelState(name="hook", suspended_at=NOW)},
        learned={"gloo": LearnedLimits(at=NOW, rate_per_s=7.5, concurrency=3.0, down=True)},
        indexed={"gloo": TimesToIndexed(
            buckets={bound_ms(timedelta(seconds=s)): 2 for s in (5, 7, 3600)}, sum_s=7224.0, not_observed=4
        )},
        slos={"gloo": (assess(PROMISE, [LATE], now=NOW),), "gone": (assess(PROMISE, [LATE], now=NOW),)},
        totals={"gloo": totals_of(1), "gone": totals_of(1)},
        waits=[
            WaitTotal(target="gloo", result=WaitResult.COMPLETED, le_s=5, waits=3, seconds=9.0),
            WaitTotal(target="gloo", result=WaitResult.TIMED_OUT, le_s=600, waits=1, seconds=600.0),
            WaitTotal(target="gloo", result=WaitResult.TIMED_OUT, le_s=0, waits=1, seconds=9000.0),
        ],
        canaries={
            "gloo": LastCanary(
                ended_at=NOW,
                succeeded=False,
                last_success_at=NOW - timedelta(hours=1),
                durations_s={Step.UPLOAD: 0.5, Step.INDEX: 360.0},
                leftovers=2,
            )
        },
        fleet=FleetView(
            state=FleetState(
                now=NOW,
                queue=QueueState(
                    workers=(
                        WorkerState(worker_id=1, name="a:7", seen_at=NOW - timedelta(seconds=4)),
                        WorkerState(worker_id=2, name=None, seen_at=NOW - timedelta(seconds=90)),
                    ),
                    waiting={"plan": 2, "share": 5},
                    running={"share": 3},
                    failed=1,
                    waits_since={"plan": NOW - timedelta(seconds=75)},
                ),
                runs=(shared_run("gloo"), shared_run("gone")),
            ),
            stalled_after=timedelta(seconds=30),
        ),
    )
)  # fmt: skip


def daemon_state(folder):
    """The state of a daemon with a channel and an objective."""
    return DaemonState(config=config(folder, database="sqlite:///monitor.db", more=HOOK + SLO), started_at=NOW)


def daemon_with_every_metric(folder):
    """The tracker of a daemon that has finished a run."""
    tracker = StateTracker(daemon_state(folder), utcnow=lambda: NOW)
    tracker.remember_keys({"gloo": "k"})
    return tracker
