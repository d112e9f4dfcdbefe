"""Definitions of all metrics: name, type, labels and help text, without values.

Label values come from the configuration and from our enums, never from items or API responses.
"""

from dataclasses import dataclass
from enum import StrEnum

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

PREFIX = "ingestion_monitor_"

ScalarFamily = CounterMetricFamily | GaugeMetricFamily


class MetricKind(StrEnum):
    """The type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class ValueSource(StrEnum):
    """Where the value comes from."""

    PROCESS = "of this process"
    STORED = "from the database: the same in all daemons"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDefinition:
    """One metric."""

    name: str
    """Without the prefix; counters include `_total`."""
    kind: MetricKind
    labels: tuple[str, ...] = ()
    description: str
    source: ValueSource = ValueSource.PROCESS

    @property
    def full_name(self) -> str:
        """With the prefix."""
        return f"{PREFIX}{self.name}"

    @property
    def help(self) -> str:
        """The help text."""
        return f"{self.description} ({self.source.value})."


def _process(name: str, kind: MetricKind, description: str, *labels: str) -> MetricDefinition:
    return MetricDefinition(name=name, kind=kind, labels=labels, description=description)


def _stored(name: str, description: str, *labels: str, kind: MetricKind = MetricKind.GAUGE) -> MetricDefinition:
    return MetricDefinition(name=name, kind=kind, labels=labels, description=description, source=ValueSource.STORED)


METRIC_DEFINITIONS = (
    _process("build_info", MetricKind.GAUGE, "Always 1; the version is a label", "version"),
    _process(
        "database_up",
        MetricKind.GAUGE,
        "1 if the database can be used; 0 if it can't be reached, read or written, or has another schema",
    ),
    _process("scheduler_heartbeat_timestamp_seconds", MetricKind.GAUGE, "When the daemon's event loop last ran"),
    _process("log_lines_lost_total", MetricKind.COUNTER, "Log lines that could not be written"),
    _process(
        "config_last_reload_successful",
        MetricKind.GAUGE,
        "0 after a refused reload (the previous configuration is in force), else 1",
    ),
    _process(
        "config_last_reload_success_timestamp_seconds", MetricKind.GAUGE, "When the current configuration was read"
    ),
    _process(
        "schedule_interval_seconds",
        MetricKind.GAUGE,
        "Time between two runs; with cron, between the next two; absent if no run is due for years",
        "target",
    ),
    _stored(
        "runs_total",
        "Finished runs of all processes (daemons, workers, `check`), by status",
        "target",
        "status",
        kind=MetricKind.COUNTER,
    ),
    _process(
        "runs_skipped_total",
        MetricKind.COUNTER,
        "Runs that did not start because another process holds the target's lease, has executed the run key, or has "
        "queued it for workers",
        "target",
    ),
    _process(
        "run_errors_total",
        MetricKind.COUNTER,
        "Runs that failed with an error of the monitor, such as a database that is down, and stored no result; with "
        "workers: that could not be queued",
        "target",
    ),
    _stored(
        "run_crashes_total",
        "Runs of all processes that ended by an error that nobody foresaw",
        "target",
        kind=MetricKind.COUNTER,
    ),
    _stored("run_duration_seconds", "Duration of finished runs", "target", kind=MetricKind.HISTOGRAM),
    _stored(
        "requests_total",
        "Requests sent to the API by finished runs, retries included, by class of HTTP status (none: no response); "
        "of token requests, only failed ones",
        "target",
        "status_class",
        kind=MetricKind.COUNTER,
    ),
    _stored("retries_total", "Retries among these requests", "target", kind=MetricKind.COUNTER),
    MetricDefinition(
        name="time_to_indexed_seconds",
        kind=MetricKind.HISTOGRAM,
        labels=("target",),
        description="Time from the upload of an item until a run first saw it completed",
        source=ValueSource.STORED,
    ),
    MetricDefinition(
        name="time_to_indexed_unknown_total",
        kind=MetricKind.COUNTER,
        labels=("target",),
        description="Uploads that a run saw completed, at a time that is not known",
        source=ValueSource.STORED,
    ),
    _stored(
        "breaker_open",
        "1 if the circuit breaker was open after the last request, else 0; only targets that this process ran or "
        "queued",
        "target",
    ),
    _stored(
        "allowed_requests_per_second",
        "Request rate that the API was observed to accept; absent if no limit was met; only targets that "
        "this process ran or queued",
        "target",
    ),
    _stored(
        "allowed_concurrency",
        "Concurrent requests that the API was observed to accept; absent if no limit was met; only targets that this "
        "process ran or queued",
        "target",
    ),
    _stored("items", "Tracked items by state, in the last snapshot", "target", "state"),
    _stored("items_stuck", "Pending items that are stuck, in the last snapshot", "target"),
    _stored(
        "last_run_timestamp_seconds",
        "When the last run ended, with any status; absent before the first",
        "target",
    ),
    _stored("last_success_timestamp_seconds", "When the last complete run ended; absent before the first", "target"),
    _process(
        "run_overdue_timestamp_seconds",
        MetricKind.GAUGE,
        "When the target becomes overdue if no run ends before; /readyz uses the same time",
        "target",
    ),
    _stored("canary_success", "1 if each step of the last canary worked, else 0; absent before the first", "target"),
    _stored("canary_last_timestamp_seconds", "When the last canary ended; absent before the first", "target"),
    _stored(
        "canary_last_success_timestamp_seconds",
        "When the last canary ended in which each step worked; absent before the first",
        "target",
    ),
    _stored(
        "canary_step_duration_seconds",
        "How long a step of the last canary took (upload, index, retrieve, clean_up); absent if it did not end well",
        "target",
        "step",
    ),
    _stored("canary_leftovers", "Documents of canaries that may still exist", "target"),
    _stored(
        "incidents_open",
        "Unresolved incidents; absent if there are none; target is channel:NAME for an incident about a channel",
        "target",
        "cause",
        "severity",
    ),
    _stored("slo_objective_ratio", "The share of uploads that an objective promises in time", "target", "slo"),
    _stored("slo_window_seconds", "The rolling window of an objective", "target", "slo"),
    _stored(
        "slo_uploads",
        "Uploads in the window of an objective whose time was up at the last run; absent before the first",
        "target",
        "slo",
    ),
    _stored("slo_good_uploads", "Of these, the uploads that were indexed in time", "target", "slo"),
    _stored(
        "slo_error_budget_remaining_ratio",
        "Share of the error budget that is left in the window: 1 untouched, 0 spent, below 0 overspent",
        "target",
        "slo",
    ),
    _stored(
        "slo_burn_rate",
        "How fast the error budget was spent in a window: 1 spends it exactly in the window of the objective; absent "
        "while no upload was due in it",
        "target",
        "slo",
        "window",
    ),
    _stored(
        "waits_total",
        "Waits for items (`ingestion-monitor wait`) that ended, by result",
        "target",
        "result",
        kind=MetricKind.COUNTER,
    ),
    _stored("wait_duration_seconds", "Duration of these waits", "target", kind=MetricKind.HISTOGRAM),
    _stored(
        "fleet_workers",
        "Workers that were seen within the stall time; all metrics of the fleet are absent without workers",
    ),
    _stored(
        "fleet_queue_jobs",
        "Jobs in the queue by task (plan: one target's run, share: a part of its items, close: its end) and status "
        "(waiting, running)",
        "task",
        "status",
    ),
    _stored("fleet_failed_jobs", "Jobs that ended with an error and are kept"),
    _stored("fleet_queue_oldest_age_seconds", "How long the oldest job that is due has waited; 0 if none does", "task"),
    _stored(
        "fleet_shares",
        "Shares of runs that are not closed, by state (waiting, running, done); absent if there are none",
        "target",
        "state",
    ),
    _stored(
        "fleet_share_oldest_age_seconds",
        "For how long the oldest share that is not done has been planned; 0 if there is none",
    ),
    _stored("notifications_due", "Notifications that are not delivered yet", "channel"),
    _stored("notifications_oldest_due_age_seconds", "Age of the oldest of these; 0 if there are none", "channel"),
    _stored("notifications_dead", "Dead letters: notifications whose delivery was given up", "channel"),
    _stored(
        "channel_suspended",
        "1 if the channel is suspended because its receiver refused a message, else 0",
        "channel",
    ),
)  # fmt: skip
"""In the order of the output."""


def new_metrics() -> dict[str, ScalarFamily]:
    """Empty counters and gauges, by name without the prefix."""
    family_types = {MetricKind.COUNTER: CounterMetricFamily, MetricKind.GAUGE: GaugeMetricFamily}
    return {
        definition.name: family_types[definition.kind](definition.full_name, definition.help, labels=definition.labels)
        for definition in METRIC_DEFINITIONS
        if definition.kind in family_types
    }


def new_histograms() -> dict[str, HistogramMetricFamily]:
    """Empty histograms, by name without the prefix."""
    return {
        definition.name: HistogramMetricFamily(definition.full_name, definition.help, labels=definition.labels)
        for definition in METRIC_DEFINITIONS
        if definition.kind is MetricKind.HISTOGRAM
    }
