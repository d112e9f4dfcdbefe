"""What a client learned about one API under one credential, as later runs inherit it and other targets share it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelState:
    """What the last attempts to send on a channel came to. As it is when nothing ever failed: all at their defaults."""

    name: str
    suspended_at: datetime | None = None
    """The receiver refused us then: nothing is sent until somebody mends it."""
    fingerprint: str | None = None
    """Names the settings that were refused; others are tried at once."""
    blocked_until: datetime | None = None
    """Nothing is sent before: one failure speaks for all messages."""
    failures: int = 0
    """In a row, since the last message that the receiver took."""
    failing_since: datetime | None = None
    """The first of them."""
    last_error: str | None = None
    """In our own words, without a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedLimits:
    """Limits of one origin and credential, as they were found."""

    at: datetime
    """When (aware)."""
    not_before: datetime | None = None
    """The server said to come back no sooner; None, or past: nothing holds anybody back."""
    status: int | None = None
    """The HTTP status that said so."""
    code: str | None = None
    """The error code that came with it."""
    rate_per_s: float | None = None
    """Requests per second (> 0) that it takes; None: no limit was met."""
    concurrency: float | None = None
    """Requests in flight (≥ 1) that it takes; None: no limit was met."""
    down: bool = False
    """The breaker was open at the end: the next run begins with one probe."""
