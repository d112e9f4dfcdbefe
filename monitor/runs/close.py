"""Closes a run: one transaction writes the snapshot, the evidence, the incident changes and their notifications.

It checks the lease's epoch first; a run that lost its lease writes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import structlog
from sqlalchemy import Connection, Engine

from monitor.database import leases
from monitor.database.engine import writing
from monitor.database.retry import run_with_retry
from monitor.errors import RunCrashedError, SyncLogError
from monitor.incidents import silence_store
from monitor.incidents import store as incident_store
from monitor.incidents.backoff import UNTHROTTLED, ThrottleFactor, next_throttle_factor
from monitor.incidents.evaluate import EvaluationResult, IncidentEvaluator, Standing, merged
from monitor.logs import code_lines, log_crash
from monitor.model import Cause, Evidence, Incident, Reason, RunStatus, Snapshot, SyncReport
from monitor.notifications.messages import RunFacts
from monitor.rollups import indexing_store
from monitor.runs import store as run_store
from monitor.runs import totals, worklist
from monitor.runs.progress import CheckReport, DueItems
from monitor.runs.report import RunContext, RunReport, log_run
from monitor.runs.rollup import roll_up
from monitor.runs.worklist import StateCounts

_T = TypeVar("_T")
_MAX_INCIDENTS = 10_000


class RunCloser:
    """Closes the runs of one target."""

    def __init__(self, engine: Engine, evaluator: IncidentEvaluator, *, utcnow: Callable[[], datetime]) -> None:
        self._engine, self._evaluator, self._utcnow = engine, evaluator, utcnow
        self.has_ended = False
        """Whether the run is closed, and its lease released with it."""

    def close(
        self,
        context: RunContext,
        sync: SyncReport,
        due: DueItems,
        checked: CheckReport,
        *,
        any_event: bool = True,
        also: Callable[[Connection], None] = lambda _: None,
    ) -> RunReport:
        """Closes a run that asked the API. Raises LeaseLostError or StoreError, and then writes nothing.

        `any_event`: whether the check stored an event of an item, besides what the sync stored. `also` writes more in
        the same transaction.
        """
        now = self._utcnow()

        def write(conn: Connection) -> tuple[RunReport, ThrottleFactor]:
            also(conn)
            report, throttle_factor = self._write(conn, context, sync, due, checked, now=now, any_event=any_event)
            totals.add(conn, report)
            return report, throttle_factor

        report, throttle_factor = self._end(context, write)
        log_run(report, checked, throttle_factor)
        return report

    def close_failed(self, context: RunContext, error: SyncLogError) -> RunReport:
        """Closes a run that could not read the sync log, with evidence but no snapshot. Raises like `close`."""
        now = self._utcnow()
        facts = RunFacts(
            run_id=context.run_id, status=RunStatus.FAILED, total=0, unknown=0, answered=0, error=str(error)
        )

        def write(conn: Connection) -> RunReport:
            run_store.finish(
                conn,
                run_id=context.run_id,
                status=RunStatus.FAILED,
                abort_reason=None,
                owner_cause=None,
                due=0,
                answered=0,
                accepted=0,
                error=str(error),
                finished_at=now,
                snapshot=None,
            )
            standing = self._evaluator.read_standing(conn, now=now)
            evaluation = merged(
                self._evaluator.evaluate_observations(conn, facts=facts, now=now, standing=standing),
                self._evaluator.evaluate_monitor(
                    conn, facts=facts, read=None, started_at=context.at, now=now, standing=standing
                ),
            )
            report = replace(
                self._build_report(conn, context, RunStatus.FAILED, evaluation, now, any_open=standing.any_open),
                unrecognised=worklist.count_unrecognised(conn, target=context.target),
                error=str(error),
                duration_s=_duration_s(context, now),
            )
            totals.add(conn, report)
            return report

        report = self._end(context, write)
        log_run(report, None, None)
        return report

    def close_crashed(self, context: RunContext, error: Exception) -> RunCrashedError:
        """Closes a run that an unforeseen error ended, logs it, and returns the error to raise. Never raises itself."""
        sentence = (
            f"target {context.target}: the run ended by an error that nobody foresaw ({log_crash(error)}); see "
            "run_crashed in the log, and report it"
        )
        try:
            self._record_crash(context, sentence)
        except Exception as second:  # noqa: BLE001  # the first error matters more; the next run closes this one
            structlog.get_logger().warning(
                "crash_not_recorded", error_type=type(second).__name__, lines=code_lines(second)
            )
        return RunCrashedError(sentence)

    def _record_crash(self, context: RunContext, sentence: str) -> None:
        """Counts the crash in one transaction, and evaluates it in another, which the same error may end."""
        now = self._utcnow()
        facts = RunFacts(
            run_id=context.run_id, status=RunStatus.CRASHED, total=0, unknown=0, answered=0, error=sentence
        )

        def mark(conn: Connection) -> None:
            run_store.finish(
                conn,
                run_id=context.run_id,
                status=RunStatus.CRASHED,
                abort_reason=Cause.RUN_CRASHING.value,
                owner_cause=None,
                due=0,
                answered=0,
                error=sentence,
                finished_at=now,
                snapshot=None,
            )
            totals.add_crash(conn, target=context.target)

        self._write_once(context, mark)
        self._write_once(context, lambda conn: self._evaluator.evaluate_crash(conn, facts=facts, now=now))

    def _end(self, context: RunContext, write: Callable[[Connection], _T]) -> _T:
        """Closes the run and releases its lease, in one transaction."""
        result = self._write_once(context, write, hold=leases.end)
        self.has_ended = True
        return result

    def _write_once(
        self, context: RunContext, write: Callable[[Connection], _T], *, hold: Callable[..., None] = leases.verify
    ) -> _T:
        """Writes in one transaction under the lease, exactly once.

        If the connection breaks during the commit, the commit may have succeeded; a retry checks this first.
        """
        results: list[_T] = []

        def attempt() -> _T:
            with writing(self._engine) as conn:
                # before the lease: a run that is already closed may have lost it since
                if results and run_store.closed_by_owner(conn, run_id=context.run_id):
                    return results[-1]
                hold(conn, target=context.target, epoch=context.epoch)
                results.append(write(conn))
            return results[-1]

        return run_with_retry(self._engine, attempt)

    def _write(
        self,
        conn: Connection,
        context: RunContext,
        sync: SyncReport,
        due: DueItems,
        checked: CheckReport,
        *,
        now: datetime,
        any_event: bool,
    ) -> tuple[RunReport, ThrottleFactor]:
        status, reason = _final_status(checked)
        if reason is not None:
            worklist.mark_unasked_unknown(
                conn, target=context.target, run_id=context.run_id, reason=reason, recheck_ids=due.recheck_ids
            )
        worklist.count_unverified_run(conn, target=context.target, run_id=context.run_id, causes=checked.lightweight)
        counts = self._count(conn, context, now, known_rows=due.rows)
        snapshot = _snapshot(context, checked, counts, now)
        # before the evaluation: the rules count this run among the finished ones
        _finish(conn, context, due, checked, snapshot=snapshot, now=now)
        standing = self._evaluator.read_standing(conn, now=now)
        evaluation = self._evaluate(
            conn, context, checked, snapshot=snapshot, now=now, sync=sync, standing=standing, counts=counts
        )
        any_event = any_event or sync.removed + sync.returned > 0
        report = replace(
            self._build_report(conn, context, status, evaluation, now, any_open=standing.any_open, any_event=any_event),
            unrecognised=worklist.count_unrecognised(conn, target=context.target) if counts.unrecognised else {},
            abort_reason=reason.value if reason else None,
            snapshot=snapshot,
            single_items=checked.single_items,
            last_known=worklist.count_last_known(conn, target=context.target) if snapshot.unknown else {},
            sync=sync,
            approach=checked.approach,
            probed_for=checked.probed_for,
            duration_s=_duration_s(context, now),
            retries=checked.retries,
            limits=checked.limits,
            attempts=checked.attempts,
        )
        throttle_factor = _next_throttle(context, checked, report)
        if throttle_factor.factor != context.past.throttle_factor:  # which the run began with
            run_store.set_throttle_factor(conn, run_id=context.run_id, factor=throttle_factor.factor)
        if context.past.watch.first_of_hour(now):
            indexing_store.drop_old_slots(conn, target=context.target, now=now)
        return report, throttle_factor

    def _count(self, conn: Connection, context: RunContext, now: datetime, *, known_rows: int) -> StateCounts:
        stuck_after = self._evaluator.age_limits.stuck_after
        return worklist.count_states(
            conn, target=context.target, now=now, stuck_after=stuck_after, known_rows=known_rows
        )

    def _evaluate(
        self,
        conn: Connection,
        context: RunContext,
        checked: CheckReport,
        *,
        snapshot: Snapshot,
        now: datetime,
        sync: SyncReport,
        standing: Standing,
        counts: StateCounts,
    ) -> EvaluationResult:
        facts = RunFacts(
            run_id=context.run_id,
            status=_final_status(checked)[0],
            total=snapshot.total,
            unknown=snapshot.unknown,
            answered=checked.tally.answered,
            first=context.past.snapshot is None,
            accepted=checked.tally.accepted,
        )
        seen = checked.evidence
        evaluation = self._evaluator.evaluate(
            conn,
            facts=facts,
            evidence=seen,
            now=now,
            sync_log_empty=sync.tracked == 0,
            standing=standing,
            all_completed=counts.all_completed,
        )
        # a throttled target is still rate limited
        throttled = (Evidence(cause=Cause.RATE_LIMITED, count=0),) if context.past.throttle_factor < UNTHROTTLED else ()
        monitor_result = self._evaluator.evaluate_monitor(
            conn,
            facts=facts,
            read=sync,
            started_at=context.at,
            now=now,
            inhibitors=(*seen, *throttled),
            standing=standing,
        )
        observed = self._evaluator.evaluate_observations(conn, facts=facts, now=now, inhibitors=seen, standing=standing)
        return merged(evaluation, observed, monitor_result)

    def _build_report(
        self,
        conn: Connection,
        context: RunContext,
        status: RunStatus,
        evaluation: EvaluationResult,
        now: datetime,
        *,
        any_open: bool,
        any_event: bool = True,
    ) -> RunReport:
        """The report, without what only a run that asked the API knows; `any_open`: before the evaluation."""
        in_incident = any_open or bool(evaluation.changes)
        still_open: Sequence[Incident] = ()
        if in_incident:
            still_open = incident_store.list_incidents(
                conn, target=context.target, open_only=True, limit=_MAX_INCIDENTS
            )
        return RunReport(
            target=context.target,
            run_id=context.run_id,
            status=status,
            previous=context.past.snapshot,
            throttle_factor=context.past.throttle_factor,
            item_changes=tuple(run_store.item_changes_of_run(conn, context.run_id)) if any_event else (),
            evaluation=evaluation,
            open_incidents=tuple(still_open),
            # they are about the incidents shown
            silences=silence_store.active(conn, now=now) if in_incident else (),
        )


def _duration_s(context: RunContext, now: datetime) -> float:
    """Duration of the run; 0 if the clock was set back."""
    return max(0.0, round((now - context.at).total_seconds(), 3))


def _snapshot(context: RunContext, checked: CheckReport, counts: StateCounts, now: datetime) -> Snapshot:
    return roll_up(
        counts.counts.items(),
        stuck=counts.stuck,
        checked=checked.tally.answered,
        requests=checked.requests,
        retries=checked.retries,
        latencies=checked.latencies,
        duration_s=_duration_s(context, now),
    )


def _final_status(checked: CheckReport) -> tuple[RunStatus, Cause | Reason | None]:
    if checked.stopped_by is not None:
        return RunStatus.ABORTED, checked.stopped_by
    if checked.cut_short_by is not None:
        return RunStatus.PARTIAL, checked.cut_short_by
    return RunStatus.COMPLETE, None


def _finish(
    conn: Connection, context: RunContext, due: DueItems, checked: CheckReport, *, snapshot: Snapshot, now: datetime
) -> None:
    status, reason = _final_status(checked)
    seen = checked.evidence
    run_store.finish(
        conn,
        run_id=context.run_id,
        status=status,
        abort_reason=reason.value if reason else None,
        owner_cause=seen[0].cause if seen else None,
        due=_due_count(due, checked),
        answered=checked.tally.replied,
        accepted=checked.tally.accepted,
        error=None,
        finished_at=now,
        snapshot=snapshot,
    )


def _due_count(due: DueItems, checked: CheckReport) -> int:
    """Items that the run had to ask about, without quarantined ids and items with a trouble of their own."""
    return max(0, due.count - checked.tally.quarantined - checked.of_their_own)


def _next_throttle(context: RunContext, checked: CheckReport, report: RunReport) -> ThrottleFactor:
    """The throttle factor of the target's next run."""
    seen = [piece for piece in report.evaluation.evidence if piece.cause is Cause.RATE_LIMITED]
    refused = checked.requests > 0 and any(piece.inhibited_by is None for piece in seen)
    return next_throttle_factor(
        context.past.throttle_factor,
        refused=refused,
        inhibited=bool(seen) and not refused,
        unresolved=any(incident.cause is Cause.RATE_LIMITED for incident in report.open_incidents),
        replied=checked.tally.replied > 0,
    )
