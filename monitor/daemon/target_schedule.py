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

from monitor.daemon.database import RETRY_S, Database
from monitor.daemon.tasks import Clock, Work
from monitor.errors import LeaseHeldError, LeaseLostError, MonitorError, SlotSpentError, StoreError
from monitor.model.schedule import DueTimes

_MARGIN_S = 0.2
"""Beyond the end of somebody's lease: whoever is alive renews it long before."""
_DONE = 0.0


class Rounds:
    """The ticks of one target under one schedule.

    Args:
        target: its name.
        due: when they are due.
        run: carries out a run for a slot, with the settings in force by then.
        last_slot: asks our own database for the slot of the target's newest run that had one.
        database: our own.
        clock: what they go by.
    """

    def __init__(
        self,
        target: str,
        due: DueTimes,
        *,
        run: Callable[[str], Awaitable[object]],
        last_slot: Callable[[], Awaitable[str | None]],
        database: Database,
        clock: Clock,
    ) -> None:
        self._target, self._due, self._run, self._last_slot = target, due, run, last_slot
        self._database, self._clock = database, clock
        self._dealt_with: datetime | None = None
        self._again: tuple[datetime, datetime, datetime] | None = None
        """What is to be tried again, and the time in which it is not."""
        self._settled = False

    def next_due(self, now: datetime) -> datetime | None:
        """When the next tick is due after a moment."""
        return self._due.next_due(now)

    async def look(self, work: Work) -> float | None:
        """Makes the ticks that are due; gives back after how many seconds a slot is to be tried again, if one is."""
        again_s = _DONE
        while self._database.usable and again_s == _DONE:
            if not (self._settled or await self._settle()) or self._newest() == self._dealt_with:
                return None
            if (again_s := self._left_s()) == _DONE:
                await work.do(f"run {self._target}", self._tick)
                again_s = self._left_s()
        return again_s or None

    def _newest(self) -> datetime | None:
        # a clock that was set back or mended gives another time, which is tried: its slot may not be spent
        return self._due.latest_nominal(self._clock.utcnow())

    async def _settle(self) -> bool:
        """Before the first tick: what is due by now is to be run, unless its slot is spent.

        By cron only where the newest run was made under this very schedule: a night's run that a restart left out or
        cut short is made up for, but none of before the monitor was there.
        """
        if self._due.cron is not None:
            now = self._clock.utcnow()
            try:
                slot = await self._last_slot()
            except StoreError as error:
                self._database.failed(error)
                return False
            if slot is None or not self._due.owns_key(slot):
                self._dealt_with = self._due.latest_nominal(now)
        self._settled = True
        return True

    def _left_s(self) -> float:
        """Seconds until the newest slot is to be tried again; `_DONE` if it was not tried, or is a newer one."""
        if self._again is None or self._again[0] != self._newest():
            return _DONE
        _, begin, end = self._again
        now = self._clock.utcnow()
        # before the beginning: the clock was set back
        return (end - now).total_seconds() if begin <= now < end else _DONE

    async def _tick(self) -> None:
        """Tries the newest slot; unless that deals with it, it is tried again, or a newer one."""
        nominal, self._again = self._newest(), None
        if nominal is None:
            return
        again_s = await self._tried(self._due.slot(nominal))
        if again_s == _DONE:
            self._dealt_with = nominal
        else:
            now = self._clock.utcnow()
            self._again = nominal, now, now + timedelta(seconds=again_s)

    async def _tried(self, slot: str) -> float:
        """Seconds after which the slot is to be tried again; `_DONE` if it is dealt with."""
        log = structlog.get_logger().bind(integration=self._target)
        try:
            await self._run(slot)
        except SlotSpentError as error:
            log.debug("slot_spent", reason=str(error))
        except LeaseHeldError as error:
            left_s = max(0.0, error.ends_in.total_seconds())
            log.info("run_skipped", reason=str(error), again_in_s=round(left_s, 1))
            return left_s + _MARGIN_S
        except LeaseLostError as error:
            log.warning("run_overtaken", reason=str(error))
            return _MARGIN_S
        except StoreError as error:
            self._database.failed(error)
            return RETRY_S
        except MonitorError as error:
            log.error("tick_failed", reason=str(error), error_type=type(error).__name__)  # noqa: TRY400  # no defect
        except Exception:  # a defect in one tick must not end the daemon; it is logged with its traceback
            log.exception("tick_crashed")
        return _DONE
