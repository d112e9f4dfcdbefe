"""The vocabulary that everything else speaks: states, causes and their rank, and one frozen dataclass per concept.

It decides nothing and touches nothing; where a rule is laid down here it is a law of the data (`total = Σ states`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from monitor.exchange import ApiError

__all__ = [
    "ITEM_CAUSES",
    "MONITOR_CAUSES",
    "REQUEST_CAUSES",
    "BadBody",
    "Cause",
    "Evidence",
    "Incident",
    "IncidentState",
    "ItemState",
    "ItemStatus",
    "LogEntry",
    "Outcome",
    "Reason",
    "RunStatus",
    "Severity",
    "Snapshot",
    "SyncReport",
    "Team",
    "rank",
]


class ItemState(StrEnum):
    """What is known of one tracked item: exactly one at a time."""

    COMPLETED = "completed"
    PENDING = "pending"
    FAILED = "failed"
    NOT_FOUND = "not_found"
    INVALID = "invalid"
    UNKNOWN = "unknown"


class Cause(StrEnum):
    """Why something is wrong; within each group the highest rank comes first."""

    SPENDING_LIMIT = "spending_limit"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    WRONG_SCOPE = "wrong_scope"
    RATE_LIMITED = "rate_limited"
    OUTAGE = "outage"
    BAD_RESPONSE = "bad_response"
    BAD_REQUEST = "bad_request"

    ITEMS_FAILED = "items_failed"
    ITEMS_MISSING = "items_missing"
    ITEMS_STUCK = "items_stuck"
    ITEMS_INVALID = "items_invalid"

    SYNC_LOG_UNREADABLE = "sync_log_unreadable"


ITEM_CAUSES: tuple[Cause, ...] = (Cause.ITEMS_FAILED, Cause.ITEMS_MISSING, Cause.ITEMS_STUCK, Cause.ITEMS_INVALID)
"""Causes read off items; their incidents have members."""

MONITOR_CAUSES: tuple[Cause, ...] = (Cause.SYNC_LOG_UNREADABLE,)
"""Causes about the monitor itself."""

REQUEST_CAUSES: tuple[Cause, ...] = tuple(cause for cause in Cause if cause not in ITEM_CAUSES + MONITOR_CAUSES)
"""Causes read off requests, highest rank first."""


def rank(cause: Cause) -> int:
    """Position of a cause, 0 being the highest."""
    return _RANK[cause]


_RANK: Mapping[Cause, int] = {cause: position for position, cause in enumerate(Cause)}


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


class RunStatus(StrEnum):
    """How far a run got; `running` until it is closed, `unread` when the sync log could not be read."""

    RUNNING = "running"
    COMPLETE = "complete"
    PARTIAL = "partial"
    ABORTED = "aborted"
    UNREAD = "unread"


class Team(StrEnum):
    """Who is asked to look."""

    CREDENTIALS = "credentials"
    ACCOUNT = "account"
    INTEGRATION = "integration"
    OPERATIONS = "operations"
    PIPELINE = "pipeline"
    MONITOR = "monitor"


class Severity(StrEnum):
    """How urgently."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """What reading the sync log changed in the work list. Samples name at most five ids each."""

    read: int = 0
    """Rows read."""
    tracked: int = 0
    """Distinct usable ids."""
    new: int = 0
    removed: int = 0
    returned: int = 0
    null: int = 0
    blank: int = 0
    duplicate: int = 0
    """Rows beyond the first of an id."""
    unusable: int = 0
    """Ids that no database or URL can carry: over 512 characters, control characters, lone surrogates."""
    future: int = 0
    """Rows whose upload time lies in the future: counted, the time not used."""
    duplicate_ids: tuple[str, ...] = ()
    unusable_ids: tuple[str, ...] = ()
    """Cut to 60 characters and made printable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
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
class Snapshot:
    """A run's rollup: one row of history. Law: `total` is the sum of the six states; `stuck` ≤ `pending`.

    Raises:
        ValueError: when a count is negative or the law is broken.
    """

    completed: int = 0
    pending: int = 0
    failed: int = 0
    not_found: int = 0
    invalid: int = 0
    unknown: int = 0
    stuck: int = 0
    checked: int = 0
    """Items answered in this run; the others were carried over or are unknown."""
    requests: int = 0
    retries: int = 0
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    duration_s: float = 0.0

    def __post_init__(self) -> None:
        counts = (*self.states.values(), self.stuck, self.checked, self.requests, self.retries)
        if min(counts) < 0:
            raise ValueError("a snapshot's counts are never negative")
        if self.stuck > self.pending:
            raise ValueError("stuck items are pending ones")

    @property
    def states(self) -> dict[ItemState, int]:
        """The six counts by state."""
        return {state: getattr(self, state.value) for state in ItemState}

    @property
    def total(self) -> int:
        """Tracked items: the sum of the six states."""
        return sum(self.states.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one run saw of one cause on one target."""

    cause: Cause
    count: int
    """Items left unknown by a request cause, or items in the bad state."""
    breakdown: Mapping[str, int] = field(default_factory=dict)
    """How often by HTTP status or network fault: `{"502": 3, "timeout": 2}`."""
    sample_ids: tuple[str, ...] = ()
    request_ids: tuple[str, ...] = ()
    code: str | None = None
    api_message: str | None = field(default=None, repr=False)
    """The API's raw words: only for `incidents show`, never for channels or logs."""
    gateway: tuple[tuple[str, str], ...] = ()
    """`server`, `via` and `x-request-id` of a gateway that answered in the API's place; for the log alone."""
    explained_by: Cause | None = None
    """The higher cause in the same run that explains this one: then it opens nothing."""


class IncidentState(StrEnum):
    """The life of an incident."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One cause on one target, from its first evidence to its resolution."""

    id: int
    target: str
    environment: str
    cause: Cause
    state: IncidentState
    severity: Severity
    team: Team
    opened_at: datetime
    first_evidence_at: datetime
    last_evidence_at: datetime
    resolved_at: datetime | None = None
    last_message_at: datetime | None = None
    """When people were last told: the clock of updates and reminders."""
    member_count: int = 0
    """Items that belong to it now; always 0 for a request cause."""
    peak_count: int = 0
    """The most items that it ever touched at once."""
    member_ids: tuple[str, ...] = ()
    """The first few of those items, by id."""
    untold_count: int = 0
    """Members that joined since people were last told."""
    channels: tuple[str, ...] = ()
    """Where the opening went: resolve messages go there and nowhere else."""
    evidence: Evidence | None = None
    """The newest evidence."""
