"""What a run saw of a cause, and the incident that it becomes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


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
    ITEMS_REGRESSED = "items_regressed"
    ITEMS_STUCK = "items_stuck"
    ITEMS_INVALID = "items_invalid"
    UNRECOGNISED_STATUS = "unrecognised_status"

    TOO_MANY_UNKNOWN = "too_many_unknown"
    SYNC_LOG_UNREADABLE = "sync_log_unreadable"
    SYNC_LOG_EMPTY = "sync_log_empty"
    RUN_MISSED = "run_missed"
    CHANNEL_FAILING = "channel_failing"


ITEM_CAUSES: tuple[Cause, ...] = (
    Cause.ITEMS_FAILED,
    Cause.ITEMS_MISSING,
    Cause.ITEMS_REGRESSED,
    Cause.ITEMS_STUCK,
    Cause.ITEMS_INVALID,
    Cause.UNRECOGNISED_STATUS,
)
"""Causes read off items; their incidents have members. An item that fits two of them belongs to the first."""

MONITOR_CAUSES: tuple[Cause, ...] = (
    Cause.TOO_MANY_UNKNOWN,
    Cause.SYNC_LOG_UNREADABLE,
    Cause.SYNC_LOG_EMPTY,
    Cause.RUN_MISSED,
    Cause.CHANNEL_FAILING,
)
"""Causes about the monitor itself."""

REQUEST_CAUSES: tuple[Cause, ...] = tuple(cause for cause in Cause if cause not in ITEM_CAUSES + MONITOR_CAUSES)
"""Causes read off requests, highest rank first."""


def rank(cause: Cause) -> int:
    """Position of a cause, 0 being the highest."""
    return _RANK[cause]


_RANK: Mapping[Cause, int] = {cause: position for position, cause in enumerate(Cause)}


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


IncidentKey = tuple[Cause, str]
"""What tells the incidents of one target apart: the cause and the group of items; the group is empty for all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one run saw of one cause on one target."""

    cause: Cause
    count: int
    """Items left unknown by a request cause, or requests that failed because of it; or items in the bad state."""
    breakdown: Mapping[str, int] = field(default_factory=dict)
    """How often by HTTP status or network fault: `{"502": 3, "timeout": 2}`."""
    sample_ids: tuple[str, ...] = ()
    request_ids: tuple[str, ...] = ()
    code: str | None = None
    api_message: str | None = field(default=None, repr=False)
    """The API's raw words: only for `incidents show`, never for channels or logs."""
    gateway: tuple[tuple[str, str], ...] = ()
    """`server`, `via` and `x-request-id` of a gateway that answered in the API's place; for the log alone."""
    inhibited_by: Cause | None = None
    """The higher cause in the same run that explains this one: then it opens nothing."""
    group: str = ""
    """The group of items that it is about, where the rule keeps an incident per group; empty: the whole target."""

    @property
    def key(self) -> IncidentKey:
        """The incident that it is evidence for."""
        return self.cause, self.group


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
    group: str = ""
    """The third part of its key, where the rule keeps an incident per group; empty: the whole target."""
    state: IncidentState
    severity: Severity
    team: Team
    opened_at: datetime
    first_evidence_at: datetime
    last_evidence_at: datetime
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    resolved_at: datetime | None = None
    last_message_at: datetime | None = None
    """When people were last told: the clock of updates and reminders."""
    member_count: int = 0
    """Items that belong to it now; always 0 for a request cause."""
    peak_count: int = 0
    """The most items that it ever touched at once."""
    member_ids: tuple[str, ...] = ()
    """The first few of those items, by id."""
    unnotified_count: int = 0
    """Members that joined since people were last told."""
    channels: tuple[str, ...] = ()
    """Where the opening went: resolve messages go there and nowhere else."""
    groups: tuple[str, ...] = ()
    """Groups of its members, the most frequent first and a few at the most: what routes and silences match."""
    by_group: Mapping[str, int] = field(default_factory=dict)
    """How many of its members are in which group, those without one under an empty name; as many groups at the most."""
    silence_id: int | None = None
    """The silence that keeps its opening back; None once that was told."""
    evidence: Evidence | None = None
    """The newest evidence."""

    @property
    def key(self) -> IncidentKey:
        """What tells it apart from the other incidents of its target."""
        return self.cause, self.group


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """No message leaves about incidents that match, from one moment to another."""

    id: int
    matchers: Mapping[str, tuple[str, ...]]
    """Attribute (team, cause, target, group, severity, environment) to glob patterns, as in a route; never empty."""
    starts_at: datetime
    ends_at: datetime
    """Exclusive; moved forward when it is ended early."""
    comment: str = ""
    author: str = ""
    expired_by: str | None = None
    """Who ended it early."""

    def is_active(self, now: datetime) -> bool:
        """Whether it holds at a moment (aware)."""
        return self.starts_at <= now < self.ends_at
