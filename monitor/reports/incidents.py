"""Incidents as text and JSON values. Only `incident_text` shows the API's own messages."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from monitor.incidents.members import Member
from monitor.incidents.silences import matching_silence, suppression_reasons
from monitor.incidents.store import IncidentEvent
from monitor.model import (
    ITEM_CAUSES,
    MONITOR_CAUSES,
    OBSERVED_CAUSES,
    Cause,
    Evidence,
    Incident,
    IncidentState,
    ItemState,
    Severity,
    Silence,
    Team,
)
from monitor.notifications.messages import format_age, format_teams, group_breakdown
from monitor.notifications.texts import checks_of, describe_cause, display_group, display_name, safe_message
from monitor.reports.formatting import fit, format_time, iso, json_values, with_rest, wrap_lines


def incidents_text(
    incidents: Sequence[Incident],
    *,
    now: datetime,
    silences: Sequence[Silence] = (),
    total: int | None = None,
    width: int | None = None,
) -> str:
    """A line per incident, in the given order, and how many more there are; columns without any value are left out."""
    if not incidents:
        return "No incidents."
    columns: dict[str, list[object]] = {
        "ID": [each.id for each in incidents],
        "STATE": [each.state.value for each in incidents],
        "SEVERITY": [each.severity.value for each in incidents],
        "TARGET": [each.target for each in incidents],
        "GROUP": [display_group(each.group) if each.group else None for each in incidents],
        "CAUSE": [each.cause.value for each in incidents],
        "ITEMS": [each.member_count or None for each in incidents],
        "SINCE (UTC)": [format_time(each.first_evidence_at) for each in incidents],
        "FOR": [format_age((each.resolved_at or now) - each.first_evidence_at) for each in incidents],
        "ACK": [each.acknowledged_by if each.state is IncidentState.ACKNOWLEDGED else None for each in incidents],
        "SILENCED": [_silenced(each, silences) for each in incidents],
    }
    shown = {name: cells for name, cells in columns.items() if name not in _OPTIONAL_COLUMNS or any(cells)}
    table = fit(shown, width=width, shorten={"ACK": 8, "GROUP": 10}, optional=("SINCE (UTC)", "SEVERITY"))
    return with_rest(table, shown=len(incidents), total=total)


_OPTIONAL_COLUMNS = frozenset({"GROUP", "ACK", "SILENCED"})


def _silenced(incident: Incident, silences: Sequence[Silence]) -> str | None:
    silence = None if incident.state is IncidentState.RESOLVED else matching_silence(incident, silences)
    return f"by {silence.id} until {format_time(silence.ends_at)}" if silence else None


def severity_and_team(severity: Severity, *teams: Team) -> str:
    """`severity: critical, team: credentials`."""
    return f"severity: {severity.value}, {format_teams(teams)}"


def incident_text(
    incident: Incident,
    *,
    events: Sequence[IncidentEvent],
    members: Sequence[Member],
    now: datetime,
    silences: Sequence[Silence] = (),
    width: int | None = None,
) -> str:
    """Everything about one incident, for the person who handles it; `members` may be only the first of its items."""
    lines = [*_incident_facts(incident, now), *_no_message_lines(incident, silences), *_evidence_lines(incident)]
    lines += ["What to check:"]
    lines += [row for check in checks_of(incident) for row in wrap_lines(f"- {check}", indent=2)]
    lines += ["For your users:", *wrap_lines(_safe_message(incident), indent=2, hang=0)]
    lines += _member_lines(incident, members, now, width)
    lines.append("What happened (UTC):")
    return "\n".join([*lines, *(_event_line(event) for event in events)])


def _incident_facts(incident: Incident, now: datetime) -> list[str]:
    lasted = format_age((incident.resolved_at or now) - incident.first_evidence_at)
    about, words = display_name(incident.target, incident.group), describe_cause(incident.cause, incident.member_count)
    lines = [
        f"Incident {incident.id}: {about}: {words}",
        f"  cause      {incident.cause.value} ({severity_and_team(incident.severity, *incident.teams)})",
        f"  state      {incident.state.value}",
        f"  since      {format_time(incident.first_evidence_at)} UTC, for {lasted}",
        f"  opened     {format_time(incident.opened_at)} UTC",
        f"  notified   {', '.join(incident.channels) or 'no channel'}",
        f"  evidence   last {format_time(incident.last_evidence_at)} UTC",
    ]
    if incident.resolved_at:
        lines.append(f"  resolved   {format_time(incident.resolved_at)} UTC")
    if groups := group_breakdown(incident):
        lines += wrap_lines(f"groups     {groups}", indent=2, hang=11)
    return lines


def _member_lines(incident: Incident, members: Sequence[Member], now: datetime, width: int | None) -> list[str]:
    """The items of an incident, those longest in their state first, and how many are left out."""
    if not members:
        return []
    columns: dict[str, list[object]] = {
        "ITEM": [each.item_id for each in members],
        "STATE": [each.state.value for each in members],
        "LAST KNOWN": [each.known_state if each.state is ItemState.UNKNOWN else None for each in members],
        "STAGE": [each.stage for each in members],
        "REASON": [each.failure_reason for each in members],
        "SINCE (UTC)": [format_time(each.since) for each in members],
        "FOR": [format_age(now - each.since) if each.since else None for each in members],
        "GROUP": [each.group for each in members],
    }
    shown = {name: cells for name, cells in columns.items() if name not in _OPTIONAL_MEMBER_COLUMNS or any(cells)}
    table = fit(
        shown,
        width=None if width is None else width - 2,
        shorten={"GROUP": 10, "STAGE": 10, "REASON": 10},
        optional=("FOR", "GROUP"),
    )
    lines = [f"Items ({incident.member_count}):", *(f"  {line}" for line in table.splitlines())]
    more = incident.member_count - len(members)
    return [*lines, f"  and {more} more: --limit {incident.member_count} shows all"] if more > 0 else lines


_OPTIONAL_MEMBER_COLUMNS = frozenset({"LAST KNOWN", "STAGE", "REASON", "GROUP"})


def _no_message_lines(incident: Incident, silences: Sequence[Silence]) -> list[str]:
    """Why no messages are sent."""
    said = "; ".join(suppression_reasons(incident, silences))
    return list(wrap_lines(f"messages   {said}", indent=2, hang=11)) if said else []


def _safe_message(incident: Incident) -> str:
    return safe_message(incident.cause, resolved=incident.state is IncidentState.RESOLVED)


def _evidence_lines(incident: Incident) -> list[str]:
    facts = evidence_facts(incident)
    return [row for label, text in facts for row in wrap_lines(f"{label:<10} {text}", indent=2, hang=11)]


def evidence_facts(incident: Incident) -> list[tuple[str, str]]:
    """What the newest evidence says, as labels and texts, with the API's own message: not for messages or JSON."""
    seen = incident.evidence
    if seen is None:
        return []
    found = list(seen.facts)
    if seen.breakdown:
        counts = ", ".join(f"{n} × {label}" for label, n in seen.breakdown.items())
        found.append((_breakdown_label(seen), counts))
    if seen.code:
        found.append(("code", seen.code))
    if seen.api_message and seen.api_message != seen.page:
        found.append(("API says", seen.api_message))
    if seen.page is not None:
        found.append(("page", _page_text(seen)))
    if seen.sample_ids:
        more = f" and {seen.count - len(seen.sample_ids)} more" if seen.count > len(seen.sample_ids) else ""
        found.append(("sample ids", f"{', '.join(seen.sample_ids)}{more}"))
    if seen.request_ids:
        found.append(("requests", ", ".join(seen.request_ids)))
    return found


def _page_text(seen: Evidence) -> str:
    """The page that a gateway sent instead of the API, and who it says it is."""
    sender = ", ".join(f"{name}: {value}" for name, value in seen.gateway)
    return f'"{seen.page}"' + (f" ({sender})" if sender else "") if seen.page else sender or "without a title"


def _breakdown_label(seen: Evidence) -> str:
    """What the evidence is broken down by."""
    if seen.cause is Cause.ITEMS_FAILED:
        return "reasons"
    if seen.cause in ITEM_CAUSES and seen.cause is not Cause.ITEMS_UNVERIFIED:
        return "statuses"
    return "counts" if seen.cause in MONITOR_CAUSES + OBSERVED_CAUSES else "answers"


def _event_line(event: IncidentEvent) -> str:
    run = f" (run {event.run_id})" if event.run_id is not None else ""
    return f"  {format_time(event.at)}  {event.kind}: {event.reason}{run}"


def incident_json(incident: Incident, silences: Sequence[Silence] = ()) -> dict[str, Any]:
    """One incident as JSON values, without the API's own messages; `silences` are the active ones."""
    seen = incident.evidence
    return {
        **{name: json_values(getattr(incident, name)) for name in _JSON_FIELDS},
        **_handling_json(incident, silences),
        "resolved_at": iso(incident.resolved_at),
        "items": incident.member_count,
        "peak_items": incident.peak_count,
        "groups": [{"group": name or None, "items": count} for name, count in incident.by_group.items()],
        "channels": list(incident.channels),
        "also_teams": [team.value for team in incident.teams[1:]],
        "what_to_check": list(checks_of(incident)),
        "safe_message": _safe_message(incident),
        "sample_ids": list(incident.member_ids or (seen.sample_ids if seen else ())),
        "request_ids": list(seen.request_ids) if seen else [],
        "breakdown": dict(seen.breakdown) if seen else {},
        "code": seen.code if seen else None,
        "facts": dict(seen.facts) if seen else {},
    }


_JSON_FIELDS = ("id", "target", "environment", "cause", "group", "state", "severity", "team", "opened_at",
                "first_evidence_at", "last_evidence_at")  # fmt: skip


def _handling_json(incident: Incident, silences: Sequence[Silence]) -> dict[str, Any]:
    silence = None if incident.state is IncidentState.RESOLVED else matching_silence(incident, silences)
    return {
        "acknowledged_at": iso(incident.acknowledged_at),
        "acknowledged_by": incident.acknowledged_by,
        "silenced_by": silence.id if silence else None,
        "silenced_until": iso(silence.ends_at) if silence else None,
        "notified": incident.silence_id is None,
    }
