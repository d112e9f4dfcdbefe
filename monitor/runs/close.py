"""The end of a run: one transaction that writes the snapshot, the evidence, the incidents' changes and their messages.

The lease's epoch is checked first; whoever lost it writes nothing. What the run could not find out is left unknown.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection, Engine

from monitor.database import leases
from monitor.database.engine import writing
from monitor.database.retry import patiently
from monitor.errors import SyncLogError
from monitor.incidents import silence_store as silences
from monitor.incidents import store as incident_store
from monitor.incidents.backoff import NONE, Restraint, restrain
from monitor.incidents.evaluate import Judge, Verdict
from monitor.model import Cause, Evidence, Reason, RunStatus, Snapshot, SyncReport
from monitor.notifications.messages import RunFacts
from monitor.runs import store as runs
from monitor.runs import store as turns
from monitor.runs import worklist as items
from monitor.runs.progress import CheckReport, Due
from monitor.runs.report import RunReport, Started, log_run
from monitor.runs.rollup import roll_up

_T = TypeVar("_T")


class Closing:
    """Closes the runs of one target.

    Args:
        engine: our own database.
        judge: judges what the run saw.
        utcnow: the clock.
    """

    def __init__(self, engine: Engine, judge: Judge, *, utcnow: Callable[[], datetime]) -> None:
        self._engine, self._judge, self._utcnow = engine, judge, utcnow

    def close(self, started: Started, sync: SyncReport, due: Due, checked: CheckReport) -> RunReport:
        """Closes a run that asked the API.

        Raises:
            LeaseLostError: another run took over; nothing of this is written.
            StoreError: our database can't be used; nothing of this is written.
        """
        now = self._utcnow()
        report, restraint = self._stored(started, lambda conn: self._write(conn, started, sync, due, checked, now=now))
        log_run(report, checked, restraint)
        return report

    def close_unread(self, started: Started, error: SyncLogError) -> RunReport:
        """Closes a run that could not read the sync log: no snapshot, but evidence.

        Raises:
            LeaseLostError: another run took over; nothing of this is written.
            StoreError: our database can't be used; nothing of this is written.
        """
        now = self._utcnow()
        facts = RunFacts(
            run_id=started.run_id, status=RunStatus.UNREAD, total=0, unknown=0, answered=0, error=str(error)
        )

        def write(conn: Connection) -> RunReport:
            runs.finish(
                conn,
                run_id=started.run_id,
                status=RunStatus.UNREAD,
                abort_reason=None,
                owner_cause=None,
                due=0,
                answered=0,
                error=str(error),
                finished_at=now,
                snapshot=None,
            )
            verdict = self._judge.judge_monitor(conn, facts=facts, read=None, started_at=started.at, now=now)
            return self._report(conn, started, RunStatus.UNREAD, verdict, now)

        report = replace(self._stored(started, write), error=str(error), duration_s=_duration_s(started, now))
        log_run(report, None, None)
        return report

    def _stored(self, started: Started, write: Callable[[Connection], _T]) -> _T:
        """Writes in one transaction, once; again when the database was away, unless it was stored all the same.

        Of a connection that broke off during a commit nobody knows whether that got through.
        """
        made: list[_T] = []

        def attempt() -> _T:
            with writing(self._engine) as conn:
                # first of all: a run that was closed in time may have lost its lease meanwhile
                if made and runs.closed_itself(conn, run_id=started.run_id):
                    return made[-1]
                leases.verify(conn, target=started.target, epoch=started.epoch)
                made.append(write(conn))
            return made[-1]

        return patiently(self._engine, attempt)

    def _write(
        self, conn: Connection, started: Started, sync: SyncReport, due: Due, checked: CheckReport, *, now: datetime
    ) -> tuple[RunReport, Restraint]:
        status, reason = _ending(checked)
        if reason is not None:
            items.leave_unasked(
                conn, target=started.target, run_id=started.run_id, reason=reason, recheck_ids=due.recheck_ids
            )
        snapshot = self._snapshot(conn, started, checked, now)
        # Before the judgement: the rules count this run among the finished ones.
        _finish(conn, started, due, checked, snapshot=snapshot, now=now)
        verdict = self._judged(conn, started, checked, snapshot=snapshot, now=now, sync=sync)
        report = replace(
            self._report(conn, started, status, verdict, now),
            abort_reason=reason.value if reason else None,
            snapshot=snapshot,
            sync=sync,
            approach=checked.approach,
            probed_for=checked.probed_for,
            duration_s=_duration_s(started, now),
            retries=checked.retries,
            attempts=checked.attempts,
        )
        restraint = _restrained(started, checked, report)
        runs.restrain(conn, run_id=started.run_id, factor=restraint.factor)
        return report, restraint

    def _snapshot(self, conn: Connection, started: Started, checked: CheckReport, now: datetime) -> Snapshot:
        stuck_after = self._judge.patience.stuck_after
        tallies = items.tallies(conn, target=started.target, now=now, stuck_after=stuck_after)
        return roll_up(
            tallies.counts.items(),
            stuck=tallies.stuck,
            checked=checked.tally.answered,
            requests=checked.requests,
            retries=checked.retries,
            latencies_ms=checked.latencies_ms,
            duration_s=_duration_s(started, now),
        )

    def _judged(
        self,
        conn: Connection,
        started: Started,
        checked: CheckReport,
        *,
        snapshot: Snapshot,
        now: datetime,
        sync: SyncReport,
    ) -> Verdict:
        facts = RunFacts(
            run_id=started.run_id,
            status=_ending(checked)[0],
            total=snapshot.total,
            unknown=snapshot.unknown,
            answered=checked.tally.answered,
        )
        seen = checked.tally.evidence(requests=checked.requests)
        verdict = self._judge.judge(conn, facts=facts, seen=seen, now=now, log_empty=sync.tracked == 0)
        # a target that holds itself back after 429s is still limited by them
        held = (Evidence(cause=Cause.RATE_LIMITED, count=0),) if started.restraint < NONE else ()
        own = self._judge.judge_monitor(
            conn, facts=facts, read=sync, started_at=started.at, now=now, owners=(*seen, *held)
        )
        return Verdict(evidence=verdict.evidence + own.evidence, changes=verdict.changes + own.changes)

    def _report(
        self, conn: Connection, started: Started, status: RunStatus, verdict: Verdict, now: datetime
    ) -> RunReport:
        return RunReport(
            target=started.target,
            run_id=started.run_id,
            status=status,
            previous=started.previous,
            restraint=started.restraint,
            turns=tuple(turns.of_run(conn, started.run_id)),
            verdict=verdict,
            unrecognised=items.unrecognised(conn, target=started.target),
            open_incidents=tuple(incident_store.listing(conn, target=started.target, open_only=True)),
            silences=silences.in_force(conn, now=now),
        )


def _duration_s(started: Started, now: datetime) -> float:
    """How long it took (≥ 0, also where a clock was set back)."""
    return max(0.0, round((now - started.at).total_seconds(), 3))


def _ending(checked: CheckReport) -> tuple[RunStatus, Reason | None]:
    if checked.stopped_by is not None:
        return RunStatus.ABORTED, Reason(checked.stopped_by.value)
    if checked.cut is not None:
        return RunStatus.PARTIAL, checked.cut
    return RunStatus.COMPLETE, None


def _finish(
    conn: Connection, started: Started, due: Due, checked: CheckReport, *, snapshot: Snapshot, now: datetime
) -> None:
    status, reason = _ending(checked)
    seen = checked.tally.evidence(requests=checked.requests)
    runs.finish(
        conn,
        run_id=started.run_id,
        status=status,
        abort_reason=reason.value if reason else None,
        owner_cause=seen[0].cause if seen else None,
        due=_to_ask(due, checked),
        answered=checked.tally.replied,
        error=None,
        finished_at=now,
        snapshot=snapshot,
    )


def _to_ask(due: Due, checked: CheckReport) -> int:
    """Items that the run meant to ask about; ids that nobody can be asked about are none."""
    return max(0, due.count - checked.tally.quarantined)


def _restrained(started: Started, checked: CheckReport, report: RunReport) -> Restraint:
    """How far the target's next run holds back."""
    seen = [piece for piece in report.verdict.evidence if piece.cause is Cause.RATE_LIMITED]
    refused = checked.requests > 0 and any(piece.explained_by is None for piece in seen)
    return restrain(
        started.restraint,
        refused=refused,
        muted=bool(seen) and not refused,
        unresolved=any(incident.cause is Cause.RATE_LIMITED for incident in report.open_incidents),
        replied=checked.tally.replied > 0,
    )
