"""A run as `check` prints it, and the history, as text and JSON values."""

from collections.abc import Sequence
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
from monitor.notifications.texts import describe_cause, display_group, format_items, what_to_check
from monitor.reports.formatting import align, format_time, json_values, plural, wrap_lines
from monitor.reports.incidents import incident_json
from monitor.runs.report import RunReport
from monitor.runs.rollup import health_line
from monitor.runs.store import HistoryRow, ItemChangeGroup
from monitor.runs.strategy import Approach, ApproachReason, Strategy


def history_text(rows: Sequence[HistoryRow]) -> str:
    """A line per snapshot, in the given order."""
    if not rows:
        return "No history yet: run `ingestion-monitor check` first."
    states = (state.label.upper() for state in ItemState)
    heading = ("RUN", "STARTED (UTC)", "TARGET", "STATUS", "TOTAL", *states, "STUCK", "REQUESTS", "SECONDS")
    cells = [
        (
            row.run_id,
            format_time(row.started_at),
            row.target,
            row.status.value + (f" ({row.abort_reason})" if row.abort_reason else ""),
            row.snapshot.total,
            *row.snapshot.states.values(),
            row.snapshot.stuck,
            row.snapshot.requests,
            round(row.snapshot.duration_s, 1),
        )
        for row in rows
    ]
    return align(heading, cells)


def history_json(rows: Sequence[HistoryRow]) -> list[dict[str, Any]]:
    """The rows as JSON values, with the columns of the view `history`."""
    return [json_values(row.columns()) for row in rows]


NAMED = 3
"""Number of items named per open incident; `incidents show` lists all."""

_TOLERANCE = 0.001
_REFUSALS = frozenset({Cause.SPENDING_LIMIT.value, Cause.UNAUTHORIZED.value, Cause.FORBIDDEN.value})

_VERBS = {
    Action.OPEN: "opened",
    Action.REOPEN: "reopened",
    Action.RESOLVE: "resolved",
    Action.UPDATE: "grew",
    Action.REMIND: "is still open",
}


def nothing_to_report(report: RunReport) -> bool:
    """Whether `check --quiet` prints nothing: a complete run, no open incident, none that just resolved.

    A run without items is reported: its sync log may have moved.
    """
    changed = any(change.decision.action in _VERBS for change in report.evaluation.changes)
    watched = report.snapshot is not None and report.snapshot.total > 0
    return report.status is RunStatus.COMPLETE and watched and not report.open_incidents and not changed


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


def run_text(report: RunReport, *, now: datetime) -> str:
    """A run as text; the second line is the health line."""
    ending = report.status.value + (f" ({report.abort_reason})" if report.abort_reason else "")
    lines = [f"{report.target}: run {report.run_id}, {ending}"]
    if report.snapshot is None:
        return "\n".join([*lines, f"Health: unknown: {report.error}", *_incidents(report, now)])
    lines.append(health_line(report.snapshot))
    lines += _list_lines(report.approach)
    lines += _throttling_lines(report)
    lines += _section("Changed", [*_log_lines(report.sync), *_item_change_lines(report.item_changes)])
    unknown = [f"{status}: {format_items(count)}" for status, count in report.unrecognised.items()]
    lines += _section("Unrecognised statuses (counted as pending; add them to `statuses`)", unknown)
    lines += _section("Failed requests", _evidence_lines(report.evaluation.evidence))
    lines += _section("Unanswered, each for a trouble of its own (others were answered)", _single_lines(report))
    return "\n".join([*lines, *_incidents(report, now)])


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
    return [row for line in lines for row in wrap_lines(line, indent=0)]


def _fraction_text(share: float) -> str:
    """`1/4`, or in percent: `31%`."""
    parts = round(1 / share)
    return f"1/{parts}" if parts > 1 and abs(parts * share - 1) < _TOLERANCE else f"{share:.0%}"


def _log_lines(sync: SyncReport) -> list[str]:
    moved = [(sync.new, "new in the sync log"), (sync.removed, "left the sync log"), (sync.returned, "returned to it")]
    lines = [f"{format_items(count)} {what}" for count, what in moved if count]
    if not sync.tracked:
        kept = f"; its {format_items(sync.kept)} stay tracked" if sync.kept else ""
        lines.append(("the sync log holds no usable id" if sync.read else "the sync log is empty") + kept)
    problems = [
        (sync.null, "without an id", ()),
        (sync.blank, "with a blank id", ()),
        (sync.duplicate, "with a duplicate id", sync.duplicate_ids),
        (sync.unusable, "with an id that can't be used", sync.unusable_ids),
        (sync.future, "with an upload time in the future (not used)", ()),
        (
            sync.unreadable,
            "with an upload time that can't be read (not used)",
            tuple(filter(None, [sync.unreadable_time])),
        ),
    ]
    return lines + [f"sync log: {plural(count, 'row')} {what}{_named(ids)}" for count, what, ids in problems if count]


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
        f"{piece.cause.value}: {format_items(piece.count)}{_breakdown_text(piece)}{_named(piece.sample_ids[:NAMED])}"
        for piece in report.single_items
    ]


def _breakdown_text(piece: Evidence) -> str:
    return " (" + ", ".join(f"{count} × {label}" for label, count in piece.breakdown.items()) + ")"


def _incidents(report: RunReport, now: datetime) -> list[str]:
    lines = [_changed(change) for change in report.evaluation.changes if change.decision.action in _VERBS]
    lines = ["Incidents:", *lines] if lines else []
    if report.open_incidents:
        lines.append("Open incidents:")
        for incident in report.open_incidents:
            lines += _open(incident, now, report.silences)
    return lines


def _changed(change: AppliedDecision) -> str:
    incident = change.incident
    return f"  #{incident.id} {_name(incident)} {_VERBS[change.decision.action]}: {change.decision.reason.value}"


def _name(incident: Incident) -> str:
    """The cause, and the group if the incident has one."""
    return incident.cause.value + (f" in {display_group(incident.group)}" if incident.group else "")


def _open(incident: Incident, now: datetime, silences: Sequence[Silence]) -> list[str]:
    lasted = format_age(now - incident.first_evidence_at)
    words = describe_cause(incident.cause, incident.member_count)
    title = f"#{incident.id} {_name(incident)} ({incident.severity.value}): {words}, for {lasted}"
    lines = list(wrap_lines(title, indent=2))
    lines += [row for sentence in suppression_reasons(incident, silences) for row in wrap_lines(sentence, indent=4)]
    ids = incident.member_ids or (incident.evidence.sample_ids if incident.evidence else ())
    if ids:
        lines += wrap_lines(f"such as: {', '.join(ids[:NAMED])}", indent=4)
    return lines + [row for check in _checks(incident) for row in wrap_lines(f"check: {check}", indent=4)]


def _checks(incident: Incident) -> tuple[str, ...]:
    return what_to_check(incident.cause, accepted=incident.accepted)


def _named(ids: Sequence[str], count: int = 0) -> str:
    more = f" and {count - len(ids)} more" if count > len(ids) else ""
    return f": {', '.join(ids)}{more}" if ids else ""


def run_json(report: RunReport) -> dict[str, Any]:
    """A run as JSON values, for `check --json`."""
    return {
        "target": report.target,
        "run_id": report.run_id,
        "status": report.status.value,
        "abort_reason": report.abort_reason,
        "error": report.error,
        "health": _snapshot(report.snapshot),
        "strategy": _strategy(report.approach),
        "probed_for": report.probed_for.value if report.probed_for else None,
        "throttle_factor": report.throttle_factor,
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
