"""Every metric that the daemon shows: its name, its type, its labels and what it says. It knows no value.

Labels are names from the configuration and words of ours: no item and nothing that an API said becomes one.
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
    """Where its value comes from."""

    PROCESS = "of this process alone"
    STORED = "as stored: daemons on one database say the same"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDefinition:
    """One metric."""

    name: str
    """Without the prefix; of a counter as it is written, with `_total`."""
    kind: MetricKind
    labels: tuple[str, ...] = ()
    description: str
    source: ValueSource = ValueSource.PROCESS

    @property
    def full_name(self) -> str:
        """As it is written in an answer."""
        return f"{PREFIX}{self.name}"

    @property
    def help(self) -> str:
        """One line for people."""
        return f"{self.description} ({self.source.value})."


def _process(name: str, kind: MetricKind, description: str, *labels: str) -> MetricDefinition:
    return MetricDefinition(name=name, kind=kind, labels=labels, description=description)


def _stored(name: str, description: str, *labels: str) -> MetricDefinition:
    return MetricDefinition(
        name=name, kind=MetricKind.GAUGE, labels=labels, description=description, source=ValueSource.STORED
    )


METRIC_DEFINITIONS = (
    _process("build_info", MetricKind.GAUGE, "Always 1; the labels say which program this is", "version"),
    _process(
        "database_up",
        MetricKind.GAUGE,
        "Whether the database can be used: 1; or 0, when it can't be reached, read or written, or has another schema",
    ),
    _process("scheduler_heartbeat_timestamp_seconds", MetricKind.GAUGE, "When the daemon's loop turned last"),
    _process(
        "config_last_reload_successful",
        MetricKind.GAUGE,
        "1, or 0 after a reload that was refused, so that an older configuration is in force",
    ),
    _process(
        "config_last_reload_success_timestamp_seconds", MetricKind.GAUGE, "When the configuration that is in force was read"
    ),
    _process(
        "schedule_interval_seconds",
        MetricKind.GAUGE,
        "What lies between two runs; by cron, between the next two; absent where no run is due for years",
        "target",
    ),
    _process("runs_total", MetricKind.COUNTER, "Runs that ended, by how they ended", "target", "status"),
    _process(
        "runs_skipped_total",
        MetricKind.COUNTER,
        "Runs that were not begun, because another process has the target's lease or did the slot",
        "target",
    ),
    _process(
        "run_errors_total",
        MetricKind.COUNTER,
        "Runs that ended in an error of the monitor's own, such as a database that is down, and stored no end",
        "target",
    ),
    _process("run_duration_seconds", MetricKind.HISTOGRAM, "How long runs took, from their begin to their end", "target"),
    _process(
        "requests_total",
        MetricKind.COUNTER,
        "Attempts sent to the API by runs that ended, by class of HTTP status; none: no answer came. Those for tokens "
        "count where they failed",
        "target",
        "status_class",
    ),
    _process("retries_total", MetricKind.COUNTER, "Of these, attempts that repeated a failed one", "target"),
    _stored(
        "breaker_open",
        "Whether the breaker was open when the API was spoken to last: 1 or 0; of targets that this process ran",
        "target",
    ),
    _stored(
        "allowed_requests_per_second",
        "The rate that the API was found to take; absent where no limit was met; of targets that this process ran",
        "target",
    ),
    _stored(
        "allowed_concurrency",
        "Requests in flight that the API was found to take; absent where no limit was met; of targets that this "
        "process ran",
        "target",
    ),
    _stored("items", "Tracked items by state, in the newest snapshot", "target", "state"),
    _stored("items_stuck", "Pending items that are stuck, in the newest snapshot", "target"),
    _stored("last_run_timestamp_seconds", "When the newest run ended, be it well or not; absent before any", "target"),
    _stored("last_success_timestamp_seconds", "When the newest complete run ended; absent before the first", "target"),
    _process(
        "run_overdue_timestamp_seconds",
        MetricKind.GAUGE,
        "From when on the target's last run is older than it should be, unless one ends before: the instant that "
        "/readyz goes by",
        "target",
    ),
    _stored(
        "incidents_open",
        "Incidents that are not resolved; absent where there are none; target is channel:NAME for one about a channel",
        "target",
        "cause",
        "severity",
    ),
    _stored("notifications_due", "Messages that are not delivered yet", "channel"),
    _stored("notifications_oldest_due_age_seconds", "How long the oldest of them has waited; 0 for none", "channel"),
    _stored("notifications_dead", "Messages that were given up", "channel"),
    _stored(
        "channel_suspended",
        "Whether the receiver refused us, so that nothing is sent before somebody acts: 1 or 0",
        "channel",
    ),
)  # fmt: skip
"""In the order in which they are shown."""


def new_metrics() -> dict[str, ScalarFamily]:
    """A new, empty metric per counter and gauge, by its name without the prefix."""
    family_types = {MetricKind.COUNTER: CounterMetricFamily, MetricKind.GAUGE: GaugeMetricFamily}
    return {
        definition.name: family_types[definition.kind](definition.full_name, definition.help, labels=definition.labels)
        for definition in METRIC_DEFINITIONS
        if definition.kind in family_types
    }


def new_histogram() -> HistogramMetricFamily:
    """A new, empty one of how long runs took."""
    definition = next(definition for definition in METRIC_DEFINITIONS if definition.kind is MetricKind.HISTOGRAM)
    return HistogramMetricFamily(definition.full_name, definition.help, labels=definition.labels)
