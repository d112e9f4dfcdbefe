"""/metrics: what the daemon knows of itself and what is stored, as Prometheus reads it. It reads no database itself."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import islice, pairwise

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.utils import floatToGoString

from monitor import __version__
from monitor.model import RunStatus
from monitor.model.schedule import DueTimes
from monitor.notifications.texts import channel_target
from monitor.web.database_snapshot import Mail, Reading
from monitor.web.metric_definitions import counts, durations
from monitor.web.readiness import late_at
from monitor.web.readiness_inputs import channels_of, targets_of
from monitor.web.state import DURATIONS_S, Counts, Pulse

PLAIN = CONTENT_TYPE_PLAIN_0_0_4
OPENMETRICS = openmetrics.CONTENT_TYPE_LATEST
_OPENMETRICS_TYPE = "application/openmetrics-text"

_ENDED = tuple(status for status in RunStatus if status is not RunStatus.RUNNING)
CLASSES = ("2xx", "3xx", "4xx", "5xx", "none")
"""They are shown from the start, so that the first of a class is an increase."""

_Value = tuple[str, tuple[str, ...], float]
"""A metric's name without its prefix, its labels' values, and the value."""


def chosen(accept: str) -> str:
    """The content type of the answer to an Accept header: OpenMetrics where it is asked for, else Prometheus's own."""
    return OPENMETRICS if any(_names_openmetrics(part) for part in accept.split(",")) else PLAIN


def _names_openmetrics(part: str) -> bool:
    kind, *parameters = (each.strip().lower() for each in part.split(";"))
    refused = any(each.startswith("q=") and not each.strip("q=0.") for each in parameters)
    return kind == _OPENMETRICS_TYPE and not refused


def render(pulse: Pulse, reading: Reading, content_type: str) -> bytes:
    """The answer: all metrics, and those of the process.

    Args:
        pulse: of the daemon.
        reading: the last look at the database; of one that failed, what is stored is left out.
        content_type: `PLAIN` or `OPENMETRICS`.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Collected(pulse, reading))
    encode: Callable[[CollectorRegistry], bytes] = openmetrics.generate_latest
    if content_type == PLAIN:
        encode = generate_latest
    return encode(registry)


class _Collected:
    """The metrics of one answer, as prometheus-client collects them."""

    def __init__(self, pulse: Pulse, reading: Reading) -> None:
        self._pulse, self._reading = pulse, reading

    def describe(self) -> Iterable[Metric]:
        """Nothing has to be known before: the registry is made for one answer."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Every metric, filled; one without a value is named all the same."""
        metrics, took = counts(), durations()
        for name, labels, value in self._values():
            metrics[name].add_metric(labels, value)
        bounds = [*map(floatToGoString, DURATIONS_S), "+Inf"]
        for target, each in self._pulse.counts.items():
            took.add_metric((target,), list(zip(bounds, each.buckets(), strict=True)), each.duration_s)
        return [*metrics.values(), took]

    def _values(self) -> Iterator[_Value]:
        yield from _of_daemon(self._pulse)
        yield "database_up", (), self._reading.usable and self._pulse.store_error is None
        for target, each in self._pulse.counts.items():
            yield from _of_runs(target, each)
        if self._reading.usable:
            yield from _of_targets(self._pulse, self._reading)
            yield from _of_incidents(self._pulse, self._reading)
            yield from _of_channels(self._pulse, self._reading)


def _of_daemon(pulse: Pulse) -> Iterator[_Value]:
    yield "build_info", (__version__,), 1
    yield "scheduler_beat_timestamp_seconds", (), pulse.beat_at.timestamp()
    yield "config_reload_successful", (), not pulse.reload_refused
    yield "config_reload_success_timestamp_seconds", (), pulse.config_read_at.timestamp()
    for target in pulse.config.targets:
        due_times = pulse.config.schedule_for(target).due_times(target.name, daemon_managed=True)
        if (interval_s := _interval_s(due_times, pulse.at)) is not None:
            yield "schedule_interval_seconds", (target.name,), interval_s


def _interval_s(due_times: DueTimes, now: datetime) -> float | None:
    """Seconds between the next two due times."""
    return next(((later - due).total_seconds() for due, later in pairwise(islice(due_times.times_after(now), 2))), None)


def _of_runs(target: str, done: Counts) -> Iterator[_Value]:
    for status in _ENDED:
        yield "runs_total", (target, status.value), done.runs[status]
    yield "runs_skipped_total", (target,), done.skipped
    yield "runs_failed_total", (target,), done.failed
    for status_class in dict.fromkeys((*CLASSES, *sorted(done.requests))):
        yield "requests_total", (target, status_class), done.requests[status_class]
    yield "retries_total", (target,), done.retries


def _of_targets(pulse: Pulse, reading: Reading) -> Iterator[_Value]:
    for signs in targets_of(pulse, reading):
        labels, standing = (signs.name,), reading.stored.targets[signs.name]
        moments = {
            "last_run_timestamp_seconds": standing.last_run_at,
            "last_success_timestamp_seconds": standing.last_success_at,
            "run_overdue_timestamp_seconds": late_at(signs),
        }
        for name, moment in moments.items():
            if moment is not None:
                yield name, labels, moment.timestamp()
        if standing.snapshot is not None:
            for state, count in standing.snapshot.states.items():
                yield "items", (signs.name, state.value), count
            yield "items_stuck", labels, standing.snapshot.stuck
        yield from _of_api(signs.name, reading)


def _of_api(target: str, reading: Reading) -> Iterator[_Value]:
    learned = reading.stored.learned.get(target)
    if learned is None:
        return
    yield "breaker_open", (target,), learned.down
    if learned.rate_per_s is not None:
        yield "allowed_requests_per_second", (target,), learned.rate_per_s
    if learned.concurrency is not None:
        yield "allowed_concurrency", (target,), learned.concurrency


def _of_incidents(pulse: Pulse, reading: Reading) -> Iterator[_Value]:
    """Those of what is configured: what was left behind by a target of before is told by `doctor`."""
    known = {target.name for target in pulse.config.targets}
    known |= {channel_target(channel.name) for channel in pulse.config.channels}
    for labels, count in reading.stored.incidents.items():
        if labels[0] in known:
            yield "incidents_open", labels, count


def _of_channels(pulse: Pulse, reading: Reading) -> Iterator[_Value]:
    for signs in channels_of(pulse, reading):
        mail, labels = reading.stored.mail.get(signs.name, Mail()), (signs.name,)
        since = signs.oldest_due_at
        yield "outbox_due_messages", labels, mail.due
        yield "outbox_oldest_due_age_seconds", labels, max(0.0, (pulse.at - since).total_seconds()) if since else 0.0
        yield "outbox_dead_messages", labels, mail.dead
        yield "channel_parked", labels, signs.parked
