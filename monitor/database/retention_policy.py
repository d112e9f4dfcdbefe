"""Decides which rows are old enough to be pruned, and whether the clock can be trusted. Pure.

Clocks jump, ids only grow: a row with a higher id than a recent row is recent, whatever its time says.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

KEPT_RUNS = 200
"""Runs kept per target and outcome: twice what a rule may count (`rules.of`, `rules.resolve_after`)."""
_SETTLED = timedelta(hours=20)
"""Nothing is deleted until runs reach back this far: a clock that is wrong at boot is corrected by then."""
_SEEN_WITHIN = (timedelta(days=2), timedelta(days=8))
"""Bounds for how long ago such a run may be; between them the shortest configured age applies."""
_AHEAD = timedelta(hours=1)
"""A time further ahead than this was written by a wrong clock and says nothing about other rows."""


class Prunable(StrEnum):
    """What can be pruned."""

    SNAPSHOTS = "snapshots"
    ITEM_EVENTS = "item_events"
    NOTIFICATIONS = "notifications"
    WAITS = "waits"
    CANARIES = "canaries"


class Ages(msgspec.Struct, frozen=True, kw_only=True):
    """How long each kind of row is kept; None: forever."""

    snapshots: timedelta | None = None
    item_events: timedelta | None = None
    notifications: timedelta | None = None
    waits: timedelta | None = None
    canaries: timedelta | None = None

    @property
    def limits(self) -> dict[Prunable, timedelta]:
        """The ages that are set."""
        ages = {kind: getattr(self, kind.value) for kind in Prunable}
        return {kind: age for kind, age in ages.items() if age is not None}


class Cutoffs(msgspec.Struct, frozen=True, kw_only=True):
    """Rows before these times may be deleted."""

    now: datetime
    before: Mapping[Prunable, datetime]


class RefusalReason(StrEnum):
    """Why nothing is pruned."""

    DISABLED = "disabled"
    NO_RUNS = "no_runs"
    NO_RECENT_RUNS = "no_recent_runs"
    CLOCK_BEHIND = "clock_behind"


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is pruned now, and why."""

    reason: RefusalReason
    newest: datetime | None = None
    """When the newest run started, by the clock at that time."""


def cutoffs(ages: Ages, *, now: datetime, newest: datetime | None, settled: datetime | None) -> Cutoffs | Refusal:
    """The cutoffs, or why this clock is not trusted.

    With a clock that is a year ahead everything looks old. So recent runs must exist for most of a day before anything
    is deleted: a monitor that was off for a long time prunes a day later.

    `newest` is the latest start of any run, `settled` the latest one at least 20 hours ago.
    """
    limits = ages.limits
    if not limits:
        return Refusal(reason=RefusalReason.DISABLED)
    if newest is None:
        return Refusal(reason=RefusalReason.NO_RUNS)
    if settled is None or settled < now - min(max(min(limits.values()), _SEEN_WITHIN[0]), _SEEN_WITHIN[1]):
        return Refusal(
            reason=RefusalReason.CLOCK_BEHIND if newest > now + _AHEAD else RefusalReason.NO_RECENT_RUNS, newest=newest
        )
    return Cutoffs(now=now, before={kind: now - age for kind, age in limits.items()})


def settled_before(now: datetime) -> datetime:
    """Runs that started before this show that the clock has been right for a while."""
    return now - _SETTLED


class ExpiredBatch(msgspec.Struct, frozen=True, kw_only=True):
    """The old rows of a batch."""

    ids: tuple[int, ...]
    last_id: int
    reached_recent: bool
    """A recent row was reached, so all later rows are recent."""


def expired(
    rows: Iterable[tuple[int, datetime | None]], *, before: datetime, now: datetime, after: int = 0
) -> ExpiredBatch:
    """Finds the rows older than `before` up to the first recent one; ids ascend, `after` is the id before them."""
    old: list[int] = []
    last = after
    for row_id, at in rows:
        if at is not None and before <= at <= now + _AHEAD:
            return ExpiredBatch(ids=tuple(old), last_id=last, reached_recent=True)
        last = row_id
        if at is not None and at < before:
            old.append(row_id)
    return ExpiredBatch(ids=tuple(old), last_id=last, reached_recent=False)


class KeepReason(StrEnum):
    """Why an old run is kept."""

    NEWEST = "newest"
    FIRST = "first"
    INCIDENT = "incident"
    REPORT = "report"
    PRUNED = "pruned"


class OldRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is old enough to be pruned."""

    id: int
    target: str
    status: str
    abort_reason: str
    finished_at: datetime

    @property
    def outcome(self) -> tuple[str, str, str]:
        """Target and how it ended; rules count runs per outcome."""
        return self.target, self.status, self.abort_reason


class ProtectedRuns(msgspec.Struct, frozen=True, kw_only=True):
    """Runs that are kept whatever their age."""

    newest: Mapping[tuple[str, str, str], int]
    """Per outcome, the id from which on all runs are kept; without an entry all are."""
    ends: Collection[int]
    """Per target the first run, the latest run of each outcome, and the last run with a run key."""
    incidents: Collection[int]
    openings: Mapping[str, Collection[tuple[datetime, datetime]]]
    """Per target, from first evidence to opening of each open incident."""
    reports: Collection[int]
    """The last run and the last snapshot that each report covered."""


def keep_reason(run: OldRun, protected: ProtectedRuns) -> KeepReason:
    """Why an old run is kept, or that it is pruned."""
    floor = protected.newest.get(run.outcome)
    if floor is None or run.id >= floor:
        return KeepReason.NEWEST
    if run.id in protected.ends:
        return KeepReason.FIRST
    opening = any(since <= run.finished_at <= until for since, until in protected.openings.get(run.target, ()))
    if opening or run.id in protected.incidents:
        return KeepReason.INCIDENT
    return KeepReason.REPORT if run.id in protected.reports else KeepReason.PRUNED
