"""The snapshots of past runs: their query, and the list as text and JSON values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from monitor.model import ItemState
from monitor.reports.formatting import count_limit, counted_list, fit, format_time, with_rest
from monitor.runs import store as run_store
from monitor.runs.store import HistoryRow


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryView:
    """The newest snapshots of one target, or of all."""

    rows: Sequence[HistoryRow]
    """Newest first."""
    total: int
    """How many there are, counted up to `count_limit`."""


def history_view(conn: Connection, *, target: str | None, limit: int) -> HistoryView:
    """The newest snapshots of a target (None: of all), at most `limit` (> 0)."""
    return HistoryView(
        rows=run_store.history(conn, target=target, limit=limit),
        total=run_store.count_snapshots(conn, target=target, at_most=count_limit(limit)),
    )


def history_json(view: HistoryView) -> dict[str, Any]:
    """The rows as JSON values, with the columns of the view `history`, and how many there are, or at least are."""
    return counted_list("runs", [history_row_json(row) for row in view.rows], total=view.total)


def history_row_json(row: HistoryRow) -> dict[str, Any]:
    """As `json_values`, which looks at every value: a report has hundreds of rows, a list thousands."""
    times = {"started_at": row.started_at.isoformat(), "finished_at": row.finished_at.isoformat()}
    return row.columns() | times | {"status": row.status.value}


def history_text(rows: Sequence[HistoryRow], *, total: int | None = None, width: int | None = None) -> str:
    """A line per snapshot, in the given order, and how many older ones there are."""
    if not rows:
        return "No history yet: run `ingestion-monitor check` first."
    columns: dict[str, list[object]] = {
        "RUN": [row.run_id for row in rows],
        "STARTED (UTC)": [format_time(row.started_at) for row in rows],
        "TARGET": [row.target for row in rows],
        "STATUS": [row.status.value + (f" ({row.abort_reason})" if row.abort_reason else "") for row in rows],
        "TOTAL": [row.snapshot.total for row in rows],
        **{state.label.upper(): [row.snapshot.states[state] for row in rows] for state in ItemState},
        "STUCK": [row.snapshot.stuck for row in rows],
        "REQUESTS": [row.snapshot.requests for row in rows],
        "SECONDS": [round(row.snapshot.duration_s, 1) for row in rows],
    }
    states = [state.label.upper() for state in ItemState if state is not ItemState.COMPLETED]
    zeros = [name for name in states if not any(columns[name])]
    same = ["TARGET"] if len({row.target for row in rows}) == 1 else []
    optional = [*same, *zeros, "SECONDS", "REQUESTS", "STUCK"]
    table = fit(columns, width=width, shorten={"STATUS": 10}, optional=optional)
    return with_rest(table, shown=len(rows), total=total)
