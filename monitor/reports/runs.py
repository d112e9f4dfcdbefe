"""A run as `check` prints it, as text and JSON values."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from monitor.incidents.backoff import UNTHROTTLED
from monitor.incidents.decide import Action
from monitor.incidents.evaluate import AppliedDecision
from monitor.incidents.silences import suppression_reasons
from monitor.model import (
    REQUEST_CAUSES,
    Cause,
    Evidence,
    Incident,
    ItemState,
    Reason,
    RunStatus,
    Silence,
    Snapshot,
    SyncReport,
)
from monitor.notifications.messages import format_age
from monitor.notifications.texts import checks_of, describe_cause, display_group, format_items, what_to_check
from monitor.reports.formatting import json_values, plural, wrap_lines
from monitor.reports.incidents import incident_json
from monitor.reports.log_rows import RowProblem, row_problems
from monitor.runs.report import RunReport
from monitor.runs.rollup import health_line
from monitor.runs.store import ItemChangeGroup
from monitor.runs.strategy import Approach, ApproachReason, Strategy

NAMED = 3
"""Number of items named per open incident; `incidents show` lists all."""

_MAX_STATUSES = 10
_SAMPLED = 5
_TOLERANCE = 0.001
_REFUSALS = frozenset({Cause.SPENDING_LIMIT.value, Cause.UNAUTHORIZED.value, Cause.FORBIDDEN.value})

_VERBS = {
    Action.OPEN: "opened",
    Action.REOPEN: "reopened",
    Action.RESOLVE: "resolved",
    Action.UPDATE: "grew",
    Action.REMIND: "is still open",
}


def incomplete_reason(report: RunReport) -> str | None:
    """Why a run is incomplete and what to do, in one sentence; None for a complete run."""
    where = f"target {report.target}:"
    if report.status is RunStatus.COMPLETE:
        return None
    if report.snapshot is None:
        return f"{where} {report.error}"
    left = f"{format_items(report.snapshot.unknown)} left unknown"
    if report.abort_reason == Reason.DEADLINE:
        return f"{where} the deadline cut the run short, {left}; raise the deadline, or find out why the API is slow"
    if report.abort_reason == Reason.INTERRUPTED:
        return f"{where} a signal cut the run short, {left}; the finished items are stored, run again for the rest"
    cause, accepted = Cause(report.abort_reason or Cause.OUTAGE), report.snapshot.checked > 0
    remedy = f"check {what_to_check(cause, accepted=accepted)[0]}"
    return f"{where} the run stopped early, {left}: {describe_cause(cause)}; {remedy}"


def headline(report: RunReport) -> str:
    """The target, the run's number and how it ended."""
    ending = report.status.value + (f" ({report.abort_reason})" if report.abort_reason else "")
    return f"{report.target}: run {report.run_id}, {ending}"


def run_text(report: RunReport, *, now: datetime) -> str:
    """A run as text; the second line is the health line."""
    lines = [headline(report)]
    if report.snapshot is None:
        return "\n".join([*lines, f"Health: unknown: {report.error}", *_incidents(report, now)])
    lines += [health_line(report.snapshot), *_last_known_lines(report.snapshot, report.last_known, report.status)]
    lines += _list_lines(report.approach)
    lines += _throttling_lines(report)
    lines += _section("Changed", [*_moved_lines(report.sync), *_item_change_lines(report.item_changes)])
    lines += _section("Sync log", _log_lines(report.sync))
    unknown = [f"{status}: {format_items(count)}" for status, count in report.unrecognised.items()]
    more = [f"and {len(unknown) - _MAX_STATUSES} more"] if len(unknown) > _MAX_STATUSES else []
    lines += _section(
        "Unrecognised statuses (counted as pending; add them to `statuses`)", [*unknown[:_MAX_STATUSES], *more]
    )
    lines += _section("Failed requests", _evidence_lines(report.evaluation.evidence))
    lines += _section("Items without an answer, while others got one", _single_lines(report))
    return "\n".join([*lines, *_incidents(report, now)])


def _last_known_lines(snapshot: Snapshot, last_known: Mapping[str | None, int], status: RunStatus) -> list[str]:
    """What is known about unknown items, and about a run that did not get to all items."""
    sentences = [last_known_text(last_known)] if last_known else []
    if status is not RunStatus.COMPLETE:
        sentences.append(f"This run got an answer for {snapshot.checked} of {format_items(snapshot.total)}.")
    return [row for sentence in sentences for row in wrap_lines(sentence, indent=0)]


def last_known_text(last_known: Mapping[str | None, int]) -> str:
    """The unknown items by their last known state, as a sentence."""
    counts = [
        f"{count} {ItemState(state).label}" if state else f"{count} never answered"
        for state, count in last_known.items()
    ]
    return f"Last known of the unknown: {', '.join(counts)}."


def _section(heading: str, lines: Sequence[str]) -> list[str]:
    return [f"{heading}:", *(row for line in lines for row in wrap_lines(line, indent=2))] if lines else []


_LIST_DROPPED = frozenset(
    {ApproachReason.LIST_REFUSED, ApproachReason.LIST_FAILED, ApproachReason.LIST_UNREADABLE, ApproachReason.LIST_WRONG}
)


def _list_lines(approach: Approach) -> list[str]:
    """Why the wanted list was not used, so that the user can fix it or set `strategy = "items"`."""
    if approach.reason not in _LIST_DROPPED:
        return []
    return list(wrap_lines(f"Asked item by item: {approach.reason.value} ({approach.detail})", indent=0))


def _throttling_lines(report: RunReport) -> list[str]:
    """How the monitor reduced its own load."""
    lines = []
    if report.probed_for is not None:
        refused = report.abort_reason in _REFUSALS and not (report.snapshot and report.snapshot.checked)
        outcome = "; the API refused it, so no more were sent" if refused else ""
        lines.append(f"Sent one request first, because the incident {report.probed_for.value} is open{outcome}.")
    if report.throttle_factor < UNTHROTTLED:
        lines.append(f"Throttled to {_fraction_text(report.throttle_factor)} of its rate and concurrency after 429s.")
    lines += [_rate_sentence(report)] if slowed_by_rate(report) else []
    lines += [_budget_sentence(report)] if report.limits.unretried and report.status is not RunStatus.ABORTED else []
    return [row for line in lines for row in wrap_lines(line, indent=0)]


_SLOW_WAIT_S, _SLOW_SHARE = 1.0, 0.25


def slowed_by_rate(report: RunReport) -> bool:
    """Whether waiting for the rate limit took over a second and over a quarter of the run."""
    waited_s = report.limits.rate_wait_s
    return waited_s >= _SLOW_WAIT_S and waited_s >= _SLOW_SHARE * report.duration_s


def _rate_sentence(report: RunReport) -> str:
    limits = report.limits
    rate = f"{limits.rate_per_s:.3g} requests/s" if limits.rate_per_s is not None else "the rate limit"
    next_rate = f"; the next run begins with {limits.next_rate_per_s:.3g}/s" if limits.next_rate_per_s else ""
    why = {
        "configured": f"the configured rate of {rate} (check.rate)",
        "stated": f"{rate}, our share (check.rate_share) of the limit that the API states",
        "learned": f"the learned rate of {rate}, which rises by itself over clean runs{next_rate}",
    }
    took = f"{limits.rate_wait_s:.0f} of {report.duration_s:.0f} s were waits for it"
    return f"Slowed down to {why[limits.rate_source]}: {took}."


def _budget_sentence(report: RunReport) -> str:
    failed = plural(report.limits.unretried, "failed request was", "failed requests were")
    return (
        f"The run's retry budget (10% of its requests, at least 3) was used up: {failed} not repeated, "
        "whatever max_attempts says."
    )


def _fraction_text(share: float) -> str:
    """`1/4`, or in percent: `31%`."""
    parts = round(1 / share)
    return f"1/{parts}" if parts > 1 and abs(parts * share - 1) < _TOLERANCE else f"{share:.0%}"


def _moved_lines(sync: SyncReport) -> list[str]:
    moved = [(sync.new, "new in the sync log"), (sync.removed, "left the sync log"), (sync.returned, "returned to it")]
    return [f"{format_items(count)} {what}" for count, what in moved if count]


def _log_lines(sync: SyncReport) -> list[str]:
    """What is wrong with the sync log, changed or not."""
    lines = []
    if not sync.tracked:
        kept = f"; its {format_items(sync.kept)} stay tracked" if sync.kept else ""
        hidden = " for this user, since row-level security is active on it" if sync.hidden else ""
        lines.append(("it holds no usable id" if sync.read else f"it is empty{hidden}") + kept)
    return lines + [f"{plural(each.count, 'row')} {each.what}{_samples(each)}" for each in row_problems(sync)]


def _item_change_lines(item_changes: Sequence[ItemChangeGroup]) -> list[str]:
    lines = []
    for group in item_changes:
        if group.kind == "state":
            way = f"{group.old or 'new'} → {group.new or 'unknown'}"
            lines.append(f"{format_items(group.count)} {way}{_named(group.sample_ids, group.count)}")
    return lines


def _evidence_lines(evidence: Sequence[Evidence]) -> list[str]:
    return [
        f"{piece.cause.value}: {describe_cause(piece.cause)}{_breakdown_text(piece)}"
        for piece in evidence
        if piece.breakdown and piece.inhibited_by is None and piece.cause in REQUEST_CAUSES
    ]


def _single_lines(report: RunReport) -> list[str]:
    return [
        f"{piece.cause.value}: {format_items(piece.count)}{_breakdown_text(piece)}"
        f"{_named(piece.sample_ids[:NAMED], piece.count)}"
        for piece in report.single_items
    ]


def _breakdown_text(piece: Evidence) -> str:
    return " (" + ", ".join(f"{count} × {label}" for label, count in piece.breakdown.items()) + ")"


def _incidents(report: RunReport, now: datetime) -> list[str]:
    lines = [changed_line(change) for change in report.evaluation.changes if change.decision.action in _VERBS]
    lines = ["Incidents:", *lines] if lines else []
    if report.open_incidents:
        lines.append("Open incidents:")
        for incident in report.open_incidents:
            lines += open_incident_lines(incident, now, report.silences)
    return lines


def changed_line(change: AppliedDecision) -> str:
    """A changed incident: its number, cause, what happened, and why."""
    incident = change.incident
    return f"  #{incident.id} {_name(incident)} {_VERBS[change.decision.action]}: {change.decision.reason_text}"


def _name(incident: Incident) -> str:
    """The cause, and the group if the incident has one."""
    return incident.cause.value + (f" in {display_group(incident.group)}" if incident.group else "")


def open_incident_lines(incident: Incident, now: datetime, silences: Sequence[Silence]) -> list[str]:
    """An open incident: what it is, why nobody is notified, example items, and what to check."""
    lasted = format_age(now - incident.first_evidence_at)
    words = describe_cause(incident.cause, incident.member_count)
    title = f"#{incident.id} {_name(incident)} ({incident.severity.value}): {words}, for {lasted}"
    lines = list(wrap_lines(title, indent=2))
    lines += [row for sentence in suppression_reasons(incident, silences) for row in wrap_lines(sentence, indent=4)]
    ids = incident.member_ids or (incident.evidence.sample_ids if incident.evidence else ())
    if ids:
        count = incident.member_count or (incident.evidence.count if incident.evidence else 0)
        lines += wrap_lines(f"such as{_named(ids[:NAMED], count)}", indent=4)
    return lines + [row for check in checks_of(incident) for row in wrap_lines(f"check: {check}", indent=4)]


def _named(ids: Sequence[str], count: int = 0) -> str:
    more = f" and {count - len(ids)} more" if count > len(ids) else ""
    return f": {', '.join(ids)}{more}" if ids else ""


def _samples(problem: RowProblem) -> str:
    """Samples of rows, with how many more if they are cut; where one may be in several rows, nobody knows how many."""
    if problem.harmless and len(problem.samples) >= _SAMPLED:
        return f", such as {', '.join(problem.samples)}"
    return _named(problem.samples, problem.count if len(problem.samples) >= _SAMPLED else 0)


def run_json(report: RunReport) -> dict[str, Any]:
    """A run as JSON values, for `check --json`."""
    return {
        "target": report.target,
        "run_id": report.run_id,
        "status": report.status.value,
        "abort_reason": report.abort_reason,
        "error": report.error,
        "health": _snapshot(report.snapshot),
        "last_known": {state or "never_answered": count for state, count in report.last_known.items()},
        "strategy": _strategy(report.approach),
        "probed_for": report.probed_for.value if report.probed_for else None,
        "throttle_factor": report.throttle_factor,
        **_limits_json(report),
        "duration_s": report.duration_s,
        "sync_log": json_values(report.sync),
        "changes": [
            {"kind": t.kind, "from": t.old, "to": t.new, "count": t.count, "sample_ids": list(t.sample_ids)}
            for t in report.item_changes
        ],
        "unrecognised_statuses": dict(report.unrecognised),
        "evidence": [_evidence_json(piece) for piece in report.evaluation.evidence],
        "unanswered": [_evidence_json(piece) for piece in report.single_items],
        "incident_changes": [
            {
                "id": c.incident.id,
                "cause": c.incident.cause.value,
                "group": c.incident.group,
                "action": c.decision.action.value,
            }
            for c in report.evaluation.changes
            if c.decision.action in _VERBS
        ],
        "open_incidents": [incident_json(incident, report.silences) for incident in report.open_incidents],
    }


def _limits_json(report: RunReport) -> dict[str, Any]:
    limits = report.limits
    return {
        "rate": {
            "per_s": limits.rate_per_s,
            "source": limits.rate_source if limits.rate_per_s is not None else None,
            "waited_s": limits.rate_wait_s,
            "next_per_s": limits.next_rate_per_s,
            "slowed": slowed_by_rate(report),
        },
        "retry_budget": {
            "retries": report.retries,
            "exhausted": limits.unretried > 0,
            "not_repeated": limits.unretried,
        },
    }


def _strategy(approach: Approach) -> dict[str, str]:
    name = Strategy.LIST if approach.by_list else Strategy.ITEMS
    return {"used": name.value, "reason": approach.reason.value, "detail": approach.detail}


def _snapshot(snapshot: Snapshot | None) -> dict[str, Any] | None:
    return None if snapshot is None else {"total": snapshot.total, **json_values(snapshot)}


def _evidence_json(piece: Evidence) -> dict[str, Any]:
    # named one by one: the API's own message must not leak
    return {
        "cause": piece.cause.value,
        "group": piece.group,
        "count": piece.count,
        "breakdown": dict(piece.breakdown),
        "code": piece.code,
        "sample_ids": list(piece.sample_ids),
        "request_ids": list(piece.request_ids),
        "inhibited_by": piece.inhibited_by.value if piece.inhibited_by else None,
    }
