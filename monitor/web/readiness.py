"""Whether a daemon is alive, and whether it does what it is there for: decisions with their reasons. Pure.

It reads no clock and no database, and quotes nothing that an API said.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from monitor.model.schedule import DueTimes

HEARTBEAT_LIMIT_S = 60.0
"""Seconds without a beat of the daemon's loop after which it counts as stalled: many times what lies between two."""
UNDELIVERED_LIMIT = timedelta(minutes=15)
"""A message that is undelivered for so long is worth a word."""
_CLOSE_ALLOWANCE = timedelta(minutes=1)
"""What a run may take beyond its deadline to read the sync log and to store its end."""


class Liveness(StrEnum):
    """Whether the daemon is alive."""

    OK = "ok"
    STALLED = "stalled"
    """Its loop does not turn any more: only a restart helps."""


def liveness(*, heartbeat_age_s: float) -> Liveness:
    """Whether the daemon is alive, from the seconds (≥ 0) since the last beat of its loop."""
    return Liveness.OK if heartbeat_age_s < HEARTBEAT_LIMIT_S else Liveness.STALLED


class ReadinessStatus(StrEnum):
    """Whether the daemon does what it is there for."""

    READY = "ready"
    NOT_READY = "not_ready"
    STOPPING = "stopping"
    """It was told to end: work under way is finished, none is begun."""


class Component(StrEnum):
    """What a reason is about."""

    DAEMON = "daemon"
    DATABASE = "database"
    SCHEMA = "schema"
    RUNS = "runs"
    CONFIGURATION = "configuration"
    DELIVERY = "delivery"


class SchemaState(StrEnum):
    """How a database's schema relates to the one that this program wants."""

    CURRENT = "current"
    MISSING = "missing"
    OLDER = "older"
    NEWER = "newer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that is not as it should be."""

    part: Component
    reason: str
    """What, in our own words."""
    remedy: str
    """What to do."""
    target: str | None = None
    channel: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Ready or not, and why."""

    status: ReadinessStatus
    reasons: tuple[Reason, ...] = ()
    """Why not; empty when it is ready."""
    warnings: tuple[Reason, ...] = ()
    """What somebody should look at, though it keeps nothing from running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseInput:
    """How the database answered."""

    error: str | None = None
    """Why it could not be read, in our own words; None when it was."""
    schema: SchemaState = SchemaState.CURRENT


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetInput:
    """What is known of one target's runs."""

    name: str
    due_times: DueTimes
    deadline: timedelta
    """How long a run may take."""
    watched_since: datetime
    """When this process began to watch it."""
    last_run_at: datetime | None = None
    """When its newest finished run ended, whichever process ran it; None before the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelInput:
    """How one channel is."""

    name: str
    suspended: bool = False
    oldest_due_at: datetime | None = None
    """Since when the oldest undelivered message waits; None: there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadinessInputs:
    """All that readiness rests on; of a database that could not be read, targets and channels say nothing."""

    stopping: bool = False
    heartbeat_age_s: float = 0.0
    reload_refused: bool = False
    """The last reload was refused: an older configuration is in force."""
    database: DatabaseInput = DatabaseInput()
    targets: Sequence[TargetInput] = ()
    channels: Sequence[ChannelInput] = ()


def readiness(inputs: ReadinessInputs, now: datetime) -> Readiness:
    """Whether the daemon is ready, with every reason that speaks against it.

    Args:
        inputs: what is known.
        now: the time (aware).
    """
    warnings = tuple(_warnings(inputs, now))
    if inputs.stopping:
        stopping_reason = Reason(
            part=Component.DAEMON, reason="it is stopping: nothing new is begun", remedy="wait for its successor"
        )
        return Readiness(status=ReadinessStatus.STOPPING, reasons=(stopping_reason,), warnings=warnings)
    reasons = (*_daemon_reasons(inputs), *(_database_reasons(inputs.database) or _run_reasons(inputs.targets, now)))
    return Readiness(
        status=ReadinessStatus.NOT_READY if reasons else ReadinessStatus.READY, reasons=reasons, warnings=warnings
    )


def overdue_from(inputs: TargetInput) -> datetime | None:
    """From when on a target's last run is older than it should be; None when no run is due for years.

    Two intervals after the last run, as the gate counts; but a run that began at the first due time may take its
    whole deadline, and a target that is watched for less than an interval has all of that before it.
    """
    earliest = _first_run_end(inputs, inputs.watched_since)
    if inputs.last_run_at is None or earliest is None:
        return earliest
    candidates = (inputs.due_times.overdue_at(inputs.last_run_at), _first_run_end(inputs, inputs.last_run_at), earliest)
    return max(each for each in candidates if each is not None)


def _first_run_end(inputs: TargetInput, moment: datetime) -> datetime | None:
    """When the first run that is due after a moment has ended at the latest."""
    due = next(inputs.due_times.times_after(moment), None)
    return None if due is None else due + inputs.deadline + _CLOSE_ALLOWANCE


def _daemon_reasons(inputs: ReadinessInputs) -> list[Reason]:
    if liveness(heartbeat_age_s=inputs.heartbeat_age_s) is Liveness.OK:
        return []
    text = f"its loop has not turned for {inputs.heartbeat_age_s:.0f} s"
    return [Reason(part=Component.DAEMON, reason=text, remedy="restart it, and report its log")]


_UPGRADE = "run `ingestion-monitor db upgrade`: this daemon goes on by itself"
_SCHEMA = {
    SchemaState.MISSING: ("the database is empty", _UPGRADE),
    SchemaState.OLDER: ("the schema is older than this program's", _UPGRADE),
    SchemaState.NEWER: (
        "the schema is newer than this program's",
        "install the newer ingestion-monitor, then restart this daemon",
    ),
}


def _database_reasons(inputs: DatabaseInput) -> list[Reason]:
    if inputs.error is not None:
        return [
            Reason(
                part=Component.DATABASE,
                reason=inputs.error,
                remedy="it is tried again by itself, for as long as it takes",
            )
        ]
    if inputs.schema is SchemaState.CURRENT:
        return []
    reason, remedy = _SCHEMA[inputs.schema]
    return [Reason(part=Component.SCHEMA, reason=reason, remedy=remedy)]


def _run_reasons(targets: Iterable[TargetInput], now: datetime) -> list[Reason]:
    return [_overdue(target, at) for target in targets if (at := overdue_from(target)) is not None and now >= at]


def _overdue(target: TargetInput, since: datetime) -> Reason:
    last = f"its last one ended at {_format_time(target.last_run_at)}" if target.last_run_at else "it had none yet"
    return Reason(
        part=Component.RUNS,
        target=target.name,
        reason=f"a run is overdue since {_format_time(since)}: {last}",
        remedy="look for run_error and run_skipped in the daemon's log",
    )


def _warnings(inputs: ReadinessInputs, now: datetime) -> Iterable[Reason]:
    if inputs.reload_refused:
        yield Reason(
            part=Component.CONFIGURATION,
            reason="the last reload was refused: the configuration of before is in force",
            remedy="run `ingestion-monitor config check`, mend what it names, and send SIGHUP again",
        )
    for channel in inputs.channels:
        if channel.suspended:
            yield Reason(
                part=Component.DELIVERY,
                channel=channel.name,
                reason="its receiver refused us: nothing is sent there until somebody acts",
                remedy="run `ingestion-monitor doctor`, mend the channel, then `ingestion-monitor notifications retry`",
            )
        elif channel.oldest_due_at is not None and now - channel.oldest_due_at >= UNDELIVERED_LIMIT:
            yield Reason(
                part=Component.DELIVERY,
                channel=channel.name,
                reason=f"a message is undelivered since {_format_time(channel.oldest_due_at)}",
                remedy="run `ingestion-monitor notifications list` to see what keeps it back",
            )


def _format_time(at: datetime) -> str:
    """A moment (UTC), as people read it."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
