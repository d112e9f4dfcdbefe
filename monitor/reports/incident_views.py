"""Incidents as commands, pages and the API show them: a filtered list, and one incident with its events and items."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, select, text

from monitor.database.lookups import count_rows
from monitor.database.tables import INCIDENT_IS_OPEN, incidents, is_open
from monitor.incidents import members, silence_store
from monitor.incidents import store as incident_store
from monitor.incidents.members import Member
from monitor.incidents.store import IncidentEvent
from monitor.model import Cause, Incident, IncidentState, Severity, Silence
from monitor.reports.formatting import count_limit, counted_list, cut_list, json_values
from monitor.reports.incidents import incident_json

OPEN_STATES = frozenset({IncidentState.OPEN, IncidentState.ACKNOWLEDGED})
_RESOLVED = frozenset({IncidentState.RESOLVED})


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentFilter:
    """Which incidents are wanted; the defaults select all."""

    target: str | None = None
    """A target, or `channel:NAME`."""
    states: frozenset[IncidentState] = frozenset()
    """Empty: any."""
    causes: frozenset[Cause] = frozenset()
    severities: frozenset[Severity] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentsView:
    """A part of the incidents that a filter selects."""

    incidents: Sequence[Incident]
    silences: Sequence[Silence]
    """Active ones."""
    total: int
    """How many the filter selects, counted up to `count_limit`."""
    now: datetime


def incidents_view(
    conn: Connection, filters: IncidentFilter, *, limit: int, offset: int = 0, brief: bool = False, now: datetime
) -> IncidentsView:
    """The incidents that a filter selects, newest first: at most `limit` (> 0) after the first `offset`.

    `brief`: as `listed_incidents`.
    """
    ids = conn.execute(_newest_first(filters).limit(limit).offset(offset)).scalars().all()
    silences = silence_store.active(conn, now=now)
    return IncidentsView(
        incidents=listed_incidents(conn, ids, silences) if brief else incident_store.load_incidents(conn, ids),
        silences=silences,
        total=_count(conn, filters, at_most=count_limit(offset + limit)),
        now=now,
    )


def open_first_view(
    conn: Connection, filters: IncidentFilter, *, limit: int, offset: int = 0, now: datetime
) -> IncidentsView:
    """The same for a page, which shows less of each: those that are not resolved come first."""
    states = filters.states or frozenset(IncidentState)
    if not (states & OPEN_STATES and states & _RESOLVED):
        return incidents_view(conn, filters, limit=limit, offset=offset, brief=True, now=now)
    unresolved, resolved = replace(filters, states=states & OPEN_STATES), replace(filters, states=_RESOLVED)
    ids = list(conn.execute(_newest_first(unresolved).limit(limit).offset(offset)).scalars())
    unresolved_count = _count(conn, unresolved, at_most=None)
    if len(ids) < limit:
        skipped = max(0, offset - unresolved_count)
        ids += conn.execute(_newest_first(resolved).limit(limit - len(ids)).offset(skipped)).scalars()
    at_most, silences = count_limit(offset + limit), silence_store.active(conn, now=now)
    return IncidentsView(
        incidents=listed_incidents(conn, ids, silences),
        silences=silences,
        total=min(at_most, unresolved_count + _count(conn, resolved, at_most=at_most)),
        now=now,
    )


def listed_incidents(conn: Connection, ids: Sequence[int], silences: Iterable[Silence]) -> list[Incident]:
    """Incidents as lists on pages show them: without what only their items say, unless a silence is about a group."""
    return incident_store.load_incidents(conn, ids, members=any("group" in each.matchers for each in silences))


def _count(conn: Connection, filters: IncidentFilter, *, at_most: int | None) -> int:
    return count_rows(conn, _filtered(filters), at_most=at_most)


def _newest_first(filters: IncidentFilter) -> Select[int]:
    return _filtered(filters).order_by(incidents.c.id.desc())


def _filtered(filters: IncidentFilter) -> Select[int]:
    query = select(incidents.c.id)
    if filters.target is not None:
        query = query.where(incidents.c.target == filters.target)
    if filters.states:
        query = query.where(incidents.c.state.in_([each.value for each in filters.states]))
        if filters.states <= OPEN_STATES:
            # as a subquery, or the database might follow the ids and pass over all that are resolved
            unresolved = select(incidents.c.id).where(text(INCIDENT_IS_OPEN))
            if filters.target is not None:
                unresolved = select(incidents.c.id).where(incidents.c.target == filters.target, *is_open())
            query = query.where(incidents.c.id.in_(unresolved))
    if filters.causes:
        query = query.where(incidents.c.cause.in_([each.value for each in filters.causes]))
    if filters.severities:
        query = query.where(incidents.c.severity.in_([each.value for each in filters.severities]))
    return query


def incidents_json(view: IncidentsView) -> dict[str, Any]:
    """The list as JSON values, and how many there are, or at least are."""
    rows = [incident_json(incident, view.silences) for incident in view.incidents]
    return counted_list("incidents", rows, total=view.total)


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentView:
    """One incident, for the person who handles it."""

    incident: Incident
    events: Sequence[IncidentEvent]
    """Oldest first."""
    members: Sequence[Member]
    """Those longest in their state first; maybe only a part of them."""
    silences: Sequence[Silence]
    """Active ones."""
    now: datetime


def incident_view(
    conn: Connection, incident_id: int, *, limit: int | None = None, offset: int = 0, now: datetime
) -> IncidentView | None:
    """An incident with at most `limit` (> 0; None: all) of its items after the first `offset`; None if unknown."""
    incident = incident_store.find(conn, incident_id)
    if incident is None:
        return None
    return IncidentView(
        incident=incident,
        events=incident_store.events(conn, incident_id),
        members=members.listing(conn, incident_id=incident_id, limit=limit, offset=offset),
        silences=silence_store.active(conn, now=now),
        now=now,
    )


def incident_view_json(view: IncidentView) -> dict[str, Any]:
    """The incident as JSON values, without the API's own messages."""
    history = [
        {"at": event.at.isoformat(), "kind": event.kind, "reason": event.reason, "run_id": event.run_id}
        for event in view.events
    ]
    return {
        **incident_json(view.incident, view.silences),
        **cut_list("members", [each.item_id for each in view.members], total=view.incident.member_count),
        "member_details": json_values(list(view.members)),
        "events": history,
    }
