"""One tracked item: its row in the sync log, its state, and what one run found out about it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import msgspec

from monitor.model.http import ApiError


class ItemState(StrEnum):
    """What is known of one tracked item: exactly one at a time."""

    COMPLETED = "completed"
    PENDING = "pending"
    FAILED = "failed"
    NOT_FOUND = "not_found"
    INVALID = "invalid"
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why a run could not find out about an item: one of the request causes, or the run was cut short."""

    SPENDING_LIMIT = "spending_limit"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    WRONG_SCOPE = "wrong_scope"
    RATE_LIMITED = "rate_limited"
    OUTAGE = "outage"
    BAD_RESPONSE = "bad_response"
    BAD_REQUEST = "bad_request"
    DEADLINE = "deadline"
    INTERRUPTED = "interrupted"
    NOT_ASKED = "not_asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemStatus:
    """A provider's reading of one item's body."""

    state: ItemState
    stage: str
    recognised: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class BadBody:
    """A 200 whose body is not what was asked for."""

    reason: str
    """Our own words: what was expected and what kind of thing came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncLogEntry:
    """One row of the user's sync log, as it stands there: null, blank and repeated ids included."""

    item_id: str | None
    submitted_at: datetime | None = None
    """When it was uploaded (aware); None when the log does not say."""
    group: str | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one run found out about one item."""

    item_id: str
    state: ItemState
    at: datetime
    answered: bool
    """The API said something about this very item (a readable 200, 404, 410, or 400/422 for that id)."""
    stage: str | None = None
    """The provider's raw status, as it spells it."""
    recognised: bool = True
    """False when the status is one that nobody has described: it counts as pending and is reported by name."""
    reason: Reason | None = None
    """Set exactly when the state is unknown."""
    error: ApiError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemCompletion:
    """What the work list knows of one tracked item, as far as a list can say something about it."""

    item_id: str
    known_completed: bool
    """Known to be completed."""
    last_seen_completed: bool
    """The last run saw it completed, so that a list that says so again changes nothing."""


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
    in_incident: bool = False
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


_EXISTING = frozenset({ItemState.COMPLETED, ItemState.PENDING, ItemState.FAILED})


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
        seen_at=outcome.at if outcome.state in _EXISTING else item.seen_at,
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
