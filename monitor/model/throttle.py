"""What a client learned about one API under one credential, as later runs inherit it and other targets share it."""

from dataclasses import dataclass
from datetime import datetime

__all__ = ["Learned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
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
