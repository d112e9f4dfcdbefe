"""Looks at the database for whoever asks: one look at a time, which answers all for a second, and never takes long.

It reads through connections of its own: neither runs that have them all nor a database that hangs keep it from that.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Engine, ScalarSelect, String, column, func, select, text, values

from monitor.database.engine import connect_read_only, in_chunks, reading
from monitor.database.schema import current
from monitor.database.tables import incidents, notifications, runs, snapshots
from monitor.database.urls import is_sqlite, parse
from monitor.errors import ConfigError, StoreError
from monitor.model import FINISHED, ChannelState, IncidentState, LearnedLimits, RunStatus, Snapshot
from monitor.notifications import channel_state
from monitor.runs import throttle_store
from monitor.threads import run_in_thread
from monitor.web.readiness import SchemaState
from monitor.web.state import StateTracker

IncidentLabels = tuple[str, str, str]
"""Target, cause and severity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetState:
    """How one target stands."""

    last_run_at: datetime | None = None
    """When its newest finished run ended, however it ended; None before the first."""
    last_success_at: datetime | None = None
    """When its newest complete run ended; None before the first."""
    snapshot: Snapshot | None = None
    """Its newest one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """How one channel's messages stand."""

    due: int = 0
    oldest_due_at: datetime | None = None
    """Since when the oldest undelivered one waits."""
    dead: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredState:
    """The stored state at one moment."""

    targets: Mapping[str, TargetState] = field(default_factory=dict)
    incidents: Mapping[IncidentLabels, int] = field(default_factory=dict)
    """How many are not resolved."""
    queues: Mapping[str, QueueStats] = field(default_factory=dict)
    channels: Mapping[str, ChannelState] = field(default_factory=dict)
    """Those that ever failed."""
    learned: Mapping[str, LearnedLimits] = field(default_factory=dict)
    """What is known of the API of a target."""


def read(
    conn: Connection, *, targets: Sequence[str], throttle_keys: Mapping[str, str], timeout_s: float
) -> StoredState:
    """The state of these targets, and of all incidents and messages, in one read transaction.

    Args:
        conn: a connection; what it reads belongs to one moment where the database grants that.
        targets: names.
        throttle_keys: under which what was learned of a target's API is stored, by target.
        timeout_s: seconds (> 0) that a server may take for one statement; SQLite knows no such limit.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: for whatever the database does.
    """
    if conn.dialect.name == "postgresql":
        conn.execute(text(f"SET LOCAL statement_timeout = {int(timeout_s * 1000)}"))  # milliseconds
    target_states: dict[str, TargetState] = {}
    for batch in in_chunks(targets):
        target_states |= _target_states(conn, batch)
    known = {key: throttle_store.read(conn, key=key) for key in sorted(set(throttle_keys.values()))}
    return StoredState(
        targets=target_states,
        incidents=_incidents(conn),
        queues=_queues(conn),
        channels=channel_state.load_all(conn),
        learned={name: found for name, key in throttle_keys.items() if (found := known[key]) is not None},
    )


def _target_states(conn: Connection, targets: Sequence[str]) -> dict[str, TargetState]:
    """One seek in an index per target and question, however long the history is."""
    names = values(column("name", String), name="wanted").data([(name,) for name in targets]).cte("wanted")
    finished = runs.c.status.in_([status.value for status in FINISHED])
    chosen = conn.execute(
        select(
            names.c.name,
            _newest(names.c.name, finished).label("ended"),
            _newest(names.c.name, runs.c.status == RunStatus.COMPLETE.value).label("complete"),
            _newest(names.c.name, runs.c.id.in_(select(snapshots.c.run_id))).label("counted"),
        )
    ).all()
    ids = {number for _, *numbers in chosen for number in numbers if number is not None}
    ended = _end_times(conn, sorted(ids))
    counted = _snapshots(conn, sorted(row.counted for row in chosen if row.counted is not None))
    return {
        row.name: TargetState(
            last_run_at=ended.get(row.ended), last_success_at=ended.get(row.complete), snapshot=counted.get(row.counted)
        )
        for row in chosen
    }


def _newest(name: ColumnElement[str], *where: ColumnElement[bool]) -> ScalarSelect[int]:
    newest = select(runs.c.id).where(runs.c.target == name, *where)
    return newest.order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(1).scalar_subquery()


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
    # as the index of unresolved incidents has it, so that it is used however many there are
    unresolved = text(f"state <> '{IncidentState.RESOLVED.value}'")
    query = select(*kinds, func.count()).where(unresolved).group_by(*kinds).order_by(*kinds)
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
"""So long, in seconds, one look answers everybody."""
TIMEOUT_S = 3.0
"""So long, in seconds, a look may take; whoever waits for it is told then that the database did not answer."""
_MAX_HUNG = 3
"""Looks that hang, at the most: no further one is begun before one of them has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What one look at the database saw."""

    error: str | None = None
    """Why it could not be read, in our own words; None when it was."""
    schema: SchemaState = SchemaState.CURRENT
    stored: StoredState = field(default_factory=StoredState)
    """Nothing, where it could not be read or has another schema."""

    @property
    def usable(self) -> bool:
        """Whether what is stored was read."""
        return self.error is None and self.schema is SchemaState.CURRENT


class DatabaseProbe:
    """Reads for one daemon.

    Args:
        tracker: whose configuration says which database, and which targets.
        timeout_s: how long a look may take, in seconds (> 0).
        cache_s: how long it answers everybody, in seconds (≥ 0).
        monotonic: the clock of both, in seconds.
    """

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
        # whoever asked may be gone before the look ends, and others wait for it too
        return await asyncio.shield(self._probing)

    async def close(self) -> None:
        """Ends its connections; a look that hangs is left to itself."""
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
        database, probe_id = self._tracker.config.database, object()

        def probe() -> ProbeResult:
            self._running.add(probe_id)
            try:
                return _read(self._connect(database.reveal()), targets, throttle_keys, self._timeout_s)
            except (StoreError, ConfigError) as error:
                return ProbeResult(error=str(error))
            finally:
                self._running.discard(probe_id)

        try:
            return await run_in_thread(probe, timeout_s=self._timeout_s)
        except TimeoutError:
            # the connection that hangs stays with the look that hangs; the next one tries another
            self._engine = None
            return _timed_out()

    def _connect(self, url: str) -> Engine:
        engine = self._engine
        if engine is None or url != self._url:
            self._disconnect()
            engine = self._engine = _engine(url, self._timeout_s)
            self._url = url
        return engine

    def _disconnect(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


def _timed_out() -> ProbeResult:
    return ProbeResult(error="the database did not answer in time")


def _engine(url: str, timeout_s: float) -> Engine:
    parsed = parse(url)
    if is_sqlite(parsed):
        return connect_read_only(url, busy_timeout_s=timeout_s)
    timeouts = {"connect_timeout": str(max(2, round(timeout_s))), "tcp_user_timeout": str(round(timeout_s * 1000))}
    missing = {name: value for name, value in timeouts.items() if name not in parsed.query}
    return connect_read_only(parsed.update_query_dict(missing).render_as_string(hide_password=False))


def _read(engine: Engine, targets: list[str], throttle_keys: dict[str, str], timeout_s: float) -> ProbeResult:
    # a file that is gone is a fault of a database that was in use: the schema's look alone takes it for an empty one
    with reading(engine) as conn:
        conn.exec_driver_sql("SELECT 1")
    schema = SchemaState(current(engine).fit.value)
    if schema is not SchemaState.CURRENT:
        return ProbeResult(schema=schema)
    with reading(engine) as conn:
        return ProbeResult(stored=read(conn, targets=targets, throttle_keys=throttle_keys, timeout_s=timeout_s))
