"""The result of one run, and its log events. It decides nothing and stores nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
import structlog

from monitor.client.pages import page_words
from monitor.incidents.backoff import UNTHROTTLED, ThrottleFactor
from monitor.incidents.decide import Action
from monitor.incidents.evaluate import AppliedDecision, EvaluationResult
from monitor.model import (
    ITEM_CAUSES,
    REQUEST_CAUSES,
    Cause,
    Evidence,
    Incident,
    RunLimits,
    RunStatus,
    Silence,
    Snapshot,
    SyncReport,
)
from monitor.model.http import NetworkFault
from monitor.runs.progress import CheckReport
from monitor.runs.store import ItemChangeGroup, PastRuns
from monitor.runs.strategy import BY_ITEM, Approach


class RunContext(msgspec.Struct, frozen=True, kw_only=True):
    """A run that has begun under a lease."""

    target: str
    run_id: int
    epoch: int
    at: datetime
    past: PastRuns
    """The runs before it; it uses the share of rate and concurrency that they left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """The result of one run."""

    target: str
    run_id: int
    status: RunStatus
    abort_reason: str | None = None
    snapshot: Snapshot | None = None
    """None if the sync log could not be read."""
    last_known: Mapping[str | None, int] = field(default_factory=dict)
    """The unknown items by their last known state, most frequent first; None: never answered."""
    previous: Snapshot | None = None
    sync: SyncReport = field(default_factory=SyncReport)
    item_changes: tuple[ItemChangeGroup, ...] = ()
    unrecognised: Mapping[str, int] = field(default_factory=dict)
    """Statuses that are not described, with their number of items; they count as pending."""
    evaluation: EvaluationResult = field(default_factory=EvaluationResult)
    single_items: tuple[Evidence, ...] = ()
    """What left single items unknown while others were answered; no evidence of a cause."""
    open_incidents: tuple[Incident, ...] = ()
    silences: tuple[Silence, ...] = ()
    approach: Approach = BY_ITEM
    """Whether the provider's list was used, and why."""
    probed_for: Cause | None = None
    throttle_factor: float = UNTHROTTLED
    """The share of rate and concurrency that it used."""
    error: str | None = None
    duration_s: float = 0.0
    retries: int = 0
    limits: RunLimits = field(default_factory=RunLimits)
    """How the client's limits slowed it down."""
    attempts: Mapping[str, int] = field(default_factory=dict)
    """Attempts by status class: `4xx`, or `none` without a response. Of token requests only those that failed."""


_EVENTS = dict.fromkeys(REQUEST_CAUSES, "items_unknown") | dict.fromkeys(ITEM_CAUSES, "items_unhealthy")


def log_run(report: RunReport, checked: CheckReport | None, throttle_factor: ThrottleFactor | None) -> None:
    """Logs one event per run, one per cause, and one per changed incident.

    `checked` is None if the run asked nothing; `throttle_factor` is that of the next run, None if it stays.
    """
    log = structlog.get_logger()
    for piece in report.evaluation.evidence:
        log.warning(_event(piece, checked), **_evidence_fields(piece), **_request_fields(checked))
    for piece in report.single_items:
        log.warning("items_unanswered", **_evidence_fields(piece), **_request_fields(checked))
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
    """The event name for a piece of evidence."""
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
    """The throttle factors of this run and the next; nothing if both are unthrottled."""
    if throttle_factor is None or report.throttle_factor == throttle_factor.factor == UNTHROTTLED:
        return {}
    return {
        "throttle_factor": report.throttle_factor,
        "next_throttle_factor": throttle_factor.factor,
        "throttle_reason": throttle_factor.reason.value,
    }


def _strategy(report: RunReport) -> str:
    """How the items were checked; with the reason if the list was tried and failed."""
    if report.approach.by_list:
        return "list"
    return f"items: {report.approach.reason.value}" if report.approach.detail else "items"


def _request_fields(checked: CheckReport | None) -> dict[str, object]:
    return {
        "retry_count": checked.retries if checked else 0,
        "latency_ms": checked.latencies.latency_p50_ms if checked else None,
    }


def _evidence_fields(piece: Evidence) -> dict[str, object]:
    # only request causes are broken down by HTTP status
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
        **({"page": page_words(piece.page)} if piece.page is not None else {}),
        "inhibited_by": piece.inhibited_by.value if piece.inhibited_by else None,
    }
