"""Incident → message: title, what to check, facts, commands. Pure. The API's own text never becomes part of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from monitor.model import ITEM_CAUSES, Cause, Incident, IncidentState, RunStatus, Severity, Team
from monitor.notifications.texts import describe_cause, display_group, display_name, safe_message, what_to_check


class MessageKind(StrEnum):
    """Why a message is sent."""

    OPENED = "opened"
    UPDATED = "updated"
    REMINDER = "reminder"
    ACKNOWLEDGED = "acknowledged"
    """No reminders are sent any more."""
    RESOLVED = "resolved"
    TEST = "test"
    """From `doctor --send-test`: there is no incident."""
    REPORT = "report"
    """A report: there is no incident."""


SILENCED_LABEL = "silenced"
"""The label of the fact that says why a message comes late: a silence delayed it."""


class ReportContent(msgspec.Struct, frozen=True, kw_only=True):
    """A report in every form that a channel may need; it was built once, so that all channels send the same."""

    lines: tuple[tuple[str, str], ...]
    """The short form: labels and values, such as a target and its state. Ids and names in it come from outside."""
    text: str
    """The whole report as plain text, for mails."""
    html: str
    """The whole report as one HTML file, for mails."""
    data: Mapping[str, Any]
    """JSON values, for webhooks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a channel sends: our own text, counts and ids; never the API's text."""

    kind: MessageKind
    incident_id: int
    target: str
    environment: str
    cause: Cause
    severity: Severity
    team: Team
    title: str
    """The subject and why the message is sent, in one line."""
    what_to_check: tuple[str, ...]
    safe_message: str | None = None
    """A sentence for the product's own users; None for a test, and in messages stored before this field existed."""
    facts: tuple[tuple[str, str], ...]
    opened_at: datetime
    at: datetime
    resolved_at: datetime | None = None
    subject: str = ""
    """The title without why it is sent; empty in messages stored before this field existed."""
    group: str = ""
    """The group of items, if there is an incident per group."""
    commands: tuple[tuple[str, str], ...] = ()
    items: int = 0
    """Members of the incident, of a cause about items."""
    first_look: bool = False
    """An opening by a target's first run: such openings are merged, whatever their cause."""
    thread: str | None = None
    """The same from opening to resolution; set when the message is claimed for sending."""
    others_open: int = 0
    """Of a resolution or acknowledgement: how many incidents of its thread are still open; set when it is claimed."""
    recipients: tuple[str, ...] = ()
    """Only these recipients of the channel get it: the others have it already. Empty: all."""
    parts: tuple["Message", ...] = ()
    also_teams: tuple[Team, ...] = ()
    """Who else must hear of it."""
    url: str | None = None
    """The incident on the page, or of a merged message the list; set at sending, so that it is the present address."""
    report: ReportContent | None = None
    """What a message of the kind `REPORT` is about; None for all others."""


_MAX_GROUPS = 5
"""Groups that a message names; the rest is one number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """The facts of the run that led to a message."""

    run_id: int
    status: RunStatus
    total: int
    unknown: int
    answered: int
    accepted: int | None = None
    """Of the answers, those that show that the API itself accepts the credentials; None: all."""
    error: str | None = None
    """Why the run has no snapshot, in our own words."""
    first: bool = False
    """No earlier run of the target has a snapshot."""

    @property
    def any_accepted(self) -> bool:
        """Whether the API accepted anything."""
        return (self.answered if self.accepted is None else self.accepted) > 0


def render(
    kind: MessageKind,
    incident: Incident,
    run: RunFacts | None,
    *,
    now: datetime,
    reopened: bool = False,
    error: str | None = None,
    notes: tuple[tuple[str, str], ...] = (),
    trend: str = "",
) -> Message:
    """Renders one message about an incident, in its state after the decision that `run` led to (None: no run).

    `error` is the last one of a part of the monitor, in our own words, without a secret. `notes` are more labels and
    values, such as a comment or why the message comes late. `trend`: how what it is about developed, as text.
    """
    resolved = kind is MessageKind.RESOLVED
    cause_text = describe_cause(incident.cause, incident.member_count)
    subject = f"{display_name(incident.target, incident.group)}: {cause_text}"
    return Message(
        kind=kind,
        incident_id=incident.id,
        target=incident.target,
        environment=incident.environment,
        cause=incident.cause,
        severity=incident.severity,
        team=incident.team,
        also_teams=incident.teams[1:],
        title=make_title(kind, subject, cause=incident.cause, reopened=reopened),
        subject=subject,
        what_to_check=() if resolved else what_to_check(incident.cause, accepted=_accepted(incident, run)),
        facts=_facts(incident, run, now=now, error=error, resolved=resolved, notes=notes, trend=trend),
        opened_at=incident.opened_at,
        at=now,
        resolved_at=incident.resolved_at,
        group=incident.group,
        commands=() if resolved else _commands(incident),
        safe_message=safe_message(incident.cause, resolved=resolved),
        items=incident.member_count,
        first_look=kind is MessageKind.OPENED and incident.cause in ITEM_CAUSES and run is not None and run.first,
    )


def _accepted(incident: Incident, run: RunFacts | None) -> bool | None:
    """Whether the API accepted anything, in this run or else in the one that opened the incident."""
    return incident.accepted if run is None else run.any_accepted


_TITLE_SUFFIXES: Mapping[MessageKind, str] = {
    MessageKind.UPDATED: ": more documents affected",
    MessageKind.REMINDER: ": still open",
    MessageKind.ACKNOWLEDGED: ": acknowledged",
    MessageKind.RESOLVED: ": resolved",
}


def make_title(kind: MessageKind, subject: str, *, cause: Cause, reopened: bool = False) -> str:
    """The subject and why the message is sent; of a cause without items, only the severity is ever updated."""
    if kind is MessageKind.UPDATED and cause not in ITEM_CAUSES:
        return f"{subject}: now more severe"
    return subject + (": reopened" if reopened else _TITLE_SUFFIXES.get(kind, ""))


def _commands(incident: Incident) -> tuple[tuple[str, str], ...]:
    silence = ("silence", f"ingestion-monitor silences add --incident {incident.id} --for 4h")
    if incident.state is not IncidentState.OPEN:
        return (silence,)
    return (("acknowledge", f"ingestion-monitor incidents ack {incident.id}"), silence)


def _facts(
    incident: Incident,
    run: RunFacts | None,
    *,
    now: datetime,
    error: str | None,
    resolved: bool,
    notes: tuple[tuple[str, str], ...],
    trend: str,
) -> tuple[tuple[str, str], ...]:
    trends = [("trend", trend)] if trend else []
    facts = [("since", f"{incident.first_evidence_at:%Y-%m-%d %H:%M:%S} UTC")]
    if resolved:
        duration = format_age((incident.resolved_at or now) - incident.first_evidence_at)
        return (*facts, ("duration", duration), *trends, *notes, *_run_facts(run))
    facts += [*_acknowledgement(incident), *notes]
    if incident.member_count:
        facts.append(("items", f"{incident.member_count} (peak {incident.peak_count})"))
    facts += trends
    if groups := group_breakdown(incident):
        facts.append(("groups", groups))
    facts += _evidence_facts(incident)
    if error:
        facts.append(("last error", error))
    return (*facts, *_run_facts(run), ("details", f"ingestion-monitor incidents show {incident.id}"))


def group_breakdown(incident: Incident) -> str:
    """An incident's items by group: `12 × sermons, 3 × letters`; empty without groups, or if it is about one group."""
    if incident.group or not any(incident.by_group):
        return ""
    every = list(incident.by_group.items())
    # one more is named rather than counted: its name is as short
    named = every if len(every) == _MAX_GROUPS + 1 else every[:_MAX_GROUPS]
    words = [f"{count} × {display_group(group) if group else 'without a group'}" for group, count in named]
    others = incident.member_count - sum(count for _, count in named)
    return ", ".join([*words, f"{others} × others"] if others > 0 else words)


def _acknowledgement(incident: Incident) -> list[tuple[str, str]]:
    if incident.state is not IncidentState.ACKNOWLEDGED or incident.acknowledged_at is None:
        return []
    who = incident.acknowledged_by or "somebody"
    return [("acknowledged", f"by {who}, {incident.acknowledged_at:%Y-%m-%d %H:%M:%S} UTC")]


def _evidence_facts(incident: Incident) -> list[tuple[str, str]]:
    evidence = incident.evidence
    if evidence is None:
        return []
    facts = list(evidence.facts)
    if evidence.breakdown:
        label = breakdown_label(incident.cause)
        facts.append((label, ", ".join(f"{count} × {what}" for what, count in evidence.breakdown.items())))
    if evidence.code:
        facts.append(("code", evidence.code))
    # members change from run to run; an item of the evidence may have recovered
    ids, count = (
        (incident.member_ids, incident.member_count) if incident.member_ids else (evidence.sample_ids, evidence.count)
    )
    if ids:
        more, named = count - len(ids), ", ".join(ids)
        facts.append(("sample ids", f"{named} and {more} more" if more > 0 else named))
    if evidence.request_ids:
        facts.append(("request ids", ", ".join(evidence.request_ids)))
    return facts


def breakdown_label(cause: Cause) -> str:
    """What the evidence of a cause is broken down by."""
    if cause is Cause.ITEMS_UNVERIFIED:
        return "answers"
    if cause is Cause.ITEMS_FAILED:
        return "reasons"
    return "statuses" if cause in ITEM_CAUSES else "evidence"


def _run_facts(run: RunFacts | None) -> tuple[tuple[str, str], ...]:
    if run is None:
        return ()
    counted = f"{run.total} items tracked, {run.answered} answered, {run.unknown} unknown"
    return ((f"run {run.run_id}", f"{run.status.value}: {counted}"),)


def format_age(duration: timedelta) -> str:
    """A duration in its two largest units: `6 d 4 h`, `3 min 20 s`, `0 s`."""
    seconds = max(0, int(duration.total_seconds()))
    parts = []
    for name, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, seconds = divmod(seconds, size)
        if number:
            parts.append(f"{number} {name}")
    return " ".join(parts[:2]) or "0 s"


def shown_safe_message(message: Message) -> str | None:
    """The sentence for the product's users, if channels for people show it: updates and reminders would repeat it."""
    return message.safe_message if message.kind in {MessageKind.OPENED, MessageKind.RESOLVED} else None


def attribute_texts(message: Message) -> tuple[str, str, str]:
    """`severity: critical`, `team: credentials`, `environment: production`."""
    team = format_teams((message.team, *message.also_teams))
    return f"severity: {message.severity.value}", team, f"environment: {message.environment}"


def format_teams(teams: Sequence[Team]) -> str:
    """`team: credentials`, `teams: account and credentials`."""
    return f"team{'s' if len(teams) > 1 else ''}: {' and '.join(team.value for team in teams)}"


_MAX_LINKS = 20
"""Incidents that a merged message links."""


def with_links(message: Message, public_url: str | None) -> Message:
    """The message with links to the page at `public_url` (None: without), and so its parts; a test has none."""
    if public_url is None or message.kind is MessageKind.TEST:
        return message
    parts = tuple(with_links(part, public_url) for part in message.parts)
    path = "/incidents" if parts else f"/incidents/{message.incident_id}"
    path = "/" if message.kind is MessageKind.REPORT else path
    return replace(message, url=public_url + path, parts=parts)


def links(message: Message) -> tuple[tuple[str, str], ...]:
    """Labels and URLs: the incident, or of a merged message the first incidents and the list of all."""
    if message.url is None:
        return ()
    if message.kind is MessageKind.REPORT:
        return (("the page", message.url),)
    if not message.parts:
        return ((f"incident {message.incident_id}", message.url),)
    parts = [(f"incident {part.incident_id}", part.url) for part in message.parts[:_MAX_LINKS] if part.url]
    return (*parts, ("all incidents", message.url))


def report_message(title: str, content: ReportContent, *, environment: str, at: datetime) -> Message:
    """A report as a message; what only incidents have is empty, or without meaning."""
    return Message(
        kind=MessageKind.REPORT,
        incident_id=0,
        target="",
        environment=environment,
        cause=Cause.CHANNEL_FAILING,
        severity=Severity.INFO,
        team=Team.MONITOR,
        title=title,
        what_to_check=(),
        facts=content.lines,
        opened_at=at,
        at=at,
        report=content,
    )


def to_text(message: Message) -> str:
    """The message as plain lines, for channels without markup."""
    if message.kind is MessageKind.REPORT:
        return "\n".join(
            [message.title, *(f"  {label}: {value}" for label, value in (*message.facts, *links(message)))]
        )
    _, team, environment = attribute_texts(message)
    lines = [f"[{message.severity.value}] {message.title} ({team}, {environment})"]
    lines += [f"  check: {check}" for check in message.what_to_check]
    if sentence := shown_safe_message(message):
        lines.append(f"  for your users: {sentence}")
    lines += [f"  {label}: {value}" for label, value in (*message.facts, *message.commands, *links(message))]
    return "\n".join(lines)


def one_line(text: str) -> str:
    """The text with each line break, control, bidi or surrogate character as a space; a dash if nothing is left."""
    return "".join(each if each.isprintable() else " " for each in text).strip() or "-"


def to_single_lines(message: Message) -> Message:
    """The message with each of its texts, and those of its parts, on one line."""
    return replace(
        message,
        target=one_line(message.target),
        environment=one_line(message.environment),
        title=one_line(message.title),
        what_to_check=tuple(map(one_line, message.what_to_check)),
        safe_message=one_line(message.safe_message) if message.safe_message else message.safe_message,
        facts=_single_line_pairs(message.facts),
        group=one_line(message.group) if message.group else "",
        commands=_single_line_pairs(message.commands),
        parts=tuple(map(to_single_lines, message.parts)),
    )


def _single_line_pairs(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((one_line(label), one_line(value)) for label, value in pairs)
