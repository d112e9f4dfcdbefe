"""What the daemon knows of itself, in one place, for whoever shows it. It does nothing but remember."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic

from sqlalchemy import Engine

from monitor.config import Config

__all__ = ["Standing"]


@dataclass(slots=True, kw_only=True)
class Standing:
    """How the daemon stands at this moment. Only the daemon writes it, in its event loop."""

    config: Config
    """In force."""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    beat_s: float = field(default_factory=monotonic)
    """When the loop turned last, on the monotonic clock."""
    engine: Engine | None = None
    """None before the database could be opened."""
    store_error: str | None = None
    """Why our own database can't be used now; None while it can."""
    reload_error: str | None = None
    """Why the configuration that was read last is not in force; None when it is."""
    stopping: bool = False
    """A signal told it to end."""
