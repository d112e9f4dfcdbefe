"""Renders /metrics from the daemon's state and the last probe. It reads no database."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import accumulate, islice, pairwise

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.utils import floatToGoString

from monitor import __version__
from monitor.config.slos import objectives_of
from monitor.fleet.state import QueueAccess
from monitor.fleet.waiting import TASKS
from monitor.model import FINISHED
from monitor.model.durations import format_duration
from monitor.model.schedule import DueTimes
from monitor.notifications.texts import channel_target
from monitor.rollups.bounds import ROUND
from monitor.rollups.indexing_queries import TimesToIndexed
from monitor.runs.totals import DURATION_BUCKETS_S, RunTotals
from monitor.waits.rules import DURATION_BUCKETS_S as WAIT_BUCKETS_S
from monitor.waits.rules import WaitResult
from monitor.web.database_probe import ProbeResult, QueueStats, channel_inputs, target_inputs
from monitor.web.metric_definitions import new_histograms, new_metrics
from monitor.web.readiness import overdue_from
from monitor.web.state import StateSnapshot

PLAIN = CONTENT_TYPE_PLAIN_0_0_4
OPENMETRICS = openmetrics.CONTENT_TYPE_LATEST
_OPENMETRICS_TYPE = "application/openmetrics-text"

STATUS_CLASSES = ("2xx", "3xx", "4xx", "5xx", "none")
"""Exported from the start, so that the first request of a class is an increase."""

INDEXED_BUCKETS_S = tuple(each.total_seconds() for each in ROUND if timedelta(seconds=5) <= each <= timedelta(days=7))
"""Upper bounds of the histogram of times to indexed: each is one of the stored bounds, so its count is exact."""

_Value = tuple[str, tuple[str, ...], float]
"""A metric's name without its prefix, its labels' values, and the value."""


def negotiate_content_type(accept: str) -> str:
    """The content type for an Accept header: OpenMetrics if asked for, else Prometheus text."""
    return OPENMETRICS if any(_accepts_openmetrics(part) for part in accept.split(",")) else PLAIN


def _accepts_openmetrics(part: str) -> bool:
    kind, *parameters = (each.strip().lower() for each in part.split(";"))
    refused = any(each.startswith("q=") and not each.strip("q=0.") for each in parameters)
    return kind == _OPENMETRICS_TYPE and not refused


def render(daemon: StateSnapshot, probe: ProbeResult, content_type: str) -> bytes:
    """All metrics, in the format `PLAIN` or `OPENMETRICS`; stored ones only if the probe succeeded."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Collector(daemon, probe))
    encode: Callable[[CollectorRegistry], bytes] = openmetrics.generate_latest
    if content_type == PLAIN:
        encode = generate_latest
    return encode(registry)


class _Collector:
    """The metrics of one response, for prometheus-client."""

    def __init__(self, daemon: StateSnapshot, probe: ProbeResult) -> None:
        self._daemon, self._probe = daemon, probe

    def describe(self) -> Iterable[Metric]:
        """Empty: the registry exists for one response."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Every metric with its values; metrics without a value are listed, too."""
        metrics, histograms = new_metrics(), new_histograms()
        for name, labels, value in self._values():
            metrics[name].add_metric(labels, value)
        if self._probe.usable:
            for name, totals in _totals(self._daemon, self._probe):
                histogram = histograms["run_duration_seconds"]
                _add(histogram, name, DURATION_BUCKETS_S, totals.durations, totals.duration_s)
            for name, times in _indexed(self._daemon, self._probe):
                counts = [times.within(timedelta(seconds=bound)) for bound in INDEXED_BUCKETS_S]
                histogram = histograms["time_to_indexed_seconds"]
                _add(histogram, name, INDEXED_BUCKETS_S, [*counts, times.indexed], times.sum_s)
        for target, (waits, seconds) in _wait_durations(self._probe).items():
            histograms["wait_duration_seconds"].add_metric((target,), waits, seconds)
        return [*metrics.values(), *histograms.values()]

    def _values(self) -> Iterator[_Value]:
        yield from _daemon_values(self._daemon)
        yield "database_up", (), self._probe.usable and self._daemon.store_error is None
        for target, each in self._daemon.counters.items():
            yield "runs_skipped_total", (target,), each.skipped
            yield "run_errors_total", (target,), each.errors
        if self._probe.usable:
            for name, totals in _totals(self._daemon, self._probe):
                yield from _run_values(name, totals)
            yield from _target_values(self._daemon, self._probe)
            yield from _canary_values(self._probe)
            yield from _incident_values(self._daemon, self._probe)
            yield from _slo_values(self._daemon, self._probe)
            yield from _fleet_values(self._daemon, self._probe)
            yield from _channel_values(self._daemon, self._probe)
            for name, times in _indexed(self._daemon, self._probe):
                yield "time_to_indexed_unknown_total", (name,), times.not_observed
            yield from _wait_values(self._daemon, self._probe)


def _add(
    histogram: HistogramMetricFamily, target: str, bounds: Sequence[float], cumulative: Sequence[int], total: float
) -> None:
    """Adds the histogram of a target; `cumulative` has one more count than bounds: all of them."""
    names = [*map(floatToGoString, bounds), "+Inf"]
    histogram.add_metric((target,), list(zip(names, cumulative, strict=True)), total)


def _indexed(daemon: StateSnapshot, probe: ProbeResult) -> Iterator[tuple[str, TimesToIndexed]]:
    """All times to indexed of each configured target; zeros before the first, so that it is an increase."""
    for target in daemon.config.targets:
        yield target.name, probe.stored.indexed.get(target.name, TimesToIndexed())


def _totals(daemon: StateSnapshot, probe: ProbeResult) -> Iterator[tuple[str, RunTotals]]:
    """All runs of each configured target; zeros before the first, so that it is an increase."""
    for target in daemon.config.targets:
        yield target.name, probe.stored.totals.get(target.name, RunTotals())


def _daemon_values(daemon: StateSnapshot) -> Iterator[_Value]:
    yield "build_info", (__version__,), 1
    yield "scheduler_heartbeat_timestamp_seconds", (), daemon.heartbeat_at.timestamp()
    yield "config_last_reload_successful", (), not daemon.reload_refused
    yield "log_lines_lost_total", (), daemon.log_loss.lines if daemon.log_loss else 0
    yield "config_last_reload_success_timestamp_seconds", (), daemon.config_read_at.timestamp()
    for target in daemon.config.targets:
        due_times = daemon.config.schedule_for(target).due_times(target.name, daemon_managed=True)
        if (interval_s := _interval_s(due_times, daemon.at)) is not None:
            yield "schedule_interval_seconds", (target.name,), interval_s


def _interval_s(due_times: DueTimes, now: datetime) -> float | None:
    """Seconds between the next two due times."""
    return next(((later - due).total_seconds() for due, later in pairwise(islice(due_times.times_after(now), 2))), None)


def _run_values(target: str, totals: RunTotals) -> Iterator[_Value]:
    for status in FINISHED:
        yield "runs_total", (target, status.value), totals.runs[status]
    yield "run_crashes_total", (target,), totals.crashes
    for status_class in dict.fromkeys((*STATUS_CLASSES, *sorted(totals.requests))):
        yield "requests_total", (target, status_class), totals.requests[status_class]
    yield "retries_total", (target,), totals.retries


def _target_values(daemon: StateSnapshot, probe: ProbeResult) -> Iterator[_Value]:
    for inputs in target_inputs(daemon, probe):
        labels, target_state = (inputs.name,), probe.stored.targets[inputs.name]
        timestamps = {
            "last_run_timestamp_seconds": target_state.last_run_at,
            "last_success_timestamp_seconds": target_state.last_success_at,
            "run_overdue_timestamp_seconds": overdue_from(inputs),
        }
        for name, at in timestamps.items():
            if at is not None:
                yield name, labels, at.timestamp()
        if target_state.snapshot is not None:
            for state, count in target_state.snapshot.states.items():
                yield "items", (inputs.name, state.value), count
            yield "items_stuck", labels, target_state.snapshot.stuck
        yield from _api_values(inputs.name, probe)


def _wait_values(daemon: StateSnapshot, probe: ProbeResult) -> Iterator[_Value]:
    """Also the results that did not occur yet: so the first is an increase."""
    counts = Counter[tuple[str, str]]()
    for each in probe.stored.waits:
        counts[each.target, each.result.value] += each.waits
    for target in daemon.config.targets:
        for result in WaitResult:
            yield "waits_total", (target.name, result.value), counts[target.name, result.value]


def _wait_durations(probe: ProbeResult) -> dict[str, tuple[list[tuple[str, float]], float]]:
    """The cumulative buckets and the sum of seconds, by target."""
    found = {}
    bounds = (*WAIT_BUCKETS_S, 0)
    names = [*map(floatToGoString, WAIT_BUCKETS_S), "+Inf"]
    for target in sorted({each.target for each in probe.stored.waits}):
        rows = [each for each in probe.stored.waits if each.target == target]
        counts = accumulate(sum(each.waits for each in rows if each.le_s == bound) for bound in bounds)
        found[target] = list(zip(names, map(float, counts), strict=True)), sum(each.seconds for each in rows)
    return found


def _api_values(target: str, probe: ProbeResult) -> Iterator[_Value]:
    learned = probe.stored.learned.get(target)
    if learned is None:
        return
    yield "breaker_open", (target,), learned.down
    if learned.rate_per_s is not None:
        yield "allowed_requests_per_second", (target,), learned.rate_per_s
    if learned.concurrency is not None:
        yield "allowed_concurrency", (target,), learned.concurrency


def _canary_values(probe: ProbeResult) -> Iterator[_Value]:
    for target, last in probe.stored.canaries.items():
        yield "canary_success", (target,), last.succeeded
        yield "canary_leftovers", (target,), last.leftovers
        for name, at in (("canary_last", last.ended_at), ("canary_last_success", last.last_success_at)):
            if at is not None:
                yield f"{name}_timestamp_seconds", (target,), at.timestamp()
        for step, seconds in last.durations_s.items():
            yield "canary_step_duration_seconds", (target, step.value), seconds


def _incident_values(daemon: StateSnapshot, probe: ProbeResult) -> Iterator[_Value]:
    """Incidents of configured targets and channels; `doctor` reports those of removed ones."""
    known = {target.name for target in daemon.config.targets}
    known |= {channel_target(channel.name) for channel in daemon.config.channels}
    for labels, count in probe.stored.incidents.items():
        if labels[0] in known:
            yield "incidents_open", labels, count


def _slo_values(daemon: StateSnapshot, probe: ProbeResult) -> Iterator[_Value]:
    for target in daemon.config.targets:
        for objective in objectives_of(daemon.config.slos, target.name):
            labels = (target.name, objective.name)
            yield "slo_objective_ratio", labels, objective.objective
            yield "slo_window_seconds", labels, objective.window.total_seconds()
        for status in probe.stored.slos.get(target.name, ()):
            labels = (target.name, status.objective.name)
            yield "slo_uploads", labels, status.total
            yield "slo_good_uploads", labels, status.good
            yield "slo_error_budget_remaining_ratio", labels, status.budget_left
            for measured in status.burn_rates:
                if measured.rate is not None:
                    yield "slo_burn_rate", (*labels, format_duration(measured.window)), measured.rate


def _fleet_values(daemon: StateSnapshot, probe: ProbeResult) -> Iterator[_Value]:
    """Nothing without workers; of the queue, nothing if its tables can't be read."""
    view = probe.stored.fleet
    if view is None:
        return
    if view.state.queue.access is QueueAccess.READABLE:
        yield "fleet_workers", (), len(view.alive)
        for status, jobs in (("waiting", view.state.queue.waiting), ("running", view.state.queue.running)):
            for task in TASKS:
                yield "fleet_queue_jobs", (task, status), jobs.get(task, 0)
        yield "fleet_failed_jobs", (), view.state.queue.failed
        for task in TASKS:
            yield "fleet_queue_oldest_age_seconds", (task,), (view.waiting_age(task) or timedelta()).total_seconds()
    yield "fleet_share_oldest_age_seconds", (), (view.oldest_share_age or timedelta()).total_seconds()
    names = {target.name for target in daemon.config.targets}
    for run in view.state.runs:
        if run.target in names:  # one run of a target at most is open
            for state, count in (("waiting", run.waiting), ("running", run.running), ("done", run.done)):
                yield "fleet_shares", (run.target, state), count


def _channel_values(daemon: StateSnapshot, probe: ProbeResult) -> Iterator[_Value]:
    for inputs in channel_inputs(daemon, probe):
        queue, labels = probe.stored.queues.get(inputs.name, QueueStats()), (inputs.name,)
        since = inputs.oldest_due_at
        yield "notifications_due", labels, queue.due
        yield (
            "notifications_oldest_due_age_seconds",
            labels,
            max(0.0, (daemon.at - since).total_seconds()) if since else 0.0,
        )
        yield "notifications_dead", labels, queue.dead
        yield "channel_suspended", labels, inputs.suspended
