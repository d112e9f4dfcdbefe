"""Looks at the database for whoever asks: one look at a time, which answers all for a second, and never takes long.

It reads through connections of its own: neither runs that have them all nor a database that hangs keep it from that.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Engine

from monitor.channels.aside import aside
from monitor.database import is_sqlite, parse
from monitor.errors import ConfigError, StoreError
from monitor.health.readiness import SchemaState
from monitor.store import gauges
from monitor.store.engine import connect_read_only, reading
from monitor.store.gauges import Stored
from monitor.store.schema import current
from monitor.vitals import Vitals

__all__ = ["KEPT_S", "LIMIT_S", "Reading", "Readings"]

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
        return Reading(stored=gauges.read(conn, targets=targets, keys=keys, limit_s=limit_s))
