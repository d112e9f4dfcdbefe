"""From an incident to the message that people read: title, what to check, facts. Pure; the API's own text stays out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from monitor.model import ITEM_CAUSES, Cause, Incident, IncidentState, RunStatus, Severity, Team
from monitor.notifications.texts import describe_cause, display_group, display_name, safe_message, what_to_check


class MessageKind(StrEnum):
    """Why a message is sent."""

    OPENED = "opened"
    UPDATED = "updated"
    REMINDER = "reminder"
    ACKNOWLEDGED = "acknowledged"
    """Somebody looks after it: there are no reminders any more."""
    RESOLVED = "resolved"
    TEST = "test"
    """Somebody tries the channel: there is no incident."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What leaves for people: our own words, counts and ids; never the API's text."""

    kind: MessageKind
    incident_id: int
    target: str
    environment: str
    cause: Cause
    severity: Severity
    team: Team
    title: str
    """What it is about and why it is sent, in one line."""
    what_to_check: tuple[str, ...]
    safe_message: str | None = None
    """What the product's own users may be told; None for a test, and in messages stored before there was one."""
    facts: tuple[tuple[str, str], ...]
    """Label and value, in reading order: since, evidence, how many, samples, request ids, effect on the run."""
    opened_at: datetime
    at: datetime
    resolved_at: datetime | None = None
    subject: str = ""
    """What it is about: the title without why it is sent; empty in messages stored before there was one."""
    group: str = ""
    """The group of items that it is about, where there is an incident per group."""
    commands: tuple[tuple[str, str], ...] = ()
    """What to do about it, and the command that does it: `acknowledge`, `silence`; empty when it is over."""
    thread: str | None = None
    """What a receiver files it under, the same from opening to resolution; known only when it is sent."""
    others_open: int = 0
    """Incidents of its thread that are open still, though this one is not (taken on, over); known when it is sent."""
    parts: tuple["Message", ...] = ()
    """The messages that it stands for, where several of one cause and kind were merged; else empty."""


_MAX_GROUPS = 5
"""So many groups are named in a message; all others are one number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What a message says about the run behind it."""

    run_id: int
    status: RunStatus
    total: int
    unknown: int
    answered: int
    error: str | None = None
    """Why it has no snapshot, in our own words."""


def render(
    kind: MessageKind,
    incident: Incident,
    run: RunFacts | None,
    *,
    now: datetime,
    reopened: bool = False,
    error: str | None = None,
    notes: tuple[tuple[str, str], ...] = (),
) -> Message:
    """Writes the message of one kind about an incident.

    Args:
        kind: why it is sent.
        incident: as it stands after the decision.
        run: the run that led to it; None when no run did.
        now: when (aware).
        again: whether the incident was reopened.
        error: the last error of a part of the monitor, in our own words, without a secret.
        notes: further labels and values: what people did about it, or why it is told only now.
    """
    resolved = kind is MessageKind.RESOLVED
    subject = (
        f"{display_name(incident.target, incident.group)}: {describe_cause(incident.cause, incident.member_count)}"
    )
    return Message(
        kind=kind,
        incident_id=incident.id,
        target=incident.target,
        environment=incident.environment,
        cause=incident.cause,
        severity=incident.severity,
        team=incident.team,
        title=make_title(kind, subject, reopened=reopened),
        subject=subject,
        what_to_check=() if resolved else what_to_check(incident.cause, accepted=bool(run.answered) if run else None),
        facts=_facts(incident, run, now=now, error=error, resolved=resolved, notes=notes),
        opened_at=incident.opened_at,
        at=now,
        resolved_at=incident.resolved_at,
        group=incident.group,
        commands=() if resolved else _commands(incident),
        safe_message=safe_message(incident.cause, resolved=resolved),
    )


_TITLE_SUFFIXES: Mapping[MessageKind, str] = {
    MessageKind.OPENED: "",
    MessageKind.UPDATED: ": more of them",
    MessageKind.REMINDER: ": still open",
    MessageKind.ACKNOWLEDGED: ": acknowledged",
    MessageKind.TEST: "",
    MessageKind.RESOLVED: ": resolved",
}


def make_title(kind: MessageKind, subject: str, *, reopened: bool = False) -> str:
    """The title of a message of one kind about a subject; `reopened`: of an incident that was reopened."""
    return subject + (" again" if reopened else _TITLE_SUFFIXES[kind])


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
) -> tuple[tuple[str, str], ...]:
    facts = [("since", f"{incident.first_evidence_at:%Y-%m-%d %H:%M:%S} UTC")]
    if resolved:
        duration = format_age((incident.resolved_at or now) - incident.first_evidence_at)
        return (*facts, ("lasted", duration), *notes, *_run_facts(run))
    facts += [*_acknowledgement(incident), *notes]
    if incident.member_count:
        facts.append(("items", f"{incident.member_count} (at most {incident.peak_count})"))
    if groups := group_breakdown(incident):
        facts.append(("groups", groups))
    facts += _evidence_facts(incident)
    if error:
        facts.append(("last error", error))
    return (*facts, *_run_facts(run), ("more", f"ingestion-monitor incidents show {incident.id}"))


def group_breakdown(incident: Incident) -> str:
    """Its members by group: `12 × sermons, 3 × letters`; empty where no member is in a group, or all are in its own."""
    if incident.group or not any(incident.by_group):
        return ""
    named = list(incident.by_group.items())[:_MAX_GROUPS]
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
    facts = []
    if evidence.breakdown:
        label = "statuses" if incident.cause in ITEM_CAUSES else "evidence"
        facts.append((label, ", ".join(f"{count} × {what}" for what, count in evidence.breakdown.items())))
    if evidence.code:
        facts.append(("code", evidence.code))
    # Members change from run to run; what the evidence saw once may be well by now.
    ids, count = (
        (incident.member_ids, incident.member_count) if incident.member_ids else (evidence.sample_ids, evidence.count)
    )
    if ids:
        more, named = count - len(ids), ", ".join(ids)
        facts.append(("sample ids", f"{named} and {more} more" if more > 0 else named))
    if evidence.request_ids:
        facts.append(("request ids", ", ".join(evidence.request_ids)))
    return facts


def _run_facts(run: RunFacts | None) -> tuple[tuple[str, str], ...]:
    if run is None:
        return ()
    counted = f"{run.total} items tracked, {run.answered} answered, {run.unknown} unknown"
    return ((f"run {run.run_id}", f"{run.status.value}: {counted}"),)


def format_age(duration: timedelta) -> str:
    """A span in its two largest units: `6 d 4 h`, `3 min 20 s`, `0 s`."""
    seconds = max(0, int(duration.total_seconds()))
    parts = []
    for name, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, seconds = divmod(seconds, size)
        if number:
            parts.append(f"{number} {name}")
    return " ".join(parts[:2]) or "0 s"


def shown_safe_message(message: Message) -> str | None:
    """The sentence for the product's users where a person reads the message: None where it would say nothing new.

    An opening and a resolution change what users may be told. Updates and reminders stand below an opening that said
    it; they have it as data alone.
    """
    return message.safe_message if message.kind in {MessageKind.OPENED, MessageKind.RESOLVED} else None


def to_text(message: Message) -> str:
    """The message as plain lines, for terminals and for channels that know no markup."""
    lines = [f"[{message.severity.value}] {message.title} ({message.environment}, for {message.team.value})"]
    lines += [f"  check: {check}" for check in message.what_to_check]
    if sentence := shown_safe_message(message):
        lines.append(f"  for your users: {sentence}")
    lines += [f"  {label}: {value}" for label, value in (*message.facts, *message.commands)]
    return "\n".join(lines)
