"""The view of one incident's page: its state, its items, what happened run by run, and other incidents near it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, RowMapping, or_, select

from monitor.config import Config
from monitor.database.tables import evidence, incidents
from monitor.incidents.decide import Action
from monitor.incidents.explain import ObservedRun, SentMessage, TimelineEntry, TimelineEvent, fold, runs_drawn, timeline
from monitor.incidents.silences import matching_silence
from monitor.model import (
    ITEM_CAUSES,
    MONITOR_CAUSES,
    OBSERVED_CAUSES,
    REQUEST_CAUSES,
    Cause,
    Incident,
    IncidentState,
    RunStatus,
    Severity,
    Silence,
)
from monitor.reports.explain import (
    MESSAGE_KINDS,
    ExplainData,
    delivery_text,
    evidence_text,
    explain_incident,
    messages_of,
    progress_text,
)
from monitor.reports.formatting import plural
from monitor.reports.incident_views import IncidentView, incident_view

ITEMS_PER_PAGE = 20
MAX_RUNS = 800
"""Runs that a page replays, in time for a page. `incidents explain` replays more."""
MAX_STEPS = 200
_MAX_DRAWN = 240
_MAX_RELATED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMessage:
    """A message that a step sent, and what became of it."""

    channel: str
    kind: str
    """opened, updated, reminder, acknowledged or resolved."""
    status: str
    """`due`, `sent`, `superseded` or `dead`."""
    text: str
    """What became of it, without the time and the error: `opened, sent`."""
    sent_at: datetime | None
    error: str | None
    failed: bool
    """Whether an attempt failed, also if a later one succeeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One run, some similar runs in a row, or an event between two runs."""

    at: datetime
    until: datetime | None = None
    """The end of the last run, of several."""
    runs: str | None = None
    """`run 12`, or `runs 12–40`; None for an event between two runs."""
    status: RunStatus | None = None
    """Of a single run."""
    seen: str = ""
    """The evidence."""
    action: Action | None = None
    """What was decided; None where nothing was."""
    kind: str = ""
    """What a person or the end of a silence did: `acknowledged`, `notified`."""
    reason: str = ""
    progress: str = ""
    """How close it was to opening or resolving."""
    notes: tuple[str, ...] = ()
    """Items that joined or left, and silences."""
    messages: tuple[StepMessage, ...] = ()
    sent_nothing: bool = False
    """Whether an event that sends messages sent none."""

    @property
    def matters(self) -> bool:
        """Whether it changed the incident, or sent something."""
        return bool(self.kind or self.messages or self.notes) or self.action not in {None, *_UNCHANGED}


_UNCHANGED = frozenset({Action.NOTHING, Action.CONTINUE, Action.WAIT})


class Relation(StrEnum):
    """How another incident relates to one; the value is its label."""

    PREVIOUS = "the same cause before"
    NEXT = "the same cause later"
    INHIBITED_BY = "inhibits this one"
    INHIBITS = "inhibited by this one"
    SAME_TIME = "same target, same time"


@dataclass(frozen=True, slots=True, kw_only=True)
class RelatedIncident:
    """Another incident of the same target."""

    id: int
    relation: Relation
    cause: Cause
    state: IncidentState
    severity: Severity
    began: datetime
    resolved_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentPage:
    """Everything on the page of one incident."""

    view: IncidentView
    silence: Silence | None
    """The active silence that matches it, if it is not resolved."""
    explained: ExplainData
    steps: Sequence[Step]
    """Oldest first; maybe without some in the middle."""
    left_out: int
    """Steps in the middle that are left out."""
    left_out_after: int
    """Before the step with this position."""
    runs_cut: bool
    """Whether only the first `MAX_RUNS` runs are among the steps."""
    drawn: Sequence[ObservedRun]
    """Of more runs than that, those that the chart shows: evenly spread over the whole time."""
    related: Sequence[RelatedIncident]
    inhibited: Sequence[Cause]
    """Causes whose evidence this incident inhibited."""
    item_page: int
    """The page of the items, from 1."""

    @property
    def incident(self) -> Incident:
        """The incident itself."""
        return self.view.incident

    @property
    def has_members(self) -> bool:
        """Whether items are in it, or were."""
        return self.incident.cause in ITEM_CAUSES

    @property
    def is_about_items(self) -> bool:
        """Whether its counts are of items."""
        return self.incident.cause not in MONITOR_CAUSES + OBSERVED_CAUSES

    @property
    def max_runs(self) -> int:
        """How many runs are replayed at most."""
        return MAX_RUNS

    @property
    def failed_messages(self) -> Sequence[SentMessage]:
        """The messages that are not delivered although an attempt was made, or were given up."""
        return [each for each in self.explained.sent_messages if _failed(each) and each.status != "sent"]


def incident_page(
    conn: Connection, config: Config, incident_id: int, *, item_page: int = 1, now: datetime
) -> IncidentPage | None:
    """The page of an incident with one page of its items; None if there is no such incident."""
    view = incident_view(conn, incident_id, limit=ITEMS_PER_PAGE, offset=(item_page - 1) * ITEMS_PER_PAGE, now=now)
    if view is None:
        return None
    incident = view.incident
    explained = explain_incident(conn, config.rules, incident, now=now, max_runs=MAX_RUNS)
    found = list(steps(explained))
    half = MAX_STEPS // 2
    left_out = max(0, len(found) - MAX_STEPS)
    inhibited = _inhibited_causes(conn, incident, now)
    resolved = incident.state is IncidentState.RESOLVED
    since = incident.first_evidence_at
    runs_cut = sum(run.at >= since for run in explained.history.runs) >= MAX_RUNS
    return IncidentPage(
        view=view,
        silence=None if resolved else matching_silence(incident, view.silences),
        explained=explained,
        steps=found if not left_out else [*found[:half], *found[half + left_out :]],
        left_out=left_out,
        left_out_after=half,
        runs_cut=runs_cut,
        drawn=runs_drawn(conn, incident, now=now, number=_MAX_DRAWN) if runs_cut else (),
        related=_related(conn, explained, inhibited, now),
        inhibited=inhibited,
        item_page=item_page,
    )


def steps(data: ExplainData) -> Iterator[Step]:
    """The time line of an incident, oldest first, as `incidents explain` prints it."""
    for folded in fold(timeline(data.history)):
        if len(folded) > 1:
            yield _folded_step(folded)
        elif folded[0].run is None:
            yield _event_step(folded[0], data.sent_messages)
        else:
            yield _run_step(folded[0], data.sent_messages)


def _folded_step(folded: Sequence[TimelineEntry]) -> Step:
    """Several runs with the same decision and no events."""
    first, last = folded[0], folded[-1]
    runs = [entry.run for entry in folded if entry.run is not None]
    seen = sum(run.point is not None and run.point.evidence for run in runs)
    inhibited = sum(run.point is not None and run.point.inhibited for run in runs)
    what = f"evidence in {seen} of {len(runs)} runs" if seen else f"no evidence in {len(runs)} runs"
    what += f", inhibited by a higher cause in {inhibited}" if inhibited else ""
    if first.members is not None:
        what = f"{len(runs)} runs"
    return Step(
        at=first.at,
        until=last.at,
        runs=f"runs {runs[0].run_id}–{runs[-1].run_id}",
        seen=what,
        action=first.action,
        reason=first.reason,
        progress=_members_text(first),
    )


def _event_step(entry: TimelineEntry, sent: Sequence[SentMessage]) -> Step:
    event = entry.events[0]
    return Step(
        at=entry.at,
        action=entry.action,
        kind=event.kind,
        reason=event.reason,
        messages=_step_messages(event, sent),
        sent_nothing=_sent_nothing(event, sent),
    )


def _run_step(entry: TimelineEntry, sent: Sequence[SentMessage]) -> Step:
    run = entry.run
    if run is None:
        raise ValueError("an event between two runs is no run")
    in_it = entry.members is not None and run.evidence is None
    counted = run.point is not None
    return Step(
        at=entry.at,
        runs=f"run {run.run_id}",
        status=run.status,
        seen="" if in_it or not counted else evidence_text(run),
        action=entry.action,
        reason=entry.reason,
        progress=_members_text(entry) or progress_text(entry),
        notes=tuple(_notes(entry.events)),
        messages=tuple(message for event in entry.events for message in _step_messages(event, sent)),
        sent_nothing=any(_sent_nothing(event, sent) for event in entry.events),
    )


def _members_text(entry: TimelineEntry) -> str:
    return f"{plural(entry.members, 'item')} affected" if entry.members else ""


def _notes(events: Sequence[TimelineEvent]) -> Iterator[str]:
    for event in events:
        if event.kind in {"joined", "left"}:
            yield event.reason
        elif event.kind == "silenced":
            yield f"silenced: {event.reason}"


def _step_messages(event: TimelineEvent, sent: Sequence[SentMessage]) -> tuple[StepMessage, ...]:
    if event.kind not in MESSAGE_KINDS:
        return ()
    return tuple(
        StepMessage(
            channel=each.channel,
            kind=each.kind,
            status=each.status,
            text=delivery_text(each),
            sent_at=each.sent_at,
            error=each.error,
            failed=_failed(each),
        )
        for each in messages_of(event, sent)
    )


def _sent_nothing(event: TimelineEvent, sent: Sequence[SentMessage]) -> bool:
    return event.kind in MESSAGE_KINDS and not messages_of(event, sent) and not event.data.get("channels")


def _failed(message: SentMessage) -> bool:
    return message.status == "dead" or message.error is not None


def _inhibited_causes(conn: Connection, incident: Incident, now: datetime) -> list[Cause]:
    """Causes whose evidence a request cause inhibited during its incident, by rank."""
    if incident.cause not in REQUEST_CAUSES:
        return []
    query = select(evidence.c.cause).distinct()
    query = query.where(
        evidence.c.target == incident.target,
        # without the causes the index can't be used; none inhibits itself, and a year of its evidence is long
        evidence.c.cause.in_([cause.value for cause in Cause if cause is not incident.cause]),
        evidence.c.at.between(incident.first_evidence_at, incident.resolved_at or now),
        evidence.c.inhibited_by == incident.cause.value,
    )
    found = set(conn.execute(query).scalars())
    return [cause for cause in Cause if cause.value in found]


def _related(
    conn: Connection, explained: ExplainData, inhibited: Sequence[Cause], now: datetime
) -> list[RelatedIncident]:
    """The incidents of the same key before and after, and those of the target at the same time."""
    incident, previous = explained.history.incident, explained.history.previous
    began, ended = incident.first_evidence_at, incident.resolved_at or now
    inhibitors = {run.evidence.inhibited_by for run in explained.history.runs if run.evidence is not None}
    found = [] if previous is None else [_row_of(previous, Relation.PREVIOUS)]
    same_key = (incidents.c.cause == incident.cause.value, incidents.c.group_name == incident.group)
    columns = [incidents.c[name] for name in ("id", "cause", "group_name", "state", "severity", "resolved_at")]
    query = select(*columns, incidents.c.first_evidence_at).where(incidents.c.target == incident.target)
    later = query.where(incidents.c.id > incident.id, *same_key).order_by(incidents.c.id).limit(1)
    overlapping = query.where(
        incidents.c.id != incident.id,
        incidents.c.first_evidence_at <= ended,
        or_(incidents.c.resolved_at.is_(None), incidents.c.resolved_at >= began),
    ).order_by(incidents.c.id.desc())
    found += [_related_row(row, Relation.NEXT) for row in conn.execute(later).mappings()]
    for row in conn.execute(overlapping.limit(_MAX_RELATED)).mappings():
        relation = Relation.SAME_TIME
        if row["cause"] in inhibitors:
            relation = Relation.INHIBITED_BY
        elif row["cause"] in inhibited:
            relation = Relation.INHIBITS
        found.append(_related_row(row, relation))
    seen: dict[int, RelatedIncident] = {}
    for each in found:
        seen.setdefault(each.id, each)
    return list(seen.values())


def _row_of(incident: Incident, relation: Relation) -> RelatedIncident:
    return RelatedIncident(
        id=incident.id,
        relation=relation,
        cause=incident.cause,
        state=incident.state,
        severity=incident.severity,
        began=incident.first_evidence_at,
        resolved_at=incident.resolved_at,
    )


def _related_row(row: RowMapping, relation: Relation) -> RelatedIncident:
    return RelatedIncident(
        id=row["id"],
        relation=relation,
        cause=Cause(row["cause"]),
        state=IncidentState(row["state"]),
        severity=Severity(row["severity"]),
        began=row["first_evidence_at"],
        resolved_at=row["resolved_at"],
    )
