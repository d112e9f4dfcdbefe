"""Runs a wait and stores it: a row at its beginning, a sign of life every 20 s, and how it ended.

A database that is away meanwhile ends no wait. If even the end can't be stored, the report says so, and the row is
closed as killed by a later wait or run.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import structlog
from sqlalchemy import Connection, Engine

from monitor.database.engine import writing
from monitor.database.retry import run_with_retry, with_retry
from monitor.errors import StoreError
from monitor.logs import warn_rate_limited
from monitor.runs.time_limit import settle
from monitor.threads import run_in_database_pool
from monitor.waits import store
from monitor.waits.report import WaitReport
from monitor.waits.rules import WaitResult
from monitor.waits.wait import Wait

RENEWAL_S = 20.0
"""Seconds between two renewals of a row: a third of the time that it lives without one."""
_STORE_FOR_S = 5.0
"""Seconds for which storing the end is tried again: less than the time from a signal to the end of the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitRecorder:
    """Stores the waits of one target."""

    engine: Engine
    target: str
    environment: str
    holder: str
    """This process, as `host:pid`."""
    utcnow: Callable[[], datetime]
    lease_now: Callable[[Connection], datetime]
    """The clock that processes share: see `leases.lease_now`."""

    async def run(self, wait: Wait) -> WaitReport:
        """Runs a wait to its end, and stores it.

        Raises:
            StoreError: the database can't be used, and nothing was asked.
        """
        wait_id = await run_in_database_pool(lambda: self._begin(wait))
        renewing = asyncio.create_task(self._renew_periodically(wait_id))
        with structlog.contextvars.bound_contextvars(
            integration=self.target, environment=self.environment, wait_id=wait_id
        ):
            try:
                report = await wait.run()
            except asyncio.CancelledError:
                await self._finish(wait_id, wait.report_of(WaitResult.INTERRUPTED))
                raise
            except Exception:
                await self._finish(wait_id, wait.report_of(WaitResult.CRASHED))
                raise
            finally:
                await settle(renewing)
            return await self._finish(wait_id, report)

    def _begin(self, wait: Wait) -> int:
        with writing(self.engine) as conn:
            now = self.lease_now(conn)
            store.close_killed(conn, now=now)
            return store.begin(
                conn,
                target=self.target,
                environment=self.environment,
                holder=self.holder,
                asked=len(wait.items),
                timeout=wait.timeout,
                started_at=self.utcnow(),
                now=now,
            )

    async def _renew_periodically(self, wait_id: int) -> None:
        while True:
            await asyncio.sleep(RENEWAL_S)
            try:
                await run_in_database_pool(lambda: self._renew(wait_id))
            except StoreError as error:
                warn_rate_limited("wait_not_renewed", reason=str(error))

    def _renew(self, wait_id: int) -> None:
        with writing(self.engine) as conn:
            store.renew(conn, wait_id=wait_id, now=self.lease_now(conn))

    async def _finish(self, wait_id: int, report: WaitReport) -> WaitReport:
        """The report with the id of its row, and why its end could not be stored, if so."""
        engine = with_retry(self.engine, should_stop=lambda: False, max_wait_s=_STORE_FOR_S)

        def write() -> None:
            with writing(engine) as conn:
                store.finish(conn, wait_id=wait_id, report=report)

        stored = replace(report, wait_id=wait_id)
        try:
            # a repeat after a lost reply finds the row closed, and changes nothing
            await run_in_database_pool(lambda: run_with_retry(engine, write))
        except StoreError as error:
            return replace(stored, not_stored=str(error))
        return stored
