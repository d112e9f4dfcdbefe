"""One run: how far it got, what it read, and its rollup. Law: `total = Σ states`."""

from dataclasses import dataclass
from enum import StrEnum

from monitor.model.items import ItemState


class RunStatus(StrEnum):
    """How far a run got; `running` until it is closed."""

    RUNNING = "running"
    COMPLETE = "complete"
    PARTIAL = "partial"
    ABORTED = "aborted"
    FAILED = "failed"
    """It could not read its sync log, and has no snapshot."""
    CRASHED = "crashed"
    """Its process ended before it was closed; another process closed it, without a snapshot."""


FINISHED = tuple(status for status in RunStatus if status not in {RunStatus.RUNNING, RunStatus.CRASHED})
"""How a run is closed by its own process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """What reading the sync log changed in the work list. Samples name at most five ids each."""

    read: int = 0
    """Rows read."""
    tracked: int = 0
    """Distinct usable ids."""
    new: int = 0
    removed: int = 0
    returned: int = 0
    null: int = 0
    blank: int = 0
    duplicate: int = 0
    """Rows beyond the first of an id."""
    unusable: int = 0
    """Ids that no database or URL can carry: over 512 characters, control characters, lone surrogates."""
    future: int = 0
    """Rows whose upload time lies in the future: counted, the time not used."""
    duplicate_ids: tuple[str, ...] = ()
    unusable_ids: tuple[str, ...] = ()
    """Cut to 60 characters and made printable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A run's rollup: one row of history. Law: `total` is the sum of the six states; `stuck` ≤ `pending`.

    Raises:
        ValueError: when a count is negative or the law is broken.
    """

    completed: int = 0
    pending: int = 0
    failed: int = 0
    not_found: int = 0
    invalid: int = 0
    unknown: int = 0
    stuck: int = 0
    checked: int = 0
    """Items answered in this run; the others were carried over or are unknown."""
    requests: int = 0
    retries: int = 0
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    duration_s: float = 0.0

    def __post_init__(self) -> None:
        counts = (*self.states.values(), self.stuck, self.checked, self.requests, self.retries)
        if min(counts) < 0:
            raise ValueError("a snapshot's counts are never negative")
        if self.stuck > self.pending:
            raise ValueError("stuck items are pending ones")

    @property
    def states(self) -> dict[ItemState, int]:
        """The six counts by state."""
        return {state: getattr(self, state.value) for state in ItemState}

    @property
    def total(self) -> int:
        """Tracked items: the sum of the six states."""
        return sum(self.states.values())
