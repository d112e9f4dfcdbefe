"""Decides whether a daemon is alive and ready, with reasons. Pure: reads neither clock nor database."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from monitor.incidents.evidence import CRASHES_IN_A_ROW
from monitor.model.schedule import DueTimes

HEARTBEAT_LIMIT_S = 60.0
"""Seconds without a heartbeat after which the event loop counts as stalled. A heartbeat is due every second."""
UNDELIVERED_LIMIT = timedelta(minutes=15)
"""A message that waits longer causes a warning."""
LOG_LOSS_SHOWN = timedelta(hours=1)
"""Log lines that were lost this long ago no longer cause a warning."""
_CLOSE_ALLOWANCE = timedelta(minutes=1)
"""Time beyond the deadline to read the sync log and to store the result."""


class Liveness(StrEnum):
    """Whether the daemon is alive."""

    OK = "ok"
    STALLED = "stalled"
    """The event loop does not run any more: only a restart helps."""


def liveness(*, heartbeat_age_s: float) -> Liveness:
    """Whether the daemon is alive, from the seconds (≥ 0) since the last heartbeat."""
    return Liveness.OK if heartbeat_age_s < HEARTBEAT_LIMIT_S else Liveness.STALLED


class ReadinessStatus(StrEnum):
    """Whether the daemon does its work."""

    READY = "ready"
    NOT_READY = "not_ready"
    STOPPING = "stopping"
    """It received a signal: running work is finished, and no new work starts."""


class Component(StrEnum):
    """What a reason is about."""

    DAEMON = "daemon"
    DATABASE = "database"
    SCHEMA = "schema"
    RUNS = "runs"
    WORKERS = "workers"
    CONFIGURATION = "configuration"
    DELIVERY = "delivery"
    LOG = "log"


class SchemaState(StrEnum):
    """The database's schema, compared with this program's."""

    CURRENT = "current"
    MISSING = "missing"
    OLDER = "older"
    NEWER = "newer"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One problem."""

    part: Component
    reason: str
    remedy: str
    target: str | None = None
    channel: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Ready or not, and why."""

    status: ReadinessStatus
    reasons: tuple[Reason, ...] = ()
    warnings: tuple[Reason, ...] = ()
    """Problems that do not make it unready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseInput:
    """What the probe of the database found."""

    error: str | None = None
    schema: SchemaState = SchemaState.CURRENT


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetInput:
    """What is known of one target's runs."""

    name: str
    due_times: DueTimes
    deadline: timedelta
    watched_since: datetime
    last_run_at: datetime | None = None
    """When its last finished run ended, in any process; None before the first."""
    crashes: int = 0
    """Its newest runs in a row that ended by an unforeseen error, in any process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelInput:
    """State of one channel."""

    name: str
    suspended: bool = False
    oldest_due_at: datetime | None = None
    """Since when the oldest undelivered message waits; None if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersInput:
    """A problem of the workers or their queue."""

    reason: str
    remedy: str
    serious: bool
    """Whether it keeps runs from being executed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLoss:
    """Log lines that could not be written, such as to a full disk."""

    lines: int
    """Since the daemon's start."""
    reason: str
    """The system's words for the last error."""
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadinessInputs:
    """Everything that readiness depends on."""

    stopping: bool = False
    heartbeat_age_s: float = 0.0
    reload_refused: bool = False
    """The last reload was refused: the previous configuration is in force."""
    database: DatabaseInput = DatabaseInput()
    targets: Sequence[TargetInput] = ()
    workers: Sequence[WorkersInput] = ()
    """Empty without workers."""
    channels: Sequence[ChannelInput] = ()
    log_loss: LogLoss | None = None


def readiness(inputs: ReadinessInputs, now: datetime) -> Readiness:
    """Whether the daemon is ready, with all reasons and warnings."""
    warnings = tuple(_warnings(inputs, now))
    if inputs.stopping:
        stopping_reason = Reason(
            part=Component.DAEMON, reason="it is stopping: no new work starts", remedy="wait for the next daemon"
        )
        return Readiness(status=ReadinessStatus.STOPPING, reasons=(stopping_reason,), warnings=warnings)
    stored_reasons = (*_worker_reasons(inputs, serious=True), *_run_reasons(inputs.targets, now))
    reasons = (*_daemon_reasons(inputs), *(_database_reasons(inputs.database) or stored_reasons))
    return Readiness(
        status=ReadinessStatus.NOT_READY if reasons else ReadinessStatus.READY, reasons=reasons, warnings=warnings
    )


def overdue_from(inputs: TargetInput) -> datetime | None:
    """When a target becomes overdue; None if no run is due for years.

    Two intervals after the last run, as for the gate. A run that starts at the first due time may take its whole
    deadline, and so may the first run after this process started to watch the target.
    """
    earliest = _first_run_end(inputs, inputs.watched_since)
    if inputs.last_run_at is None or earliest is None:
        return earliest
    candidates = (inputs.due_times.overdue_at(inputs.last_run_at), _first_run_end(inputs, inputs.last_run_at), earliest)
    return max(each for each in candidates if each is not None)


def _first_run_end(inputs: TargetInput, moment: datetime) -> datetime | None:
    """The latest end of the first run that is due after a moment."""
    due = next(inputs.due_times.times_after(moment), None)
    return None if due is None else due + inputs.deadline + _CLOSE_ALLOWANCE


def _daemon_reasons(inputs: ReadinessInputs) -> list[Reason]:
    if liveness(heartbeat_age_s=inputs.heartbeat_age_s) is Liveness.OK:
        return []
    text = f"its event loop has not run for {inputs.heartbeat_age_s:.0f} s"
    return [Reason(part=Component.DAEMON, reason=text, remedy="restart the daemon, and report its log")]


_UPGRADE = "run `ingestion-monitor db upgrade`; this daemon then continues by itself"
_SCHEMA = {
    SchemaState.MISSING: ("the database is empty", _UPGRADE),
    SchemaState.OLDER: ("the schema is older than this program's", _UPGRADE),
    SchemaState.NEWER: (
        "the schema is newer than this program's",
        "install the newer ingestion-monitor, then restart this daemon",
    ),
    SchemaState.FOREIGN: (
        "the database belongs to another program",
        "give the monitor a database of its own, then restart this daemon",
    ),
}


def schema_problem(state: SchemaState) -> str:
    """What is wrong with a schema that is not this program's, and what to do."""
    reason, remedy = _SCHEMA[state]
    return f"the database can't be used: {reason}; {remedy}"


def _database_reasons(inputs: DatabaseInput) -> list[Reason]:
    if inputs.error is not None:
        return [
            Reason(
                part=Component.DATABASE, reason=inputs.error, remedy="fix the database; the daemon retries by itself"
            )
        ]
    if inputs.schema is SchemaState.CURRENT:
        return []
    reason, remedy = _SCHEMA[inputs.schema]
    return [Reason(part=Component.SCHEMA, reason=reason, remedy=remedy)]


def _worker_reasons(inputs: ReadinessInputs, *, serious: bool) -> list[Reason]:
    return [
        Reason(part=Component.WORKERS, reason=each.reason, remedy=each.remedy)
        for each in inputs.workers
        if each.serious is serious
    ]


def _run_reasons(targets: Iterable[TargetInput], now: datetime) -> list[Reason]:
    reasons = []
    for target in targets:
        if target.crashes >= CRASHES_IN_A_ROW:
            reasons.append(_crashing(target))
        elif (at := overdue_from(target)) is not None and now >= at:
            reasons.append(_overdue(target, at))
    return reasons


def _crashing(target: TargetInput) -> Reason:
    return Reason(
        part=Component.RUNS,
        target=target.name,
        reason="its runs end by an error that nobody foresaw, again and again",
        remedy="look for run_crashed in the daemon's log, and report it",
    )


def _overdue(target: TargetInput, since: datetime) -> Reason:
    last = f"the last run ended at {_format_time(target.last_run_at)}" if target.last_run_at else "no run has ended yet"
    return Reason(
        part=Component.RUNS,
        target=target.name,
        reason=f"overdue since {_format_time(since)}; {last}",
        remedy="look for run_error and run_skipped in the daemon's log",
    )


def _warnings(inputs: ReadinessInputs, now: datetime) -> Iterable[Reason]:
    if inputs.reload_refused:
        yield Reason(
            part=Component.CONFIGURATION,
            reason="the last reload was refused; the previous configuration is in force",
            remedy="run `ingestion-monitor config check`, fix the problems, and send SIGHUP again",
        )
    loss = inputs.log_loss
    if loss is not None and now - loss.last_at < LOG_LOSS_SHOWN:
        yield Reason(
            part=Component.LOG,
            reason=f"{loss.lines} log lines were lost, the last at {_format_time(loss.last_at)}: {loss.reason}",
            remedy="free the disk that stderr is written to, or restart the daemon with a reader for its stderr",
        )
    yield from _worker_reasons(inputs, serious=False)
    for channel in inputs.channels:
        if channel.suspended:
            yield Reason(
                part=Component.DELIVERY,
                channel=channel.name,
                reason="suspended: the receiver refused a message; nothing is sent until it is fixed",
                remedy="run `ingestion-monitor doctor`, fix the channel, then `ingestion-monitor notifications retry`",
            )
        elif channel.oldest_due_at is not None and now - channel.oldest_due_at >= UNDELIVERED_LIMIT:
            yield Reason(
                part=Component.DELIVERY,
                channel=channel.name,
                reason=f"a message has not been delivered since {_format_time(channel.oldest_due_at)}",
                remedy="run `ingestion-monitor notifications list` to see why",
            )


def _format_time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
