"""State that processes share through the database: channel states, and what a client learned about an API."""

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelState:
    """The result of the latest attempts to send on a channel; the defaults mean that no attempt failed."""

    name: str
    suspended_at: datetime | None = None
    """When the receiver refused us; nothing is sent until somebody fixes the settings."""
    fingerprint: str | None = None
    """Identifies the settings that were refused; changed settings are tried at once."""
    blocked_until: datetime | None = None
    """Nothing is sent before this time; a failure blocks all messages of the channel."""
    failures: int = 0
    """Consecutive failures since the last delivered message."""
    failing_since: datetime | None = None
    last_error: str | None = None
    """Written by us, without a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedLimits:
    """What a client learned about one origin and credential; later runs and other targets use it."""

    at: datetime
    not_before: datetime | None = None
    """The server asked for no request before this time; None or past: no restriction."""
    status: int | None = None
    """The HTTP status that said so."""
    code: str | None = None
    """The error code of that response."""
    rate_per_s: float | None = None
    """Requests per second (> 0) that it accepts; None: no limit is known."""
    concurrency: float | None = None
    """Concurrent requests (≥ 1) that it accepts; None: no limit is known."""
    down: bool = False
    """The circuit breaker was open at the end; the next run begins with one probe."""


NOTHING_LEARNED = LearnedLimits(at=datetime.min.replace(tzinfo=UTC))
"""What holds while nothing is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """What the client's limits did to one run."""

    rate_per_s: float | None = None
    """Requests per second that bounded it; None: no limit was met."""
    rate_source: str = "learned"
    """`configured`, `stated` (our share of the API's stated limit) or `learned` (from refusals)."""
    next_rate_per_s: float | None = None
    """What the next run begins with."""
    rate_wait_s: float = 0.0
    """Seconds during which requests waited for the rate limit alone."""
    unretried: int = 0
    """Failed requests that were not sent again because the retry budget was used up."""
