"""The scheduled runs of one target: each run key is executed once, by whichever process is first.

1. The newest due time gives the run key. A run starts, unless this process already handled that time.
2. If another process executed the run key, nothing is done until the next due time.
3. If another process holds the lease, go to 1 when it expires: a process that died has not executed its run key.
4. If our own database failed, go to 1 when it has recovered.
Any number of due times missed in between (a suspend, a long run) leads to one run, for the newest.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from monitor.daemon.database import RETRY_S, DatabaseMonitor
from monitor.daemon.tasks import Clock, RunningTasks
from monitor.errors import (
    LeaseHeldError,
    LeaseLostError,
    MonitorError,
    RunAlreadyExecutedError,
    RunCrashedError,
    StoreError,
)
from monitor.logs import log_crash
from monitor.model.schedule import DueTimes

_LEASE_MARGIN_S = 0.2
"""Wait after the expiry of another process's lease; a live holder renews it long before."""
_NO_RETRY = 0.0


class TargetSchedule:
    """Runs one target under one schedule: its runs, or what else `work` is called, such as its canaries.

    `run` executes a run key with the current settings; `last_run_key` reads that of the target's newest scheduled run.
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
        work: str = "run",
    ) -> None:
        self._target, self.due, self._run, self._last_run_key = target, due, run, last_run_key
        self.name = f"{work} {target}"
        """Its name among the scheduler's checks and the running tasks."""
        self._database, self._clock = database, clock
        self._handled: datetime | None = None
        self._retry: tuple[datetime, datetime, datetime] | None = None
        """The due time to retry, and the start and end of the wait."""
        self._initialised = False

    async def run_due(self, tasks: RunningTasks) -> float | None:
        """Executes what is due; returns the seconds until a retry, if one is needed."""
        retry_s = _NO_RETRY
        while self._database.usable and retry_s == _NO_RETRY:
            if not (self._initialised or await self._initialise()) or self._latest_due() == self._handled:
                return None
            if (retry_s := self._retry_delay_s()) == _NO_RETRY:
                await tasks.run(self.name, self._run_latest)
                retry_s = self._retry_delay_s()
        return retry_s or None

    def _latest_due(self) -> datetime | None:
        # a clock that was set gives another time, which is tried: its run key may not have been executed
        return self.due.latest_nominal(self._clock.utcnow())

    async def _initialise(self) -> bool:
        """Decides whether the time that is already due is run; returns False if the database can't be read.

        With cron, only if the newest run used this same schedule: a run that a restart skipped or cut short is made up,
        but no run from before the monitor was installed.
        """
        if self.due.cron is not None:
            now = self._clock.utcnow()
            try:
                run_key = await self._last_run_key()
            except StoreError as error:
                self._database.report_failure(error)
                return False
            if run_key is None or not self.due.owns_key(run_key):
                self._handled = self.due.latest_nominal(now)
        self._initialised = True
        return True

    def _retry_delay_s(self) -> float:
        """Seconds until the newest due time is retried; `_NO_RETRY` if it was not tried yet."""
        if self._retry is None or self._retry[0] != self._latest_due():
            return _NO_RETRY
        _, begin, end = self._retry
        now = self._clock.utcnow()
        # before the beginning: the clock was set back
        return (end - now).total_seconds() if begin <= now < end else _NO_RETRY

    async def _run_latest(self) -> None:
        """Tries the newest due time, and notes whether it is handled or must be retried."""
        due_at, self._retry = self._latest_due(), None
        if due_at is None:
            return
        retry_s = await self._try_run(self.due.run_key(due_at))
        if retry_s == _NO_RETRY:
            self._handled = due_at
        else:
            now = self._clock.utcnow()
            self._retry = due_at, now, now + timedelta(seconds=retry_s)

    async def _try_run(self, run_key: str) -> float:
        """Seconds until the run key must be retried; `_NO_RETRY` if it is handled."""
        log = structlog.get_logger().bind(integration=self._target)
        try:
            await self._run(run_key)
        except RunAlreadyExecutedError as error:
            log.debug("run_already_executed", reason=str(error))
        except LeaseHeldError as error:
            remaining_s = max(0.0, error.expires_in.total_seconds())
            log.info("run_skipped", reason=str(error), retry_in_s=round(remaining_s, 1))
            return remaining_s + _LEASE_MARGIN_S
        except LeaseLostError as error:
            log.warning("lease_lost", reason=str(error))
            return _LEASE_MARGIN_S
        except StoreError as error:
            self._database.report_failure(error)
            return RETRY_S
        except RunCrashedError:
            pass  # it is logged where it was caught, and stored
        except MonitorError as error:
            log.error("run_error", reason=str(error), error_type=type(error).__name__)  # noqa: TRY400  # no defect
        except Exception as error:  # noqa: BLE001  # a defect before the run began must not end the daemon
            log_crash(error, integration=self._target)
        return _NO_RETRY
