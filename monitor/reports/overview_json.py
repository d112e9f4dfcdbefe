"""A report as one JSON object, and its trend as CSV. New keys may be added; missing values are null."""

import csv
import io
from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from itertools import pairwise
from typing import Any

from monitor.model import ItemState, RunStatus
from monitor.reports.formatting import cut_list, iso, json_values
from monitor.reports.history import history_row_json
from monitor.reports.incidents import incident_json
from monitor.reports.indexing import QUANTILES, indexing_json
from monitor.reports.overview import Changes, IncidentChanges, Overview, TargetOverview
from monitor.reports.slos import slo_json
from monitor.reports.trends import GroupHealth
from monitor.reports.waits import summary_json
from monitor.runs.store import HISTORY_COLUMNS

_INDEXED = {f"time_to_indexed_{name}": share for name, share in QUANTILES.items()}
COLUMNS = (*HISTORY_COLUMNS, "span_started_at", "span_ended_at", "uploads_indexed", *_INDEXED)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def overview_csv(overview: Overview) -> str:
    """A heading, then per target the last snapshot of each span, oldest first, and the times to indexed of its uploads.

    A span without a snapshot or without times has a row without these values. Text that a spreadsheet would run as a
    formula gets a leading apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for target in overview.targets:
        indexed = target.facts.indexing.spans if target.facts.indexing else [None] * len(target.facts.samples)
        for (start, end), sample, times in zip(pairwise(overview.bounds), target.facts.samples, indexed, strict=True):
            values: dict[str, object] = sample.columns() if sample else {"target": target.facts.target}
            values |= {"span_started_at": start, "span_ended_at": end}
            if times is not None:
                values |= {"uploads_indexed": times.indexed}
                values |= {name: times.quantile_s(share) for name, share in _INDEXED.items()}
            writer.writerow([_cell(values.get(name)) for name in COLUMNS])
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    text = value.value if isinstance(value, Enum) else value
    return f"'{text}" if isinstance(text, str) and text.startswith(_FORMULA) else text


def overview_json(overview: Overview) -> dict[str, Any]:
    """The report as JSON values; docs/report.md describes the keys."""
    return {
        "generated_at": overview.generated_at.isoformat(),
        "environment": overview.environment,
        "period": {"start": overview.start.isoformat(), "end": overview.bounds[-1].isoformat()},
        "targets": [_target(target, overview.bounds) for target in overview.targets],
        "open_incidents": [incident_json(incident, overview.silences) for incident in overview.incidents],
        "open_incidents_total": max(overview.incident_count, len(overview.incidents)),
        "incident_changes": _incident_changes(overview.other_incidents),
        "undelivered": json_values(overview.undelivered),
    }


def _target(target: TargetOverview, bounds: Sequence[datetime]) -> dict[str, Any]:
    facts = target.facts
    return {
        "target": facts.target,
        "condition": target.condition.value,
        "stale": target.stale,
        "last_run": json_values(facts.last_run),
        "running_since": iso(facts.running_since),
        "sync_log_unreadable_since": iso(facts.unreadable_since),
        "health": facts.snapshot and history_row_json(facts.snapshot),
        "last_known": {state or "never_answered": count for state, count in facts.last_known.items()},
        "groups": cut_list("groups", [_group(group) for group in facts.groups], total=facts.group_count),
        "trend": [
            {"start": start.isoformat(), "end": end.isoformat(), "snapshot": sample and history_row_json(sample)}
            for (start, end), sample in zip(pairwise(bounds), facts.samples, strict=True)
        ],
        "stages": cut_list("stages", json_values(facts.stages), total=facts.stage_count),
        "failed_by_reason": cut_list("reasons", json_values(facts.reasons), total=facts.reason_count),
        "time_to_indexed": indexing_json(facts.indexing),
        "slos": [slo_json(row) for row in facts.slos],
        "canaries": json_values(facts.canaries),
        "stuck": json_values(facts.stuck),
        "stuck_total": facts.snapshot.snapshot.stuck if facts.snapshot else 0,
        "waits": summary_json(facts.waits),
        "changes": _changes(facts.changes),
    }


def _group(group: GroupHealth) -> dict[str, Any]:
    counts = {state.value: group.counts[state] for state in ItemState}
    last_known = {state or "never_answered": count for state, count in group.last_known.items()}
    return {"group": group.name, "total": group.total, **counts, "stuck": group.stuck, "last_known": last_known}


def _changes(changes: Changes) -> dict[str, Any]:
    made = changes.runs.by_status if changes.runs else {}
    return {
        "since": changes.since.isoformat(),
        "first_report": changes.first_report,
        "runs": {status.value: made.get(status, 0) for status in RunStatus if status is not RunStatus.RUNNING},
        "new": changes.new,
        "became_stuck": changes.stuck,
        "items": json_values(changes.items),
        "incidents": _incident_changes(changes.incidents),
    }


def _incident_changes(changes: IncidentChanges) -> dict[str, Any]:
    return cut_list("incidents", json_values(changes.newest), total=changes.total)
