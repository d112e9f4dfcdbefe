"""The data of a report: per target its health, its trend and what changed. Pure; it formats nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from monitor.model import Incident, RunStatus, Silence, Snapshot
from monitor.model.schedule import DueTimes
from monitor.reports.changes import IncidentChange, ItemChangeCount, RunCounts
from monitor.reports.indexing import IndexingReport
from monitor.reports.notification_queries import Undelivered
from monitor.reports.slos import SloRow
from monitor.reports.trends import GroupHealth, LastRun, ReasonCount, StageCount, StuckItem
from monitor.rollups.indexing_queries import TimesToIndexed
from monitor.runs.canary.store import CanarySummary
from monitor.runs.store import HistoryRow
from monitor.waits.store import WaitSummary

UNSCHEDULED = timedelta(days=1)
"""A run older than this is stale if no schedule is configured."""
MISSED = 2
"""After this many missed runs the last one is stale."""


class Condition(StrEnum):
    """How the last run ended: how far the numbers can be trusted."""

    NEVER_RAN = "never_ran"
    COMPLETE = "complete"
    PARTIAL = "partial"
    ABORTED = "aborted"
    FAILED = "failed"
    CRASHED = "crashed"


class Metric(StrEnum):
    """What a line of the trend shows: the completed share, a column of `history`, or the time to indexed."""

    COMPLETED_SHARE = "completed_share"
    FAILED = "failed"
    PENDING = "pending"
    STUCK = "stuck"
    NOT_FOUND = "not_found"
    INVALID = "invalid"
    UNKNOWN = "unknown"
    REQUESTS = "requests"
    LATENCY_P95_MS = "latency_p95_ms"
    TIME_TO_INDEXED_P95_S = "time_to_indexed_p95_s"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendLine:
    """One metric over the period."""

    metric: Metric
    values: tuple[float | None, ...]
    """One per span, oldest first; None if the span has no value."""
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
    """What changed on a target since the last report; in the first report, since the start of the period."""

    since: datetime
    first_report: bool
    after_run_id: int = 0
    """The last run of the previous report, or before the period; 0: none."""
    runs: RunCounts | None = None
    """None: no run has finished since."""
    items: tuple[ItemChangeCount, ...] = ()
    new: int = 0
    """Items added to the sync log."""
    stuck: int = 0
    """Items that became stuck and still are."""
    incidents: IncidentChanges = IncidentChanges()


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFacts:
    """What is stored about one target."""

    target: str
    due: DueTimes | None
    """None: no schedule is configured."""
    last_run: LastRun | None
    running_since: datetime | None
    unreadable_since: datetime | None
    """Start of the first of the runs in a row that could not read the sync log; None if the last run read it."""
    snapshot: HistoryRow | None
    """The newest one; all counts are as of it."""
    samples: tuple[HistoryRow | None, ...]
    """The last snapshot of each span of the period."""
    endings: tuple[Mapping[RunStatus, int], ...] = ()
    """The runs of each span that did not complete, by status; empty where no page shows them."""
    last_known: Mapping[str | None, int] = field(default_factory=dict)
    """The unknown items by their last known state, most frequent first; None: never answered."""
    group_count: int = 0
    groups: tuple[GroupHealth, ...] = ()
    stage_count: int = 0
    stages: tuple[StageCount, ...] = ()
    stage_ages: Mapping[str | None, datetime] = field(default_factory=dict)
    """Since when the oldest pending item of each stage is pending; empty where no page shows it."""
    reason_count: int = 0
    reasons: tuple[ReasonCount, ...] = ()
    """Of failed items."""
    slos: tuple[SloRow, ...] = ()
    """As of the last run that could ask."""
    stuck: tuple[StuckItem, ...] = ()
    indexing: IndexingReport | None = None
    """None: nothing was uploaded in the period, as far as is known."""
    waits: WaitSummary | None = None
    """Of the period; None: there were none."""
    canaries: CanarySummary | None = None
    """None: the target has no canaries."""
    changes: Changes


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOverview:
    """One target in a report."""

    facts: TargetFacts
    condition: Condition
    stale: bool
    trend: tuple[TrendLine, ...]

    @property
    def grouped(self) -> bool:
        """Whether any item belongs to a group."""
        return any(group.name is not None for group in self.facts.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A whole report."""

    generated_at: datetime
    environment: str
    bounds: tuple[datetime, ...]
    """Bounds of the spans of the period, oldest first."""
    targets: tuple[TargetOverview, ...]
    incidents: tuple[Incident, ...]
    """Open ones, newest first."""
    incident_count: int = 0
    """Open ones in all; not all may be in `incidents`."""
    silences: tuple[Silence, ...] = ()
    """Active ones."""
    other_incidents: IncidentChanges = IncidentChanges()
    """Changes of incidents that belong to no target, such as those of channels."""
    undelivered: tuple[Undelivered, ...] = ()
    history_since: datetime | None = None
    """When the oldest stored run began; None without runs."""

    @property
    def start(self) -> datetime:
        """When the period began."""
        return self.bounds[0]


def target_overview(facts: TargetFacts, *, now: datetime) -> TargetOverview:
    """Derives condition, staleness and trend from the stored facts."""
    return TargetOverview(
        facts=facts,
        condition=condition(facts.last_run),
        stale=is_stale(facts.last_run, facts.due, now=now),
        trend=trend(facts.samples, facts.indexing.spans if facts.indexing else ()),
    )


def condition(last_run: LastRun | None) -> Condition:
    """How the last finished run ended."""
    return Condition.NEVER_RAN if last_run is None else Condition(last_run.status.value)


def is_stale(last_run: LastRun | None, due: DueTimes | None, *, now: datetime) -> bool:
    """Whether the last run is too old: two due runs were missed, or, without a schedule, a day has passed."""
    if last_run is None:
        return False
    if due is None:
        return now - last_run.started_at > UNSCHEDULED
    return due.count_missed(last_run.started_at, now) >= MISSED


def trend(samples: Sequence[HistoryRow | None], indexed: Sequence[TimesToIndexed] = ()) -> tuple[TrendLine, ...]:
    """A line per metric over the spans of a period; metrics without any value are left out.

    `samples` are the last snapshots of the spans, `indexed` the uploads of these, or empty.
    """
    lines = []
    for metric in Metric:
        values = _values(samples, metric)
        if metric is Metric.TIME_TO_INDEXED_P95_S:
            values = [times.quantile_s(0.95) for times in indexed]
        known = [value for value in values if value is not None]
        if known:
            lines.append(
                TrendLine(metric=metric, values=tuple(values), last=known[-1], low=min(known), high=max(known))
            )
    return tuple(lines)


def _values(samples: Sequence[HistoryRow | None], metric: Metric) -> list[float | None]:
    if metric is Metric.COMPLETED_SHARE:
        return [None if sample is None else _completed_share(sample.snapshot) for sample in samples]
    name = metric.value
    return [None if sample is None else getattr(sample.snapshot, name, None) for sample in samples]


def _completed_share(snapshot: Snapshot) -> float | None:
    return snapshot.completed / snapshot.total if snapshot.total else None
