"""Causes and their rank, evidence of one run, incidents and silences."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import msgspec


class Cause(StrEnum):
    """Why something is wrong; in each group the highest rank comes first."""

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
    ITEMS_UNVERIFIED = "items_unverified"
    UNRECOGNISED_STATUS = "unrecognised_status"

    POLLING_TIMEOUTS = "polling_timeouts"
    CANARY_FAILED = "canary_failed"
    CANARY_SLOW = "canary_slow"
    INDEXING_SLOW = "indexing_slow"
    SLO_BURN = "slo_burn"

    TOO_MANY_UNKNOWN = "too_many_unknown"
    SYNC_LOG_UNREADABLE = "sync_log_unreadable"
    SYNC_LOG_EMPTY = "sync_log_empty"
    RUN_MISSED = "run_missed"
    RUN_CRASHING = "run_crashing"
    CHANNEL_FAILING = "channel_failing"


ITEM_CAUSES: tuple[Cause, ...] = (
    Cause.ITEMS_FAILED,
    Cause.ITEMS_MISSING,
    Cause.ITEMS_REGRESSED,
    Cause.ITEMS_STUCK,
    Cause.ITEMS_INVALID,
    Cause.ITEMS_UNVERIFIED,
    Cause.UNRECOGNISED_STATUS,
)
"""Causes found in items; their incidents have members. An item that matches several belongs to the first."""

OBSERVED_CAUSES: tuple[Cause, ...] = (
    Cause.POLLING_TIMEOUTS,
    Cause.CANARY_FAILED,
    Cause.CANARY_SLOW,
    Cause.INDEXING_SLOW,
    Cause.SLO_BURN,
)
"""Causes found in waits, canaries, uploads and objectives, not in runs; the next run of the target evaluates them."""

MONITOR_CAUSES: tuple[Cause, ...] = (
    Cause.TOO_MANY_UNKNOWN,
    Cause.SYNC_LOG_UNREADABLE,
    Cause.SYNC_LOG_EMPTY,
    Cause.RUN_MISSED,
    Cause.RUN_CRASHING,
    Cause.CHANNEL_FAILING,
)
"""Causes about the monitor itself."""

RENAMED: Mapping[str, str] = {
    "coverage": Cause.TOO_MANY_UNKNOWN.value,
    "span": "for",
    "remind_every": "repeat_interval",
}
"""Causes and rule keys of earlier versions: using one is an error that says the new name."""

REQUEST_CAUSES: tuple[Cause, ...] = tuple(
    cause for cause in Cause if cause not in ITEM_CAUSES + OBSERVED_CAUSES + MONITOR_CAUSES
)
"""Causes found in requests, highest rank first."""

WEIGHED_CAUSES = frozenset(REQUEST_CAUSES) - {Cause.SPENDING_LIMIT, Cause.UNAUTHORIZED, Cause.FORBIDDEN}
"""Request causes that need weight: below it, the items that they leave unknown are `items_unverified`.

401 and 402 mean what they say from the first request on, and a 403 on one item is an incident of its own.
"""


def rank(cause: Cause) -> int:
    """Position of a cause; 0 is the highest."""
    return _RANK[cause]


_RANK: Mapping[Cause, int] = {cause: position for position, cause in enumerate(Cause)}


class Team(StrEnum):
    """Who is responsible."""

    CREDENTIALS = "credentials"
    ACCOUNT = "account"
    INTEGRATION = "integration"
    OPERATIONS = "operations"
    PIPELINE = "pipeline"
    MONITOR = "monitor"


class Severity(StrEnum):
    """How urgent it is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


def responsible(cause: Cause, team: Team, *, accepted: bool | None) -> tuple[Team, ...]:
    """The team of a rule, and who else must hear of it.

    A `forbidden` where nothing was `accepted` is often a rejected key: Gloo answers 403 where others answer 401. Unless
    a rule gives it to another team, it is about the account *and* the credentials.
    """
    is_denied = cause is Cause.FORBIDDEN and accepted is False and team is Team.ACCOUNT
    return (team, Team.CREDENTIALS) if is_denied else (team,)


IncidentKey = tuple[Cause, str]
"""Identifies an open incident of a target: cause and group; the group is empty for the whole target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one run found out about one cause on one target."""

    cause: Cause
    count: int
    """Of a request cause: items left unknown, or failed requests. Of an item cause: items in the bad state."""
    breakdown: Mapping[str, int] = field(default_factory=dict)
    """Count by HTTP status or network fault: `{"502": 3, "timeout": 2}`."""
    sample_ids: tuple[str, ...] = ()
    request_ids: tuple[str, ...] = ()
    code: str | None = None
    api_message: str | None = field(default=None, repr=False)
    """The API's raw text; only for `incidents show`, never for channels or logs."""
    gateway: tuple[tuple[str, str], ...] = ()
    """`server`, `via` and `x-request-id` of a gateway that replied instead of the API; not for channels."""
    page: str | None = field(default=None, repr=False)
    """The title of the gateway's page; for `incidents show`, never for channels or logs."""
    inhibited_by: Cause | None = None
    """The higher cause of the same run that explains this one; inhibited evidence opens no incident."""
    group: str = ""
    """The group of items, if the rule has one incident per group, or an objective's name; empty: the whole target."""
    facts: tuple[tuple[str, str], ...] = ()
    """What else was found, in our own words: label and value."""

    @property
    def key(self) -> IncidentKey:
        """The key of its incident."""
        return self.cause, self.group


class IncidentState(StrEnum):
    """Lifecycle of an incident."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One cause on one target, from the first evidence until it is resolved."""

    id: int
    target: str
    environment: str
    cause: Cause
    group: str = ""
    """Part of its key, if the rule has one incident per group; empty: the whole target."""
    state: IncidentState
    severity: Severity
    team: Team
    accepted: bool | None = None
    """Whether the API accepted anything in the run that opened it; None: not known."""
    opened_at: datetime
    first_evidence_at: datetime
    last_evidence_at: datetime
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    resolved_at: datetime | None = None
    last_message_at: datetime | None = None
    """When the last notification was written; updates and reminders count from it."""
    member_count: int = 0
    """Current members; always 0 for a request cause."""
    peak_count: int = 0
    member_ids: tuple[str, ...] = ()
    """The first few members, by id."""
    unnotified_count: int = 0
    """Members added since the last notification."""
    channels: tuple[str, ...] = ()
    """Where the opening was sent; the resolution goes only there."""
    groups: tuple[str, ...] = ()
    """Groups of its members, most frequent first, for routes and silences; limited to a few."""
    by_group: Mapping[str, int] = field(default_factory=dict)
    """Members per group, with the same limit; an empty name for members without a group."""
    silence_id: int | None = None
    """The silence that withholds its opening; None once the opening was sent."""
    evidence: Evidence | None = None
    """The newest evidence."""

    @property
    def teams(self) -> tuple[Team, ...]:
        """Who is responsible, the owner first."""
        return responsible(self.cause, self.team, accepted=self.accepted)

    @property
    def key(self) -> IncidentKey:
        """Identifies it among the open incidents of its target."""
        return self.cause, self.group


class OpenCause(msgspec.Struct, frozen=True, kw_only=True):
    """What an open incident says about its target, without its evidence."""

    cause: Cause
    opened_at: datetime
    members: int


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Withholds notifications about matching incidents for a time."""

    id: int
    matchers: Mapping[str, tuple[str, ...]]
    """Attribute (team, cause, target, group, severity, environment) to glob patterns, as in a route; not empty."""
    starts_at: datetime
    ends_at: datetime
    """Exclusive; set to an earlier time when somebody expires it."""
    comment: str = ""
    author: str = ""
    expired_by: str | None = None

    def is_active(self, now: datetime) -> bool:
        """Whether it is in force."""
        return self.starts_at <= now < self.ends_at
