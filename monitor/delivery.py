"""Delivery of the outbox: claim → send → mark. At least once, with the same key on every attempt.

1. In one short transaction, due notifications are claimed for two minutes.
2. Each is sent by its channel; channels go side by side, one channel's messages in order. No transaction is open.
3. Each is marked by itself after its receiver answered: sent, due again later, or dead.
A sender that dies between 2 and 3 leaves a claim that expires; the next one sends again under the same key.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Engine

from monitor.channels import Channel, Ending, Verdict
from monitor.store import outbox
from monitor.store.engine import writing
from monitor.store.outbox import Notification

__all__ = ["CLAIM", "GIVE_UP_AFTER", "DeliveryReport", "Sender", "next_attempt"]

CLAIM = timedelta(minutes=2)
"""How long a sender may hold what it claimed; longer than any channel's own deadline."""

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
    dead: int = 0

    @property
    def unreachable(self) -> bool:
        """Whether something was due and no channel could be reached."""
        return self.sent == 0 and self.put_off + self.dead > 0


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


class Sender:
    """Delivers what is due, for one process.

    Args:
        engine: our own database.
        channels: by name, as configured now.
        holder: who claims, as `host:pid`.
        utcnow: the clock.
        rand: jitter, from 0 to 1.
    """

    def __init__(
        self,
        engine: Engine,
        channels: Mapping[str, Channel],
        *,
        holder: str,
        utcnow: Callable[[], datetime],
        rand: Callable[[], float],
    ) -> None:
        self._engine, self._channels, self._holder = engine, channels, holder
        self._utcnow, self._rand = utcnow, rand

    async def deliver(self) -> DeliveryReport:
        """Sends everything that is due now, in batches.

        Raises:
            StoreError: when our database can't be used; claims then expire by themselves.
        """
        total = DeliveryReport()
        while claimed := await asyncio.to_thread(self._claim):
            lanes: dict[str, list[Notification]] = defaultdict(list)
            for notification in claimed:
                lanes[notification.channel].append(notification)
            reports = await asyncio.gather(*(self._send_lane(lane) for lane in lanes.values()))
            total = _sum([total, *reports])
        return total

    def _claim(self) -> list[Notification]:
        with writing(self._engine) as conn:
            return outbox.claim(conn, holder=self._holder, now=self._utcnow(), lease=CLAIM, limit=_BATCH)

    async def _send_lane(self, lane: list[Notification]) -> DeliveryReport:
        """Sends one channel's notifications in order; after a failure the rest is given back for a later pass."""
        report = DeliveryReport()
        for notification in lane:
            verdict = await self._send(notification)
            now = self._utcnow()
            again = next_attempt(
                verdict,
                attempts=notification.attempts + 1,
                created_at=notification.created_at,
                now=now,
                rand=self._rand(),
            )
            await asyncio.to_thread(self._mark, notification, verdict, now, again)
            report = _sum([report, _counted(verdict, again)])
        return report

    async def _send(self, notification: Notification) -> Verdict:
        channel = self._channels.get(notification.channel)
        if channel is None:
            return Verdict(ending=Ending.PARKED, reason="no channel of this name is configured")
        return await channel.send(notification.message, key=notification.key)

    def _mark(self, notification: Notification, verdict: Verdict, now: datetime, again: datetime | None) -> None:
        with writing(self._engine) as conn:
            if verdict.ending is Ending.DELIVERED:
                outbox.mark_sent(conn, notification, now=now)
            elif again is None:
                outbox.mark_dead(conn, notification, error=verdict.reason)
            else:
                outbox.put_off(conn, notification, until=again, error=verdict.reason)
        if verdict.ending is not Ending.DELIVERED:
            structlog.get_logger().error(
                "notification_not_delivered",
                channel=notification.channel,
                incident_id=notification.message.incident_id,
                ending=verdict.ending.value,
                reason=verdict.reason,
                next_attempt_at=again.isoformat() if again else None,
            )


def _counted(verdict: Verdict, again: datetime | None) -> DeliveryReport:
    if verdict.ending is Ending.DELIVERED:
        return DeliveryReport(sent=1)
    return DeliveryReport(dead=1) if again is None else DeliveryReport(put_off=1)


def _sum(reports: list[DeliveryReport]) -> DeliveryReport:
    return DeliveryReport(
        sent=sum(report.sent for report in reports),
        put_off=sum(report.put_off for report in reports),
        dead=sum(report.dead for report in reports),
    )
