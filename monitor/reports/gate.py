"""The gate of a target: its query, and the result as JSON. Bulk jobs ask in loops: it imports no HTTP client."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from monitor.incidents import store as incident_store
from monitor.incidents.gate import ClosingIncident, GateResult, check_gate
from monitor.model.schedule import DueTimes
from monitor.reports.formatting import iso
from monitor.runs import store as run_store


def gate_view(conn: Connection, *, target: str, due_times: DueTimes, now: datetime) -> GateResult:
    """Whether bulk work on a target may proceed, as of the database. `due_times`: when its runs are due."""
    return gate_views(conn, due_times={target: due_times}, now=now)[target]


def gate_views(conn: Connection, *, due_times: Mapping[str, DueTimes], now: datetime) -> dict[str, GateResult]:
    """The same of several targets: as many statements as for one."""
    open_incidents = incident_store.unresolved(conn, targets=due_times)
    last_runs = run_store.last_runs(conn, targets=[*due_times])
    found = {}
    for target, due in due_times.items():
        last = last_runs.get(target)
        found[target] = check_gate(
            target,
            unresolved=[
                ClosingIncident(cause=each.cause, incident_id=each.id, since=each.since, accepted=each.accepted)
                for each in open_incidents.get(target, ())
            ],
            last_run_at=last.finished_at if last else None,
            last_abort=last.aborted_by if last else None,
            due_times=due,
            now=now,
        )
    return found


def gate_json(result: GateResult) -> dict[str, Any]:
    """The result as JSON values; `cause` and `incident_id` are those of the highest-ranked incident."""
    first = result.by[0] if result.by else None
    return {
        "target": result.target,
        "proceed": result.proceed,
        "reason": result.reason.value,
        "cause": first.cause.value if first else None,
        "incident_id": first.incident_id if first else None,
        "since": iso(result.since),
        "last_run_at": iso(result.last_run_at),
        "text": result.text,
        "incidents": [
            {"cause": each.cause.value, "incident_id": each.incident_id, "since": iso(each.since)} for each in result.by
        ],
    }
