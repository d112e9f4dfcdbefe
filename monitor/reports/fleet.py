"""What workers do now: one view for the page, the API, metrics, `/readyz` and `doctor`, and what is wrong with it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, assert_never

from sqlalchemy import Connection

from monitor.config import Config, TargetConfig
from monitor.config.fleet import FleetConfig
from monitor.fleet.state import FleetState, QueueAccess, SharedRunState, ShareInHand, WorkerState, read_fleet
from monitor.fleet.waiting import FLEET_HOLDER, TASKS, JobInHand, TargetUse, WaitingJob, WaitReason, why_waits
from monitor.fleet.waiting_store import waiting_jobs
from monitor.model import LearnedLimits
from monitor.notifications.messages import format_age
from monitor.reports.formatting import iso, plural
from monitor.reports.triage import Verdict
from monitor.runs import throttle_store

NO_WORKERS = "the daemon executes the runs itself: workers are used with [fleet] workers = true"
WAITS_LONG = timedelta(minutes=15)
"""A run that is due and waits longer than this has too few workers. Shares may wait until the deadline of their run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetProblem:
    """What is wrong, and what to do."""

    sentence: str
    remedy: str
    serious: bool = True
    """Whether nothing is checked: then the daemon is not ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWait:
    """A job that waits, and why."""

    job: WaitingJob
    reason: WaitReason
    use: TargetUse
    """Of its target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """Workers, queue and runs in shares."""

    state: FleetState
    stalled_after: timedelta
    waits: tuple[JobWait, ...] = ()
    """Jobs that wait, those that come first first; only where they are shown, and no more than are shown."""

    @property
    def alive(self) -> list[WorkerState]:
        """The workers that were seen within the stall time."""
        return self.state.alive(self.stalled_after)

    @property
    def waiting(self) -> int:
        """Jobs that nobody has begun."""
        return sum(self.state.queue.waiting.values())

    @property
    def oldest_waiting_age(self) -> timedelta | None:
        """How long the oldest job that is due has waited; None if none does."""
        return max((self.waiting_age(task) or timedelta() for task in self.state.queue.waits_since), default=None)

    def waiting_age(self, task: str) -> timedelta | None:
        """The same of one task."""
        since = self.state.queue.waits_since.get(task)
        return None if since is None else max(timedelta(), self.state.now - since)

    @property
    def oldest_share_age(self) -> timedelta | None:
        """For how long the oldest share that is not done has been planned; None if there is none."""
        return max((self.share_age(run) or timedelta() for run in self.state.runs if _open_shares(run)), default=None)

    def share_age(self, run: SharedRunState) -> timedelta | None:
        """For how long the shares of a run that are not done have been planned; None if all are done."""
        return max(timedelta(), self.state.now - run.planned_at) if _open_shares(run) else None


def fleet_view(conn: Connection, config: FleetConfig) -> FleetView | None:
    """The view now; None without workers, which costs no statement. Raises SQLAlchemyError."""
    if not config.workers:
        return None
    return FleetView(state=read_fleet(conn, queue=config.queue), stalled_after=config.stalled_after)


def fleet_view_with_waits(
    conn: Connection, config: Config, *, throttle_keys: Mapping[str, str | None]
) -> FleetView | None:
    """The view with the jobs that wait, and why. `throttle_keys`: of learned limits, by target, as far as known."""
    view = fleet_view(conn, config.fleet)
    if view is None or view.state.queue.access is not QueueAccess.READABLE or not view.waiting:
        return view
    jobs = waiting_jobs(conn, queue=config.fleet.queue)
    keys = {key for job in jobs if (key := throttle_keys.get(job.job.target or "")) is not None}
    learned = throttle_store.read_all(conn, keys=sorted(keys))
    uses = {
        target.name: _use(view, config, target, learned.get(throttle_keys.get(target.name) or ""))
        for target in config.targets
    }
    idle = sum(not each.jobs for each in view.alive)
    waits = []
    for job in jobs:
        use = uses.get(job.job.target or "", TargetUse())
        reason = why_waits(job, now=view.state.now, alive=len(view.alive), idle=idle, use=use)
        waits.append(JobWait(job=job, reason=reason, use=use))
    return replace(view, waits=tuple(waits))


def _use(view: FleetView, config: Config, target: TargetConfig, learned: LearnedLimits | None) -> TargetUse:
    rates = [each for each in (target.check.rate, learned.rate_per_s if learned else None) if each is not None]
    return TargetUse(
        shares=sum(run.running for run in view.state.runs if run.target == target.name),
        share_concurrency=config.fleet.share_concurrency,
        concurrency=target.check.concurrency,
        rate_per_s=min(rates, default=None),
    )


def fleet_problems(view: FleetView) -> Iterator[FleetProblem]:
    """What is wrong, if anything; each sentence without a full stop."""
    if view.state.queue.access is QueueAccess.MISSING:
        yield FleetProblem(sentence="the tables of the queue are missing", remedy="run `ingestion-monitor db upgrade`")
    elif view.state.queue.access is QueueAccess.FORBIDDEN:
        yield FleetProblem(
            sentence="the monitor's database user may not read the tables of the queue",
            remedy="let the user who ran `ingestion-monitor db upgrade` grant it the schema procrastinate",
        )
    if view.state.queue.access is not QueueAccess.READABLE:
        return
    waits, run_waits = view.oldest_waiting_age, view.waiting_age("plan")
    if not view.alive:
        yield FleetProblem(
            sentence=f"no worker is alive, and {_waiting_text(view)}",
            remedy="start `ingestion-monitor worker`, or look in its log why it ended",
            serious=waits is not None and waits >= view.stalled_after,
        )
    elif run_waits is not None and run_waits >= WAITS_LONG:
        yield FleetProblem(
            sentence=f"a run that is due has waited for {format_age(run_waits)}",
            remedy="start more workers, or lengthen the schedule's interval; `/workers` says what it waits for",
            serious=False,
        )


def fleet_trouble(view: FleetView) -> Verdict | None:
    """The first problem in one sentence with what to do; None if there is none."""
    problem = next(fleet_problems(view), None)
    if problem is None:
        return None
    kind = "bad" if problem.serious else "warning"
    return Verdict(kind=kind, sentence=f"{problem.sentence[:1].upper()}{problem.sentence[1:]}: {problem.remedy}.")


def fleet_verdict(view: FleetView) -> Verdict:
    """The state in one sentence."""
    trouble = fleet_trouble(view)
    if trouble is not None:
        return trouble
    return Verdict(kind="good", sentence=f"{_workers_text(view)}; {_waiting_text(view)}.")


def _workers_text(view: FleetView) -> str:
    """At least one worker is alive."""
    alive, busy = len(view.alive), sum(bool(each.jobs) for each in view.alive)
    if alive == 1:
        return f"1 worker is {'busy' if busy else 'idle'}"
    if busy in {0, alive}:
        return f"All {alive} workers are {'busy' if busy else 'idle'}"
    return f"{alive} workers, of which {busy} {'is' if busy == 1 else 'are'} busy"


def _waiting_text(view: FleetView) -> str:
    return (
        f"{plural(view.waiting, 'job')} {'waits' if view.waiting == 1 else 'wait'}" if view.waiting else "no job waits"
    )


def worker_name(worker: WorkerState) -> str:
    """`host:pid`, or its number in the queue while that is not known."""
    return worker.name or f"worker {worker.worker_id}"


def job_text(job: JobInHand) -> str:
    """What a worker does, as a phrase: `share 3 of run 17 of gloo`."""
    target = job.target or "a target that is gone"
    if job.task == "share":
        return f"share {job.number} of run {job.run_id} of {target}"
    if job.task == "close":
        return f"end of run {job.run_id} of {target}"
    return f"run of {target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitGroup:
    """Jobs that wait for the same reason: one, or shares of one run."""

    waits: tuple[JobWait, ...]
    now: datetime

    @property
    def name(self) -> str:
        """What waits."""
        job = self.waits[0].job.job
        if len(self.waits) == 1:
            return job_text(job)
        return f"{len(self.waits)} shares of run {job.run_id} of {job.target or 'a target that is gone'}"

    @property
    def why(self) -> str:
        """Why, as a phrase."""
        return wait_text(self.waits[0], self.now)

    @property
    def age(self) -> timedelta | None:
        """How long the oldest of them that is due has waited; None if none is due."""
        since = [at for each in self.waits if (at := each.job.waits_since(self.now)) is not None]
        return max(timedelta(), self.now - min(since)) if since else None


def wait_groups(view: FleetView) -> list[WaitGroup]:
    """The jobs that wait, for a page: of a large run the shares that wait for the same reason are one line."""
    groups: dict[object, list[JobWait]] = {}
    for number, wait in enumerate(view.waits):
        job = wait.job.job
        key = (job.run_id, wait.reason) if job.task == "share" and wait.reason is not WaitReason.LATER else number
        groups.setdefault(key, []).append(wait)
    return [WaitGroup(waits=tuple(each), now=view.state.now) for each in groups.values()]


def wait_text(wait: JobWait, now: datetime) -> str:
    """Why a job waits, as a phrase."""
    job, use = wait.job, wait.use
    match wait.reason:
        case WaitReason.NO_WORKER:
            return "no worker is alive"
        case WaitReason.LEASE_HELD if job.lease_holder == FLEET_HOLDER:
            return "the last run of the target is still in shares"
        case WaitReason.LEASE_HELD:
            return f"another run of the target is in progress ({job.lease_holder})"
        case WaitReason.LATER:
            left = max(timedelta(), (job.due_at or now) - now)
            return f"an attempt could not do it; the next one comes in {format_age(left)}"
        case WaitReason.JUST_QUEUED:
            return "it was queued a moment ago"
        case WaitReason.SLOTS_USED:
            rate = "" if use.rate_per_s is None else f" and share a limit of {use.rate_per_s:g}/s"
            return (
                f"all workers are busy; shares in progress ({use.shares}) use all {use.concurrency} requests in flight "
                f"of the credential{rate}, so more workers do not help"
            )
        case WaitReason.RATE_USED:
            return (
                f"all workers are busy; what is in progress shares a limit of {use.rate_per_s:g}/s, so more workers do "
                "not help"
            )
        case WaitReason.ALL_BUSY:
            return "all workers are busy"
        case WaitReason.NOT_TAKEN:
            return "a worker is idle and does not take it: look in its log for job_ended and queue_polled"
        case _:
            assert_never(wait.reason)


def fleet_json(view: FleetView) -> dict[str, Any]:
    """The view as JSON values."""
    queue = view.state.queue
    return {
        "problems": [{"problem": each.sentence, "remedy": each.remedy} for each in fleet_problems(view)],
        "queue": {
            "access": queue.access.value,
            "waiting": {task: queue.waiting.get(task, 0) for task in TASKS},
            "running": {task: queue.running.get(task, 0) for task in TASKS},
            "failed": queue.failed,
            "oldest_waiting_age_s": _seconds(view.oldest_waiting_age),
        },
        "jobs": {
            "total": view.waiting,
            "shown": len(view.waits),
            "waiting": [_wait_json(each, view) for each in view.waits],
        },
        "workers": [_worker_json(each, view) for each in queue.workers],
        "runs": [_run_json(each, view) for each in view.state.runs],
    }


def _open_shares(run: SharedRunState) -> int:
    return run.waiting + run.running


def _seconds(age: timedelta | None) -> float | None:
    return None if age is None else round(age.total_seconds(), 1)


def _wait_json(wait: JobWait, view: FleetView) -> dict[str, Any]:
    job, now = wait.job, view.state.now
    since = job.waits_since(now)
    return {
        **_job_json(job.job),
        "due_at": iso(job.due_at),
        "waiting_age_s": None if since is None else _seconds(max(timedelta(), now - since)),
        "reason": wait.reason.value,
        "text": wait_text(wait, now),
    }


def _job_json(job: JobInHand) -> dict[str, Any]:
    return {"task": job.task, "target": job.target, "run_id": job.run_id, "number": job.number}


def _worker_json(worker: WorkerState, view: FleetView) -> dict[str, Any]:
    return {
        "worker_id": worker.worker_id,
        "name": worker.name,
        "seen_at": iso(worker.seen_at),
        "alive": view.state.now - worker.seen_at < view.stalled_after,
        "jobs": [_job_json(each) for each in worker.jobs],
    }


def _run_json(run: SharedRunState, view: FleetView) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "target": run.target,
        "planned_at": iso(run.planned_at),
        "deadline_at": iso(run.deadline_at),
        "stopped_by": run.stopped_by,
        "shares": {"waiting": run.waiting, "running": run.running, "done": run.done},
        "items": run.items,
        "items_done": run.items_done,
        "share_age_s": _seconds(view.share_age(run)),
        "in_hand": [_share_json(each) for each in run.in_hand],
    }


def _share_json(share: ShareInHand) -> dict[str, Any]:
    return {
        "number": share.number,
        "items": share.items,
        "attempt": share.attempt,
        "worker": share.worker,
        "begun_at": iso(share.begun_at),
        "seen_at": iso(share.seen_at),
    }
