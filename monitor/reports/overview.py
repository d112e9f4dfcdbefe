"""What a report says before it is put into words: per target how it is, how it was, and what changed. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from monitor.model import Incident, Silence
from monitor.model.schedule import DueTimes
from monitor.reports.changes import IncidentChange, ItemChangeCount, RunCounts
from monitor.reports.notification_queries import Undelivered
from monitor.reports.trends import GroupHealth, IngestionTimes, LastRun, StageCount, StuckItem
from monitor.runs.store import HistoryRow

UNSCHEDULED = timedelta(days=1)
"""A run older than this is stale where nobody wrote down when runs are due."""
MISSED = 2
"""So many runs that were due make the last one stale."""


class Condition(StrEnum):
    """How far the last run got, and with it how far the numbers can be trusted."""

    NEVER_RAN = "never_ran"
    COMPLETE = "complete"
    PARTIAL = "partial"
    ABORTED = "aborted"
    FAILED = "failed"
    CRASHED = "crashed"


class Metric(StrEnum):
    """What a line of the trend shows."""

    COMPLETED_SHARE = "completed_share"
    FAILED = "failed"
    PENDING = "pending"
    STUCK = "stuck"
    NOT_FOUND = "not_found"
    INVALID = "invalid"
    UNKNOWN = "unknown"
    REQUESTS = "requests"
    LATENCY_P95_MS = "latency_p95_ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendLine:
    """One metric over the period."""

    metric: Metric
    values: tuple[float | None, ...]
    """One per span, oldest first; None where there is nothing to show."""
    last: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentChanges:
    """Incidents that opened, reopened or resolved."""

    total: int = 0
    newest: tuple[IncidentChange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What changed on a target since the last report, or, in the first one, since the beginning of the period."""

    since: datetime
    first_report: bool
    after_run_id: int = 0
    """The last run that had been told of, or lay before the period; 0: none."""
    runs: RunCounts | None = None
    """None: no run was finished since."""
    items: tuple[ItemChangeCount, ...] = ()
    new: int = 0
    """Items that came into the sync log."""
    stuck: int = 0
    """Items that became stuck, and still are."""
    incidents: IncidentChanges = IncidentChanges()


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFacts:
    """What is stored about one target, as far as a report looks at it."""

    target: str
    due: DueTimes | None
    """When its runs are due; None where nobody wrote that down."""
    last_run: LastRun | None
    running_since: datetime | None
    unreadable_since: datetime | None
    """Since when the sync log could not be read; None when the last run read it."""
    snapshot: HistoryRow | None
    """The newest one; everything that is counted is as of it."""
    samples: tuple[HistoryRow | None, ...]
    """The last snapshot of each span of the period."""
    group_count: int = 0
    groups: tuple[GroupHealth, ...] = ()
    stage_count: int = 0
    stages: tuple[StageCount, ...] = ()
    stuck: tuple[StuckItem, ...] = ()
    ingestion: IngestionTimes | None = None
    changes: Changes


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOverview:
    """One target in a report."""

    facts: TargetFacts
    condition: Condition
    stale: bool
    """The last run is longer ago than it should be."""
    trend: tuple[TrendLine, ...]

    @property
    def grouped(self) -> bool:
        """Whether any item belongs to a group: without one there is nothing to tell apart."""
        return any(group.name is not None for group in self.facts.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A whole report."""

    generated_at: datetime
    environment: str
    bounds: tuple[datetime, ...]
    """Where the spans of the period begin and end, oldest first."""
    targets: tuple[TargetOverview, ...]
    incidents: tuple[Incident, ...]
    """Those that are open, the newest first."""
    silences: tuple[Silence, ...] = ()
    """Those in force."""
    other_incidents: IncidentChanges = IncidentChanges()
    """Changes of incidents that belong to none of the targets, such as those of channels."""
    undelivered: tuple[Undelivered, ...] = ()

    @property
    def start(self) -> datetime:
        """When the period began."""
        return self.bounds[0]


def target_overview(facts: TargetFacts, *, now: datetime) -> TargetOverview:
    """Draws from what is stored about a target what a report says of it."""
    return TargetOverview(
        facts=facts,
        condition=condition(facts.last_run),
        stale=is_stale(facts.last_run, facts.due, now=now),
        trend=trend(facts.samples),
    )


def condition(last_run: LastRun | None) -> Condition:
    """How far the last finished run got."""
    return Condition.NEVER_RAN if last_run is None else Condition(last_run.status.value)


def is_stale(last_run: LastRun | None, due: DueTimes | None, *, now: datetime) -> bool:
    """Whether a target's last run is longer ago than it should be: two runs were due since, or a day went by."""
    if last_run is None:
        return False
    if due is None:
        return now - last_run.started_at > UNSCHEDULED
    return due.count_missed(last_run.started_at, now) >= MISSED


def trend(samples: Sequence[HistoryRow | None]) -> tuple[TrendLine, ...]:
    """A line per metric over the snapshots of a period; a metric that has no value in all of it has no line."""
    lines = []
    for metric, read in _METRIC_VALUES.items():
        values = tuple(None if sample is None else read(sample) for sample in samples)
        known = [value for value in values if value is not None]
        if known:
            lines.append(TrendLine(metric=metric, values=values, last=known[-1], low=min(known), high=max(known)))
    return tuple(lines)


def _share(row: HistoryRow) -> float | None:
    return row.completed / row.total if row.total else None


_METRIC_VALUES: Mapping[Metric, Callable[[HistoryRow], float | None]] = {
    Metric.COMPLETED_SHARE: _share,
    Metric.FAILED: lambda row: row.failed,
    Metric.PENDING: lambda row: row.pending,
    Metric.STUCK: lambda row: row.stuck,
    Metric.NOT_FOUND: lambda row: row.not_found,
    Metric.INVALID: lambda row: row.invalid,
    Metric.UNKNOWN: lambda row: row.unknown,
    Metric.REQUESTS: lambda row: row.requests,
    Metric.LATENCY_P95_MS: lambda row: row.latency_p95_ms,
}
