"""What is old enough to be pruned, and whether the clock that says so can be believed.

Ids grow as rows are written, clocks jump: what was written after something young is young, whatever its own time says.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

KEPT_RUNS = 200
"""Of each target, and of each way in which its runs ended, so many of the newest always stay: twice what any rule may
count (`rules.of`, `rules.resolve_after`)."""
_SETTLED = timedelta(hours=20)
"""Runs have to reach back so far before anything is deleted: a clock that is wrong at boot is put right by then."""
_SEEN_WITHIN = (timedelta(days=2), timedelta(days=8))
"""How long ago the last of them may be, at the least and at the most: as long as the shortest age in between."""
_AHEAD = timedelta(hours=1)
"""A time that lies further ahead was written by a clock that was wrong, and says nothing about other rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ages:
    """How long each kind of the past is kept; None: for good."""

    snapshots: timedelta | None = None
    item_events: timedelta | None = None
    notifications: timedelta | None = None

    @property
    def any(self) -> bool:
        """Whether anything is ever pruned."""
        return any(age is not None for age in (self.snapshots, self.item_events, self.notifications))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutoffs:
    """What lies before these moments may be deleted; None: nothing."""

    now: datetime
    snapshots: datetime | None
    item_events: datetime | None
    notifications: datetime | None


class RefusalReason(StrEnum):
    """Why nothing is pruned."""

    DISABLED = "disabled"
    NO_RUNS = "no_runs"
    NO_RECENT_RUNS = "no_recent_runs"
    CLOCK_BEHIND = "clock_behind"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Nothing is pruned now."""

    reason: RefusalReason
    newest: datetime | None = None
    """When the newest run started, by the clock of then."""


def cutoffs(ages: Ages, *, now: datetime, newest: datetime | None, settled: datetime | None) -> Cutoffs | Refusal:
    """Where the past ends, or why this clock is not believed.

    A clock that is a year ahead would make everything old, and a run under it looks as if it were of that year. So runs
    must have been made about now for most of a day: a monitor that comes back after a long time prunes a day later.

    Args:
        ages: as configured.
        now: aware.
        newest: the latest time at which any run started; None before the first.
        settled: the latest such time that lies at least 20 hours back (`settled_before`).
    """
    if not ages.any:
        return Refusal(reason=RefusalReason.DISABLED)
    if newest is None:
        return Refusal(reason=RefusalReason.NO_RUNS)
    shortest = min(age for age in (ages.snapshots, ages.item_events, ages.notifications) if age is not None)
    if settled is None or settled < now - min(max(shortest, _SEEN_WITHIN[0]), _SEEN_WITHIN[1]):
        return Refusal(
            reason=RefusalReason.CLOCK_BEHIND if newest > now + _AHEAD else RefusalReason.NO_RECENT_RUNS, newest=newest
        )
    return Cutoffs(
        now=now,
        snapshots=now - ages.snapshots if ages.snapshots else None,
        item_events=now - ages.item_events if ages.item_events else None,
        notifications=now - ages.notifications if ages.notifications else None,
    )


def settled_before(now: datetime) -> datetime:
    """Runs that started before this show that the clock has been about right for a while."""
    return now - _SETTLED


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiredBatch:
    """Which of some rows are old."""

    ids: tuple[int, ...]
    last_id: int
    """The last row that was looked at."""
    reached_recent: bool
    """Something young was met: all that follows is young."""


def expired(
    rows: Iterable[tuple[int, datetime | None]], *, before: datetime, now: datetime, after: int = 0
) -> ExpiredBatch:
    """Sorts rows out by age, up to the first that is young.

    Args:
        rows: ids, ascending, each with its time (aware; None: not finished).
        before: what lies before is old.
        now: aware.
        after: the row before the first.
    """
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
    """Why a run stays although it is old."""

    NEWEST = "newest"
    FIRST = "first"
    INCIDENT = "incident"
    REPORT = "report"
    PRUNED = "pruned"
    """It does not stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OldRun:
    """One run that is old enough to go."""

    id: int
    target: str
    status: str
    abort_reason: str
    """Empty when it was not cut short."""
    finished_at: datetime

    @property
    def outcome(self) -> tuple[str, str, str]:
        """Target and how it ended: what is counted runs of one such kind only."""
        return self.target, self.status, self.abort_reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectedRuns:
    """What runs stay for other reasons than their age."""

    newest: Mapping[tuple[str, str, str], int]
    """Per target and ending the id from which on all stay; where there is none, all do."""
    ends: Collection[int]
    """Of each target the first run, the last one of each ending by the clock, and the last one that had a slot."""
    incidents: Collection[int]
    """Runs that incidents name."""
    openings: Mapping[str, Collection[tuple[datetime, datetime]]]
    """Per target, from the first evidence of each open incident to its opening."""
    reports: Collection[int]
    """Runs up to which reports told, and the snapshots that they told of."""


def keep_reason(run: OldRun, protected: ProtectedRuns) -> KeepReason:
    """Why an old run stays, or that it is pruned."""
    floor = protected.newest.get(run.outcome)
    if floor is None or run.id >= floor:
        return KeepReason.NEWEST
    if run.id in protected.ends:
        return KeepReason.FIRST
    opening = any(since <= run.finished_at <= until for since, until in protected.openings.get(run.target, ()))
    if opening or run.id in protected.incidents:
        return KeepReason.INCIDENT
    return KeepReason.REPORT if run.id in protected.reports else KeepReason.PRUNED
