"""The ticks of one target, one after another, each for the slot of the newest due time: whoever is first spends it.

1. What is due now has a slot. A run of it begins, unless it was dealt with here.
2. The slot is spent: somebody else ran it. Nothing is to be done until the next is due.
3. Somebody else holds the target. When its lease is over, 1. again: one that died has spent nothing.
4. Our own database failed. When it is well, 1. again.
However many due times went by meanwhile (a suspend, a long run), there is one newest, and so one run.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from monitor.daemon.database import RETRY_S, DatabaseMonitor
from monitor.daemon.tasks import Clock, RunningTasks
from monitor.errors import LeaseHeldError, LeaseLostError, MonitorError, RunAlreadyExecutedError, StoreError
from monitor.model.schedule import DueTimes

_CLIENT_MARGIN_S = 0.2
"""Beyond the end of somebody's lease: whoever is alive renews it long before."""
_NO_RETRY = 0.0


class TargetSchedule:
    """The ticks of one target under one schedule.

    Args:
        target: its name.
        due: when they are due.
        run: carries out a run for a slot, with the settings in force by then.
        last_run_key: asks our own database for the slot of the target's newest run that had one.
        database: our own.
        clock: what they go by.
    """

    def __init__(
        self,
        target: str,
        due: DueTimes,
        *,
        run: Callable[[str], Awaitable[object]],
        last_run_key: Callable[[], Awaitable[str | None]],
        database: DatabaseMonitor,
        clock: Clock,
    ) -> None:
        self._target, self._due, self._run, self._last_run_key = target, due, run, last_run_key
        self._database, self._clock = database, clock
        self._handled: datetime | None = None
        self._retry: tuple[datetime, datetime, datetime] | None = None
        """What is to be tried again, and the time in which it is not."""
        self._initialised = False

    def next_due(self, now: datetime) -> datetime | None:
        """When the next tick is due after a moment."""
        return self._due.next_due(now)

    async def run_due(self, tasks: RunningTasks) -> float | None:
        """Makes the ticks that are due; gives back after how many seconds a slot is to be tried again, if one is."""
        retry_s = _NO_RETRY
        while self._database.usable and retry_s == _NO_RETRY:
            if not (self._initialised or await self._initialise()) or self._latest_due() == self._handled:
                return None
            if (retry_s := self._retry_delay_s()) == _NO_RETRY:
                await tasks.run(f"run {self._target}", self._run_latest)
                retry_s = self._retry_delay_s()
        return retry_s or None

    def _latest_due(self) -> datetime | None:
        # a clock that was set back or mended gives another time, which is tried: its slot may not be spent
        return self._due.latest_nominal(self._clock.utcnow())

    async def _initialise(self) -> bool:
        """Before the first tick: what is due by now is to be run, unless its slot is spent.

        By cron only where the newest run was made under this very schedule: a night's run that a restart left out or
        cut short is made up for, but none of before the monitor was there.
        """
        if self._due.cron is not None:
            now = self._clock.utcnow()
            try:
                run_key = await self._last_run_key()
            except StoreError as error:
                self._database.report_failure(error)
                return False
            if run_key is None or not self._due.owns_key(run_key):
                self._handled = self._due.latest_nominal(now)
        self._initialised = True
        return True

    def _retry_delay_s(self) -> float:
        """Seconds until the newest slot is to be tried again; `_NO_RETRY` if it was not tried, or is a newer one."""
        if self._retry is None or self._retry[0] != self._latest_due():
            return _NO_RETRY
        _, begin, end = self._retry
        now = self._clock.utcnow()
        # before the beginning: the clock was set back
        return (end - now).total_seconds() if begin <= now < end else _NO_RETRY

    async def _run_latest(self) -> None:
        """Tries the newest slot; unless that deals with it, it is tried again, or a newer one."""
        due_at, self._retry = self._latest_due(), None
        if due_at is None:
            return
        retry_s = await self._try_run(self._due.run_key(due_at))
        if retry_s == _NO_RETRY:
            self._handled = due_at
        else:
            now = self._clock.utcnow()
            self._retry = due_at, now, now + timedelta(seconds=retry_s)

    async def _try_run(self, run_key: str) -> float:
        """Seconds after which the slot is to be tried again; `_NO_RETRY` if it is dealt with."""
        log = structlog.get_logger().bind(integration=self._target)
        try:
            await self._run(run_key)
        except RunAlreadyExecutedError as error:
            log.debug("run_already_executed", reason=str(error))
        except LeaseHeldError as error:
            remaining_s = max(0.0, error.expires_in.total_seconds())
            log.info("run_skipped", reason=str(error), retry_in_s=round(remaining_s, 1))
            return remaining_s + _CLIENT_MARGIN_S
        except LeaseLostError as error:
            log.warning("lease_lost", reason=str(error))
            return _CLIENT_MARGIN_S
        except StoreError as error:
            self._database.report_failure(error)
            return RETRY_S
        except MonitorError as error:
            log.error("run_error", reason=str(error), error_type=type(error).__name__)  # noqa: TRY400  # no defect
        except Exception:  # a defect in one tick must not end the daemon; it is logged with its traceback
            log.exception("run_crashed")
        return _NO_RETRY
