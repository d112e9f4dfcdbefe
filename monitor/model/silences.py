"""What keeps messages about incidents back for a while. It hides nothing: whatever it keeps back is recorded."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

__all__ = ["Silence"]


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

    def in_force(self, now: datetime) -> bool:
        """Whether it holds at a moment (aware)."""
        return self.starts_at <= now < self.ends_at
