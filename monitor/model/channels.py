"""How one channel is, as the senders of all processes know it."""

from dataclasses import dataclass
from datetime import datetime

__all__ = ["ChannelState"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelState:
    """What the last attempts to send on a channel came to. As it is when nothing ever failed: all at their defaults."""

    name: str
    parked_at: datetime | None = None
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
