"""One run: its status, what it read from the sync log, and its snapshot."""

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from monitor.model.items import ItemState


class RunStatus(StrEnum):
    """How far a run got; `running` until it is closed."""

    RUNNING = "running"
    COMPLETE = "complete"
    PARTIAL = "partial"
    ABORTED = "aborted"
    FAILED = "failed"
    """It could not read its sync log; it has no snapshot."""
    CRASHED = "crashed"
    """Its process died; another process closed it, without a snapshot."""


FINISHED = tuple(status for status in RunStatus if status not in {RunStatus.RUNNING, RunStatus.CRASHED})
"""Statuses of runs that their own process closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """What the sync log contained, and what it changed in the work list. Samples have at most five ids."""

    read: int = 0
    tracked: int = 0
    """Distinct valid ids."""
    new: int = 0
    removed: int = 0
    kept: int = 0
    """Items that stay tracked although the log is empty."""
    hidden: bool = False
    """The log is empty, and row-level security may hide its rows."""
    returned: int = 0
    null: int = 0
    blank: int = 0
    duplicate: int = 0
    """Further rows with an id that was read before."""
    unusable: int = 0
    """Ids that no database or URL can hold (over 512 characters, control characters, lone surrogates), and values that
    are no ids."""
    without_params: int = 0
    """Rows with an id, but without a usable value of a path parameter: they are not tracked."""
    future: int = 0
    """Rows with an upload time in the future; that time is ignored."""
    unreadable: int = 0
    """Rows with an upload time that can't be read; an empty one does not count."""
    duplicate_ids: tuple[str, ...] = ()
    unusable_ids: tuple[str, ...] = ()
    """Cut to 60 characters and made printable."""
    unusable_kind: str | None = None
    """What the first value that is no id is, such as `a JSON object`; None if there is none."""
    without_params_ids: tuple[str, ...] = ()
    future_times: tuple[str, ...] = ()
    """The first three, as they were read, in UTC."""
    unreadable_times: tuple[str, ...] = ()
    """The first three, cut and made printable as the ids are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """Latencies of the requests of one run, in milliseconds; None if there was none. `Snapshot` has the same fields."""

    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The counts of one run; `total` sums the states. Raises ValueError if one is < 0, or `stuck` > `pending`."""

    completed: int = 0
    pending: int = 0
    failed: int = 0
    not_found: int = 0
    invalid: int = 0
    unknown: int = 0
    stuck: int = 0
    checked: int = 0
    """Items that the API answered in this run; the others were carried over or are unknown."""
    requests: int = 0
    retries: int = 0
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    duration_s: float = 0.0

    def __post_init__(self) -> None:
        # not by `states`: a report makes hundreds
        states = (self.completed, self.pending, self.failed, self.not_found, self.invalid, self.unknown)
        if min(*states, self.stuck, self.checked, self.requests, self.retries) < 0:
            raise ValueError("the counts of a snapshot are never negative")
        if self.stuck > self.pending:
            raise ValueError("stuck items are pending: stuck must not exceed pending")

    def values(self) -> dict[str, int | float | None]:
        """What is counted, by name: `dataclasses.asdict` costs ten times as much, and every run needs it twice."""
        return {name: getattr(self, name) for name in self.__slots__}

    def count(self, state: ItemState) -> int:
        """The number of items in a state."""
        match state:
            case ItemState.COMPLETED:
                return self.completed
            case ItemState.PENDING:
                return self.pending
            case ItemState.FAILED:
                return self.failed
            case ItemState.NOT_FOUND:
                return self.not_found
            case ItemState.INVALID:
                return self.invalid
            case ItemState.UNKNOWN:
                return self.unknown
            case _:
                assert_never(state)

    @property
    def states(self) -> dict[ItemState, int]:
        """The counts by state, in the order of reports."""
        return {state: self.count(state) for state in ItemState}

    @property
    def total(self) -> int:
        """The number of tracked items: the sum of the states."""
        # not by `states`: a report asks for it hundreds of times
        return self.completed + self.pending + self.failed + self.not_found + self.invalid + self.unknown
