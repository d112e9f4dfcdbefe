"""Queries and writes of evidence, incidents and their events. It decides nothing; members are in `members`."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    RowMapping,
    Select,
    String,
    and_,
    bindparam,
    cast,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    union_all,
    update,
)

from monitor.database.engine import in_chunks
from monitor.database.engine import insert as insert_or
from monitor.database.lookups import ENDED, count_rows, has_status, newest_id, newest_ids
from monitor.database.tables import (
    INCIDENT_IS_OPEN,
    UtcDateTime,
    active,
    evidence,
    in_state,
    incident_events,
    incidents,
    is_open,
    items,
    runs,
    schedules,
    snapshots,
)
from monitor.database.text import to_column_text
from monitor.incidents import members
from monitor.incidents.decide import EvidencePoint
from monitor.incidents.evidence import NOT_SENT
from monitor.incidents.members import CurrentMembers
from monitor.incidents.rulebook import RunFilter, counts_as_recovery, run_filter
from monitor.model import (
    FINISHED,
    Cause,
    Evidence,
    Incident,
    IncidentKey,
    IncidentState,
    ItemState,
    OpenCause,
    Reason,
    RunStatus,
    Severity,
    Team,
)
from monitor.notifications.trend import MAX_AGE, MAX_RUNS, RunCounts

_MAX_RUNS = 5_000
"""Runs that a rule looks at, whatever its window."""
_MAX_CRASHES = 1_000
_DEAD_PROCESSES = 50
"""Runs of processes that died which may lie among the newest crashed ones."""


def add_evidence(
    conn: Connection, *, target: str, run_id: int, at: datetime, pieces: Iterable[Evidence]
) -> dict[IncidentKey, int]:
    """Stores a run's evidence; returns the row ids by cause and group."""
    ids: dict[IncidentKey, int] = {}
    for piece in pieces:
        row = {
            "run_id": run_id,
            "target": target,
            "cause": piece.cause.value,
            "group_name": piece.group,
            "at": at,
            "count": piece.count,
            "breakdown": dict(piece.breakdown),
            "sample_ids": list(piece.sample_ids),
            "request_ids": list(piece.request_ids),
            "code": to_column_text(piece.code, 200),
            "api_message": to_column_text(piece.api_message, 1000),
            "page": to_column_text(piece.page, 200),
            "gateway": dict(piece.gateway) or None,
            "facts": [list(fact) for fact in piece.facts] or None,
            "inhibited_by": piece.inhibited_by.value if piece.inhibited_by else None,
        }
        ids[piece.key] = conn.execute(insert(evidence).returning(evidence.c.id), row).scalar_one()
    return ids


def evidence_points(
    conn: Connection, *, target: str, keys: Sequence[IncidentKey], since: datetime, at_least: int
) -> Mapping[IncidentKey, Sequence[EvidencePoint]]:
    """What the runs that count for a cause say about it, for each cause and group, newest first.

    A run that crashed does not count: its evidence was lost, and its lack of evidence must not break a streak. Runs
    that finished before `since` are left out, except for the newest `at_least`.
    """
    found: dict[IncidentKey, Sequence[EvidencePoint]] = {}
    for statuses in {run_filter(cause).statuses for cause, _ in keys}:
        rows = _finished_runs(conn, target, statuses, since, at_least)
        inhibited = _inhibited_runs(conn, [row["id"] for row in rows])
        alike = [key for key in keys if run_filter(key[0]).statuses == statuses]
        # Most groups have no evidence in most runs; they share these points.
        clean = {each: [_clean_point(row, each) for row in rows] for each in {run_filter(cause) for cause, _ in alike}}
        found |= {key: _with_evidence(clean[run_filter(key[0])], inhibited.get(key)) for key in alike}
    return found


def ended_unforeseen() -> ColumnElement[bool]:
    """The runs that ended by an error that nobody foresaw; other crashed runs belong to a process that died."""
    return and_(runs.c.status == RunStatus.CRASHED.value, runs.c.abort_reason == Cause.RUN_CRASHING.value)


def crash_streak(conn: Connection, *, target: str, at_most: int) -> int:
    """The newest runs of a target in a row that ended by an unforeseen error, up to `at_most` (> 0).

    Several daemons may execute one run key after another: that counts once.
    """
    last_good = func.coalesce(newest_id(target, FINISHED), 0)
    crashed = select(runs.c.id, runs.c.run_key).where(
        runs.c.target == target, runs.c.id > last_good, ended_unforeseen()
    )
    rows = conn.execute(crashed.order_by(runs.c.id.desc()).limit(_MAX_CRASHES)).all()
    return min(at_most, len({row.run_key or row.id for row in rows}))


def _finished_runs(
    conn: Connection, target: str, statuses: Iterable[RunStatus], since: datetime, at_least: int
) -> Sequence[RowMapping]:
    statuses = sorted(statuses)
    at_most = at_least
    finished = select(runs.c.id, runs.c.finished_at, runs.c.due, runs.c.answered, runs.c.accepted).where(
        runs.c.finished_at.is_not(None)
    )
    if RunStatus.CRASHED in statuses:
        at_most += _DEAD_PROCESSES
        finished = finished.where(or_(runs.c.status != RunStatus.CRASHED.value, ended_unforeseen()))
    # by the index on starts: there is none on ends
    in_window = finished.where(
        runs.c.target == target,
        has_status(statuses),
        runs.c.finished_at >= since,
        runs.c.started_at >= start_of_runs_ended_since(conn, target, since),
    ).order_by(runs.c.started_at.desc())
    rows = conn.execute(in_window.limit(_MAX_RUNS)).mappings().all()
    if len(rows) < at_least:
        newest = finished.where(runs.c.id.in_(newest_ids(target, statuses, limit=at_most)))
        rows = conn.execute(newest.order_by(runs.c.id.desc()).limit(at_least)).mappings().all()
    return sorted(rows, key=lambda row: int(row["id"]), reverse=True)


def start_of_runs_ended_since(conn: Connection, target: str, moment: datetime) -> datetime:
    """The earliest start of a target's runs that ended at a moment or later.

    Runs of a target do not overlap: one run may have been in progress at that moment, the newest that began before it.
    It is a query of its own: PostgreSQL can't estimate a comparison with a subquery, and then reads all runs.
    """
    before = select(func.max(runs.c.started_at)).where(runs.c.target == target, runs.c.started_at < moment)
    return conn.execute(before).scalar() or moment


def _inhibited_runs(conn: Connection, run_ids: Sequence[int]) -> Mapping[IncidentKey, Mapping[int, bool]]:
    """For each cause and group, the runs with evidence, and whether a higher cause inhibits it."""
    inhibited = defaultdict[IncidentKey, dict[int, bool]](dict)
    for chunk in in_chunks(run_ids):
        query = select(evidence.c.run_id, evidence.c.cause, evidence.c.group_name, evidence.c.inhibited_by)
        for row in conn.execute(query.where(evidence.c.run_id.in_(chunk))):
            inhibited[Cause(row.cause), row.group_name][row.run_id] = row.inhibited_by is not None
    return inhibited


def _clean_point(run: RowMapping, of: RunFilter) -> EvidencePoint:
    """The point of a run without evidence."""
    confirms_recovery = counts_as_recovery(
        of.criterion, due=run["due"], replied=run["answered"], accepted=run["accepted"]
    )
    return EvidencePoint(run_id=run["id"], at=run["finished_at"], evidence=False, confirms_recovery=confirms_recovery)


def _with_evidence(clean: Sequence[EvidencePoint], inhibited: Mapping[int, bool] | None) -> Sequence[EvidencePoint]:
    if not inhibited:
        return clean
    return [
        replace(point, evidence=not inhibited[point.run_id], inhibited=inhibited[point.run_id])
        if point.run_id in inhibited
        else point
        for point in clean
    ]


def evidence_from_row(values: RowMapping) -> Evidence:
    """Evidence from its row."""
    inhibited_by = values["inhibited_by"]
    return Evidence(
        cause=Cause(values["cause"]),
        group=values["group_name"],
        count=values["count"],
        breakdown=values["breakdown"],
        sample_ids=tuple(values["sample_ids"]),
        request_ids=tuple(values["request_ids"]),
        code=values["code"],
        api_message=values["api_message"],
        page=values["page"],
        gateway=tuple((values["gateway"] or {}).items()),
        facts=tuple((label, value) for label, value in values["facts"] or ()),
        inhibited_by=Cause(inhibited_by) if inhibited_by else None,
    )


def api_messages(conn: Connection, *, incident_ids: Collection[int]) -> dict[int, str]:
    """The API's own text in the newest evidence of each incident that has any, by incident id."""
    messages: dict[int, str] = {}
    for chunk in in_chunks(sorted(incident_ids)):
        query = select(incidents.c.id, evidence.c.api_message).join(evidence, evidence.c.id == incidents.c.evidence_id)
        rows = conn.execute(query.where(incidents.c.id.in_(chunk), evidence.c.api_message.is_not(None)))
        messages |= {row.id: row.api_message for row in rows}
    return messages


def breakdown_since(conn: Connection, *, target: str, key: IncidentKey, since: datetime) -> dict[str, int]:
    """The breakdowns of all runs since a moment, added up: most frequent first, requests that were not sent last."""
    cause, group = key
    about = (evidence.c.target == target, evidence.c.cause == cause.value, evidence.c.group_name == group)
    query = select(evidence.c.breakdown).where(*about, evidence.c.at >= since, evidence.c.inhibited_by.is_(None))
    summed: Counter[str] = Counter()
    for breakdown in conn.execute(query).scalars():
        summed.update(breakdown)
    return dict(sorted(summed.items(), key=lambda seen: (seen[0] == NOT_SENT, -seen[1], seen[0])))


class IncidentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of an incident."""

    at: datetime
    kind: str
    reason: str
    run_id: int | None
    data: Mapping[str, object]


def current(conn: Connection, *, target: str, resolved_since: datetime) -> dict[IncidentKey, Incident]:
    """By cause and group, a target's open incident, else the one resolved last; without members.

    Those resolved before `resolved_since` are left out. The rows stay locked until the caller's writing transaction
    ends, so an acknowledgement comes before or after it.
    """
    return newest_of_each(recent(conn, target=target, resolved_since=resolved_since), resolved_since=resolved_since)


def recent(conn: Connection, *, target: str, resolved_since: datetime) -> tuple[Incident, ...]:
    """A target's open incidents and those resolved since, oldest first; otherwise like `current`."""
    rows = conn.execute(_recent(), {"target": target, "since": resolved_since}).mappings().all()
    seen = _evidence_by_id(conn, [row["evidence_id"] for row in rows if row["evidence_id"] is not None])
    return tuple(incident_from_row(row, seen.get(row["evidence_id"])) for row in rows)


@cache
def _recent() -> Select[tuple[Any, ...]]:
    # put together once: that costs more than to execute it
    ids = select(incidents.c.id).where(incidents.c.target == bindparam("target", type_=String))
    lately = incidents.c.resolved_at >= bindparam("since", type_=UtcDateTime)
    wanted = union_all(ids.where(*is_open()), ids.where(lately))
    return select(incidents).where(incidents.c.id.in_(wanted)).order_by(incidents.c.id).with_for_update()


def newest_of_each(found: Iterable[Incident], *, resolved_since: datetime) -> dict[IncidentKey, Incident]:
    """By cause and group, the open incident, else the one resolved last, not before a moment; `found` as `recent`."""
    return {each.key: each for each in found if each.resolved_at is None or each.resolved_at >= resolved_since}


class UnresolvedIncident(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate and the probe must know about an unresolved incident."""

    cause: Cause
    id: int
    since: datetime
    """Its first evidence."""
    accepted: bool | None
    """Whether the API accepted anything in the run that opened it; None: not known."""


def unresolved(conn: Connection, *, targets: Collection[str]) -> dict[str, list[UnresolvedIncident]]:
    """The unresolved incidents (also silenced ones) of each target that has any, oldest first."""
    columns = [incidents.c[name] for name in ("target", "cause", "id", "first_evidence_at", "accepted")]
    found = defaultdict[str, list[UnresolvedIncident]](list)
    query = select(*columns).where(incidents.c.target.in_(targets), *is_open()).order_by(incidents.c.id)
    for name, cause, number, since, accepted in conn.execute(query):
        found[name].append(UnresolvedIncident(cause=Cause(cause), id=number, since=since, accepted=accepted))
    return found


def open_incident(conn: Connection, incident: Incident, *, evidence_id: int | None) -> int:
    """Stores a new incident (its `id` is ignored) and returns its id."""
    row = {**_row(incident), "evidence_id": evidence_id}
    new_id: int = conn.execute(insert(incidents).returning(incidents.c.id), row).scalar_one()
    return new_id


def open_if_absent(conn: Connection, incident: Incident) -> int | None:
    """Stores a new incident of a channel; None if one is open already, as another process may have been faster."""
    key = [incidents.c.target, incidents.c.cause, incidents.c.group_name]
    row = insert_or(conn, incidents).values(_row(incident))
    once = row.on_conflict_do_nothing(index_elements=key, index_where=text(INCIDENT_IS_OPEN))
    return conn.execute(once.returning(incidents.c.id)).scalar()


def save(conn: Connection, incident: Incident, *, evidence_id: int | None = None) -> None:
    """Stores an existing incident; `evidence_id`, if given, replaces its newest evidence."""
    row = _row(incident)
    if evidence_id is not None:
        row["evidence_id"] = evidence_id
    conn.execute(update(incidents).where(incidents.c.id == incident.id).values(row))


def _row(incident: Incident) -> dict[str, object]:
    return {
        "target": incident.target,
        "environment": incident.environment,
        "cause": incident.cause.value,
        "group_name": incident.group,
        "state": incident.state.value,
        "severity": incident.severity.value,
        "team": incident.team.value,
        "accepted": incident.accepted,
        "opened_at": incident.opened_at,
        "first_evidence_at": incident.first_evidence_at,
        "last_evidence_at": incident.last_evidence_at,
        "acknowledged_at": incident.acknowledged_at,
        "acknowledged_by": to_column_text(incident.acknowledged_by, 200),
        "silence_id": incident.silence_id,
        "resolved_at": incident.resolved_at,
        "last_message_at": incident.last_message_at,
        "member_count": incident.member_count,
        "peak_count": incident.peak_count,
        "unnotified_count": incident.unnotified_count,
        "channels": list(incident.channels),
    }


def add_event(
    conn: Connection,
    *,
    incident_id: int,
    run_id: int | None,
    at: datetime,
    kind: str,
    reason: str,
    data: Mapping[str, object] | None = None,
) -> None:
    """Records an event of an incident."""
    step = {"incident_id": incident_id, "run_id": run_id, "at": at, "kind": kind, "data": data or {}}
    conn.execute(insert(incident_events), {**step, "reason": to_column_text(reason, 500)})


def list_incidents(
    conn: Connection, *, target: str | None = None, open_only: bool = False, limit: int = 100
) -> list[Incident]:
    """Incidents, newest first."""
    query = select(incidents).order_by(incidents.c.id.desc()).limit(limit)
    ids = select(incidents.c.id).where(text(INCIDENT_IS_OPEN))
    if target is not None:
        query = query.where(incidents.c.target == target)
        ids = select(incidents.c.id).where(incidents.c.target == target, *is_open())
    if open_only:
        # as a subquery, or the database might follow the ids and pass over all that are resolved
        query = query.where(incidents.c.id.in_(ids))
    return _from_rows(conn, conn.execute(query).mappings().all())


def open_causes(conn: Connection) -> dict[str, list[OpenCause]]:
    """The open incidents by target, oldest first."""
    kinds = (incidents.c.target, incidents.c.cause, incidents.c.opened_at, incidents.c.member_count)
    found: dict[str, list[OpenCause]] = {}
    for row in conn.execute(select(*kinds).where(text(INCIDENT_IS_OPEN)).order_by(incidents.c.id)):
        opened = OpenCause(cause=Cause(row.cause), opened_at=row.opened_at, members=row.member_count)
        found.setdefault(row.target, []).append(opened)
    return found


def load_incidents(conn: Connection, ids: Sequence[int], *, members: bool = True) -> list[Incident]:
    """The incidents with these ids that exist, in the same order. Without `members` nothing of their items is read."""
    rows: dict[int, RowMapping] = {}
    for chunk in in_chunks(ids):
        rows |= {row["id"]: row for row in conn.execute(select(incidents).where(incidents.c.id.in_(chunk))).mappings()}
    return _from_rows(conn, [rows[each] for each in ids if each in rows], members=members)


def count_incidents(
    conn: Connection, *, target: str | None = None, open_only: bool = False, at_most: int | None = None
) -> int:
    """The number of incidents, counted up to `at_most` (None: all)."""
    query = select(incidents.c.id).where(*(is_open() if open_only else ()))
    if target is not None:
        query = query.where(incidents.c.target == target)
    return count_rows(conn, query, at_most=at_most)


def any_open(conn: Connection, *, cause: Cause) -> bool:
    """Whether any incident of this cause is open."""
    found = select(incidents.c.id).where(text(INCIDENT_IS_OPEN), incidents.c.cause == cause.value).limit(1)
    return conn.execute(found).first() is not None


def open_with_cause(conn: Connection, *, cause: Cause, environment: str) -> list[Incident]:
    """The open incidents of one cause in an environment, on any target, oldest first.

    They stay locked until the caller's writing transaction ends. All writers lock them in this order, so none deadlock.
    """
    about = (incidents.c.cause == cause.value, incidents.c.environment == environment)
    return _from_rows(conn, conn.execute(_open_incidents(*about).with_for_update()).mappings().all())


def silenced_openings(conn: Connection, *, environment: str) -> list[Incident]:
    """The open incidents of an environment whose opening is silenced, oldest first.

    They stay locked until the caller's writing transaction ends. Rows that another transaction has locked are skipped;
    the next delivery finds them.
    """
    about = (incidents.c.silence_id.is_not(None), incidents.c.environment == environment)
    query = _open_incidents(*about).with_for_update(skip_locked=True)
    return _from_rows(conn, conn.execute(query).mappings().all())


def notified_only_on(conn: Connection, *, channel: str, environment: str) -> list[Incident]:
    """The open incidents of an environment that no other channel was notified of, oldest first; locked as above."""
    alone = cast(incidents.c.channels, String) == json.dumps([channel])
    query = _open_incidents(alone, incidents.c.environment == environment).with_for_update(skip_locked=True)
    return _from_rows(conn, conn.execute(query).mappings().all())


def last_error(conn: Connection, incident_id: int) -> str | None:
    """The last error in the incident's events, in our own words; None without one."""
    errors = (event.data.get("error") for event in reversed(events(conn, incident_id)))
    return next((error for error in errors if isinstance(error, str)), None)


def _open_incidents(*about: ColumnElement[bool]) -> Select[tuple[Any, ...]]:
    """Open incidents of any target that meet the conditions, oldest first."""
    # the ids from the partial index: to have them in order, SQLite would pass over all that are resolved
    ids = select(incidents.c.id).where(text(INCIDENT_IS_OPEN))
    query = select(incidents).where(incidents.c.id.in_(ids), text(INCIDENT_IS_OPEN), *about)
    return query.order_by(incidents.c.id)


def find(conn: Connection, incident_id: int, *, lock: bool = False) -> Incident | None:
    """One incident with its newest evidence, or None; `lock` holds it until the writing transaction ends."""
    query = select(incidents).where(incidents.c.id == incident_id)
    row = conn.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    return None if row is None else _from_rows(conn, [row])[0]


def events(conn: Connection, incident_id: int) -> list[IncidentEvent]:
    """The events of an incident, oldest first."""
    query = select(incident_events).where(incident_events.c.incident_id == incident_id).order_by(incident_events.c.id)
    return [_event(row) for row in conn.execute(query)]


def last_event(conn: Connection, incident_id: int, *, kinds: Collection[str]) -> IncidentEvent | None:
    """The newest event of one of these kinds, or None."""
    where = (incident_events.c.incident_id == incident_id, incident_events.c.kind.in_(kinds))
    query = select(incident_events).where(*where).order_by(incident_events.c.id.desc()).limit(1)
    row = conn.execute(query).one_or_none()
    return None if row is None else _event(row)


def _event(row: Row[Any]) -> IncidentEvent:
    return IncidentEvent(at=row.at, kind=row.kind, reason=row.reason, run_id=row.run_id, data=row.data)


def _evidence_by_id(conn: Connection, ids: Sequence[int]) -> dict[int, Evidence]:
    found: dict[int, Evidence] = {}
    for chunk in in_chunks(ids):
        for row in conn.execute(select(evidence).where(evidence.c.id.in_(chunk))).mappings():
            found[row["id"]] = evidence_from_row(row)
    return found


def with_current_members(conn: Connection, found: Sequence[Incident]) -> list[Incident]:
    """Incidents with their present members: first ids, groups and statuses. Their evidence knows only new ones."""
    current = members.current(conn, {each.id: each.cause for each in found if each.member_count})
    return [_with_members(each, current.get(each.id, CurrentMembers())) for each in found]


def _with_members(incident: Incident, current: CurrentMembers) -> Incident:
    seen = incident.evidence
    return replace(
        incident,
        member_ids=current.item_ids,
        groups=tuple(name for name in current.by_group if name),
        by_group=current.by_group,
        evidence=replace(seen, breakdown=current.by_status) if seen and current.by_status else seen,
    )


def _from_rows(conn: Connection, rows: Sequence[RowMapping], *, members: bool = True) -> list[Incident]:
    """Incidents with their newest evidence and present members: as many statements for many as for one."""
    seen = _evidence_by_id(conn, [row["evidence_id"] for row in rows if row["evidence_id"] is not None])
    found = [incident_from_row(row, seen.get(row["evidence_id"])) for row in rows]
    return with_current_members(conn, found) if members else found


def incident_from_row(values: RowMapping, seen: Evidence | None) -> Incident:
    """An incident from its row and its newest evidence; without members."""
    return Incident(
        id=values["id"],
        target=values["target"],
        environment=values["environment"],
        cause=Cause(values["cause"]),
        group=values["group_name"],
        state=IncidentState(values["state"]),
        severity=Severity(values["severity"]),
        team=Team(values["team"]),
        accepted=values["accepted"],
        opened_at=values["opened_at"],
        first_evidence_at=values["first_evidence_at"],
        last_evidence_at=values["last_evidence_at"],
        acknowledged_at=values["acknowledged_at"],
        acknowledged_by=values["acknowledged_by"],
        silence_id=values["silence_id"],
        resolved_at=values["resolved_at"],
        last_message_at=values["last_message_at"],
        member_count=values["member_count"],
        peak_count=values["peak_count"],
        unnotified_count=values["unnotified_count"],
        channels=tuple(values["channels"]),
        evidence=seen,
    )


class PreviousRun(msgspec.Struct, frozen=True, kw_only=True):
    """The run before another one."""

    started_at: datetime
    run_key: str | None


def previous_run(conn: Connection, *, target: str, before: int) -> PreviousRun | None:
    """The target's last run before this id that ended, whatever its status, or None."""
    newest = newest_id(target, ENDED, upto=before - 1)
    row = conn.execute(select(runs.c.started_at, runs.c.run_key).where(runs.c.id == newest)).mappings().first()
    return None if row is None else PreviousRun(**row)


def schedule_known_since(conn: Connection, *, target: str, name: str, started_at: datetime) -> datetime:
    """Since when this target has the schedule of that name; a new or changed one is stored as known since `started_at`.

    Must run in a writing transaction.
    """
    row = conn.execute(select(schedules).where(schedules.c.target == target)).one_or_none()
    if row is not None and row.name == name:
        known_since: datetime = row.known_since
        return known_since
    values = {"name": name, "known_since": started_at}
    added = insert_or(conn, schedules).values(target=target, **values)
    conn.execute(added.on_conflict_do_update(index_elements=[schedules.c.target], set_=values))
    return started_at


def unasked_by_reason(conn: Connection, *, target: str) -> dict[Reason, int]:
    """A target's tracked items that are unknown although no request for them failed, by reason."""
    unasked = (items.c.target == target, in_state(ItemState.UNKNOWN), items.c.reason.in_(list(Reason)))
    query = select(items.c.reason, func.count()).where(*unasked, *active()).group_by(items.c.reason)
    return {Reason(reason): count for reason, count in conn.execute(query)}


def has_tracked_items(conn: Connection, *, target: str) -> bool:
    """Whether a target has, or ever had, items."""
    return bool(conn.execute(select(exists().where(items.c.target == target))).scalar())


def recent_counts(conn: Connection, *, target: str, now: datetime) -> list[RunCounts]:
    """The newest runs of a target that have a snapshot, oldest first: as many, and as old, as a trend can have."""
    states = (snapshots.c[state.value] for state in ItemState)
    columns = (runs.c.started_at, snapshots.c.total, snapshots.c.stuck, *states)
    query = select(*columns).join(snapshots, snapshots.c.run_id == runs.c.id)
    recent = runs.c.target == target, runs.c.started_at > now - MAX_AGE, runs.c.started_at <= now
    rows = conn.execute(query.where(*recent).order_by(runs.c.started_at.desc()).limit(MAX_RUNS)).all()
    return [
        RunCounts(at=at, total=total, stuck=stuck, counts=dict(zip(ItemState, counts, strict=True)))
        for at, total, stuck, *counts in reversed(rows)
    ]
