"""Delivery of the outbox: claim → send → mark. At least once, with the same key on every attempt.

1. In one short transaction, due notifications are claimed for two minutes.
2. Each is sent by its channel; channels go side by side, one channel's messages in order. No transaction is open.
3. Each is marked by itself after its receiver answered: sent, due again later, or dead. What can't be sent now keeps
   back all else that is due on its channel, so that a receiver that is down is met by one message and not by all.
A channel that is parked, or lets a message die, opens an incident that is told on the others (`reachability`).
A sender that dies between 2 and 3 leaves a claim that expires; the next one sends again under the same key.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection, Engine

from monitor.channels import Channel, Ending, Verdict, send_fitting
from monitor.incidents.routing import LOG_CHANNEL
from monitor.model import Cause
from monitor.reachability import Reachability
from monitor.store import outbox
from monitor.store.engine import writing
from monitor.store.outbox import Notification

__all__ = ["CLAIM", "GIVE_UP_AFTER", "LAST_START", "DeliveryReport", "Sender", "next_attempt"]

CLAIM = timedelta(minutes=2)
"""How long a sender may hold what it claimed."""

LAST_START = timedelta(seconds=30)
"""No send starts so shortly before its claim ends; longer than any channel's own deadline."""

GIVE_UP_AFTER = timedelta(days=1)
"""What could not be delivered for so long becomes a dead letter."""

_BATCH = 20
_FIRST_WAIT = timedelta(seconds=30)
_LONGEST_WAIT = timedelta(minutes=15)
_PARKED_WAIT = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReport:
    """What one pass over the outbox did."""

    sent: int = 0
    put_off: int = 0
    """Those kept back because another of their channel could not be sent included."""
    dead: int = 0
    refused: int = 0
    """Those of the dead that their receiver refused: it was reached."""
    logged: int = 0
    """Those of the sent that could only tell the log that a channel fails."""

    @property
    def unreachable(self) -> bool:
        """Whether something was due and no channel could be reached."""
        return self.sent == self.logged and self.put_off + self.dead > self.refused


def next_attempt(
    verdict: Verdict, *, attempts: int, created_at: datetime, now: datetime, rand: float
) -> datetime | None:
    """When to try again, or None to give it up.

    Args:
        verdict: how the last attempt ended; a refused message is never tried again.
        attempts: attempts made so far, this one included (≥ 1).
        created_at: when the notification was written.
        now: when the attempt ended.
        rand: jitter, from 0 to 1: the wait is between half and all of the backoff.
    """
    if verdict.ending is Ending.REFUSED:
        return None
    backoff = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(attempts - 1, 10)) * (0.5 + rand / 2)
    wait = _PARKED_WAIT if verdict.ending is Ending.PARKED else max(backoff, verdict.retry_after or timedelta(0))
    return None if now + wait > created_at + GIVE_UP_AFTER else now + wait


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """One attempt to send, and when it is due again; None when it is not."""

    verdict: Verdict
    at: datetime
    again: datetime | None

    @property
    def delivered(self) -> bool:
        return self.verdict.ending is Ending.DELIVERED

    @property
    def shuts_the_channel(self) -> bool:
        """Whether it shows that nothing gets through there: it was parked, or could not be reached for a day."""
        given_up = self.again is None and self.verdict.ending is Ending.RETRY
        return given_up or self.verdict.ending is Ending.PARKED


class Sender:
    """Delivers what is due, for one process.

    Args:
        engine: our own database.
        channels: by name, as configured now.
        reach: keeps the incidents of channels that fail.
        holder: who claims, as `host:pid`.
        utcnow: the clock.
        rand: jitter, from 0 to 1.
    """

    def __init__(
        self,
        engine: Engine,
        channels: Mapping[str, Channel],
        *,
        reach: Reachability,
        holder: str,
        utcnow: Callable[[], datetime],
        rand: Callable[[], float],
    ) -> None:
        self._engine, self._channels, self._reach, self._holder = engine, channels, reach, holder
        self._utcnow, self._rand = utcnow, rand

    async def deliver(self) -> DeliveryReport:
        """Sends everything that is due now, in batches.

        Raises:
            StoreError: when our database can't be used; claims then expire by themselves.
        """
        total = DeliveryReport()
        while claimed := await asyncio.to_thread(self._claim):
            lanes: dict[str, deque[Notification]] = defaultdict(deque)
            for notification in claimed:
                lanes[notification.channel].append(notification)
            ends = await asyncio.gather(*(self._send_lane(lane) for lane in lanes.values()), return_exceptions=True)
            total = _sum([total, *_unfailed(ends)])
        return total

    def _claim(self) -> list[Notification]:
        now = self._utcnow()
        with writing(self._engine) as conn:
            self._reach.forget_the_gone(conn, now=now)
            return outbox.claim(conn, holder=self._holder, now=now, lease=CLAIM, limit=_BATCH)

    async def _send_lane(self, lane: deque[Notification]) -> DeliveryReport:
        """Sends one channel's notifications in order, until one must wait; the rest is given back."""
        report = DeliveryReport()
        try:
            while lane and self._utcnow() <= lane[0].claimed_until - LAST_START:
                attempt = await self._attempt(lane[0])
                # Off the lane before it is marked: a thread can't be cancelled, and marks it in any case.
                report = _sum([report, await asyncio.to_thread(self._mark, lane.popleft(), attempt, tuple(lane))])
                if not attempt.delivered and attempt.again is not None:
                    return report
        except asyncio.CancelledError:
            # Also what was on its way: its key is the same when it is sent again.
            await asyncio.shield(asyncio.to_thread(self._give_back, tuple(lane)))
            raise
        if lane:
            await asyncio.to_thread(self._give_back, tuple(lane))
        return report

    async def _attempt(self, notification: Notification) -> _Attempt:
        channel = self._channels.get(notification.channel)
        if channel is None:
            verdict = Verdict(ending=Ending.PARKED, reason="no channel of this name is configured")
        else:
            verdict = await send_fitting(channel, notification.message, key=notification.key)
        now = self._utcnow()
        again = next_attempt(
            verdict, attempts=notification.attempts + 1, created_at=notification.created_at, now=now, rand=self._rand()
        )
        return _Attempt(verdict=verdict, at=now, again=again)

    def _mark(self, notification: Notification, attempt: _Attempt, rest: Sequence[Notification]) -> DeliveryReport:
        with writing(self._engine) as conn:
            report = self._store(conn, notification, attempt, rest)
        if not attempt.delivered:
            structlog.get_logger().error(
                "notification_not_delivered",
                channel=notification.channel,
                incident_id=notification.message.incident_id,
                ending=attempt.verdict.ending.value,
                reason=attempt.verdict.reason,
                next_attempt_at=attempt.again.isoformat() if attempt.again else None,
                put_off=report.put_off,
            )
        return report

    def _store(
        self, conn: Connection, notification: Notification, attempt: _Attempt, rest: Sequence[Notification]
    ) -> DeliveryReport:
        channel, reason = notification.channel, attempt.verdict.reason
        if attempt.delivered:
            outbox.mark_sent(conn, notification, now=attempt.at)
            self._reach.delivered(conn, channel, now=attempt.at)
            return DeliveryReport(sent=1, logged=int(_about_a_channel(notification) and channel == LOG_CHANNEL))
        if attempt.shuts_the_channel:
            self._reach.failed(conn, channel, error=reason, now=attempt.at)
        if attempt.again is None:
            outbox.mark_dead(conn, notification, error=reason)
            return DeliveryReport(dead=1, refused=int(attempt.verdict.ending is Ending.REFUSED))
        outbox.put_off(conn, notification, until=attempt.again, error=reason)
        for unsent in rest:
            outbox.release(conn, unsent)
        held = outbox.hold(conn, channel=channel, now=attempt.at, until=attempt.again)
        return DeliveryReport(put_off=1 + held)

    def _give_back(self, unsent: Iterable[Notification]) -> None:
        with writing(self._engine) as conn:
            for notification in unsent:
                outbox.release(conn, notification)


def _about_a_channel(notification: Notification) -> bool:
    return notification.message.cause is Cause.CHANNEL_FAILING


def _unfailed(ends: Sequence[DeliveryReport | BaseException]) -> list[DeliveryReport]:
    """The lanes' reports; what ended a lane is raised only now that the other lanes have ended too."""
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return [end for end in ends if isinstance(end, DeliveryReport)]


def _sum(reports: Iterable[DeliveryReport]) -> DeliveryReport:
    total = DeliveryReport()
    for report in reports:
        total = DeliveryReport(
            sent=total.sent + report.sent,
            put_off=total.put_off + report.put_off,
            dead=total.dead + report.dead,
            refused=total.refused + report.refused,
            logged=total.logged + report.logged,
        )
    return total
