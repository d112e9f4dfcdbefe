"""The end of a run: one transaction that writes the snapshot, the evidence, the incidents' changes and their messages.

The lease's epoch is checked first; whoever lost it writes nothing. What the run could not find out is left unknown.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog
from sqlalchemy import Connection, Engine

from monitor.check import ITEM_BY_ITEM, Approach, CheckReport, Due
from monitor.errors import SyncLogError
from monitor.exchange import NetworkFault
from monitor.health.rollup import roll_up
from monitor.incidents.render import RunFacts
from monitor.judgement import Judge, Verdict
from monitor.model import (
    ITEM_CAUSES,
    REQUEST_CAUSES,
    Evidence,
    Incident,
    Reason,
    RunStatus,
    Silence,
    Snapshot,
    SyncReport,
)
from monitor.store import incidents as incident_store
from monitor.store import items, leases, runs, silences, turns
from monitor.store.engine import writing
from monitor.store.turns import ItemTurn

__all__ = ["Closing", "RunReport", "Started"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A run that was begun under a lease."""

    target: str
    run_id: int
    epoch: int
    at: datetime
    previous: Snapshot | None
    """The target's newest snapshot before this run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What one run found out and did."""

    target: str
    run_id: int
    status: RunStatus
    abort_reason: str | None = None
    snapshot: Snapshot | None = None
    """None when the sync log could not be read."""
    previous: Snapshot | None = None
    sync: SyncReport = field(default_factory=SyncReport)
    turns: tuple[ItemTurn, ...] = ()
    unrecognised: Mapping[str, int] = field(default_factory=dict)
    """Statuses that nobody has described, with the number of items in each: they count as pending."""
    verdict: Verdict = field(default_factory=Verdict)
    open_incidents: tuple[Incident, ...] = ()
    silences: tuple[Silence, ...] = ()
    """Those in force at its end."""
    approach: Approach = ITEM_BY_ITEM
    """Whether the provider's list spoke for items, and why or why not."""
    error: str | None = None
    """Why there is no snapshot."""


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
        status, reason = _ending(checked)
        now = self._utcnow()
        with writing(self._engine) as conn:
            leases.verify(conn, target=started.target, epoch=started.epoch)
            if reason is not None:
                items.leave_unasked(
                    conn, target=started.target, run_id=started.run_id, reason=reason, recheck_ids=due.recheck_ids
                )
            snapshot = self._snapshot(conn, started, checked, now)
            # Before the judgement: the rules count this run among the finished ones.
            _finish(conn, started, due, checked, snapshot=snapshot, now=now)
            verdict = self._judged(conn, started, checked, snapshot=snapshot, now=now, sync=sync)
            report = self._report(conn, started, status, verdict, now)
        report = replace(
            report,
            abort_reason=reason.value if reason else None,
            snapshot=snapshot,
            sync=sync,
            approach=checked.approach,
        )
        _log(report, checked)
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
        with writing(self._engine) as conn:
            leases.verify(conn, target=started.target, epoch=started.epoch)
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
            report = self._report(conn, started, RunStatus.UNREAD, verdict, now)
        report = replace(report, error=str(error))
        _log(report, None)
        return report

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
            duration_s=round((now - started.at).total_seconds(), 3),
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
        seen = checked.tally.evidence()
        verdict = self._judge.judge(conn, facts=facts, seen=seen, now=now, log_empty=sync.tracked == 0)
        own = self._judge.judge_monitor(conn, facts=facts, read=sync, started_at=started.at, now=now)
        return Verdict(evidence=verdict.evidence + own.evidence, changes=verdict.changes + own.changes)

    def _report(
        self, conn: Connection, started: Started, status: RunStatus, verdict: Verdict, now: datetime
    ) -> RunReport:
        return RunReport(
            target=started.target,
            run_id=started.run_id,
            status=status,
            previous=started.previous,
            turns=tuple(turns.of_run(conn, started.run_id)),
            verdict=verdict,
            unrecognised=items.unrecognised(conn, target=started.target),
            open_incidents=tuple(incident_store.listing(conn, target=started.target, open_only=True)),
            silences=silences.in_force(conn, now=now),
        )


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
    seen = checked.tally.evidence()
    runs.finish(
        conn,
        run_id=started.run_id,
        status=status,
        abort_reason=reason.value if reason else None,
        owner_cause=seen[0].cause if seen else None,
        due=max(0, due.count - checked.tally.quarantined),
        answered=checked.tally.replied,
        error=None,
        finished_at=now,
        snapshot=snapshot,
    )


_EVENTS = dict.fromkeys(REQUEST_CAUSES, "items_unknown") | dict.fromkeys(ITEM_CAUSES, "items_ailing")


def _log(report: RunReport, checked: CheckReport | None) -> None:
    """One event per run, and one per cause; the run has bound what they have in common."""
    log = structlog.get_logger()
    for piece in report.verdict.evidence:
        log.warning(_EVENTS.get(piece.cause, piece.cause.value), **_evidence_fields(piece), **_effort(checked))
    snapshot = report.snapshot
    log.info(
        "run_finished",
        status=report.status.value,
        abort_reason=report.abort_reason,
        error=report.error,
        **({state.value: count for state, count in snapshot.states.items()} if snapshot else {}),
        stuck=snapshot.stuck if snapshot else None,
        requests=checked.requests if checked else 0,
        strategy=_strategy(report),
        **_effort(checked),
    )


def _strategy(report: RunReport) -> str:
    """How the items were asked about; with the reason, where a list was wanted and not to be had."""
    if report.approach.by_list:
        return "list"
    return f"items: {report.approach.why.value}" if report.approach.detail else "items"


def _effort(checked: CheckReport | None) -> dict[str, object]:
    return {
        "retry_count": checked.retries if checked else 0,
        "latency_ms": checked.latencies_ms[0] if checked else None,
    }


def _evidence_fields(piece: Evidence) -> dict[str, object]:
    # What else is broken down by is no answer: a document's status may be called anything.
    answers = piece.breakdown if piece.cause in REQUEST_CAUSES else {}
    most = max(answers, key=lambda label: answers[label], default="")
    status, _, place = most.partition(" from the ")
    return {
        "cause": piece.cause.value,
        **({"group": piece.group} if piece.group else {}),
        "count": piece.count,
        "breakdown": dict(piece.breakdown),
        "http_status": int(status) if status.isdecimal() else None,
        **({"endpoint": place} if place else {}),
        "timed_out": NetworkFault.TIMEOUT.value in answers,
        "code": piece.code,
        "request_id": next(iter(piece.request_ids), None),
        "sample_ids": list(piece.sample_ids),
        **({"gateway": dict(piece.gateway)} if piece.gateway else {}),
        "explained_by": piece.explained_by.value if piece.explained_by else None,
    }
