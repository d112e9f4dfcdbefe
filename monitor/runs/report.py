"""What one run found out and did, and how the log tells it. It decides nothing and stores nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from monitor.incidents.backoff import UNTHROTTLED, ThrottleFactor
from monitor.incidents.decide import Action
from monitor.incidents.evaluate import AppliedDecision, EvaluationResult
from monitor.model import (
    ITEM_CAUSES,
    REQUEST_CAUSES,
    Cause,
    Evidence,
    Incident,
    RunStatus,
    Silence,
    Snapshot,
    SyncReport,
)
from monitor.model.http import NetworkFault
from monitor.runs.progress import CheckReport
from monitor.runs.store import ItemChangeGroup
from monitor.runs.strategy import BY_ITEM, Approach


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """A run that was begun under a lease."""

    target: str
    run_id: int
    epoch: int
    at: datetime
    previous: Snapshot | None
    """The target's newest snapshot before this run."""
    throttle_factor: float = UNTHROTTLED
    """The share of its rate and concurrency that it takes."""


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
    item_changes: tuple[ItemChangeGroup, ...] = ()
    unrecognised: Mapping[str, int] = field(default_factory=dict)
    """Statuses that nobody has described, with the number of items in each: they count as pending."""
    evaluation: EvaluationResult = field(default_factory=EvaluationResult)
    open_incidents: tuple[Incident, ...] = ()
    silences: tuple[Silence, ...] = ()
    """Those in force at its end."""
    approach: Approach = BY_ITEM
    """Whether the provider's list spoke for items, and why or why not."""
    probed_for: Cause | None = None
    """The cause for which it began with one probe."""
    throttle_factor: float = UNTHROTTLED
    """The share of its rate and concurrency that it took."""
    error: str | None = None
    """Why there is no snapshot."""
    duration_s: float = 0.0
    """From its begin to its end (≥ 0)."""
    retries: int = 0
    attempts: Mapping[str, int] = field(default_factory=dict)
    """What was sent to the API, by status class: `4xx`, or `none` for no answer; requests for tokens if they failed."""


_EVENTS = dict.fromkeys(REQUEST_CAUSES, "items_unknown") | dict.fromkeys(ITEM_CAUSES, "items_unhealthy")


def log_run(report: RunReport, checked: CheckReport | None, throttle_factor: ThrottleFactor | None) -> None:
    """One event per run, one per cause, and one per incident that it changed; the run has bound what they share.

    Args:
        report: of the finished run.
        checked: how the check of its items ended; None when there was none.
        next_throttle: how far the next run holds back; None when this one says nothing about it.
    """
    log = structlog.get_logger()
    for piece in report.evaluation.evidence:
        log.warning(_event(piece, checked), **_evidence_fields(piece), **_request_fields(checked))
    for change in report.evaluation.changes:
        if change.decision.action is not Action.CONTINUE:
            log.info("incident_changed", **_change_fields(change))
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
        **({"probed_for": report.probed_for.value} if report.probed_for else {}),
        **_throttle_fields(report, throttle_factor),
        **_request_fields(checked),
    )


def _event(piece: Evidence, checked: CheckReport | None) -> str:
    """What the log calls a piece of evidence."""
    recovered = checked is not None and checked.tally.all_recovered(piece.cause)
    return "requests_recovered" if recovered else _EVENTS.get(piece.cause, piece.cause.value)


def _change_fields(change: AppliedDecision) -> dict[str, object]:
    incident = change.incident
    return {
        "incident_id": incident.id,
        "change": change.decision.action.value,
        "cause": incident.cause.value,
        **({"group": incident.group} if incident.group else {}),
        "severity": incident.severity.value,
        "members": incident.member_count,
    }


def _throttle_fields(report: RunReport, throttle_factor: ThrottleFactor | None) -> dict[str, object]:
    """How far the run held back, and how far the next one will; nothing where neither does."""
    if throttle_factor is None or report.throttle_factor == throttle_factor.factor == UNTHROTTLED:
        return {}
    return {
        "throttle_factor": report.throttle_factor,
        "next_throttle_factor": throttle_factor.factor,
        "throttle_reason": throttle_factor.reason.value,
    }


def _strategy(report: RunReport) -> str:
    """How the items were asked about; with the reason, where a list was wanted and not to be had."""
    if report.approach.by_list:
        return "list"
    return f"items: {report.approach.reason.value}" if report.approach.detail else "items"


def _request_fields(checked: CheckReport | None) -> dict[str, object]:
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
        "inhibited_by": piece.inhibited_by.value if piece.inhibited_by else None,
    }
