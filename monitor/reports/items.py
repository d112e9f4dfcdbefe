"""Items as text and JSON values: the list, and one item with its history."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from monitor.model import ItemState
from monitor.notifications.messages import format_age
from monitor.reports.formatting import WIDTH, align, format_time, json_values, plural, shorten_middle
from monitor.reports.item_queries import ItemEvent, ItemRow

_MIN_WIDTHS = ({"ITEM": 36, "DETAIL": 10, "GROUP": 10, "TARGET": 10}, {"ITEM": 6, "DETAIL": 6, "GROUP": 6, "TARGET": 6})
"""Minimum widths of columns: first with room for a whole UUID, then, if the line is still too long, without."""


def items_text(rows: Sequence[ItemRow], *, total: int, now: datetime, wide: bool) -> str:
    """A line per item, and how many match. Unless `wide`, long ids lose their middle to fit 80 characters."""
    if not rows:
        return "No such items. To list removed and ignored items, use --state removed --state ignored."
    columns: dict[str, list[str | None]] = {
        "ITEM": [row.item_id for row in rows],
        "STATE": ["stuck" if row.stuck else row.display_state for row in rows],
        "DETAIL": [_detail(row) for row in rows],
        "AGE": [format_age(now - row.state_since) for row in rows],
    }
    if any(row.group for row in rows):
        columns["GROUP"] = [row.group for row in rows]
    if len({row.target for row in rows}) > 1:
        columns["TARGET"] = [row.target for row in rows]
    cells = columns if wide else _fit_columns(columns)
    table = align(tuple(cells), list(zip(*cells.values(), strict=True)))
    shown = f"{len(rows)} of {total} shown; --limit {total} shows all" if total > len(rows) else f"{total} shown"
    return f"{table}\n{shown}"


def _fit_columns(columns: dict[str, list[str | None]]) -> dict[str, list[str | None]]:
    """The columns, narrowed until a line fits."""
    widths = {name: max(len(name), *(len(cell or "-") for cell in cells)) for name, cells in columns.items()}
    for min_widths in _MIN_WIDTHS:
        _narrow_columns(widths, {name: width for name, width in min_widths.items() if name in widths})
    return {name: [_shorten_cell(cell, widths[name], name) for cell in cells] for name, cells in columns.items()}


def _narrow_columns(widths: dict[str, int], min_widths: dict[str, int]) -> None:
    """Narrows the column with the most room first, until a line fits or all have their minimum width."""
    over = sum(widths.values()) + 2 * (len(widths) - 1) - WIDTH
    while over > 0:
        name = max(min_widths, key=lambda each: widths[each] - min_widths[each])
        if widths[name] <= min_widths[name]:
            return
        widths[name] -= 1
        over -= 1


def _shorten_cell(cell: str | None, width: int, column: str) -> str | None:
    if cell is None or len(cell) <= width:
        return cell
    return shorten_middle(cell, width) if column == "ITEM" else f"{cell[: width - 1]}…"


def _detail(row: ItemRow) -> str | None:
    """What best explains the state: the provider's status, its error, or why the item is unknown."""
    if row.ignored_at is not None:
        return row.ignore_reason
    if row.removed_at is not None:
        return f"was {row.known_state}" if row.known_state else None
    if row.state is ItemState.UNKNOWN:
        return f"{row.reason}, " + (f"was {row.known_state}" if row.known_state else "never answered")
    if row.state in {ItemState.NOT_FOUND, ItemState.INVALID}:
        return _answer(row) or "malformed, never sent"
    return row.stage


def _answer(row: ItemRow) -> str | None:
    said = [str(part) for part in (row.http_status, row.code) if part is not None]
    return " ".join(said) or None


def items_json(rows: Sequence[ItemRow], *, total: int) -> dict[str, Any]:
    """The list as JSON values: `total`, and the items shown."""
    return {"total": total, "items": [item_json(row) for row in rows]}


def item_json(row: ItemRow) -> dict[str, Any]:
    """One item as JSON values."""
    return {**json_values(row), "state": row.display_state}


def item_text(row: ItemRow, events: Sequence[ItemEvent], *, earlier: int, now: datetime) -> str:
    """An item with its last events, oldest first. `earlier`: the number of older ones."""
    lines = [f"Item {row.item_id} of {row.target}", *(f"  {name:<14}{said}" for name, said in _facts(row, now) if said)]
    lines += ["What happened (UTC):", f"  {format_time(row.first_seen_at)}  first seen in the sync log"]
    if earlier:
        lines.append(f"    … {earlier} earlier events are not shown")
    return "\n".join([*lines, *_timeline(row, events, earlier=earlier, now=now)])


def _facts(row: ItemRow, now: datetime) -> list[tuple[str, str | None]]:
    unknown = row.state is ItemState.UNKNOWN
    answer = ", ".join(part for part in (_answer(row), row.request_id and f"request {row.request_id}") if part)
    last_answer = "HTTP " + answer if row.http_status else answer or None
    return [
        ("state", row.display_state + (", stuck" if row.stuck else "") + (f" ({row.reason})" if unknown else "")),
        ("last known", (row.known_state or "nothing yet") if unknown or row.display_state != row.state else None),
        ("since", f"{format_time(row.state_since)} UTC, for {format_age(now - row.state_since)}"),
        ("stage", row.stage and row.stage + ("" if row.recognised else " (unrecognised: add it to `statuses`)")),
        ("group", row.group),
        ("uploaded", f"{format_time(row.submitted_at)} UTC" if row.submitted_at else "not in the sync log"),
        ("first seen", f"{format_time(row.first_seen_at)} UTC"),
        ("last seen", f"{format_time(row.seen_at)} UTC" if row.seen_at else "never: the API has not returned it yet"),
        ("last checked", f"{format_time(row.checked_at)} UTC" if row.checked_at else "never answered"),
        ("last error", last_answer),
        ("page", f'"{row.page}": a gateway sent it, not the API' if row.page else None),
        ("unverified", f"{plural(row.unverified_runs, 'run')} in a row: the API fails for it, but not for others"
         if row.unverified_runs else None),
        ("incident", f"{row.incident_id} (`ingestion-monitor incidents show {row.incident_id}`)"
         if row.incident_id else None),
        ("removed", f"{format_time(row.removed_at)} UTC: it left the sync log" if row.removed_at else None),
        ("ignored", f"{format_time(row.ignored_at)} UTC: {row.ignore_reason}" if row.ignored_at else None),
    ]  # fmt: skip


def _timeline(row: ItemRow, events: Sequence[ItemEvent], *, earlier: int, now: datetime) -> list[str]:
    """The events with their times, and the intervals between them."""
    lines: list[str] = []
    before = None if earlier else row.first_seen_at
    interval = "before the first answer"
    for event in events:
        if before is not None:
            lines.append(f"      {format_age(event.at - before)} {interval}")
        lines.append(
            f"  {format_time(event.at)}  {_event_text(event)}" + (f" (run {event.run_id})" if event.run_id else "")
        )
        before, interval = event.at, _interval_text(event, interval)
    return [*lines, f"      {format_age(now - before)} {interval}, until now"] if before is not None else lines


def _event_text(event: ItemEvent) -> str:
    match event.kind:
        case "state":
            return f"state {event.old or 'new'} → {event.new or 'unknown'}"
        case "stage":
            return f"stage {event.old or 'none'} → {event.new or 'none'}"
        case "removed":
            return "left the sync log"
        case "returned":
            return "returned to the sync log"
        case "ignored":
            return f"ignored: {event.new}"
        case "unignored":
            return "no longer ignored"
        case other:
            return other


def _interval_text(event: ItemEvent, before: str) -> str:
    """The item's state after this event."""
    match event.kind:
        case "state" | "stage":
            return f"in {event.new or 'an unknown stage'}"
        case "removed":
            return "out of the sync log"
        case "ignored":
            return "ignored"
        case "returned" | "unignored":
            return "since then"
        case _:
            return before
