"""Why something is wrong, ranked, and who is asked to look how urgently."""

from collections.abc import Mapping
from enum import StrEnum

__all__ = ["ITEM_CAUSES", "MONITOR_CAUSES", "REQUEST_CAUSES", "Cause", "Severity", "Team", "rank"]


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

    COVERAGE = "coverage"
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
    Cause.COVERAGE,
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
