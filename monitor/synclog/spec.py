"""Where a sync log is and which of its columns say what. It opens nothing."""

from dataclasses import dataclass, field

__all__ = ["SyncLogSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncLogSpec:
    """One sync log as the user describes it."""

    url: str = field(repr=False)
    """`sqlite:///path` or `postgresql://…`: a secret."""
    table: str
    """A table or a view; on PostgreSQL also `schema.table`."""
    id_column: str
    submitted_at_column: str | None = None
    group_column: str | None = None
    timezone: str = "UTC"
    """The IANA zone that times without an offset are in."""
    busy_timeout_s: float = 5.0
    """Seconds (≥ 0) that a SQLite read waits for a writer."""
