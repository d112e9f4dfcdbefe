"""What workers do now: one view for the page, the API, metrics, `/readyz` and `doctor`, and what is wrong with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from monitor.config.fleet import FleetConfig
from monitor.fleet.state import (
    TASKS,
    FleetState,
    JobInHand,
    QueueAccess,
    SharedRunState,
    ShareInHand,
    WorkerState,
    read_fleet,
)
from monitor.model.durations import format_duration
from monitor.notifications.messages import format_age
from monitor.reports.formatting import iso, plural
from monitor.reports.triage import Verdict

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
class FleetView:
    """Workers, queue and runs in shares."""

    state: FleetState
    stalled_after: timedelta

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


def fleet_problems(view: FleetView) -> Iterator[FleetProblem]:
    """What is wrong, if anything; each sentence without a full stop."""
    if view.state.queue.access is QueueAccess.MISSING:
        yield FleetProblem(sentence="the tables of the queue are missing", remedy="run `ingestion-monitor db upgrade`")
    elif view.state.queue.access is QueueAccess.FORBIDDEN:
        yield FleetProblem(
            sentence="the monitor's database user may not read the tables of the queue",
            remedy="let the user who ran `ingestion-monitor db upgrade` grant it the schema procrastinate",
        )
    waits = view.oldest_waiting_age
    if waits is None:
        return
    run_waits = view.waiting_age("plan")
    if not view.alive and waits >= view.stalled_after:
        yield FleetProblem(
            sentence=f"no worker has been seen for {format_duration(view.stalled_after)}, and {_waiting_text(view)}",
            remedy="start `ingestion-monitor worker`, or look in its log why it ended",
        )
    elif run_waits is not None and run_waits >= WAITS_LONG:
        yield FleetProblem(
            sentence=f"a run that is due has waited for {format_age(run_waits)}",
            remedy="start more workers, or lengthen the schedule's interval",
            serious=False,
        )


def fleet_verdict(view: FleetView) -> Verdict:
    """The state in one sentence."""
    problem = next(fleet_problems(view), None)
    if problem is not None:
        kind = "bad" if problem.serious else "warning"
        return Verdict(kind=kind, sentence=f"{problem.sentence[:1].upper()}{problem.sentence[1:]}: {problem.remedy}.")
    if not view.alive:
        return Verdict(
            kind="unknown", sentence=f"No worker is alive; {_waiting_text(view)}: start `ingestion-monitor worker`."
        )
    busy = sum(bool(each.jobs) for each in view.alive)
    said = f"{plural(len(view.alive), 'worker')}, of which {busy} {'is' if busy == 1 else 'are'} busy"
    return Verdict(kind="good", sentence=f"{said}; {_waiting_text(view)}.")


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
        "workers": [_worker_json(each, view) for each in queue.workers],
        "runs": [_run_json(each, view) for each in view.state.runs],
    }


def _open_shares(run: SharedRunState) -> int:
    return run.waiting + run.running


def _seconds(age: timedelta | None) -> float | None:
    return None if age is None else round(age.total_seconds(), 1)


def _worker_json(worker: WorkerState, view: FleetView) -> dict[str, Any]:
    return {
        "worker_id": worker.worker_id,
        "name": worker.name,
        "seen_at": iso(worker.seen_at),
        "alive": view.state.now - worker.seen_at < view.stalled_after,
        "jobs": [
            {"task": job.task, "target": job.target, "run_id": job.run_id, "number": job.number} for job in worker.jobs
        ],
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
