"""What an outcome makes of an item's row, column by column: the rule that `transition` writes the differences of."""

from types import SimpleNamespace

from msgspec.structs import replace

from monitor.model import ItemState, Outcome
from monitor.model.items import EXISTING_STATES, ItemChange, TrackedItem

DETAILS = ("reason", "http_status", "code", "request_id", "page")
"""Columns that a due item does not have, but for whether one of them has a value."""
_READ = ("state", "known_state", "stage", "recognised", "since", "pending_since", "seen_at", "checked_at",
         "regressed_at", "unverified_runs", "failure_reason", "failure_message", "indexed_at")  # fmt: skip


def row_of(item: TrackedItem) -> dict[str, object]:
    """The columns that an outcome may change, of an item without details."""
    return {name: getattr(item, name) for name in _READ} | dict.fromkeys(DETAILS)


def row_after(item: TrackedItem, change: ItemChange) -> SimpleNamespace:
    """The row of an item without details after a change, with the event and the completion that it brings."""
    row = row_of(item) | dict(change.changed)
    return SimpleNamespace(**row, event=change.event, completion=change.completion)


def item_after(item: TrackedItem, change: ItemChange) -> TrackedItem:
    """The item as the next run reads it."""
    changed = dict(change.changed)
    details = any(changed.get(name) is not None for name in DETAILS) if "reason" in changed else item.has_details
    return replace(item, **{name: changed[name] for name in _READ if name in changed}, has_details=details)


def whole_row(item: TrackedItem, outcome: Outcome) -> dict[str, object]:
    """Every column after an outcome, whether it changes or not."""
    error, known, at = outcome.error, outcome.state is not ItemState.UNKNOWN, outcome.at
    completed_before = item.indexed_at or (item.since if item.known_state is ItemState.COMPLETED else item.regressed_at)
    row = row_of(item) | {
        "state": outcome.state,
        "reason": outcome.reason,
        "http_status": error.status if error else None,
        "code": error.code if error else None,
        "request_id": error.request_id if error else None,
        "page": error.page if error else None,
        "indexed_at": completed_before or (at if outcome.state is ItemState.COMPLETED else None),
    }
    if outcome.answered:
        row["checked_at"] = at
    if outcome.state in EXISTING_STATES:
        row["seen_at"] = at
    if not known:
        return row
    pending = outcome.state is ItemState.PENDING
    return row | {
        "known_state": outcome.state,
        "stage": outcome.stage,
        "recognised": outcome.recognised,
        "since": item.since if outcome.state is item.known_state else at,
        "pending_since": _pending_since(item, outcome) if pending else None,
        "regressed_at": (at if item.known_state is ItemState.COMPLETED else item.regressed_at) if pending else None,
        "unverified_runs": 0,
        "failure_reason": outcome.failure_reason,
        "failure_message": outcome.failure_message,
    }


def _pending_since(item: TrackedItem, outcome: Outcome) -> object:
    if item.known_state is ItemState.PENDING:
        return item.pending_since or outcome.at
    return outcome.at if item.seen_at is not None else item.submitted_at or item.first_seen_at
