"""A report as one JSON object. Keys only ever grow; times are ISO 8601 in UTC, what is not there is null."""

import csv
import io
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from enum import Enum
from itertools import pairwise
from typing import Any

from monitor.model import ItemState, RunStatus
from monitor.reports.formatting import iso
from monitor.reports.incidents import incident_json
from monitor.reports.overview import Changes, IncidentChanges, Overview, TargetOverview
from monitor.reports.runs import history_json
from monitor.reports.trends import GroupHealth, IngestionTimes, LastRun
from monitor.runs.store import HistoryRow

_HISTORY = tuple(field.name for field in fields(HistoryRow))
COLUMNS = (*_HISTORY, "span_started_at", "span_ended_at")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def overview_csv(overview: Overview) -> str:
    """A heading, then per target and span of the period its last snapshot, oldest first.

    A span in which no run stored numbers has a row with nothing but the target and the span's bounds. Text that a
    spreadsheet would take for a formula gets an apostrophe before it.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for target in overview.targets:
        for (start, end), sample in zip(pairwise(overview.bounds), target.facts.samples, strict=True):
            values = {name: getattr(sample, name) for name in _HISTORY} if sample else {"target": target.facts.target}
            values |= {"span_started_at": start, "span_ended_at": end}
            writer.writerow([_cell(values.get(name)) for name in COLUMNS])
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    text = value.value if isinstance(value, Enum) else value
    return f"'{text}" if isinstance(text, str) and text.startswith(_FORMULA) else text


def overview_json(overview: Overview) -> dict[str, Any]:
    """The whole report as JSON values.

    Returns:
        `generated_at`, `environment`, `period` (`start`, `end`), `targets`, `open_incidents` (as `incidents list --json`
        has them), `incident_changes` of what belongs to none of the targets, and `undelivered` messages by channel.
    """
    return {
        "generated_at": overview.generated_at.isoformat(),
        "environment": overview.environment,
        "period": {"start": overview.start.isoformat(), "end": overview.bounds[-1].isoformat()},
        "targets": [_target(target, overview.bounds) for target in overview.targets],
        "open_incidents": [incident_json(incident, overview.silences) for incident in overview.incidents],
        "incident_changes": _incidents(overview.other_incidents),
        "undelivered": [
            {"channel": each.channel, "dead": each.dead, "waiting": each.waiting} for each in overview.undelivered
        ],
    }


def _target(target: TargetOverview, bounds: Sequence[datetime]) -> dict[str, Any]:
    facts = target.facts
    return {
        "target": facts.target,
        "condition": target.condition.value,
        "stale": target.stale,
        "last_run": _run(facts.last_run),
        "running_since": iso(facts.running_since),
        "sync_log_unreadable_since": iso(facts.unreadable_since),
        "health": _row(facts.snapshot),
        "groups": {"total": facts.group_count, "shown": [_group(group) for group in facts.groups]},
        "trend": [
            {"start": start.isoformat(), "end": end.isoformat(), "snapshot": _row(sample)}
            for (start, end), sample in zip(pairwise(bounds), facts.samples, strict=True)
        ],
        "stages": {
            "total": facts.stage_count,
            "shown": [{"state": each.state.value, "stage": each.stage, "items": each.items} for each in facts.stages],
        },
        "ingestion": _ingestion(facts.ingestion),
        "stuck": [
            {
                "item_id": each.item_id,
                "group": each.group,
                "stage": each.stage,
                "pending_since": each.pending_since.isoformat(),
            }
            for each in facts.stuck
        ],
        "changes": _changes(facts.changes),
    }


def _run(run: LastRun | None) -> dict[str, Any] | None:
    if run is None:
        return None
    return {
        "run_id": run.run_id,
        "status": run.status.value,
        "abort_reason": run.abort_reason,
        "error": run.error,
        "started_at": run.started_at.isoformat(),
        "finished_at": run.finished_at.isoformat(),
    }


def _row(row: HistoryRow | None) -> dict[str, Any] | None:
    return None if row is None else history_json([row])[0]


def _group(group: GroupHealth) -> dict[str, Any]:
    counts = {state.value: group.counts[state] for state in ItemState}
    return {"group": group.name, "total": group.total, **counts, "stuck": group.stuck}


def _ingestion(times: IngestionTimes | None) -> dict[str, Any] | None:
    if times is None:
        return None
    return {
        "items": times.items,
        "median_s": round(times.median_s, 3),
        "p95_s": round(times.p95_s, 3),
        "slowest": [
            {
                "item_id": each.item_id,
                "group": each.group,
                "completed_at": each.completed_at.isoformat(),
                "duration_s": round(each.duration_s, 3),
            }
            for each in times.slowest
        ],
    }


def _changes(changes: Changes) -> dict[str, Any]:
    made = changes.runs.by_status if changes.runs else {}
    return {
        "since": changes.since.isoformat(),
        "first_report": changes.first_report,
        "runs": {status.value: made.get(status, 0) for status in RunStatus if status is not RunStatus.RUNNING},
        "new": changes.new,
        "became_stuck": changes.stuck,
        "items": [
            {"to": each.change, "count": each.count, "sample_ids": list(each.sample_ids)} for each in changes.items
        ],
        "incidents": _incidents(changes.incidents),
    }


def _incidents(changes: IncidentChanges) -> dict[str, Any]:
    return {
        "total": changes.total,
        "newest": [
            {
                "id": each.id,
                "target": each.target,
                "cause": each.cause.value,
                "state": each.state.value,
                "happened": list(each.kinds),
            }
            for each in changes.newest
        ],
    }
