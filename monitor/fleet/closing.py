"""Closes a shared run once: by the same steps as a run of one process, with the merged report of all its shares."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
import structlog
from sqlalchemy import Connection

from monitor.database import leases
from monitor.database.engine import limit_idle_transaction, reading, writing
from monitor.database.retry import run_with_retry, with_retry
from monitor.errors import LeaseLostError, MonitorError
from monitor.fleet import share_store
from monitor.fleet.share_store import SharedRun
from monitor.fleet.shares import is_to_close, whole_report
from monitor.model import Cause, SyncReport
from monitor.runs import store as run_store
from monitor.runs.close import RunCloser
from monitor.runs.partial_report import PartialReport
from monitor.runs.progress import CheckReport, DueItems
from monitor.runs.report import RunContext, RunReport
from monitor.runs.run import Job
from monitor.runs.strategy import Approach


def run_is_to_close(conn: Connection, *, run_id: int, now: datetime, stalled_after: timedelta) -> bool:
    """Whether a run is open and its time has come: see `shares.is_to_close`."""
    run = share_store.load_run(conn, run_id=run_id)
    if run is None or not run.is_open:
        return False
    return is_to_close(
        share_store.progress(conn, run_id=run_id),
        stopped=run.stopped_by is not None,
        deadline_at=run.deadline_at,
        now=now,
        stalled_after=stalled_after,
    )


def close_shared_run(job: Job, run: SharedRun, *, should_stop: Callable[[], bool]) -> RunReport | None:
    """Closes a run, logs its end, and returns its report; None if another process closed it, or took over the target.

    1. The shares are sealed: what is in progress stores nothing more.
    2. Their reports are merged with the planner's.
    3. `RunCloser` closes the run, and in the same transaction it is no longer shared.

    If the process dies in between, another one does it again. Raises StoreError, or RunCrashedError as `Run` does.
    """
    engine = with_retry(job.engine, should_stop=should_stop)
    closer = RunCloser(engine, job.evaluator, utcnow=job.utcnow)
    try:
        run_with_retry(engine, lambda: _seal(job, run))
        with reading(engine) as conn:
            context, due, sync, checked, any_event = _read(conn, run.run_id)
        try:
            return closer.close(
                context,
                sync,
                due,
                checked,
                any_event=any_event,
                also=lambda conn: share_store.close(conn, run_id=run.run_id, now=job.lease_now(conn)),
            )
        except MonitorError:
            raise
        except Exception as error:
            crashed = closer.close_crashed(context, error)
            give_up(job, run)
            raise crashed from error
    except LeaseLostError as error:
        if give_up(job, run):
            structlog.get_logger().warning("shared_run_given_up", reason=str(error))
        return None


def give_up(job: Job, run: SharedRun) -> bool:
    """Ends the shares of a run that can't be closed, and releases its lease: the next run of the target goes on.

    Returns False, and does nothing, if it is closed.
    """
    with writing(job.engine) as conn:
        limit_idle_transaction(conn)
        found = share_store.load_run(conn, run_id=run.run_id)
        if found is None or not found.is_open:
            return False
        end_shares(conn, run_id=run.run_id, now=job.lease_now(conn))
        leases.release(conn, target=run.target, epoch=run.epoch)
    return True


def end_shares(conn: Connection, *, run_id: int, now: datetime) -> None:
    """Ends the shares of a run that is lost; does nothing if it is closed."""
    share_store.seal(conn, run_id=run_id)
    share_store.close(conn, run_id=run_id, now=now)


def _seal(job: Job, run: SharedRun) -> None:
    with writing(job.engine) as conn:
        leases.verify_shared(conn, target=run.target, epoch=run.epoch)
        share_store.seal(conn, run_id=run.run_id)


def _read(conn: Connection, run_id: int) -> tuple[RunContext, DueItems, SyncReport, CheckReport, bool]:
    """What `RunCloser` needs. Under the lease the runs before it are those that it began with."""
    run = share_store.load_run(conn, run_id=run_id)
    if run is None:
        raise LeaseLostError(f"run {run_id} was deleted")
    found = whole_report(
        PartialReport.from_json(run.checked),
        [
            (state, None if checked is None else PartialReport.from_json(checked))
            for state, checked in share_store.reports(conn, run_id=run_id)
        ],
        stopped_by=run.stopped_by,
    )
    probed_for = run.plan["probed_for"]
    checked = replace(
        found.check_report(),
        approach=msgspec.convert(run.plan["approach"], Approach),
        probed_for=None if probed_for is None else Cause(probed_for),
    )
    context = RunContext(
        target=run.target,
        run_id=run_id,
        epoch=run.epoch,
        at=run.started_at,
        past=run_store.past_runs(conn, target=run.target),
    )
    due = DueItems(
        count=run.plan["due"],
        tracked=run.plan["tracked"],
        recheck_ids=(*run.plan["first_ids"], *share_store.recheck_ids(conn, run_id=run_id)),
    )
    return context, due, msgspec.convert(run.sync, SyncReport), checked, found.any_event
