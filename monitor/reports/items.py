"""Items as text and JSON values: the list, and one item with its history."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any

from monitor.model import ItemState
from monitor.notifications.messages import format_age
from monitor.notifications.texts import format_items
from monitor.reports.formatting import cut_list, fit, format_time, json_values, plural
from monitor.reports.item_queries import ItemEvent, ItemRow

_NOTHING = (
    "No such items. New ones are listed after the next check. To list removed and ignored items, use --state removed "
    "--state ignored."
)


def items_text(
    rows: Sequence[ItemRow],
    *,
    total: int,
    now: datetime,
    width: int | None = None,
    unknown: int = 0,
    known_states: Iterable[str] = (),
) -> str:
    """A line per item, and how many match; on a narrow terminal columns are shortened, but never an id.

    `unknown`: items that are unknown now, but were last known in one of `known_states`, which are the wanted ones.
    """
    hint = _unknown_hint(unknown, sorted(known_states)) if unknown else ""
    if not rows:
        return hint or _NOTHING
    columns: dict[str, list[object]] = {
        "ITEM": [row.item_id for row in rows],
        "STATE": ["stuck" if row.stuck else row.display_state for row in rows],
        "LAST KNOWN": [row.known_state if row.display_state != row.known_state else None for row in rows],
        "DETAIL": [item_detail(row) for row in rows],
        "AGE": [format_age(now - row.state_since) for row in rows],
        "GROUP": [row.group for row in rows],
        "TARGET": [row.target for row in rows],
    }
    if all(row.display_state == row.state and row.state is not ItemState.UNKNOWN for row in rows):
        del columns["LAST KNOWN"]
    if not any(columns["GROUP"]):
        del columns["GROUP"]
    if len({row.target for row in rows}) == 1:
        del columns["TARGET"]
    shorten = {"DETAIL": 10, "GROUP": 8, "TARGET": 8}
    table = fit(columns, width=width, shorten=shorten, optional=("DETAIL", "GROUP"))
    shown = f"{len(rows)} of {total} shown; --limit {total} shows all" if total > len(rows) else f"{total} shown"
    return "\n".join([table, shown, *([hint] if hint else [])])


def _unknown_hint(unknown: int, known_states: Sequence[str]) -> str:
    options = " ".join(f"--known-state {state}" for state in known_states)
    return f"{format_items(unknown)} unknown now, but last known as {' or '.join(known_states)}: list with {options}"


def item_detail(row: ItemRow) -> str | None:
    """What best explains the state: the provider's status, its error, or why the item is unknown."""
    if row.ignored_at is not None:
        return row.ignore_reason
    if row.removed_at is not None:
        return None
    if row.state is ItemState.UNKNOWN:
        return row.reason if row.known_state else f"{row.reason}, never answered"
    if row.state is ItemState.NOT_FOUND:
        return _answer(row) or row.stage or "not in the answer"
    if row.state is ItemState.INVALID:
        return _answer(row) or "malformed, never sent"
    if row.state is ItemState.FAILED and row.failure_reason:
        return f"{row.stage}: {row.failure_reason}" if row.stage else row.failure_reason
    return row.stage


def _answer(row: ItemRow) -> str | None:
    """The HTTP status and code of the last error; of a 2xx the body is what says it."""
    said = [str(part) for part in (row.http_status, row.code) if part is not None]
    by_body = row.http_status is not None and row.http_status < HTTPStatus.MULTIPLE_CHOICES and row.code is None
    return " ".join([*said, "(by its body)"] if by_body else said) or None


def items_json(rows: Sequence[ItemRow], *, total: int) -> dict[str, Any]:
    """The list as JSON values: how many match, how many are shown, and these without the API's own text."""
    shown = [{name: value for name, value in item_json(row).items() if name != "failure_message"} for row in rows]
    return cut_list("items", shown, total=total)


def item_json(row: ItemRow) -> dict[str, Any]:
    """One item as JSON values."""
    return {**json_values(row), "state": row.display_state}


def item_text(row: ItemRow, events: Sequence[ItemEvent], *, earlier: int, now: datetime) -> str:
    """An item with its last events, oldest first. `earlier`: the number of older ones."""
    lines = [
        f"Item {row.item_id} of {row.target}",
        *(f"  {name:<14}{said}" for name, said in item_facts(row, now) if said),
    ]
    lines += ["What happened (UTC):", f"  {format_time(row.first_seen_at)}  first seen in the sync log"]
    if earlier:
        lines.append(f"    … {earlier} earlier events are not shown")
    return "\n".join([*lines, *_timeline(row, events, earlier=earlier, now=now)])


def item_facts(row: ItemRow, now: datetime) -> list[tuple[str, str | None]]:
    """What is known of an item, as labels and texts; None where there is nothing to say."""
    unknown = row.state is ItemState.UNKNOWN
    uploaded = f"{format_time(row.submitted_at)} UTC" if row.submitted_at else None
    answer = ", ".join(part for part in (_answer(row), row.request_id and f"request {row.request_id}") if part)
    last_answer = "HTTP " + answer if row.http_status else answer or None
    return [
        ("state", row.display_state + (", stuck" if row.stuck else "") + (f" ({row.reason})" if unknown else "")),
        ("last known", (row.known_state or "nothing yet") if unknown or row.display_state != row.state else None),
        ("since", f"{format_time(row.state_since)} UTC, for {format_age(now - row.state_since)}"),
        ("stage", row.stage and row.stage + ("" if row.recognised else " (unrecognised: add it to `statuses`)")),
        ("reason", row.failure_reason),
        ("API says", row.failure_message and f'"{row.failure_message}"'),
        ("group", row.group),
        ("uploaded", uploaded or "unknown: no usable upload time in the sync log"),
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
            f"  {format_time(event.at)}  {event_text(event)}" + (f" (run {event.run_id})" if event.run_id else "")
        )
        before, interval = event.at, _interval_text(event, interval)
    return [*lines, f"      {format_age(now - before)} {interval}, until now"] if before is not None else lines


def event_text(event: ItemEvent) -> str:
    """A change in words: `state pending → completed`."""
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
