"""Silences: their query, and one or many as text and JSON values, with the open incidents that they match."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from monitor.incidents import silence_store
from monitor.incidents import store as incident_store
from monitor.incidents.silences import format_matchers, matches_everything
from monitor.model import Incident, Silence
from monitor.notifications.messages import format_age
from monitor.notifications.routing import attributes_of, matches
from monitor.notifications.texts import describe_cause
from monitor.reports.formatting import (
    count_limit,
    counted_list,
    cut_list,
    fit,
    format_time,
    json_values,
    with_rest,
    wrap_lines,
)

_MAX_OPEN = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SilencesView:
    """The newest silences, and the open incidents that they may match."""

    silences: Sequence[Silence]
    """Newest first."""
    total: int
    """How many there are, counted up to `count_limit`."""
    open_incidents: Sequence[Incident]
    now: datetime


def silences_view(conn: Connection, *, show_all: bool, limit: int, now: datetime) -> SilencesView:
    """The newest silences, at most `limit` (> 0): those in force and to come, or all."""
    ending_after = None if show_all else now
    return SilencesView(
        silences=silence_store.list_silences(conn, ending_after=ending_after, limit=limit),
        total=silence_store.count_silences(conn, ending_after=ending_after, at_most=count_limit(limit)),
        open_incidents=open_incidents(conn),
        now=now,
    )


def open_incidents(conn: Connection) -> list[Incident]:
    """The incidents that a silence may match now, newest first."""
    return incident_store.list_incidents(conn, open_only=True, limit=_MAX_OPEN)


def silences_json(view: SilencesView) -> dict[str, Any]:
    """The list as JSON values, and how many there are, or at least are."""
    rows = [silence_json(each, incidents=view.open_incidents, now=view.now) for each in view.silences]
    return counted_list("silences", rows, total=view.total)


def added_silences_json(silences: Sequence[Silence], *, incidents: Sequence[Incident], now: datetime) -> dict[str, Any]:
    """The silences that one command added: a single one by itself, several as a list."""
    rows = [silence_json(each, incidents=incidents, now=now) for each in silences]
    return rows[0] if len(rows) == 1 else cut_list("silences", rows)


_NAMED = 10


def matching_incidents(silence: Silence, incidents: Sequence[Incident]) -> list[Incident]:
    """The incidents that a silence matches, whether it is active or not."""
    return [each for each in incidents if matches(silence.matchers, attributes_of(each))]


def silence_text(silence: Silence, *, incidents: Sequence[Incident], now: datetime, remarks: Sequence[str] = ()) -> str:
    """A new silence, for the person who created it. `incidents`: the open ones."""
    begins = "now" if silence.is_active(now) else f"{format_time(silence.starts_at)} UTC"
    lasts = format_age(silence.ends_at - max(now, silence.starts_at))
    lines = [
        f"Silence {silence.id}: {format_matchers(silence.matchers)}",
        f"  from       {begins}",
        f"  until      {format_time(silence.ends_at)} UTC ({lasts}), by {silence.author}",
    ]
    found = matching_incidents(silence, incidents)
    lines += [f"  matches    {_named(each)}" for each in found[:_NAMED]] or ["  matches    no open incident"]
    lines += [f"             and {len(found) - _NAMED} more"] if len(found) > _NAMED else []
    if matches_everything(silence.matchers):
        remarks = (*remarks, "It matches everything: no notifications are sent until it ends.")
    remarks = (
        *remarks,
        f"Incidents still open when it ends are notified then; `silences expire {silence.id}` ends it now.",
    )
    return "\n".join([*lines, *(row for remark in remarks for row in wrap_lines(remark, indent=0))])


def _named(incident: Incident) -> str:
    return f"#{incident.id} {incident.target}: {describe_cause(incident.cause, incident.member_count)}"


def silences_text(view: SilencesView, *, width: int | None = None) -> str:
    """A line per silence, in the given order, with the open incidents that it matches while active."""
    found, now = view.silences, view.now
    columns: dict[str, list[object]] = {
        "ID": [each.id for each in found],
        "STATE": [silence_state(each, now) for each in found],
        "FROM (UTC)": [format_time(each.starts_at) for each in found],
        "UNTIL (UTC)": [format_time(each.ends_at) for each in found],
        "OPEN NOW": [_matching(each, view.open_incidents, now) for each in found],
        "BY": [each.author for each in found],
        "MATCHES": [format_matchers(each.matchers) + (f"  ({each.comment})" if each.comment else "") for each in found],
    }
    table = fit(columns, width=width, shorten={"BY": 8}, optional=("FROM (UTC)",))
    return with_rest(table, shown=len(found), total=view.total)


def _matching(silence: Silence, incidents: Sequence[Incident], now: datetime) -> str | None:
    if not silence.is_active(now):
        return None
    found = matching_incidents(silence, incidents)
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return " ".join(f"#{each.id}" for each in found[:_NAMED]) + more or None


def silence_state(silence: Silence, now: datetime) -> str:
    """`pending` before it begins, `active`, or `expired`."""
    if silence.ends_at <= now:
        return "expired"
    return "active" if silence.is_active(now) else "pending"


def silence_json(silence: Silence, *, incidents: Sequence[Incident], now: datetime) -> dict[str, Any]:
    """One silence as JSON values; `matches` are the ids of the open incidents that it matches."""
    matches = [each.id for each in matching_incidents(silence, incidents)]
    return {**json_values(silence), "state": silence_state(silence, now), "matches": matches}
