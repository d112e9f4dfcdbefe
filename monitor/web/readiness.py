"""Whether a daemon is alive, and whether it does what it is there for: decisions with their reasons. Pure.

It reads no clock and no database, and quotes nothing that an API said.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from monitor.model.schedule import DueTimes

BEAT_LIMIT_S = 60.0
"""Seconds without a beat of the daemon's loop after which it counts as stalled: many times what lies between two."""
LONG_UNDELIVERED = timedelta(minutes=15)
"""A message that is undelivered for so long is worth a word."""
_CLOSING = timedelta(minutes=1)
"""What a run may take beyond its deadline to read the sync log and to store its end."""


class Life(StrEnum):
    """Whether the daemon is alive."""

    OK = "ok"
    STALLED = "stalled"
    """Its loop does not turn any more: only a restart helps."""


def life(*, beat_age_s: float) -> Life:
    """Whether the daemon is alive, from the seconds (≥ 0) since the last beat of its loop."""
    return Life.OK if beat_age_s < BEAT_LIMIT_S else Life.STALLED


class Status(StrEnum):
    """Whether the daemon does what it is there for."""

    READY = "ready"
    NOT_READY = "not_ready"
    STOPPING = "stopping"
    """It was told to end: work under way is finished, none is begun."""


class Part(StrEnum):
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

    part: Part
    reason: str
    """What, in our own words."""
    remedy: str
    """What to do."""
    target: str | None = None
    channel: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Ready or not, and why."""

    status: Status
    reasons: tuple[Reason, ...] = ()
    """Why not; empty when it is ready."""
    warnings: tuple[Reason, ...] = ()
    """What somebody should look at, though it keeps nothing from running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSigns:
    """How the database answered."""

    error: str | None = None
    """Why it could not be read, in our own words; None when it was."""
    schema: SchemaState = SchemaState.CURRENT


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSigns:
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
class ChannelSigns:
    """How one channel is."""

    name: str
    parked: bool = False
    oldest_due_at: datetime | None = None
    """Since when the oldest undelivered message waits; None: there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """All that readiness rests on; of a database that could not be read, targets and channels say nothing."""

    stopping: bool = False
    beat_age_s: float = 0.0
    reload_refused: bool = False
    """The last reload was refused: an older configuration is in force."""
    database: DatabaseSigns = DatabaseSigns()
    targets: Sequence[TargetSigns] = ()
    channels: Sequence[ChannelSigns] = ()


def readiness(signs: Signs, now: datetime) -> Readiness:
    """Whether the daemon is ready, with every reason that speaks against it.

    Args:
        signs: what is known.
        now: the time (aware).
    """
    warnings = tuple(_warnings(signs, now))
    if signs.stopping:
        told = Reason(part=Part.DAEMON, reason="it is stopping: nothing new is begun", remedy="wait for its successor")
        return Readiness(status=Status.STOPPING, reasons=(told,), warnings=warnings)
    reasons = (*_of_daemon(signs), *(_of_database(signs.database) or _of_runs(signs.targets, now)))
    return Readiness(status=Status.NOT_READY if reasons else Status.READY, reasons=reasons, warnings=warnings)


def late_at(signs: TargetSigns) -> datetime | None:
    """From when on a target's last run is older than it should be; None when no run is due for years.

    Two intervals after the last run, as the gate counts; but a run that began at the first due time may take its
    whole deadline, and a target that is watched for less than an interval has all of that before it.
    """
    fresh = _first_end(signs, signs.watched_since)
    if signs.last_run_at is None or fresh is None:
        return fresh
    in_time = (signs.due_times.overdue_at(signs.last_run_at), _first_end(signs, signs.last_run_at), fresh)
    return max(each for each in in_time if each is not None)


def _first_end(signs: TargetSigns, moment: datetime) -> datetime | None:
    """When the first run that is due after a moment has ended at the latest."""
    due = next(signs.due_times.times_after(moment), None)
    return None if due is None else due + signs.deadline + _CLOSING


def _of_daemon(signs: Signs) -> list[Reason]:
    if life(beat_age_s=signs.beat_age_s) is Life.OK:
        return []
    said = f"its loop has not turned for {signs.beat_age_s:.0f} s"
    return [Reason(part=Part.DAEMON, reason=said, remedy="restart it, and report its log")]


_UPGRADE = "run `ingestion-monitor db upgrade`: this daemon goes on by itself"
_SCHEMA = {
    SchemaState.MISSING: ("the database is empty", _UPGRADE),
    SchemaState.OLDER: ("the schema is older than this program's", _UPGRADE),
    SchemaState.NEWER: (
        "the schema is newer than this program's",
        "install the newer ingestion-monitor, then restart this daemon",
    ),
}


def _of_database(signs: DatabaseSigns) -> list[Reason]:
    if signs.error is not None:
        return [
            Reason(
                part=Part.DATABASE, reason=signs.error, remedy="it is tried again by itself, for as long as it takes"
            )
        ]
    if signs.schema is SchemaState.CURRENT:
        return []
    reason, remedy = _SCHEMA[signs.schema]
    return [Reason(part=Part.SCHEMA, reason=reason, remedy=remedy)]


def _of_runs(targets: Iterable[TargetSigns], now: datetime) -> list[Reason]:
    return [_overdue(target, at) for target in targets if (at := late_at(target)) is not None and now >= at]


def _overdue(target: TargetSigns, since: datetime) -> Reason:
    last = f"its last one ended at {_moment(target.last_run_at)}" if target.last_run_at else "it had none yet"
    return Reason(
        part=Part.RUNS,
        target=target.name,
        reason=f"a run is overdue since {_moment(since)}: {last}",
        remedy="look for tick_failed and run_skipped in the daemon's log",
    )


def _warnings(signs: Signs, now: datetime) -> Iterable[Reason]:
    if signs.reload_refused:
        yield Reason(
            part=Part.CONFIGURATION,
            reason="the last reload was refused: the configuration of before is in force",
            remedy="run `ingestion-monitor config check`, mend what it names, and send SIGHUP again",
        )
    for channel in signs.channels:
        if channel.parked:
            yield Reason(
                part=Part.DELIVERY,
                channel=channel.name,
                reason="its receiver refused us: nothing is sent there until somebody acts",
                remedy="run `ingestion-monitor doctor`, mend the channel, then `ingestion-monitor notifications retry`",
            )
        elif channel.oldest_due_at is not None and now - channel.oldest_due_at >= LONG_UNDELIVERED:
            yield Reason(
                part=Part.DELIVERY,
                channel=channel.name,
                reason=f"a message is undelivered since {_moment(channel.oldest_due_at)}",
                remedy="run `ingestion-monitor notifications list` to see what keeps it back",
            )


def _moment(at: datetime) -> str:
    """A moment (UTC), as people read it."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
