"""One tracked item: its row in the sync log, its state, and what one run found out about it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import msgspec

from monitor.exchange import ApiError

__all__ = ["BadBody", "ItemState", "ItemStatus", "LogEntry", "Outcome", "Reason", "Standing"]


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
class LogEntry:
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
class Standing:
    """What the work list knows of one tracked item, as far as a list can say something about it."""

    item_id: str
    finished: bool
    """Known to be completed."""
    seen_so: bool
    """The last run saw it completed, so that a list that says so again changes nothing."""
