"""Reads the database for the health endpoints: one probe at a time, cached for a second, with a timeout.

It has its own connections, so that neither busy runs nor a hanging database block it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime

from sqlalchemy import Connection, Engine, func, select, text

from monitor.config.fleet import FleetConfig
from monitor.config.slos import objectives_of
from monitor.database.engine import connect_read_only, in_chunks, reading
from monitor.database.lookups import ENDED, WITH_SNAPSHOT, newest_of_each
from monitor.database.postgres import shorten_timeouts
from monitor.database.schema import current
from monitor.database.tables import INCIDENT_IS_OPEN, incidents, notifications, runs, snapshots
from monitor.errors import ConfigError, StoreError
from monitor.incidents.evidence import CRASHES_IN_A_ROW
from monitor.incidents.slo import Objective, SloStatus
from monitor.incidents.slo_source import read_statuses
from monitor.incidents.store import crash_streak
from monitor.model import FINISHED, NOTHING_LEARNED, ChannelState, LearnedLimits, RunStatus, Snapshot
from monitor.notifications import channel_state
from monitor.notifications.routing import LOG_CHANNEL
from monitor.reports.fleet import FleetView, fleet_problems, fleet_view
from monitor.rollups.indexing_queries import TimesToIndexed, all_times
from monitor.runs import throttle_store
from monitor.runs import totals as run_totals
from monitor.runs.canary.store import LastCanary, last_canaries
from monitor.runs.totals import RunTotals
from monitor.threads import run_in_thread
from monitor.waits import store as wait_store
from monitor.waits.store import WaitTotal
from monitor.web.readiness import ChannelInput, DatabaseInput, ReadinessInputs, SchemaState, TargetInput, WorkersInput
from monitor.web.state import StateSnapshot, StateTracker

IncidentLabels = tuple[str, str, str]
"""Target, cause and severity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetState:
    """Stored state of one target."""

    last_run_at: datetime | None = None
    """When its last run ended, with any status; None before the first."""
    last_success_at: datetime | None = None
    """When its last complete run ended; None before the first."""
    snapshot: Snapshot | None = None
    crashes: int = 0
    """Its newest runs in a row that ended by an unforeseen error, counted up to `CRASHES_IN_A_ROW`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """The notifications of one channel."""

    due: int = 0
    oldest_due_at: datetime | None = None
    """Since when the oldest undelivered one waits."""
    dead: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredState:
    """The stored state at one moment."""

    targets: Mapping[str, TargetState] = field(default_factory=dict)
    incidents: Mapping[IncidentLabels, int] = field(default_factory=dict)
    queues: Mapping[str, QueueStats] = field(default_factory=dict)
    channels: Mapping[str, ChannelState] = field(default_factory=dict)
    """Channels that have failed at least once."""
    totals: Mapping[str, RunTotals] = field(default_factory=dict)
    """All runs that ever ended, by target."""
    learned: Mapping[str, LearnedLimits] = field(default_factory=dict)
    """Learned limits of the API, by target."""
    indexed: Mapping[str, TimesToIndexed] = field(default_factory=dict)
    """All times to indexed that were ever counted, by target."""
    slos: Mapping[str, tuple[SloStatus, ...]] = field(default_factory=dict)
    """Objectives, by target; none before its first run."""
    waits: Sequence[WaitTotal] = ()
    """All waits that ever ended, of the configured targets."""
    canaries: Mapping[str, LastCanary] = field(default_factory=dict)
    """The newest canary by target, of those that have canaries."""
    fleet: FleetView | None = None
    """Workers, queue and shares; None without workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives:
    """The objectives to read, by target."""

    promised: Mapping[str, Sequence[Objective]] = field(default_factory=dict)
    known: Mapping[str, Sequence[SloStatus]] = field(default_factory=dict)
    """What the last probe read: they are read again only after a run."""


def read(
    conn: Connection,
    *,
    targets: Sequence[str],
    throttle_keys: Mapping[str, str | None],
    timeout_s: float,
    objectives: Objectives = Objectives(),
    canaries: Sequence[str] = (),
    fleet: FleetConfig | None = None,
) -> StoredState:
    """Reads the state of these targets, and of all incidents and notifications. Raises SQLAlchemyError.

    `throttle_keys` has the key of the learned limits by target, None if there are none; `canaries` are the targets that
    have canaries; `fleet` says whether there are workers. `timeout_s` (> 0) limits each statement on PostgreSQL.
    """
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql(shorten_timeouts({"statement_timeout": f"{int(timeout_s * 1000)}ms"}))
    target_states: dict[str, TargetState] = {}
    indexed: dict[str, TimesToIndexed] = {}
    for batch in in_chunks(targets):
        target_states |= _target_states(conn, batch)
        indexed |= all_times(conn, targets=batch)
    keys = sorted({key for key in throttle_keys.values() if key is not None})
    known: dict[str | None, LearnedLimits] = {None: NOTHING_LEARNED}
    known.update(throttle_store.read_all(conn, keys=keys))
    return StoredState(
        targets=target_states,
        incidents=_incidents(conn),
        queues=_queues(conn),
        channels=channel_state.load_all(conn),
        waits=wait_store.totals(conn, targets=targets),
        totals=run_totals.read(conn, targets=targets),
        # nothing is stored under a key until a limit is met
        learned={name: known.get(key, NOTHING_LEARNED) for name, key in throttle_keys.items()},
        indexed=indexed,
        slos=read_statuses(conn, objectives=objectives.promised, known=objectives.known),
        canaries=last_canaries(conn, targets=canaries),
        fleet=None if fleet is None else fleet_view(conn, fleet),
    )


def _target_states(conn: Connection, targets: Sequence[str]) -> dict[str, TargetState]:
    """One index seek per target and value, whatever the length of the history."""
    wanted = {"ended": FINISHED, "complete": [RunStatus.COMPLETE], "counted": WITH_SNAPSHOT, "newest": ENDED}
    chosen = newest_of_each(conn, targets, wanted)
    ids = {number for row in chosen.values() for number in (row.ended, row.complete) if number is not None}
    ended = _end_times(conn, sorted(ids))
    counted = _snapshots(conn, sorted(row.counted for row in chosen.values() if row.counted is not None))
    return {
        name: TargetState(
            last_run_at=ended.get(row.ended),
            last_success_at=ended.get(row.complete),
            snapshot=counted.get(row.counted),
            crashes=0 if row.newest == row.ended else crash_streak(conn, target=name, at_most=CRASHES_IN_A_ROW),
        )
        for name, row in chosen.items()
    }


def _end_times(conn: Connection, ids: Sequence[int]) -> dict[int, datetime]:
    found: dict[int, datetime] = {}
    for batch in in_chunks(ids):
        query = select(runs.c.id, runs.c.finished_at).where(runs.c.id.in_(batch))
        found |= {row.id: row.finished_at for row in conn.execute(query)}
    return found


def _snapshots(conn: Connection, ids: Sequence[int]) -> dict[int, Snapshot]:
    counts = [snapshots.c[each.name] for each in fields(Snapshot)]
    found: dict[int, Snapshot] = {}
    for batch in in_chunks(ids):
        query = select(snapshots.c.run_id, *counts).where(snapshots.c.run_id.in_(batch))
        found |= {row.pop("run_id"): Snapshot(**row) for row in map(dict, conn.execute(query).mappings())}
    return found


def _incidents(conn: Connection) -> dict[IncidentLabels, int]:
    kinds = (incidents.c.target, incidents.c.cause, incidents.c.severity)
    query = select(*kinds, func.count()).where(text(INCIDENT_IS_OPEN)).group_by(*kinds).order_by(*kinds)
    return {(target, cause, severity): count for target, cause, severity, count in conn.execute(query)}


def _queues(conn: Connection) -> dict[str, QueueStats]:
    waits_since = func.min(func.coalesce(notifications.c.retried_at, notifications.c.created_at))
    due = select(notifications.c.channel, func.count(), waits_since).where(notifications.c.status == "due")
    dead_query = select(notifications.c.channel, func.count().label("number")).where(notifications.c.status == "dead")
    dead = {row.channel: row.number for row in conn.execute(dead_query.group_by(notifications.c.channel))}
    waiting = {name: (count, since) for name, count, since in conn.execute(due.group_by(notifications.c.channel))}
    return {
        name: QueueStats(due=count, oldest_due_at=since, dead=dead.get(name, 0))
        for name in sorted({*waiting, *dead})
        for count, since in [waiting.get(name, (0, None))]
    }


CACHE_S = 1.0
"""Seconds for which a result is reused."""
TIMEOUT_S = 3.0
"""Seconds after which a probe reports that the database did not answer."""
_MAX_HUNG = 3
"""Limit of hanging probes; no new one starts before one of them ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """The result of one probe."""

    error: str | None = None
    """Why the database could not be read; None if it was read."""
    schema: SchemaState = SchemaState.CURRENT
    stored: StoredState = field(default_factory=StoredState)
    """Empty if the database could not be read or has another schema."""

    @property
    def usable(self) -> bool:
        """Whether the stored state was read."""
        return self.error is None and self.schema is SchemaState.CURRENT


class DatabaseProbe:
    """Probes the database of one daemon, by its current configuration. A result is reused for `cache_s` (≥ 0)."""

    def __init__(
        self,
        tracker: StateTracker,
        *,
        timeout_s: float = TIMEOUT_S,
        cache_s: float = CACHE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tracker, self._timeout_s, self._cache_s, self._monotonic = tracker, timeout_s, cache_s, monotonic
        self._probing: asyncio.Task[ProbeResult] | None = None
        self._last: ProbeResult | None = None
        self._last_s = 0.0
        self._running: set[object] = set()
        self._engine: Engine | None = None
        self._url = ""

    async def latest(self) -> ProbeResult:
        """What the database says now, or said a moment ago."""
        if self._last is not None and self._monotonic() - self._last_s < self._cache_s:
            return self._last
        if self._probing is None:
            self._probing = asyncio.create_task(self._probe())
            self._probing.add_done_callback(self._cache)
        # a caller may be cancelled while others wait for the same probe
        return await asyncio.shield(self._probing)

    async def close(self) -> None:
        """Closes the connections; a hanging probe is abandoned."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        self._disconnect()

    def _cache(self, task: asyncio.Task[ProbeResult]) -> None:
        self._probing = None
        if not task.cancelled() and task.exception() is None:
            self._last, self._last_s = task.result(), self._monotonic()

    async def _probe(self) -> ProbeResult:
        if len(self._running) >= _MAX_HUNG:
            return _timed_out()
        targets = [target.name for target in self._tracker.config.targets]
        throttle_keys = {name: key for name, key in dict(self._tracker.throttle_keys).items() if name in targets}
        objectives = self._objectives(targets)
        canaries = [target.name for target in self._tracker.config.targets if target.canary is not None]
        database, fleet, probe_id = self._tracker.config.database, self._tracker.config.fleet, object()

        def probe() -> ProbeResult:
            self._running.add(probe_id)
            try:
                engine = self._connect(database.reveal())
                return _read(engine, targets, throttle_keys, canaries, self._timeout_s, objectives, fleet)
            except (StoreError, ConfigError) as error:
                return ProbeResult(error=str(error))
            finally:
                self._running.discard(probe_id)

        try:
            return await run_in_thread(probe, timeout_s=self._timeout_s)
        except TimeoutError:
            # the hanging probe keeps its connection; the next probe opens another
            self._engine = None
            return _timed_out()

    def _objectives(self, targets: Sequence[str]) -> Objectives:
        slos = self._tracker.config.slos
        promised = {name: found for name in targets if (found := objectives_of(slos, name))}
        return Objectives(promised=promised, known=self._last.stored.slos if self._last else {})

    def _connect(self, url: str) -> Engine:
        engine = self._engine
        if engine is None or url != self._url:
            self._disconnect()
            engine = self._engine = read_only_engine(url, timeout_s=self._timeout_s)
            self._url = url
        return engine

    def _disconnect(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


def _timed_out() -> ProbeResult:
    return ProbeResult(error="the database did not answer in time")


def read_only_engine(url: str, *, timeout_s: float) -> Engine:
    """An engine for one daemon's pages and probes, which gives a server up after a time."""
    timeouts = {"connect_timeout": max(2, round(timeout_s)), "tcp_user_timeout": round(timeout_s * 1000)}
    return connect_read_only(url, busy_timeout_s=timeout_s, connect_args=timeouts)


def _read(
    engine: Engine,
    targets: list[str],
    throttle_keys: dict[str, str | None],
    canaries: list[str],
    timeout_s: float,
    objectives: Objectives,
    fleet: FleetConfig,
) -> ProbeResult:
    # fails if the file was deleted; the schema check alone would report an empty database
    with reading(engine) as conn:
        conn.exec_driver_sql("SELECT 1")
    schema = SchemaState(current(engine).fit.value)
    if schema is not SchemaState.CURRENT:
        return ProbeResult(schema=schema)
    with reading(engine) as conn:
        stored = read(
            conn,
            targets=targets,
            throttle_keys=throttle_keys,
            timeout_s=timeout_s,
            canaries=canaries,
            objectives=objectives,
            fleet=fleet,
        )
        return ProbeResult(stored=stored)


def collect_inputs(daemon: StateSnapshot, probe: ProbeResult) -> ReadinessInputs:
    """Combines the daemon's state and the last probe."""
    # store_error also covers a read-only database; a schema mismatch is reported by the probe
    error = probe.error or (daemon.store_error if probe.usable else None)
    return ReadinessInputs(
        stopping=daemon.stopping,
        heartbeat_age_s=daemon.heartbeat_age_s,
        reload_refused=daemon.reload_refused,
        database=DatabaseInput(error=error, schema=probe.schema),
        targets=target_inputs(daemon, probe),
        workers=worker_inputs(probe),
        channels=channel_inputs(daemon, probe),
        log_loss=daemon.log_loss,
    )


def target_inputs(daemon: StateSnapshot, probe: ProbeResult) -> list[TargetInput]:
    """The configured targets."""
    return [
        TargetInput(
            name=target.name,
            due_times=daemon.config.schedule_for(target).due_times(target.name, daemon_managed=True),
            deadline=target.check.deadline,
            watched_since=daemon.watched_since.get(target.name, daemon.started_at),
            last_run_at=probe.stored.targets.get(target.name, TargetState()).last_run_at,
            crashes=probe.stored.targets.get(target.name, TargetState()).crashes,
        )
        for target in daemon.config.targets
    ]


def worker_inputs(probe: ProbeResult) -> list[WorkersInput]:
    """What is wrong with workers and queue; empty without workers."""
    view = probe.stored.fleet
    return [
        WorkersInput(reason=each.sentence, remedy=each.remedy, serious=each.serious)
        for each in (fleet_problems(view) if view is not None else ())
    ]


def channel_inputs(daemon: StateSnapshot, probe: ProbeResult) -> list[ChannelInput]:
    """The configured channels, and the log, which receives what no other channel takes."""
    stored = probe.stored
    names = dict.fromkeys((*(channel.name for channel in daemon.config.channels), LOG_CHANNEL))
    return [
        ChannelInput(
            name=name,
            suspended=name in stored.channels and stored.channels[name].suspended_at is not None,
            oldest_due_at=stored.queues.get(name, QueueStats()).oldest_due_at,
        )
        for name in names
    ]
