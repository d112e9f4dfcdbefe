"""`incidents explain`: why an incident opened, resolved and notified or not, as text and JSON values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from monitor.config.rules import RuleConfig, rules_for_target
from monitor.errors import ConfigError
from monitor.incidents import silence_store
from monitor.incidents import store as incident_store
from monitor.incidents.decide import Action
from monitor.incidents.explain import (
    COUNTED_RUNS,
    LEAD_RUNS,
    IncidentHistory,
    ObservedRun,
    RunPart,
    SentMessage,
    TimelineEntry,
    TimelineEvent,
    fold,
    previous_incident,
    runs_around,
    runs_in_part,
    sent_messages,
    start_of_run,
    timeline,
)
from monitor.incidents.rulebook import COUNTED_PER_ITEM, Rule, counted_noun, rule_parameters, with_parameters
from monitor.incidents.silences import suppression_reasons
from monitor.model import ITEM_CAUSES, REQUEST_CAUSES, Cause, Evidence, Incident, IncidentState, Silence
from monitor.model.durations import format_duration
from monitor.notifications.messages import format_age
from monitor.notifications.texts import describe_cause, display_name, format_items
from monitor.reports.formatting import format_time, json_values, plural, wrap_lines
from monitor.reports.incidents import incident_json, severity_and_team

MAX_RUNS = 10_000
"""Runs that `incidents explain` shows without `--limit`."""
_INDENT = 10
_LABEL = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainData:
    """The input of an explanation."""

    history: IncidentHistory
    sent_messages: Sequence[SentMessage]
    silences: Sequence[Silence]
    """Active ones."""
    now: datetime


def explain_view(
    conn: Connection,
    rules: Sequence[RuleConfig],
    incident_id: int,
    *,
    now: datetime,
    limit: int = MAX_RUNS,
    before: int | None = None,
) -> ExplainData | None:
    """The explanation of an incident by the configured rules, of its newest `limit` (> 0) runs; None without such an
    incident.

    `before`: of the newest ones before this run of its target. Raises ConfigError if there is no such run.
    """
    incident = incident_store.find(conn, incident_id)
    if incident is None:
        return None
    until = None if before is None else start_of_run(conn, incident, before)
    if before is not None and until is None:
        raise ConfigError([f"before: {display_name(incident.target)} has no run {before}"])

    def read(window: timedelta, at_least: int) -> tuple[Sequence[ObservedRun], RunPart]:
        return runs_in_part(conn, incident, window=window, at_least=at_least, at_most=limit, before=until)

    return _explained(conn, rules, incident, read, now=now, before=before)


def explain_incident(
    conn: Connection, rules: Sequence[RuleConfig], incident: Incident, *, now: datetime, max_runs: int
) -> ExplainData:
    """The same of an incident that was read before, of its first `max_runs` (> 0) runs."""

    def read(window: timedelta, at_least: int) -> tuple[Sequence[ObservedRun], None]:
        return runs_around(conn, incident, window=window, at_least=at_least, at_most=max_runs), None

    return _explained(conn, rules, incident, read, now=now)


_Read = Callable[[timedelta, int], tuple[Sequence[ObservedRun], RunPart | None]]
"""Reads the runs, by the rule's window and how many before the first evidence it counts."""


def _explained(
    conn: Connection,
    rules: Sequence[RuleConfig],
    incident: Incident,
    read: _Read,
    *,
    now: datetime,
    before: int | None = None,
) -> ExplainData:
    rule = rules_for_target(rules, target=incident.target)[incident.cause]
    events = [
        TimelineEvent(at=each.at, kind=each.kind, reason=each.reason, run_id=each.run_id, data=each.data)
        for each in incident_store.events(conn, incident.id)
    ]
    stored = next((event.data["rule"] for event in reversed(events) if "rule" in event.data), None)
    then = with_parameters(rule, stored)
    observed, part = read(then.window, max(then.of, then.resolve_after) + LEAD_RUNS)
    if before is not None:
        until = observed[-1].at if observed else incident.first_evidence_at
        events = [each for each in events if (each.at <= until if each.run_id is None else each.run_id < before)]
    return ExplainData(
        history=IncidentHistory(
            incident=incident,
            previous=previous_incident(conn, incident),
            runs=observed,
            events=events,
            rule=rule,
            rule_at_opening=then,
            part=part,
        ),
        sent_messages=sent_messages(conn, incident.id),
        silences=silence_store.active(conn, now=now),
        now=now,
    )


def explain_text(data: ExplainData) -> str:
    """The timeline as text: one entry per run, similar runs folded; lines have at most 80 characters."""
    lines, day = [*_heading(data), *_part_lines(data.history)], None
    for folded_runs in fold(timeline(data.history)):
        if folded_runs[0].at.date() != day:
            day = folded_runs[0].at.date()
            lines += ["", f"{day:%Y-%m-%d} (UTC)"]
        lines += (
            _folded_lines(folded_runs, day)
            if len(folded_runs) > 1
            else _entry_lines(folded_runs[0], data.sent_messages)
        )
    return "\n".join([*lines, *_closing_lines(data)])


def _part_lines(history: IncidentHistory) -> Iterator[str]:
    """What is left out, and how to see it."""
    part = history.part
    if part is None or part.shown == part.total:
        return
    total = f"{part.total} or more" if part.total >= COUNTED_RUNS else str(part.total)
    yield ""
    yield from wrap_lines(f"Only {part.shown} of the {total} runs of this incident are shown.", indent=0)
    if part.first is not None:
        yield from wrap_lines(f"Those before them: --before {part.first}; --limit N shows N.", indent=0)


def _heading(data: ExplainData) -> Iterator[str]:
    history, incident = data.history, data.history.incident
    state = (
        incident.state.value if incident.resolved_at is None else f"resolved {format_time(incident.resolved_at)} UTC,"
    )
    lasted = format_age((incident.resolved_at or data.now) - incident.first_evidence_at)
    yield from wrap_lines(
        f"Incident {incident.id}: {display_name(incident.target)}: {describe_cause(incident.cause)}", indent=0
    )
    facts = [("cause", f"{incident.cause.value} ({severity_and_team(incident.severity, *incident.teams)})")]
    facts += [("group", incident.group)] if incident.group else []
    facts += [("state", f"{state} {'for' if incident.resolved_at is None else 'after'} {lasted}")]
    facts += [("rule", describe_rule(history.rule))]
    if rule_parameters(history.rule_at_opening) != rule_parameters(history.rule):
        facts += [("rule then", f"a different rule applied at the opening: {describe_rule(history.rule_at_opening)}")]
    for label, text in facts:
        yield from wrap_lines(f"{label:<{_LABEL - 2}}{text}", indent=2, hang=_LABEL - 2)


def describe_rule(rule: Rule) -> str:
    """A rule in words: `opens with evidence in 2 of the last 2 runs …; resolves after 2 runs without; …`."""
    reminds = f"reminders every {format_duration(rule.repeat_interval)}"
    if rule.cause is Cause.CHANNEL_FAILING:
        return f"opens when messages can't be delivered; resolves when one is; {reminds}"
    if rule.cause is Cause.SLO_BURN:
        return f"opens while the error budget burns too fast; resolves when no burn-rate alert fires; {reminds}"
    nouns = counted_noun(rule.cause, 2)
    ends = f"resolves after {rule.resolve_after} {counted_noun(rule.cause, rule.resolve_after)} without evidence"
    if rule.cause in ITEM_CAUSES:
        ends = "resolves when every item has recovered or is removed or ignored"
    if rule.of == 1:
        return f"opens at once; {ends}; {reminds}"
    if rule.cause in COUNTED_PER_ITEM:
        return f"opens when an item has evidence in {rule.runs} runs in a row; {ends}; {reminds}"
    apart = f", the first and last at least {format_duration(rule.hold_for)} apart" if rule.hold_for else ""
    within = f"if fewer than {rule.of} are within {format_duration(rule.window)}, in all of those"
    return f"opens with evidence in {rule.runs} of the last {rule.of} {nouns}{apart} ({within}); {ends}; {reminds}"


def _folded_lines(folded_runs: Sequence[TimelineEntry], day: date | None) -> Iterator[str]:
    """Several runs with the same decision and no events."""
    first, last = folded_runs[0], folded_runs[-1]
    runs = [entry.run for entry in folded_runs if entry.run is not None]
    until = f"{last.at:%H:%M:%S}" if last.at.date() == day else f"{format_time(last.at)}"
    seen = sum(run.point is not None and run.point.evidence for run in runs)
    inhibited = sum(run.point is not None and run.point.inhibited for run in runs)
    what = f"evidence in {seen} of them" if seen else "no evidence"
    what += f", inhibited by a higher cause in {inhibited}" if inhibited else ""
    head = f"runs {runs[0].run_id}–{runs[-1].run_id} ({len(runs)} runs, until {until})"
    if first.action is Action.NOTHING and not seen:
        yield from _timed_lines(first, f"{head}: {first.reason}")
        return
    yield from _timed_lines(first, f"{head}: {what}" if first.members is None else head)
    yield from wrap_lines(_decision_text(first, counts=False), indent=_INDENT)


def _entry_lines(entry: TimelineEntry, sent_messages: Sequence[SentMessage]) -> Iterator[str]:
    if entry.run is None:
        event = entry.events[0]
        yield from _timed_lines(entry, f"{event.kind}: {event.reason}")
        yield from _notification_lines(event, sent_messages)
        return
    head = f"run {entry.run.run_id}, {entry.run.status.value}"
    quiet = entry.action in {Action.NOTHING, None} and not entry.events
    seen = entry.reason if entry.run.point is None else evidence_text(entry.run)
    in_it = entry.members is not None and entry.run.evidence is None
    yield from _timed_lines(entry, head if in_it else f"{head}: {seen}")
    for event in entry.events:
        if event.kind in {"joined", "left"}:
            yield from wrap_lines(event.reason, indent=_INDENT)
    if not quiet:
        yield from wrap_lines(_decision_text(entry, counts=True), indent=_INDENT)
    for event in entry.events:
        if event.kind == "silenced":
            yield from wrap_lines(f"silenced: {event.reason}", indent=_INDENT)
        yield from _notification_lines(event, sent_messages)


def _timed_lines(entry: TimelineEntry, text: str) -> Iterator[str]:
    yield from wrap_lines(f"{entry.at:%H:%M:%S}  {text}", indent=0, hang=_INDENT)


_PAST_TENSE: Mapping[Action, str] = {
    Action.OPEN: "OPENED",
    Action.REOPEN: "REOPENED",
    Action.UPDATE: "UPDATED",
    Action.REMIND: "REMINDED",
    Action.RESOLVE: "RESOLVED",
}
"""In capitals, so that they stand out."""


def _decision_text(entry: TimelineEntry, *, counts: bool) -> str:
    action = entry.action or Action.NOTHING
    decision = f"{_PAST_TENSE.get(action, action.value)}: {entry.reason}"
    counted_by = progress_text(entry) if counts else ""
    if entry.members:
        counted_by = f"{format_items(entry.members)} affected"
    return f"{decision} [{counted_by}]" if counted_by else decision


def progress_text(entry: TimelineEntry) -> str:
    """The progress towards opening or resolving."""
    if entry.clean is not None:
        clean, needed = entry.clean
        return f"{plural(clean, 'run')} without evidence in a row, {needed} needed" if clean else ""
    if entry.threshold is None or entry.threshold.of <= 1 or not entry.threshold.seen:
        return ""
    return f"in {entry.threshold.seen} of the last {entry.threshold.of} runs, {entry.threshold.needed} needed"


def evidence_text(run: ObservedRun) -> str:
    """The evidence of a run."""
    seen = run.evidence
    if seen is None:
        confirms_recovery = run.point is None or run.point.confirms_recovery
        return "no evidence" if confirms_recovery else "no evidence, but too few answers to confirm recovery"
    if seen.inhibited_by is not None:
        return f"inhibited by {seen.inhibited_by.value} ({_count_text(seen, run.unknown)})"
    return _count_text(seen, run.unknown)


def _count_text(seen: Evidence, unknown: int | None) -> str:
    """What was seen. `unknown`: all items that the run left unknown, of which this cause may have refused only some."""
    broken_down = ", ".join(f"{count} × {what}" for what, count in seen.breakdown.items())
    if seen.cause in REQUEST_CAUSES:
        if not seen.count:
            return broken_down
        if unknown is None or unknown <= seen.count:
            return f"{broken_down or 'evidence'}; {format_items(seen.count)} unknown"
        return f"{broken_down or 'evidence'}; {format_items(unknown)} unknown, {seen.count} of them asked"
    if seen.cause in ITEM_CAUSES:
        return format_items(seen.count) + (f" ({broken_down})" if broken_down else "")
    found = "; ".join(f"{label} {value}" for label, value in seen.facts if label in _SHOWN_FACTS)
    return broken_down or found or "evidence"


_SHOWN_FACTS = frozenset({"burn rate"})
"""Facts that differ from run to run, and are short."""


MESSAGE_KINDS: Mapping[str, str] = {
    "opened": "opened",
    "reopened": "opened",
    "notified": "opened",
    "updated": "updated",
    "reminded": "reminder",
    "acknowledged": "acknowledged",
    "resolved": "resolved",
}
"""The kind of message sent by each kind of event."""


def _notification_lines(event: TimelineEvent, sent_messages: Sequence[SentMessage]) -> Iterator[str]:
    if event.kind not in MESSAGE_KINDS:
        return
    messages = messages_of(event, sent_messages)
    for message in messages:
        yield from wrap_lines(f"→ {message.channel}: {_delivery_status(message, event)}", indent=_INDENT)
    if not messages and not event.data.get("channels"):
        yield from wrap_lines("→ not sent", indent=_INDENT)


def messages_of(event: TimelineEvent, sent_messages: Sequence[SentMessage]) -> list[SentMessage]:
    """The messages that an event sent."""
    kind = MESSAGE_KINDS.get(event.kind)
    return [each for each in sent_messages if each.kind == kind and each.created_at == event.at]


def _delivery_status(message: SentMessage, event: TimelineEvent) -> str:
    """What became of a message: `opened, sent 12:01:00`; the date is left out on the day of the event."""
    sent = ""
    if message.status == "sent":
        late = message.sent_at is not None and message.sent_at.date() != event.at.date()
        at = format_time(message.sent_at) if late else f"{message.sent_at:%H:%M:%S}" if message.sent_at else "-"
        sent = f" {at}"
    why = f": {message.error}" if message.error and message.status in {"sent", "due", "dead"} else ""
    return f"{delivery_text(message)}{sent}{why}"


def delivery_text(message: SentMessage) -> str:
    """The same without the time and the error."""
    match message.status:
        case "due":
            tried = f" after {plural(message.attempts, 'attempt')}" if message.attempts else ""
            return f"{message.kind}, waiting{tried}"
        case "dead":
            return f"{message.kind}, given up after {plural(message.attempts, 'attempt')}"
        case "superseded":
            return f"{message.kind}, superseded by a later message"
        case other:
            return f"{message.kind}, {other}"


def _closing_lines(data: ExplainData) -> list[str]:
    """The current state, and when the next reminder is due."""
    incident = data.history.incident
    said = list(suppression_reasons(incident, data.silences))
    if incident.state is IncidentState.OPEN and not said and incident.last_message_at is not None:
        due = incident.last_message_at + data.history.rule.repeat_interval
        said.append(f"if it stays open, the next reminder is due at {format_time(due)} UTC")
    now = "Now: " if incident.resolved_at is None else ""
    return ["", *(row for each in said for row in wrap_lines(f"{now}{each}.", indent=0))] if said else []


def explain_json(data: ExplainData) -> dict[str, Any]:
    """The explanation as JSON values; in `timeline` each run is a separate entry.

    `runs_total` counts the runs of the incident up to `COUNTED_RUNS`; `older` is the `before` of the part before this.
    """
    history = data.history
    shown = sum(run.at >= history.incident.first_evidence_at for run in history.runs)
    part = history.part or RunPart(shown=shown, total=shown)
    return {
        "incident": incident_json(history.incident, data.silences),
        "rule": rule_parameters(history.rule),
        "rule_at_opening": rule_parameters(history.rule_at_opening),
        "runs_total": part.total,
        "runs_total_is_minimum": part.total > part.shown and part.total >= COUNTED_RUNS,
        "runs_shown": part.shown,
        "older": part.first,
        "timeline": [_entry_json(entry, data.sent_messages) for entry in timeline(history)],
    }


def _entry_json(entry: TimelineEntry, sent_messages: Sequence[SentMessage]) -> dict[str, Any]:
    run = entry.run
    return {
        "at": entry.at.isoformat(),
        "run_id": run.run_id if run else None,
        "status": run.status.value if run else None,
        "evidence": _evidence_json(run.evidence) if run and run.evidence else None,
        "unknown": run.unknown if run else None,
        "runs_with_evidence": entry.threshold.seen if entry.threshold else None,
        "of_the_last": entry.threshold.of if entry.threshold else None,
        "needed": entry.threshold.needed if entry.threshold else None,
        "runs_without_evidence": entry.clean[0] if entry.clean else None,
        "items": entry.members,
        "action": entry.action.value if entry.action else None,
        "reason": entry.reason,
        "events": [{"at": event.at.isoformat(), "kind": event.kind, "reason": event.reason} for event in entry.events],
        "messages": [
            {name: json_values(getattr(each, name)) for name in _MESSAGE_FIELDS}
            for event in entry.events
            for each in messages_of(event, sent_messages)
        ],
    }


_MESSAGE_FIELDS = ("kind", "channel", "status", "sent_at", "attempts", "error")


def _evidence_json(seen: Evidence) -> dict[str, Any]:
    # named one by one: the API's own message must not leak
    return {name: json_values(getattr(seen, name)) for name in ("count", "breakdown", "code", "facts", "inhibited_by")}
