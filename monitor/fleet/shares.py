"""How a work list is laid out in shares, and when a shared run is closed. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from monitor.model import Cause, Reason
from monitor.runs.partial_report import PartialReport, merge

CLOSE_GRACE = timedelta(seconds=5)
"""After the deadline, the shares that are in progress have this long to store what they found out."""


MAX_PRIORITY = 999
"""Of a share: the plans of other runs come before all shares of a large one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueRange:
    """Due items that follow each other in the order of ids."""

    first_id: str
    items: int
    """How many (> 0)."""
    oldest_run_id: int
    """The earliest of the runs that last asked about one of them; 0: one was never asked about."""
    recheck_ids: tuple[str, ...] = ()
    """Those of them that are completed, and checked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedShare:
    """A share as it is planned."""

    number: int
    """From 1."""
    first_id: str
    before_id: str | None
    """Where the next share begins; None: it is the last."""
    items: int
    recheck_ids: tuple[str, ...]
    priority: int
    """Higher ones come first; from 1 to `MAX_PRIORITY`."""


def lay_out(ranges: Sequence[DueRange]) -> list[PlannedShare]:
    """The shares of these ranges, which come in the order of ids and have all due items.

    The share with an item that was not asked about for longest comes first, of equals the one with lower ids. Within it
    that item comes first. So even runs that are always cut short reach every item.
    """
    by_age = sorted(range(len(ranges)), key=lambda place: (ranges[place].oldest_run_id, place))
    step = max(1.0, len(ranges) / MAX_PRIORITY)
    priorities = {place: 1 + int((len(ranges) - 1 - turn) / step) for turn, place in enumerate(by_age)}
    ends = dict(enumerate(each.first_id for each in ranges[1:]))
    return [
        PlannedShare(
            number=place + 1,
            first_id=each.first_id,
            before_id=ends.get(place),
            items=each.items,
            recheck_ids=each.recheck_ids,
            priority=priorities[place],
        )
        for place, each in enumerate(ranges)
    ]


class ShareState(StrEnum):
    """The state of a share."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    CUT = "cut"
    """The run was closed before the share ended."""


class ShareClaim(StrEnum):
    """Whether a share may be begun, and if not, why."""

    FREE = "free"
    TAKEN_OVER = "its worker was not heard of for too long"
    IN_PROGRESS = "another worker has it"
    ENDED = "it has ended"
    OVER = "its run ends"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareProgress:
    """Where a share stands; times are by the clock of leases."""

    state: ShareState
    seen_at: datetime | None
    """When its worker was last heard of."""

    def is_alive(self, now: datetime, stalled_after: timedelta) -> bool:
        """Whether a worker has it that was heard of lately."""
        return self.state is ShareState.RUNNING and self.seen_at is not None and self.seen_at + stalled_after > now

    @property
    def has_ended(self) -> bool:
        """Whether nobody may begin it any more."""
        return self.state in {ShareState.DONE, ShareState.CUT}


def is_over(*, stopped: bool, deadline_at: datetime, now: datetime) -> bool:
    """Whether no further share of a run may begin: the target was stopped, or the deadline came."""
    return stopped or now >= deadline_at


def claim(share: ShareProgress, *, over: bool, now: datetime, stalled_after: timedelta) -> ShareClaim:
    """Whether a worker may begin a share; `over`: see `is_over`."""
    if share.has_ended:
        return ShareClaim.ENDED
    if share.is_alive(now, stalled_after):
        return ShareClaim.IN_PROGRESS
    if over:
        return ShareClaim.OVER
    return ShareClaim.FREE if share.state is ShareState.WAITING else ShareClaim.TAKEN_OVER


def is_to_close(
    shares: Sequence[ShareProgress], *, stopped: bool, deadline_at: datetime, now: datetime, stalled_after: timedelta
) -> bool:
    """Whether a run is closed now: all shares ended, or no other may begin and none is in progress, or time is up."""
    if all(share.has_ended for share in shares) or now >= deadline_at + CLOSE_GRACE:
        return True
    in_progress = any(share.is_alive(now, stalled_after) for share in shares)
    return is_over(stopped=stopped, deadline_at=deadline_at, now=now) and not in_progress


def whole_report(
    first: PartialReport, shares: Iterable[tuple[ShareState, PartialReport | None]], *, stopped_by: Cause | None
) -> PartialReport:
    """The report of a run: what the planner found by the first items, and the shares, in any order.

    A share that was cut is left for the deadline, unless the target was stopped. `stopped_by` was noted when the first
    share met it, and counts even if that share's report was lost with its worker.
    """
    parts = [first]
    for state, found in shares:
        part = found or PartialReport()
        is_cut = state is ShareState.CUT
        parts.append(replace(part, left=True, cut_short_by=Reason.DEADLINE) if is_cut else part)
    whole = merge(parts)
    if stopped_by is None:
        return whole
    tripped = stopped_by is Cause.OUTAGE and (whole.tripped or whole.stopped_by is None)
    return replace(whole, stopped_by=stopped_by, tripped=tripped)
