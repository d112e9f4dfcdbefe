"""One item before and after an outcome: what changes in its row, and whether that is worth an event. Pure."""

from datetime import datetime

import msgspec

from monitor.model import ItemState, Outcome, Reason

__all__ = ["ItemChange", "TrackedItem", "transition"]


class TrackedItem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One due item as the work list knows it before it is asked about."""

    item_id: str
    first_seen_at: datetime
    submitted_at: datetime | None = None
    known_state: ItemState | None = None
    """The last state that was found out; None before the first."""
    stage: str | None = None
    recognised: bool = True
    since: datetime | None = None
    pending_since: datetime | None = None
    seen_at: datetime | None = None
    checked_at: datetime | None = None
    regressed_at: datetime | None = None
    """When it went back from completed to pending; None once it left pending."""
    member: bool = False
    """It belongs to an incident: no list may say that it is well, only the API's answer about this very item."""
    known_missing: bool = False
    """It belongs to an incident already, so its absence is no news."""


class ItemChange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The row of an item after an outcome, and the event to record, if its known state or stage changed."""

    item_id: str
    state: ItemState
    reason: Reason | None
    known_state: ItemState | None
    stage: str | None
    recognised: bool
    since: datetime | None
    pending_since: datetime | None
    seen_at: datetime | None
    checked_at: datetime | None
    regressed_at: datetime | None
    http_status: int | None
    code: str | None
    request_id: str | None
    at: datetime
    event: tuple[str, str | None, str | None] | None
    """Kind (`state` or `stage`), old, new. An unknown is no event: it says nothing about the item."""


_ON_VIEW = frozenset({ItemState.COMPLETED, ItemState.PENDING, ItemState.FAILED})


def transition(item: TrackedItem, outcome: Outcome) -> ItemChange:
    """Applies one outcome to one item.

    An unknown outcome leaves everything known as it was. `pending_since`, from which `stuck` counts, is the upload
    (or the first reading of the id) for an item that was never seen in another state, and the moment of return for one
    that was.
    """
    error = outcome.error
    known = outcome.state is not ItemState.UNKNOWN
    return ItemChange(
        item_id=item.item_id,
        state=outcome.state,
        reason=outcome.reason,
        known_state=outcome.state if known else item.known_state,
        stage=outcome.stage if known else item.stage,
        recognised=outcome.recognised if known else item.recognised,
        since=outcome.at if known and outcome.state is not item.known_state else item.since,
        pending_since=_pending_since(item, outcome) if known else item.pending_since,
        seen_at=outcome.at if outcome.state in _ON_VIEW else item.seen_at,
        checked_at=outcome.at if outcome.answered else item.checked_at,
        regressed_at=_regressed_at(item, outcome) if known else item.regressed_at,
        http_status=error.status if error else None,
        code=error.code if error else None,
        request_id=error.request_id if error else None,
        at=outcome.at,
        event=_event(item, outcome) if known else None,
    )


def _pending_since(item: TrackedItem, outcome: Outcome) -> datetime | None:
    if outcome.state is not ItemState.PENDING:
        return None
    if item.known_state is ItemState.PENDING:
        return item.pending_since or outcome.at
    if item.seen_at is None:
        return item.submitted_at or item.first_seen_at
    return outcome.at


def _regressed_at(item: TrackedItem, outcome: Outcome) -> datetime | None:
    if outcome.state is not ItemState.PENDING:
        return None
    return outcome.at if item.known_state is ItemState.COMPLETED else item.regressed_at


def _event(item: TrackedItem, outcome: Outcome) -> tuple[str, str | None, str | None] | None:
    if outcome.state is not item.known_state:
        return ("state", item.known_state, outcome.state)
    if outcome.stage != item.stage:
        return ("stage", item.stage, outcome.stage)
    return None
