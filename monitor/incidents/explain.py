"""An incident's story, run by run: what the rules decide over the stored runs, and what was recorded. Pure.

Where both speak the record wins: it is what happened, while the rule may be another one by now. Where only the rules
would have spoken, that is said and taken for nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby

from sqlalchemy import Connection, RowMapping, select

from monitor.database.engine import in_fews
from monitor.database.tables import abandoned, evidence, incidents, notifications, runs
from monitor.incidents import store as evidence_store
from monitor.incidents import store as incident_store
from monitor.incidents.decide import Action, Decision, Mark, Tally, Why, clean_runs, decide, evolve, tally
from monitor.incidents.rulebook import Rule, Witness, vouches, witness
from monitor.model import ITEM_CAUSES, Evidence, Incident, IncidentState, RunStatus

LEAD = 3
"""Runs before the first evidence that are told, so that it can be seen how all was well."""

_SHORTEST = 3
"""Runs that are told as one at the least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSeen:
    """A finished run, as the cause of an incident sees it."""

    run_id: int
    at: datetime
    status: RunStatus
    mark: Mark | None
    """None: such a run says nothing about the cause."""
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that was recorded of an incident."""

    at: datetime
    kind: str
    reason: str
    run_id: int | None = None
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What is stored about an incident."""

    incident: Incident
    """As it stands now."""
    before: Incident | None
    """The one of its key that was resolved before it, if any."""
    runs: Sequence[RunSeen]
    """Oldest first, with so many before the first evidence that the rule can count."""
    steps: Sequence[Step]
    """Oldest first."""
    rule: Rule
    """In force now."""
    rule_then: Rule
    """In force at the opening."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One run, or what people or the delivery did between two runs."""

    at: datetime
    run: RunSeen | None
    action: Action | None
    """None where nothing was to be decided."""
    reason: str = ""
    counted: Tally | None = None
    """How far the evidence had come, while the incident was not open."""
    clean: tuple[int, int] | None = None
    """Runs in a row without evidence, and how many resolve it, while it was open."""
    members: int | None = None
    """Its items after this run, while it was open; None for a cause without."""
    steps: tuple[Step, ...] = ()


_ACTIONS: Mapping[str, Action] = {
    "opened": Action.OPEN,
    "reopened": Action.REOPEN,
    "updated": Action.UPDATE,
    "reminded": Action.REMIND,
    "acknowledged": Action.ACKNOWLEDGE,
    "resolved": Action.RESOLVE,
}
_WRITTEN = frozenset(_ACTIONS.values())
"""A decision for one of these leaves a record."""
_HEARD = frozenset({"opened", "reopened", "updated", "reminded", "told", "silenced"})
"""Steps after which people know how it stands, or after which they do not."""


def story(past: Past) -> list[Entry]:
    """The story from a few runs before the first evidence on, oldest first."""
    entries = list(replay(past))
    first = past.incident.first_evidence_at
    begins = next((n for n, entry in enumerate(entries) if entry.at >= first), len(entries))
    return entries[max(0, begins - LEAD) :]


def folded(entries: Sequence[Entry]) -> Iterator[tuple[Entry, ...]]:
    """The story with long stretches of one decision, in which nothing was recorded, as one."""
    groups = [(alike, list(group)) for alike, group in groupby(entries, key=_sameness)]
    for number, (alike, group) in enumerate(groups):
        following = groups[number + 1][1][0] if number + 1 < len(groups) else None
        for part in _parts(group, following):
            if alike is None or len(part) < _SHORTEST:
                yield from ((entry,) for entry in part)
            else:
                yield tuple(part)


def _parts(group: Sequence[Entry], following: Entry | None) -> Iterator[Sequence[Entry]]:
    """A stretch, but the runs at its end that led to the resolution, or may be about to, by themselves."""
    tail = 0
    if following is None or following.action is Action.RESOLVE:
        while tail < len(group) and (clean := group[-1 - tail].clean) is not None and clean[0]:
            tail += 1
    yield group[: len(group) - tail]
    yield group[len(group) - tail :]


def _sameness(entry: Entry) -> tuple[object, ...] | None:
    """What entries of one stretch have in common; None for one that stands by itself."""
    return None if entry.run is None or entry.steps else (entry.action, entry.reason, entry.members)


def replay(past: Past) -> Iterator[Entry]:
    """Tells the story, oldest first."""
    stage = _Stage(past)
    of_run: dict[int, list[Step]] = {}
    told_runs = {run.run_id for run in past.runs}
    between: list[Step] = []
    for step in past.steps:
        if step.run_id in told_runs:
            of_run.setdefault(step.run_id or 0, []).append(step)
        else:
            between.append(step)
    for run in past.runs:
        while between and between[0].at < run.at:
            yield stage.after(between.pop(0))
        yield stage.run(run, of_run.get(run.run_id, []))
    yield from map(stage.after, between)


class _Stage:
    """The incident as it stood, moved on step by step."""

    def __init__(self, past: Past) -> None:
        self._past = past
        self._state = past.before
        self._marks: list[Mark] = []
        """Newest first."""
        self._members = 0
        self._silenced = False
        """A silence keeps messages back, as far as was recorded."""

    @property
    def _open(self) -> bool:
        return self._state is not None and self._state.state is not IncidentState.RESOLVED

    @property
    def _with_members(self) -> bool:
        return self._past.incident.cause in ITEM_CAUSES

    def after(self, step: Step) -> Entry:
        """What was recorded outside of any run."""
        action = _ACTIONS.get(step.kind)
        self._record(step, evidence=None)
        return Entry(at=step.at, run=None, action=action, reason=step.reason, steps=(step,))

    def run(self, run: RunSeen, steps: Sequence[Step]) -> Entry:
        """One run: what was recorded of it, else what the rules say about it."""
        joined = sum(_count(step) for step in steps if step.kind == "joined")
        self._members += joined - sum(_count(step) for step in steps if step.kind == "left")
        if run.mark is not None:
            self._marks.insert(0, run.mark)
        if self._open and self._state is not None:
            self._state = replace(self._state, untold_count=self._state.untold_count + joined)
        was_open, rule = self._open, self._rule()
        action, reason = self._decided(run, steps)
        entry = Entry(
            at=run.at,
            run=run,
            action=action,
            reason=reason,
            counted=None if was_open or run.mark is None else tally(rule, self._recent(run.at, rule), run.at),
            clean=self._clean(rule) if was_open and not self._with_members else None,
            members=self._members if was_open and self._with_members else None,
            steps=tuple(steps),
        )
        for step in steps:
            self._record(step, evidence=run.evidence)
        if self._open and self._state is not None and not any(step.kind in _ACTIONS for step in steps):
            idle = Decision(cause=self._past.incident.cause, action=Action.CONTINUE, why=Why.STILL_THERE)
            self._state = evolve(self._state, idle, now=run.at, evidence=run.evidence, members=self._members)
        return entry

    def _rule(self) -> Rule:
        return self._past.rule if self._open else self._past.rule_then

    def _recent(self, at: datetime, rule: Rule) -> Sequence[Mark]:
        """As many marks as any decision looks at."""
        least = max(rule.of, rule.resolve_after)
        size = next((n for n, mark in enumerate(self._marks) if n >= least and at - mark.at > rule.window), None)
        return self._marks[:size]

    def _clean(self, rule: Rule) -> tuple[int, int] | None:
        return (clean_runs(self._state, self._marks), rule.resolve_after) if self._state is not None else None

    def _decided(self, run: RunSeen, steps: Sequence[Step]) -> tuple[Action | None, str]:
        recorded = next((step for step in steps if step.kind in _ACTIONS), None)
        if recorded is not None:
            return _ACTIONS[recorded.kind], recorded.reason
        if run.mark is None:
            return None, "such a run says nothing about this cause"
        decision = self._decision(run)
        if decision.action not in _WRITTEN:
            return decision.action, decision.why.value
        if self._open and (self._silenced or any(step.kind == "silenced" for step in steps)):
            return Action.CONTINUE, Why.SILENCED.value
        unsaid = Action.CONTINUE if self._open else Action.WAIT
        return unsaid, f"nothing was recorded, though the rule would say: {decision.action.value}, {decision.why.value}"

    def _decision(self, run: RunSeen) -> Decision:
        rule = self._rule()
        return decide(
            rule,
            self._state,
            self._marks if self._open else self._recent(run.at, rule),
            now=run.at,
            members=self._members if self._with_members and self._open else None,
            may_resolve=run.status is RunStatus.COMPLETE,
        )

    def _record(self, step: Step, *, evidence: Evidence | None) -> None:
        """Moves the incident on by what was recorded."""
        action = _ACTIONS.get(step.kind)
        if step.kind in _HEARD:
            self._silenced = step.kind == "silenced"
        if action is Action.OPEN:
            self._state = replace(
                self._past.incident,
                state=IncidentState.OPEN,
                opened_at=step.at,
                last_evidence_at=step.at,
                last_message_at=step.at,
                resolved_at=None,
                acknowledged_at=None,
                acknowledged_by=None,
                untold_count=0,
                silence_id=None,
            )
        elif self._state is not None and action is not None:
            decision = Decision(cause=self._state.cause, action=action, why=Why.STILL_THERE)
            self._state = evolve(self._state, decision, now=step.at, evidence=evidence, members=self._members)
        elif self._state is not None and step.kind in {"silenced", "told"}:
            self._state = _heard(self._state, step)
        if action is Action.RESOLVE:
            self._members = 0


def _heard(state: Incident, step: Step) -> Incident:
    """What a silence did to an incident: its opening was kept back, or is told now."""
    if step.kind == "told":
        return replace(state, silence_id=None, last_message_at=step.at, untold_count=0)
    silence_id = step.data.get("silence_id")
    opening = state.last_message_at == step.at or state.silence_id is not None
    return replace(state, silence_id=silence_id) if opening and isinstance(silence_id, int) else state


def _count(step: Step) -> int:
    count = step.data.get("count")
    return count if isinstance(count, int) else 0


MOST = 10_000
"""Runs of one incident that are told."""
_MOST_BEFORE = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One message about an incident to one channel, and what became of it."""

    kind: str
    channel: str
    written_at: datetime
    status: str
    """due, sent, superseded or dead"""
    sent_at: datetime | None
    attempts: int
    error: str | None
    """Why it was not delivered, the last time."""


def predecessor(conn: Connection, incident: Incident) -> Incident | None:
    """The incident of the same key that came before, or None."""
    key = (incidents.c.target == incident.target, incidents.c.cause == incident.cause.value)
    same = select(incidents.c.id).where(*key, incidents.c.group_name == incident.group, incidents.c.id < incident.id)
    found = conn.execute(same.order_by(incidents.c.id.desc()).limit(1)).scalar()
    return None if found is None else incident_store.find(conn, found)


def sent(conn: Connection, incident_id: int) -> list[Sent]:
    """The messages about an incident, in the order in which they were written."""
    query = select(notifications).where(notifications.c.incident_id == incident_id).order_by(notifications.c.id)
    return [
        Sent(
            kind=row["kind"],
            channel=row["channel"],
            written_at=row["created_at"],
            status=row["status"],
            sent_at=row["sent_at"],
            attempts=row["attempts"],
            error=row["last_error"],
        )
        for row in conn.execute(query).mappings()
    ]


def runs_around(conn: Connection, incident: Incident, *, window: timedelta, at_least: int) -> list[RunSeen]:
    """The finished runs of an incident's target, oldest first.

    Args:
        conn: a connection.
        incident: whose.
        window: how long before the first evidence the rule looks back.
        at_least: how many runs before it there are to be, as far as there are so many.

    Returns:
        Those before the first evidence, and at most `MOST` from there to the resolution.
    """
    began = incident.first_evidence_at
    columns = (runs.c.id, runs.c.status, runs.c.finished_at, runs.c.due, runs.c.answered, abandoned().label("died"))
    finished = select(*columns).where(
        runs.c.target == incident.target, runs.c.finished_at.is_not(None), runs.c.status != RunStatus.RUNNING.value
    )
    earlier = finished.where(runs.c.finished_at < began).order_by(runs.c.id.desc())
    before = conn.execute(earlier.where(runs.c.finished_at >= began - window).limit(_MOST_BEFORE)).mappings().all()
    if len(before) < at_least:
        before = conn.execute(earlier.limit(at_least)).mappings().all()
    during = finished.where(runs.c.finished_at >= began).order_by(runs.c.id).limit(MOST)
    if incident.resolved_at is not None:
        during = during.where(runs.c.finished_at <= incident.resolved_at)
    rows = [*reversed(before), *conn.execute(during).mappings().all()]
    seen = _evidence(conn, incident, [row["id"] for row in rows])
    says = witness(incident.cause)
    return [_run(row, seen.get(row["id"]), says) for row in rows]


def _evidence(conn: Connection, incident: Incident, run_ids: Sequence[int]) -> dict[int, Evidence]:
    found: dict[int, Evidence] = {}
    about = (evidence.c.cause == incident.cause.value, evidence.c.group_name == incident.group)
    for few in in_fews(run_ids):
        rows = conn.execute(select(evidence).where(evidence.c.run_id.in_(few), *about)).mappings()
        found.update({row["run_id"]: evidence_store.from_row(row) for row in rows})
    return found


def _run(row: RowMapping, seen: Evidence | None, says: Witness) -> RunSeen:
    status = RunStatus(row["status"])
    mark = Mark(
        run_id=row["id"],
        at=row["finished_at"],
        evidence=seen is not None and seen.explained_by is None,
        muted=seen is not None and seen.explained_by is not None,
        enough=vouches(says.vouching, due=row["due"], answered=row["answered"]),
    )
    counts = mark if status in says.statuses and not row["died"] else None
    return RunSeen(run_id=row["id"], at=row["finished_at"], status=status, mark=counts, evidence=seen)
