"""The history of snapshots as columns and as JSON values."""

from collections.abc import Sequence
from typing import Any

from monitor.report.columns import align, moment
from monitor.store.runs import HistoryRow

__all__ = ["history_json", "history_text"]


def history_text(rows: Sequence[HistoryRow]) -> str:
    """A line per snapshot, in the order given."""
    if not rows:
        return "No history yet: run `ingestion-monitor check` first."
    heading = ("RUN", "STARTED (UTC)", "TARGET", "STATUS", "TOTAL", "COMPLETED", "PENDING", "FAILED", "NOT FOUND",
               "INVALID", "UNKNOWN", "STUCK", "REQUESTS", "SECONDS")  # fmt: skip
    cells = [
        (
            row.run_id,
            moment(row.started_at),
            row.target,
            row.status.value + (f" ({row.abort_reason})" if row.abort_reason else ""),
            row.total,
            row.completed,
            row.pending,
            row.failed,
            row.not_found,
            row.invalid,
            row.unknown,
            row.stuck,
            row.requests,
            round(row.duration_s, 1),
        )
        for row in rows
    ]
    return align(heading, cells)


def history_json(rows: Sequence[HistoryRow]) -> list[dict[str, Any]]:
    """The rows as JSON values, times as ISO 8601 in UTC."""
    listed = []
    for row in rows:
        values = {name: getattr(row, name) for name in HistoryRow.__dataclass_fields__}
        values |= {"status": row.status.value, "started_at": row.started_at.isoformat()}
        listed.append(values | {"finished_at": row.finished_at.isoformat()})
    return listed
