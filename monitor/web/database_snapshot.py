"""Looks at the database for whoever asks: one look at a time, which answers all for a second, and never takes long.

It reads through connections of its own: neither runs that have them all nor a database that hangs keep it from that.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Engine, ScalarSelect, String, column, func, select, text, values

from monitor.database.engine import connect_read_only, in_fews, reading
from monitor.database.schema import current
from monitor.database.tables import abandoned, incidents, notifications, runs, snapshots
from monitor.database.urls import is_sqlite, parse
from monitor.errors import ConfigError, StoreError
from monitor.model import ChannelState, IncidentState, LearnedLimits, RunStatus, Snapshot
from monitor.notifications import channel_state as channels
from monitor.runs import throttle_store as throttles
from monitor.threads import aside
from monitor.web.readiness import SchemaState
from monitor.web.state import Vitals

IncidentLabels = tuple[str, str, str]
"""Target, cause and severity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one target stands."""

    last_run_at: datetime | None = None
    """When its newest finished run ended, however it ended; None before the first."""
    last_success_at: datetime | None = None
    """When its newest complete run ended; None before the first."""
    snapshot: Snapshot | None = None
    """Its newest one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """How one channel's messages stand."""

    due: int = 0
    oldest_due_at: datetime | None = None
    """Since when the oldest undelivered one waits."""
    dead: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The stored state at one moment."""

    targets: Mapping[str, Standing] = field(default_factory=dict)
    incidents: Mapping[IncidentLabels, int] = field(default_factory=dict)
    """How many are not resolved."""
    mail: Mapping[str, Mail] = field(default_factory=dict)
    channels: Mapping[str, ChannelState] = field(default_factory=dict)
    """Those that ever failed."""
    learned: Mapping[str, LearnedLimits] = field(default_factory=dict)
    """What is known of the API of a target."""


def read(conn: Connection, *, targets: Sequence[str], keys: Mapping[str, str], limit_s: float) -> Stored:
    """The state of these targets, and of all incidents and messages, in one read transaction.

    Args:
        conn: a connection; what it reads belongs to one moment where the database grants that.
        targets: names.
        keys: under which what was learned of a target's API is stored, by target.
        limit_s: seconds (> 0) that a server may take for one statement; SQLite knows no such limit.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: for whatever the database does.
    """
    if conn.dialect.name == "postgresql":
        conn.execute(text(f"SET LOCAL statement_timeout = {int(limit_s * 1000)}"))  # milliseconds
    standings: dict[str, Standing] = {}
    for few in in_fews(targets):
        standings |= _standings(conn, few)
    known = {key: throttles.read(conn, key=key) for key in sorted(set(keys.values()))}
    return Stored(
        targets=standings,
        incidents=_incidents(conn),
        mail=_mail(conn),
        channels=channels.load_all(conn),
        learned={name: found for name, key in keys.items() if (found := known[key]) is not None},
    )


def _standings(conn: Connection, targets: Sequence[str]) -> dict[str, Standing]:
    """One seek in an index per target and question, however long the history is."""
    names = values(column("name", String), name="wanted").data([(name,) for name in targets]).cte("wanted")
    finished = runs.c.status != RunStatus.RUNNING.value
    chosen = conn.execute(
        select(
            names.c.name,
            _newest(names.c.name, finished, ~abandoned()).label("ended"),
            _newest(names.c.name, runs.c.status == RunStatus.COMPLETE.value).label("complete"),
            _newest(names.c.name, runs.c.id.in_(select(snapshots.c.run_id))).label("counted"),
        )
    ).all()
    ids = {number for _, *numbers in chosen for number in numbers if number is not None}
    ended = _ends(conn, sorted(ids))
    counted = _snapshots(conn, sorted(row.counted for row in chosen if row.counted is not None))
    return {
        row.name: Standing(
            last_run_at=ended.get(row.ended), last_success_at=ended.get(row.complete), snapshot=counted.get(row.counted)
        )
        for row in chosen
    }


def _newest(name: ColumnElement[str], *where: ColumnElement[bool]) -> ScalarSelect[int]:
    newest = select(runs.c.id).where(runs.c.target == name, *where)
    return newest.order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(1).scalar_subquery()


def _ends(conn: Connection, ids: Sequence[int]) -> dict[int, datetime]:
    found: dict[int, datetime] = {}
    for few in in_fews(ids):
        query = select(runs.c.id, runs.c.finished_at).where(runs.c.id.in_(few))
        found |= {row.id: row.finished_at for row in conn.execute(query)}
    return found


def _snapshots(conn: Connection, ids: Sequence[int]) -> dict[int, Snapshot]:
    counts = [snapshots.c[each.name] for each in fields(Snapshot)]
    found: dict[int, Snapshot] = {}
    for few in in_fews(ids):
        query = select(snapshots.c.run_id, *counts).where(snapshots.c.run_id.in_(few))
        found |= {row.pop("run_id"): Snapshot(**row) for row in map(dict, conn.execute(query).mappings())}
    return found


def _incidents(conn: Connection) -> dict[IncidentLabels, int]:
    kinds = (incidents.c.target, incidents.c.cause, incidents.c.severity)
    # as the index of unresolved incidents has it, so that it is used however many there are
    unresolved = text(f"state <> '{IncidentState.RESOLVED.value}'")
    query = select(*kinds, func.count()).where(unresolved).group_by(*kinds).order_by(*kinds)
    return {(target, cause, severity): count for target, cause, severity, count in conn.execute(query)}


def _mail(conn: Connection) -> dict[str, Mail]:
    waits_since = func.min(func.coalesce(notifications.c.retried_at, notifications.c.created_at))
    due = select(notifications.c.channel, func.count(), waits_since).where(notifications.c.status == "due")
    dead = select(notifications.c.channel, func.count().label("number")).where(notifications.c.status == "dead")
    given_up = {row.channel: row.number for row in conn.execute(dead.group_by(notifications.c.channel))}
    waiting = {name: (count, since) for name, count, since in conn.execute(due.group_by(notifications.c.channel))}
    return {
        name: Mail(due=count, oldest_due_at=since, dead=given_up.get(name, 0))
        for name in sorted({*waiting, *given_up})
        for count, since in [waiting.get(name, (0, None))]
    }


KEPT_S = 1.0
"""So long, in seconds, one look answers everybody."""
LIMIT_S = 3.0
"""So long, in seconds, a look may take; whoever waits for it is told then that the database did not answer."""
_MOST_STUCK = 3
"""Looks that hang, at the most: no further one is begun before one of them has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one look at the database saw."""

    error: str | None = None
    """Why it could not be read, in our own words; None when it was."""
    schema: SchemaState = SchemaState.CURRENT
    stored: Stored = field(default_factory=Stored)
    """Nothing, where it could not be read or has another schema."""

    @property
    def usable(self) -> bool:
        """Whether what is stored was read."""
        return self.error is None and self.schema is SchemaState.CURRENT


class Readings:
    """Reads for one daemon.

    Args:
        vitals: whose configuration says which database, and which targets.
        limit_s: how long a look may take, in seconds (> 0).
        kept_s: how long it answers everybody, in seconds (≥ 0).
        monotonic: the clock of both, in seconds.
    """

    def __init__(
        self,
        vitals: Vitals,
        *,
        limit_s: float = LIMIT_S,
        kept_s: float = KEPT_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vitals, self._limit_s, self._kept_s, self._monotonic = vitals, limit_s, kept_s, monotonic
        self._looking: asyncio.Task[Reading] | None = None
        self._last: Reading | None = None
        self._last_s = 0.0
        self._under_way: set[object] = set()
        self._engine: Engine | None = None
        self._url = ""

    async def latest(self) -> Reading:
        """What the database says now, or said a moment ago."""
        if self._last is not None and self._monotonic() - self._last_s < self._kept_s:
            return self._last
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
            self._looking.add_done_callback(self._keep)
        # whoever asked may be gone before the look ends, and others wait for it too
        return await asyncio.shield(self._looking)

    async def close(self) -> None:
        """Ends its connections; a look that hangs is left to itself."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        self._leave()

    def _keep(self, looked: asyncio.Task[Reading]) -> None:
        self._looking = None
        if not looked.cancelled() and looked.exception() is None:
            self._last, self._last_s = looked.result(), self._monotonic()

    async def _look(self) -> Reading:
        if len(self._under_way) >= _MOST_STUCK:
            return _silent()
        targets = [target.name for target in self._vitals.config.targets]
        keys = {name: key for name, key in dict(self._vitals.throttle_keys).items() if name in targets}
        database, look = self._vitals.config.database, object()

        def work() -> Reading:
            self._under_way.add(look)
            try:
                return _read(self._connected(database.reveal()), targets, keys, self._limit_s)
            except (StoreError, ConfigError) as error:
                return Reading(error=str(error))
            finally:
                self._under_way.discard(look)

        try:
            return await aside(work, timeout_s=self._limit_s)
        except TimeoutError:
            # the connection that hangs stays with the look that hangs; the next one tries another
            self._engine = None
            return _silent()

    def _connected(self, url: str) -> Engine:
        engine = self._engine
        if engine is None or url != self._url:
            self._leave()
            engine = self._engine = _engine(url, self._limit_s)
            self._url = url
        return engine

    def _leave(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


def _silent() -> Reading:
    return Reading(error="the database did not answer in time")


def _engine(url: str, limit_s: float) -> Engine:
    parsed = parse(url)
    if is_sqlite(parsed):
        return connect_read_only(url, busy_timeout_s=limit_s)
    patience = {"connect_timeout": str(max(2, round(limit_s))), "tcp_user_timeout": str(round(limit_s * 1000))}
    given = {name: value for name, value in patience.items() if name not in parsed.query}
    return connect_read_only(parsed.update_query_dict(given).render_as_string(hide_password=False))


def _read(engine: Engine, targets: list[str], keys: dict[str, str], limit_s: float) -> Reading:
    # a file that is gone is a fault of a database that was in use: the schema's look alone takes it for an empty one
    with reading(engine) as conn:
        conn.exec_driver_sql("SELECT 1")
    schema = SchemaState(current(engine).fit.value)
    if schema is not SchemaState.CURRENT:
        return Reading(schema=schema)
    with reading(engine) as conn:
        return Reading(stored=read(conn, targets=targets, keys=keys, limit_s=limit_s))
