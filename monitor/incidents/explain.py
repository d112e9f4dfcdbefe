"""The timeline of an incident, run by run: the rules are replayed over the stored runs and joined with its events.

If the two differ, the event counts, because the rule may have changed since. A decision that only the replay makes is
shown as not recorded, and has no effect on what follows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, select

from monitor.database.bulk import RowSet
from monitor.database.engine import in_chunks
from monitor.database.lookups import count_rows
from monitor.database.tables import UtcDateTime, evidence, incidents, notifications, runs, snapshots
from monitor.incidents import store as incident_store
from monitor.incidents.decide import (
    Action,
    Decision,
    DecisionReason,
    EvidencePoint,
    ThresholdCount,
    clean_runs,
    count_evidence,
    decide,
    evolve,
)
from monitor.incidents.recorder import EVENT_KINDS, NOTIFICATION_EVENTS
from monitor.incidents.rulebook import Rule, RunFilter, counts_as_recovery, run_filter
from monitor.model import ITEM_CAUSES, Evidence, Incident, IncidentState, RunStatus

LEAD_RUNS = 3
_MIN_FOLDED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedRun:
    """A finished run, from the view of one cause."""

    run_id: int
    at: datetime
    status: RunStatus
    point: EvidencePoint | None
    """None: the run does not count for the cause."""
    evidence: Evidence | None = None
    unknown: int | None = None
    """All items that it left unknown; None without a snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEvent:
    """A recorded event of an incident."""

    at: datetime
    kind: str
    reason: str
    run_id: int | None = None
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPart:
    """Which of an incident's runs a history has."""

    shown: int
    total: int
    """Of the whole incident, counted up to some number."""
    first: int | None = None
    """The id of the first one, if there are earlier ones. Those before it that the history has are there because
    decisions depend on the runs before them; they are not shown. None: from the beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentHistory:
    """What is stored about an incident."""

    incident: Incident
    previous: Incident | None
    """The resolved one of the same key before it, if any."""
    runs: Sequence[ObservedRun]
    """Oldest first, including as many before the first evidence as the rule counts."""
    events: Sequence[TimelineEvent]
    """Oldest first."""
    rule: Rule
    rule_at_opening: Rule
    part: RunPart | None = None
    """None: it was not asked for in parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One run, or an event between two runs: an operator's action, or the end of a silence."""

    at: datetime
    run: ObservedRun | None
    action: Action | None
    reason: str = ""
    threshold: ThresholdCount | None = None
    """How close the evidence was to an opening, while the incident was not open."""
    clean: tuple[int, int] | None = None
    """Clean runs in a row, and how many resolve it, while it was open."""
    members: int | None = None
    """Its items after this run, while it was open; None for a cause without members."""
    events: tuple[TimelineEvent, ...] = ()


_EVENT_ACTIONS: Mapping[str, Action] = {kind: action for action, kind in EVENT_KINDS.items()}


def timeline(history: IncidentHistory) -> list[TimelineEntry]:
    """The entries from a few runs before the first evidence on, or from the first run of the part, oldest first."""
    entries = list(replay(history))
    if history.part is not None and history.part.first is not None:
        number = history.part.first
        earlier = [n for n, entry in enumerate(entries) if entry.run is not None and entry.run.run_id < number]
        return entries[earlier[-1] + 1 if earlier else 0 :]
    first = history.incident.first_evidence_at
    begins = next((n for n, entry in enumerate(entries) if entry.at >= first), len(entries))
    return entries[max(0, begins - LEAD_RUNS) :]


def fold(entries: Sequence[TimelineEntry]) -> Iterator[tuple[TimelineEntry, ...]]:
    """The entries with long stretches of the same decision, without events, as one."""
    groups = [(fold_key, list(group)) for fold_key, group in groupby(entries, key=_fold_key)]
    for number, (fold_key, group) in enumerate(groups):
        following = groups[number + 1][1][0] if number + 1 < len(groups) else None
        for part in _split(group, following):
            if fold_key is None or len(part) < _MIN_FOLDED:
                yield from ((entry,) for entry in part)
            else:
                yield tuple(part)


def _split(group: Sequence[TimelineEntry], following: TimelineEntry | None) -> Iterator[Sequence[TimelineEntry]]:
    """A stretch, without the clean runs at its end that led, or may lead, to the resolution; and those."""
    tail = 0
    if following is None or following.action is Action.RESOLVE:
        while tail < len(group) and (clean := group[-1 - tail].clean) is not None and clean[0]:
            tail += 1
    yield group[: len(group) - tail]
    yield group[len(group) - tail :]


def _fold_key(entry: TimelineEntry) -> tuple[object, ...] | None:
    """The same for all entries of a stretch; None for an entry that is not folded."""
    return None if entry.run is None or entry.events else (entry.action, entry.reason, entry.members)


def replay(history: IncidentHistory) -> Iterator[TimelineEntry]:
    """All entries, oldest first."""
    state = _Replay(history)
    of_run: dict[int, list[TimelineEvent]] = {}
    run_ids = {run.run_id for run in history.runs}
    between: list[TimelineEvent] = []
    for event in history.events:
        if event.run_id in run_ids:
            of_run.setdefault(event.run_id or 0, []).append(event)
        else:
            between.append(event)
    for run in history.runs:
        while between and between[0].at < run.at:
            yield state.apply_event(between.pop(0))
        yield state.run(run, of_run.get(run.run_id, []))
    yield from map(state.apply_event, between)


class _Replay:
    """The incident at one point of its history, changed run by run and event by event."""

    def __init__(self, history: IncidentHistory) -> None:
        self._history = history
        self._state = history.previous
        self._points: list[EvidencePoint] = []
        """Newest first."""
        self._members = 0
        self._silenced = False

    @property
    def _open(self) -> bool:
        return self._state is not None and self._state.state is not IncidentState.RESOLVED

    @property
    def _with_members(self) -> bool:
        return self._history.incident.cause in ITEM_CAUSES

    def apply_event(self, event: TimelineEvent) -> TimelineEntry:
        """An event outside of any run, or of one that is left out."""
        action = _EVENT_ACTIONS.get(event.kind)
        if event.run_id is not None:
            self._count_members([event])
        self._record(event, evidence=None)
        return TimelineEntry(at=event.at, run=None, action=action, reason=event.reason, events=(event,))

    def run(self, run: ObservedRun, events: Sequence[TimelineEvent]) -> TimelineEntry:
        """One run: its recorded decision, else the one of the rules."""
        self._count_members(events)
        if run.point is not None:
            self._points.insert(0, run.point)
        was_open, rule = self._open, self._rule()
        action, reason = self._decided(run, events)
        entry = TimelineEntry(
            at=run.at,
            run=run,
            action=action,
            reason=reason,
            threshold=None
            if was_open or run.point is None
            else count_evidence(rule, self._recent(run.at, rule), run.at),
            clean=self._clean(rule) if was_open and not self._with_members else None,
            members=self._members if was_open and self._with_members else None,
            events=tuple(events),
        )
        for event in events:
            self._record(event, evidence=run.evidence)
        if self._open and self._state is not None and not any(event.kind in _EVENT_ACTIONS for event in events):
            idle = Decision(
                cause=self._history.incident.cause, action=Action.CONTINUE, reason=DecisionReason.STILL_OPEN
            )
            self._state = evolve(self._state, idle, now=run.at, evidence=run.evidence, members=self._members)
        return entry

    def _count_members(self, events: Iterable[TimelineEvent]) -> None:
        """Counts items that joined or left."""
        changed = [event for event in events if event.kind in {"joined", "left"}]
        joined = sum(_count(event) for event in changed if event.kind == "joined")
        self._members += joined - sum(_count(event) for event in changed if event.kind == "left")
        if joined and self._open and self._state is not None:
            self._state = replace(self._state, unnotified_count=self._state.unnotified_count + joined)

    def _rule(self) -> Rule:
        return self._history.rule if self._open else self._history.rule_at_opening

    def _recent(self, at: datetime, rule: Rule) -> Sequence[EvidencePoint]:
        """The points that a decision uses."""
        least = max(rule.of, rule.resolve_after)
        size = next((n for n, point in enumerate(self._points) if n >= least and at - point.at > rule.window), None)
        return self._points[:size]

    def _clean(self, rule: Rule) -> tuple[int, int] | None:
        return (clean_runs(self._state, self._points), rule.resolve_after) if self._state is not None else None

    def _decided(self, run: ObservedRun, events: Sequence[TimelineEvent]) -> tuple[Action | None, str]:
        recorded = next((event for event in events if event.kind in _EVENT_ACTIONS), None)
        if recorded is not None:
            return _EVENT_ACTIONS[recorded.kind], recorded.reason
        if run.point is None:
            return None, "this run does not count for this cause"
        decision = self._decision(run)
        if decision.action not in EVENT_KINDS:
            return decision.action, decision.reason_text
        if self._open and (self._silenced or any(event.kind == "silenced" for event in events)):
            return Action.CONTINUE, DecisionReason.SILENCED.value
        action = Action.CONTINUE if self._open else Action.WAIT
        return action, f"not recorded; by the rule it would be: {decision.action.value}, {decision.reason_text}"

    def _decision(self, run: ObservedRun) -> Decision:
        rule = self._rule()
        return decide(
            rule,
            self._state,
            self._points if self._open else self._recent(run.at, rule),
            now=run.at,
            members=self._members if self._with_members and self._open else None,
            may_resolve=True,
        )

    def _record(self, event: TimelineEvent, *, evidence: Evidence | None) -> None:
        """Applies a recorded event to the incident."""
        action = _EVENT_ACTIONS.get(event.kind)
        if event.kind in NOTIFICATION_EVENTS:
            self._silenced = event.kind == "silenced"
        if action is Action.OPEN:
            self._state = replace(
                self._history.incident,
                state=IncidentState.OPEN,
                opened_at=event.at,
                last_evidence_at=event.at,
                last_message_at=event.at,
                resolved_at=None,
                acknowledged_at=None,
                acknowledged_by=None,
                unnotified_count=0,
                silence_id=None,
            )
        elif self._state is not None and action is not None:
            decision = Decision(cause=self._state.cause, action=action, reason=DecisionReason.STILL_OPEN)
            self._state = evolve(self._state, decision, now=event.at, evidence=evidence, members=self._members)
        elif self._state is not None and event.kind in {"silenced", "notified"}:
            self._state = _apply_silence_event(self._state, event)
        if action is Action.RESOLVE:
            self._members = 0


def _apply_silence_event(state: Incident, event: TimelineEvent) -> Incident:
    """A silence began to withhold the opening, or the opening was sent after its end."""
    if event.kind == "notified":
        return replace(state, silence_id=None, last_message_at=event.at, unnotified_count=0)
    silence_id = event.data.get("silence_id")
    opening = state.last_message_at == event.at or state.silence_id is not None
    return replace(state, silence_id=silence_id) if opening and isinstance(silence_id, int) else state


def _count(event: TimelineEvent) -> int:
    count = event.data.get("count")
    return count if isinstance(count, int) else 0


COUNTED_RUNS = 10_000
"""Up to which number the runs of an incident are counted."""
_MAX_RUNS_BEFORE = 5_000
_LEAD = 100
"""Runs before a part that are replayed, or as many as the rule counts: where runs say nothing, more than it counts may
matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentMessage:
    """One notification of an incident, and its delivery."""

    kind: str
    channel: str
    created_at: datetime
    status: str
    """`due`, `sent`, `superseded` or `dead`."""
    sent_at: datetime | None
    attempts: int
    error: str | None


def previous_incident(conn: Connection, incident: Incident) -> Incident | None:
    """The incident of the same key before this one, or None."""
    key = (incidents.c.target == incident.target, incidents.c.cause == incident.cause.value)
    same = select(incidents.c.id).where(*key, incidents.c.group_name == incident.group, incidents.c.id < incident.id)
    found = conn.execute(same.order_by(incidents.c.id.desc()).limit(1)).scalar()
    return None if found is None else incident_store.find(conn, found)


def sent_messages(conn: Connection, incident_id: int) -> list[SentMessage]:
    """The notifications of an incident, in the order in which they were enqueued."""
    names = ("kind", "channel", "created_at", "status", "sent_at", "attempts")
    columns = (*(notifications.c[name] for name in names), notifications.c.last_error.label("error"))
    query = select(*columns).where(notifications.c.incident_id == incident_id).order_by(notifications.c.id)
    return [SentMessage(**row) for row in conn.execute(query).mappings()]


def runs_around(
    conn: Connection, incident: Incident, *, window: timedelta, at_least: int, at_most: int
) -> list[ObservedRun]:
    """The finished runs of an incident's target, oldest first: the first `at_most` from its first evidence on.

    Before that come the runs of the rule's `window`, or `at_least` so many, if there are as many.
    """
    of_incident = _run_rows().where(*_during(conn, incident, None))
    following = conn.execute(of_incident.order_by(runs.c.started_at).limit(at_most)).mappings().all()
    return _observed(conn, incident, [*_runs_before(conn, incident, window, at_least), *following])


def runs_in_part(
    conn: Connection, incident: Incident, *, window: timedelta, at_least: int, at_most: int, before: datetime | None
) -> tuple[list[ObservedRun], RunPart]:
    """The same of the newest `at_most` runs of an incident, or of those that started before a time.

    If there are earlier ones, they follow as many of these as the decisions of the first one need.
    """
    newest = _run_rows().where(*_during(conn, incident, before)).order_by(runs.c.started_at.desc())
    found = conn.execute(newest.limit(at_most + max(at_least, _LEAD))).mappings().all()
    shown = found[:at_most]
    total = len(found)
    if before is not None or total > at_most:
        every = select(runs.c.id).where(*_during(conn, incident, None))
        total = count_rows(conn, every, at_most=max(COUNTED_RUNS, at_most + 1))
    if len(found) > at_most:
        part = RunPart(shown=at_most, total=total, first=shown[-1]["id"])
        return _observed(conn, incident, found), part
    earlier = _runs_before(conn, incident, window, at_least)
    return _observed(conn, incident, [*earlier, *shown]), RunPart(shown=len(shown), total=total)


def start_of_run(conn: Connection, incident: Incident, run_id: int) -> datetime | None:
    """When a run of an incident's target began; None if there is no such run."""
    query = select(runs.c.started_at).where(runs.c.id == run_id, runs.c.target == incident.target)
    return conn.execute(query).scalar()


def _runs_before(conn: Connection, incident: Incident, window: timedelta, at_least: int) -> Sequence[RowMapping]:
    """The runs before the first evidence of an incident."""
    began = incident.first_evidence_at
    finished = _run_rows().where(runs.c.target == incident.target, *_FINISHED)
    earlier = finished.where(runs.c.finished_at < began, runs.c.started_at < began).order_by(runs.c.started_at.desc())
    # by the index on starts: there is none on ends
    first_start = incident_store.start_of_runs_ended_since(conn, incident.target, began - window)
    in_window = earlier.where(runs.c.finished_at >= began - window, runs.c.started_at >= first_start)
    previous = conn.execute(in_window.limit(_MAX_RUNS_BEFORE)).mappings().all()
    return previous if len(previous) >= at_least else conn.execute(earlier.limit(at_least)).mappings().all()


def _during(conn: Connection, incident: Incident, before: datetime | None) -> list[ColumnElement[bool]]:
    """The conditions of the finished runs from an incident's first evidence to its end, or that start before a time."""
    began, ended = incident.first_evidence_at, incident.resolved_at
    first_start = incident_store.start_of_runs_ended_since(conn, incident.target, began)
    found = [
        runs.c.target == incident.target,
        *_FINISHED,
        runs.c.finished_at >= began,
        runs.c.started_at >= first_start,
    ]
    if ended is not None:
        found += [runs.c.finished_at <= ended, runs.c.started_at <= ended]
    return found if before is None else [*found, runs.c.started_at < before]


_MOMENTS = RowSet("moments", beginning=UtcDateTime(), ending=UtcDateTime())


def runs_drawn(conn: Connection, incident: Incident, *, now: datetime, number: int) -> list[ObservedRun]:
    """Of an incident's runs about `number` (> 0), oldest first, evenly spread from its first evidence to its end."""
    first = incident_store.start_of_runs_ended_since(conn, incident.target, incident.first_evidence_at)
    began, ended = first - timedelta(microseconds=1), incident.resolved_at or now
    edges = [began + (ended - began) * n / number for n in range(number + 1)]
    within = (runs.c.started_at > _MOMENTS.c.beginning, runs.c.started_at <= _MOMENTS.c.ending)
    newest = select(runs.c.id).where(runs.c.target == incident.target, *_FINISHED, *within)
    newest = newest.order_by(runs.c.started_at.desc()).limit(1).correlate(_MOMENTS.table)
    moments = _MOMENTS.of(conn, list(pairwise(edges)))
    chosen = conn.scalars(select(newest.scalar_subquery()).select_from(_MOMENTS.table), moments)
    ids = sorted({each for each in chosen if each is not None})
    rows = [row for chunk in in_chunks(ids) for row in conn.execute(_run_rows().where(runs.c.id.in_(chunk))).mappings()]
    return _observed(conn, incident, rows)


_FINISHED = (runs.c.finished_at.is_not(None), runs.c.status != RunStatus.RUNNING.value)


def _run_rows() -> Select[Any]:
    names = ("id", "status", "finished_at", "due", "answered", "accepted")
    query = select(*(runs.c[name] for name in names), snapshots.c.unknown)
    return query.outerjoin(snapshots, snapshots.c.run_id == runs.c.id)


def _observed(conn: Connection, incident: Incident, found: Iterable[RowMapping]) -> list[ObservedRun]:
    """Runs as the incident's cause sees them, oldest first."""
    rows = sorted(found, key=lambda row: int(row["id"]))
    seen = _evidence(conn, incident, [row["id"] for row in rows])
    criteria = run_filter(incident.cause)
    return [_run(row, seen.get(row["id"]), criteria) for row in rows]


def _evidence(conn: Connection, incident: Incident, run_ids: Sequence[int]) -> dict[int, Evidence]:
    found: dict[int, Evidence] = {}
    about = (evidence.c.cause == incident.cause.value, evidence.c.group_name == incident.group)
    for chunk in in_chunks(run_ids):
        rows = conn.execute(select(evidence).where(evidence.c.run_id.in_(chunk), *about)).mappings()
        found.update({row["run_id"]: incident_store.evidence_from_row(row) for row in rows})
    return found


def _run(row: RowMapping, seen: Evidence | None, criteria: RunFilter) -> ObservedRun:
    status = RunStatus(row["status"])
    point = EvidencePoint(
        run_id=row["id"],
        at=row["finished_at"],
        evidence=seen is not None and seen.inhibited_by is None,
        inhibited=seen is not None and seen.inhibited_by is not None,
        confirms_recovery=counts_as_recovery(
            criteria.criterion, due=row["due"], replied=row["answered"], accepted=row["accepted"]
        ),
    )
    counts = point if status in criteria.statuses else None
    return ObservedRun(
        run_id=row["id"], at=row["finished_at"], status=status, point=counts, evidence=seen, unknown=row["unknown"]
    )
