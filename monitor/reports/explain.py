"""Why an incident opened and ended, and why people were told or not: its story as text and as JSON values."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from monitor.config import format_duration
from monitor.incidents.decide import Action
from monitor.incidents.explain import MOST, Entry, Past, RunSeen, Sent, Step, folded, story
from monitor.incidents.rulebook import Rule, numbers_of
from monitor.incidents.silences import attention
from monitor.model import ITEM_CAUSES, REQUEST_CAUSES, Cause, Evidence, IncidentState, Silence
from monitor.notifications.messages import age
from monitor.notifications.texts import counted, in_words, spoken
from monitor.reports.formatting import iso, moment, plural, wrapped
from monitor.reports.incidents import incident_json

_INDENT = 10
_LABEL = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """All that a story is told from."""

    past: Past
    sent: Sequence[Sent]
    silences: Sequence[Silence]
    """Those in force."""
    now: datetime


def explain_text(account: Account) -> str:
    """The story for people: each run that mattered, long stretches as one; no line is longer than 80 characters."""
    lines, day = list(_heading(account)), None
    for stretch in folded(story(account.past)):
        if stretch[0].at.date() != day:
            day = stretch[0].at.date()
            lines += ["", f"{day:%Y-%m-%d} (UTC)"]
        lines += _stretch(stretch, day) if len(stretch) > 1 else _entry(stretch[0], account.sent)
    if len(account.past.runs) >= MOST:
        lines += ["", *wrapped(f"Only the first {MOST} runs are told.", indent=0)]
    return "\n".join([*lines, *_ending(account)])


def _heading(account: Account) -> Iterator[str]:
    past, incident = account.past, account.past.incident
    state = incident.state.value if incident.resolved_at is None else f"resolved {moment(incident.resolved_at)} UTC,"
    lasted = age((incident.resolved_at or account.now) - incident.first_evidence_at)
    yield from wrapped(f"Incident {incident.id}: {spoken(incident.target)}: {in_words(incident.cause)}", indent=0)
    facts = [("cause", f"{incident.cause.value} ({incident.severity.value}, for {incident.team.value})")]
    facts += [("group", incident.group)] if incident.group else []
    facts += [("state", f"{state} {'for' if incident.resolved_at is None else 'after'} {lasted}")]
    facts += [("rule", rule_in_words(past.rule))]
    if numbers_of(past.rule_then) != numbers_of(past.rule):
        facts += [("rule then", f"when it opened another one was in force: {rule_in_words(past.rule_then)}")]
    for label, text in facts:
        yield from wrapped(f"{label:<{_LABEL - 2}}{text}", indent=2, hang=_LABEL - 2)


def rule_in_words(rule: Rule) -> str:
    """What a rule asks for: `opens with evidence in 2 of the last 2 runs …; ends after 2 runs without; …`."""
    reminds = f"reminds every {format_duration(rule.remind_every)}"
    if rule.cause is Cause.CHANNEL_FAILING:
        return f"opens when messages can't be delivered; ends when one is; {reminds}"
    ends = f"ends after {plural(rule.resolve_after, 'run')} without"
    if rule.cause in ITEM_CAUSES:
        ends = "ends when every item is well, removed or ignored"
    if rule.of == 1:
        return f"opens at once; {ends}; {reminds}"
    apart = f", the first and the last {format_duration(rule.span)} apart" if rule.span else ""
    within = f"if fewer than {rule.of} lie within {format_duration(rule.window)}, in all of them"
    return f"opens with evidence in {rule.runs} of the last {rule.of} runs{apart} ({within}); {ends}; {reminds}"


def _stretch(stretch: Sequence[Entry], day: date | None) -> Iterator[str]:
    """Many runs with one decision, in which nothing happened."""
    first, last = stretch[0], stretch[-1]
    runs = [entry.run for entry in stretch if entry.run is not None]
    until = f"{last.at:%H:%M:%S}" if last.at.date() == day else f"{moment(last.at)}"
    seen = sum(run.mark is not None and run.mark.evidence for run in runs)
    muted = sum(run.mark is not None and run.mark.muted for run in runs)
    what = f"evidence in {seen} of them" if seen else "no evidence"
    what += f", explained by a higher cause in {muted}" if muted else ""
    head = f"runs {runs[0].run_id}–{runs[-1].run_id} ({len(runs)} runs, until {until})"
    if first.action is Action.NOTHING and not seen:
        yield from _at(first, f"{head}: {first.reason}")
        return
    yield from _at(first, f"{head}: {what}" if first.members is None else head)
    yield from wrapped(_decided(first, counts=False), indent=_INDENT)


def _entry(entry: Entry, sent: Sequence[Sent]) -> Iterator[str]:
    if entry.run is None:
        step = entry.steps[0]
        yield from _at(entry, f"{step.kind}: {step.reason}")
        yield from _told(step, sent)
        return
    head = f"run {entry.run.run_id}, {entry.run.status.value}"
    quiet = entry.action in {Action.NOTHING, None} and not entry.steps
    said = entry.reason if entry.run.mark is None else _seen(entry.run)
    in_it = entry.members is not None and entry.run.evidence is None
    yield from _at(entry, head if in_it else f"{head}: {said}")
    for step in entry.steps:
        if step.kind in {"joined", "left"}:
            yield from wrapped(step.reason, indent=_INDENT)
    if not quiet:
        yield from wrapped(_decided(entry, counts=True), indent=_INDENT)
    for step in entry.steps:
        if step.kind == "silenced":
            yield from wrapped(f"silenced: {step.reason}", indent=_INDENT)
        yield from _told(step, sent)


def _at(entry: Entry, text: str) -> Iterator[str]:
    yield from wrapped(f"{entry.at:%H:%M:%S}  {text}", indent=0, hang=_INDENT)


_PAST_TENSE: Mapping[Action, str] = {
    Action.OPEN: "OPENED",
    Action.REOPEN: "REOPENED",
    Action.UPDATE: "UPDATED",
    Action.REMIND: "REMINDED",
    Action.RESOLVE: "RESOLVED",
}
"""What stands out of a long night."""


def _decided(entry: Entry, *, counts: bool) -> str:
    action = entry.action or Action.NOTHING
    said = f"{_PAST_TENSE.get(action, action.value)}: {entry.reason}"
    counted_by = _count(entry) if counts else ""
    if entry.members:
        counted_by = f"{counted(entry.members)} in it"
    return f"{said} [{counted_by}]" if counted_by else said


def _count(entry: Entry) -> str:
    """How far it was to an opening, or to an end."""
    if entry.clean is not None:
        clean, needed = entry.clean
        return f"{plural(clean, 'run')} without evidence in a row, {needed} needed" if clean else ""
    if entry.counted is None or entry.counted.of <= 1 or not entry.counted.seen:
        return ""
    return f"in {entry.counted.seen} of the last {entry.counted.of} runs, {entry.counted.needed} needed"


def _seen(run: RunSeen) -> str:
    """What a run saw of the cause."""
    seen = run.evidence
    if seen is None:
        enough = run.mark is None or run.mark.enough
        return "no evidence" if enough else "no evidence, but too few answers to say that all is well"
    if seen.explained_by is not None:
        return f"explained by {seen.explained_by.value} ({_how_much(seen)})"
    return _how_much(seen)


def _how_much(seen: Evidence) -> str:
    broken_down = ", ".join(f"{count} × {what}" for what, count in seen.breakdown.items())
    if seen.cause in REQUEST_CAUSES:
        return f"{broken_down or 'evidence'}; {counted(seen.count)} unknown" if seen.count else broken_down
    if seen.cause in ITEM_CAUSES:
        return counted(seen.count) + (f" ({broken_down})" if broken_down else "")
    return broken_down or "evidence"


_MESSAGES: Mapping[str, str] = {
    "opened": "opened",
    "reopened": "opened",
    "told": "opened",
    "updated": "updated",
    "reminded": "reminder",
    "acknowledged": "acknowledged",
    "resolved": "resolved",
}
"""Which kind of message a step sends."""


def _told(step: Step, sent: Sequence[Sent]) -> Iterator[str]:
    if step.kind not in _MESSAGES:
        return
    messages = _messages(step, sent)
    for message in messages:
        yield from wrapped(f"→ {message.channel}: {_fate(message, step)}", indent=_INDENT)
    if not messages and not step.data.get("channels"):
        yield from wrapped("→ nobody was told", indent=_INDENT)


def _messages(step: Step, sent: Sequence[Sent]) -> list[Sent]:
    kind = _MESSAGES.get(step.kind)
    return [each for each in sent if each.kind == kind and each.written_at == step.at]


def _fate(message: Sent, step: Step) -> str:
    """What became of a message."""
    why = f": {message.error}" if message.error else ""
    match message.status:
        case "sent":
            late = message.sent_at is not None and message.sent_at.date() != step.at.date()
            at = moment(message.sent_at) if late else f"{message.sent_at:%H:%M:%S}" if message.sent_at else "-"
            return f"{message.kind}, sent {at}"
        case "due":
            tried = f" after {plural(message.attempts, 'attempt')}" if message.attempts else ""
            return f"{message.kind}, waiting{tried}{why}"
        case "dead":
            return f"{message.kind}, given up after {plural(message.attempts, 'attempt')}{why}"
        case "superseded":
            return f"{message.kind}, told in a later message"
        case other:
            return f"{message.kind}, {other}"


def _ending(account: Account) -> list[str]:
    """How it stands now, and when people hear of it next."""
    incident = account.past.incident
    said = list(attention(incident, account.silences))
    if incident.state is IncidentState.OPEN and not said and incident.last_message_at is not None:
        due = incident.last_message_at + account.past.rule.remind_every
        said.append(f"if it stays open, a reminder is due at {moment(due)} UTC")
    now = "Now: " if incident.resolved_at is None else ""
    return ["", *(row for each in said for row in wrapped(f"{now}{each}.", indent=0))] if said else []


def explain_json(account: Account) -> dict[str, Any]:
    """The story as JSON values, every run by itself: `incident`, `rule`, `rule_at_opening` and `story`."""
    past = account.past
    return {
        "incident": incident_json(past.incident, account.silences),
        "rule": numbers_of(past.rule),
        "rule_at_opening": numbers_of(past.rule_then),
        "story": [_entry_json(entry, account.sent) for entry in story(past)],
    }


def _entry_json(entry: Entry, sent: Sequence[Sent]) -> dict[str, Any]:
    run = entry.run
    return {
        "at": entry.at.isoformat(),
        "run_id": run.run_id if run else None,
        "status": run.status.value if run else None,
        "evidence": _evidence_json(run.evidence) if run and run.evidence else None,
        "runs_with_evidence": entry.counted.seen if entry.counted else None,
        "of_the_last": entry.counted.of if entry.counted else None,
        "needed": entry.counted.needed if entry.counted else None,
        "runs_without_evidence": entry.clean[0] if entry.clean else None,
        "items": entry.members,
        "action": entry.action.value if entry.action else None,
        "reason": entry.reason,
        "events": [{"at": step.at.isoformat(), "kind": step.kind, "reason": step.reason} for step in entry.steps],
        "messages": [
            {
                "kind": each.kind,
                "channel": each.channel,
                "status": each.status,
                "sent_at": iso(each.sent_at),
                "attempts": each.attempts,
                "error": each.error,
            }
            for step in entry.steps
            for each in _messages(step, sent)
        ],
    }


def _evidence_json(seen: Evidence) -> dict[str, Any]:
    explained = seen.explained_by.value if seen.explained_by else None
    return {"count": seen.count, "breakdown": dict(seen.breakdown), "code": seen.code, "explained_by": explained}
