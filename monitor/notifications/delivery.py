"""Delivery of the outbox: claim → send → mark. At least once, with the same key on every attempt.

1. In one short transaction, what is due is packed into parcels and claimed for two minutes: what is superseded becomes
   part of what is known by now, and what is alike becomes one message.
2. Each is sent by its channel; channels go side by side, one channel's messages in order. No transaction is open.
3. Each is marked by itself after its receiver answered: sent, due again later, or dead. What can't be sent now keeps
   back all else on its channel, so that a receiver that is down is met by one message and not by all.
A channel that is parked, is out of reach for long, or lets a message die, opens an incident that is told on the others
(`reachability`). A sender that dies between 2 and 3 leaves a claim that expires; the next one sends again under the
same key.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import structlog
from sqlalchemy import Connection, Engine

from monitor.database.engine import reading, writing
from monitor.database.retry import patient, patiently
from monitor.model import Cause, ChannelState
from monitor.notifications import channel_state as channel_store
from monitor.notifications import outbox
from monitor.notifications.channel_state import after, is_failing
from monitor.notifications.channels import Channel, Ending, Verdict, send_fitting
from monitor.notifications.messages import Message
from monitor.notifications.outbox import Parcel
from monitor.notifications.routing import LOG_CHANNEL


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReport:
    """What one pass over the outbox did; a merged message counts once, what is put off by notifications."""

    sent: int = 0
    put_off: int = 0
    """Those kept back because another of their channel could not be sent included."""
    dead: int = 0
    refused: int = 0
    """Those of the dead that their receiver refused: it was reached."""
    logged: int = 0
    """Those of the sent that could only tell the log that a channel fails."""
    kept_back: int = field(default=0, compare=False)
    """Notifications that wait at its end behind channels that are parked or were out of reach."""

    @property
    def unreachable(self) -> bool:
        """Whether something was due and no channel could be reached."""
        return self.sent == self.logged and self.put_off + self.dead > self.refused


def add_up(reports: Iterable[DeliveryReport]) -> DeliveryReport:
    """What became of all of them together."""
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


CLAIM = timedelta(minutes=2)
"""How long a sender may hold what it claimed."""

LAST_START = timedelta(seconds=50)
"""No send starts so shortly before its claim ends; longer than two of any channel's own deadlines."""

_BATCH = 20
_MARKING_S = 5.0
"""How long a database that is away is waited for with what a receiver answered; the process may be about to end."""
_QUOTES = 3
"""Different words of the API in one message, at the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlet:
    """A channel that is configured, and what its settings are called together."""

    channel: Channel
    fingerprint: Callable[[], str]
    """Names the settings in force, secrets included: a parked channel is tried again once it is another."""
    verbatim: bool = False
    """Whether the API's own words go there too; elsewhere they never leave the database."""


class IncidentHooks(Protocol):
    """What delivery asks of incidents, which know about delivery and not the other way round.

    Each method that takes a connection is called in the transaction that marks a message.
    """

    def failed(self, conn: Connection, channel: str, *, error: str, now: datetime) -> None:
        """A channel is parked or let a message die."""
        ...

    def delivered(self, conn: Connection, channel: str, *, now: datetime) -> None:
        """A message got through."""
        ...

    def refused(self, conn: Connection, ids: Collection[int], channel: str, *, reason: str, now: datetime) -> None:
        """A receiver refused messages."""
        ...

    def forget_the_gone(self, conn: Connection, *, now: datetime) -> None:
        """Ends what is open about channels that are not configured any more."""
        ...

    def move_on(self, conn: Connection, known: Collection[str]) -> int:
        """Moves what waits for channels that are not configured."""
        ...

    def api_messages(self, conn: Connection, incident_ids: Collection[int]) -> Mapping[int, str]:
        """What the API said, by incident."""
        ...

    async def refresh(self, engine: Engine, channels: Mapping[str, Channel], *, utcnow: Callable[[], datetime]) -> None:
        """Sends open incidents again to the channels whose receivers forget them otherwise."""
        ...


class Sender:
    """Delivers what is due, for one process.

    Args:
        engine: our own database.
        outlets: by name, as configured now.
        reach: keeps the incidents of channels that fail.
        holder: who claims, as `host:pid`.
        utcnow: the clock.
        rand: jitter, from 0 to 1.
        before: what else is to be done in the transaction that claims, such as telling what a silence kept back.
    """

    def __init__(
        self,
        engine: Engine,
        outlets: Mapping[str, Outlet],
        *,
        reach: IncidentHooks,
        holder: str,
        utcnow: Callable[[], datetime],
        rand: Callable[[], float],
        before: Sequence[Callable[[Connection, datetime], object]] = (),
    ) -> None:
        self._engine = patient(engine, given_up=lambda: False, most_s=_MARKING_S)
        self._outlets, self._reach, self._holder = outlets, reach, holder
        self._utcnow, self._rand, self._before = utcnow, rand, before
        self._threaded = frozenset(name for name, outlet in outlets.items() if outlet.channel.threaded)

    async def deliver(self) -> DeliveryReport:
        """Sends everything that is due now, in batches.

        Raises:
            StoreError: when our database can't be used; claims then expire by themselves.
        """
        await asyncio.to_thread(self._redirect)
        total = await asyncio.to_thread(self._tidy)
        while claimed := await self._claimed():
            lanes: dict[str, deque[Parcel]] = defaultdict(deque)
            for parcel in claimed:
                lanes[parcel.channel].append(parcel)
            ends = await asyncio.gather(*(self._send_lane(lane) for lane in lanes.values()), return_exceptions=True)
            total = add_up([total, *_unfailed(ends)])
        channels = {name: outlet.channel for name, outlet in self._outlets.items()}
        await self._reach.refresh(self._engine, channels, utcnow=self._utcnow)
        return replace(total, kept_back=await asyncio.to_thread(self._kept_back))

    def _kept_back(self) -> int:
        with reading(self._engine) as conn:
            return outbox.kept_back(conn)

    def _tidy(self) -> DeliveryReport:
        """Opens parked channels whose settings changed; tells of those that fail, and gives up what waited a day."""
        now = self._utcnow()
        with reading(self._engine) as conn:
            states = channel_store.states(conn).values()
        # what may be tried again shows in this very pass how it is
        closed = [each for each in states if each.parked_at or (each.blocked_until and each.blocked_until > now)]
        failing = [each for each in closed if is_failing(each, now=now)]
        if not failing:
            return DeliveryReport()
        parked = [state for state in failing if state.parked_at is not None]
        changed = {state.name for state in parked if self._fingerprint(state.name) != state.fingerprint}
        still = {state.name: state for state in failing if state.name not in changed}
        with writing(self._engine) as conn:
            channel_store.clear(conn, changed)
            dead = outbox.expire(conn, channels=[state.name for state in parked if state.name in still], now=now)
            for name, state in still.items():
                # nothing is sent there meanwhile, and so nothing else would tell people of it
                self._reach.failed(conn, name, error=state.last_error or "parked", now=now)
        return DeliveryReport(dead=sum(dead.values()))

    def _fingerprint(self, name: str) -> str | None:
        outlet = self._outlets.get(name)
        return outlet.fingerprint() if outlet else None

    async def _claimed(self) -> list[Parcel]:
        claiming = asyncio.create_task(asyncio.to_thread(self._claim))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # a thread can't be cancelled: what it claims goes back
            await asyncio.to_thread(self._give_back, await claiming, under_way=False)
            raise

    def _claim(self) -> list[Parcel]:
        now = self._utcnow()
        with writing(self._engine) as conn:
            self._reach.forget_the_gone(conn, now=now)
            for task in self._before:
                task(conn, now)
            return outbox.claim(conn, holder=self._holder, now=now, lease=CLAIM, limit=_BATCH, threaded=self._threaded)

    async def _send_lane(self, lane: deque[Parcel]) -> DeliveryReport:
        """Sends one channel's messages in order, until one must wait; the rest is given back."""
        report, under_way = DeliveryReport(), False
        try:
            while lane and self._utcnow() <= lane[0].claimed_until - LAST_START:
                under_way = True
                verdict = await self._attempt(lane[0])
                fingerprint = await asyncio.to_thread(self._fingerprint_if_parked, lane[0].channel, verdict)
                under_way = False
                # Off the lane before it is marked: a thread can't be cancelled, and marks it in any case.
                mark = partial(self._mark, lane.popleft(), verdict, fingerprint, tuple(lane))
                # what arrived would be sent again if the database were away for a moment
                report = add_up([report, await asyncio.to_thread(patiently, self._engine, mark)])
                if verdict.ending in {Ending.RETRY, Ending.PARKED}:
                    return report
        except asyncio.CancelledError:
            # Also what was on its way: its key is the same when it is sent again.
            await asyncio.shield(asyncio.to_thread(self._give_back, tuple(lane), under_way))
            raise
        if lane:
            await asyncio.to_thread(self._give_back, tuple(lane), under_way)
        return report

    def _redirect(self) -> None:
        """What waits for channels that nobody configured goes where its incident is routed now, if elsewhere."""
        with writing(self._engine) as conn:
            self._reach.move_on(conn, self._outlets)

    async def _attempt(self, parcel: Parcel) -> Verdict:
        outlet = self._outlets.get(parcel.channel)
        if outlet is None:
            return Verdict(ending=Ending.PARKED, reason="no channel of this name is configured")
        message = await asyncio.to_thread(self._with_words, parcel.message) if outlet.verbatim else parcel.message
        return await send_fitting(outlet.channel, message, key=parcel.key)

    def _with_words(self, message: Message) -> Message:
        """The message with what the API said, for a channel whose owner asked for it."""
        ids = [part.incident_id for part in message.parts] or [message.incident_id]
        with reading(self._engine) as conn:
            words = self._reach.api_messages(conn, ids)
        said = dict.fromkeys(words[each] for each in ids if each in words)
        parts = tuple(_quoting(part, [words.get(part.incident_id, "")]) for part in message.parts)
        return replace(_quoting(message, list(said)[:_QUOTES]), parts=parts)

    def _fingerprint_if_parked(self, channel: str, verdict: Verdict) -> str | None:
        return self._fingerprint(channel) if verdict.ending is Ending.PARKED else None

    def _mark(
        self, parcel: Parcel, verdict: Verdict, fingerprint: str | None, rest: Sequence[Parcel]
    ) -> DeliveryReport:
        now = self._utcnow()
        with writing(self._engine) as conn:
            before = channel_store.state(conn, parcel.channel)
            state = after(before, verdict, fingerprint=fingerprint, now=now, rand=self._rand())
            if state != before:
                channel_store.write(conn, state)
            report = self._store(conn, parcel, verdict, state, rest)
        if verdict.ending is not Ending.DELIVERED:
            _log(parcel, verdict, state, report)
        return report

    def _store(
        self, conn: Connection, parcel: Parcel, verdict: Verdict, state: ChannelState, rest: Sequence[Parcel]
    ) -> DeliveryReport:
        channel, now = parcel.channel, self._utcnow()
        if verdict.ending is Ending.DELIVERED:
            outbox.mark_sent(conn, parcel, now=now)
            self._reach.delivered(conn, channel, now=now)
            return DeliveryReport(sent=1, logged=int(_about_a_channel(parcel) and channel == LOG_CHANNEL))
        if verdict.ending is Ending.REFUSED:
            outbox.mark_dead(conn, parcel, error=verdict.reason, now=now)
            self._reach.refused(conn, parcel.ids, channel, reason=verdict.reason, now=now)
            return DeliveryReport(dead=1, refused=1)
        outbox.put_off(conn, parcel, until=state.blocked_until or now, error=verdict.reason, certain=verdict.certain)
        for unsent in rest:
            outbox.release(conn, unsent)
        dead = outbox.expire(conn, channels=[channel], now=now).get(channel, 0)
        if dead or is_failing(state, now=now):
            self._reach.failed(conn, channel, error=verdict.reason, now=now)
        return DeliveryReport(put_off=outbox.waiting(conn, channel=channel), dead=dead)

    def _give_back(self, unsent: Sequence[Parcel], under_way: bool) -> None:  # noqa: FBT001  # called by position in a thread
        with writing(self._engine) as conn:
            for position, parcel in enumerate(unsent):
                outbox.release(conn, parcel, unsent=not (under_way and position == 0))


def _quoting(message: Message, words: Sequence[str]) -> Message:
    return replace(message, facts=(*message.facts, *(("the API said", each) for each in words if each)))


def _about_a_channel(parcel: Parcel) -> bool:
    return parcel.message.cause is Cause.CHANNEL_FAILING


def _log(parcel: Parcel, verdict: Verdict, state: ChannelState, report: DeliveryReport) -> None:
    structlog.get_logger().error(
        "notification_not_delivered",
        channel=parcel.channel,
        incident_id=parcel.message.incident_id,
        ending=verdict.ending.value,
        reason=verdict.reason,
        next_attempt_at=state.blocked_until.isoformat() if state.blocked_until else None,
        put_off=report.put_off,
    )


def _unfailed(ends: Sequence[DeliveryReport | BaseException]) -> list[DeliveryReport]:
    """The lanes' reports; what ended a lane is raised only now that the other lanes have ended too."""
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return [end for end in ends if isinstance(end, DeliveryReport)]
