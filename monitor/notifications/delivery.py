"""Delivery of the outbox: claim → send → mark. At least once, with the same key on every attempt.

1. In one short transaction, what is due is packed into parcels and claimed for two minutes: what is superseded becomes
   part of what is known by now, and what is alike becomes one message.
2. Each is sent by its channel; channels go side by side, one channel's messages in order. No transaction is open.
3. Each is marked by itself after its receiver answered: sent, due again later, or dead. What can't be sent now keeps
   back all else on its channel, so that a receiver that is down is met by one message and not by all.
A channel that is suspended, is out of reach for long, or lets a message die, opens an incident that is told on the others
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
from monitor.database.retry import run_with_retry, with_retry
from monitor.model import Cause, ChannelState
from monitor.notifications import channel_state, outbox
from monitor.notifications.channel_state import is_failing, next_state
from monitor.notifications.channels import Channel, SendOutcome, SendResult, send_with_fallback
from monitor.notifications.messages import Message
from monitor.notifications.outbox import ClaimedBatch
from monitor.notifications.routing import LOG_CHANNEL


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReport:
    """What one pass over the outbox did; a merged message counts once, what is put off by notifications."""

    sent: int = 0
    deferred: int = 0
    """Those kept back because another of their channel could not be sent included."""
    dead: int = 0
    refused: int = 0
    """Those of the dead that their receiver refused: it was reached."""
    logged: int = 0
    """Those of the sent that could only tell the log that a channel fails."""
    blocked: int = field(default=0, compare=False)
    """Notifications that wait at its end behind channels that are suspended or were out of reach."""

    @property
    def unreachable(self) -> bool:
        """Whether something was due and no channel could be reached."""
        return self.sent == self.logged and self.deferred + self.dead > self.refused


def sum_reports(reports: Iterable[DeliveryReport]) -> DeliveryReport:
    """What became of all of them together."""
    total = DeliveryReport()
    for report in reports:
        total = DeliveryReport(
            sent=total.sent + report.sent,
            deferred=total.deferred + report.deferred,
            dead=total.dead + report.dead,
            refused=total.refused + report.refused,
            logged=total.logged + report.logged,
        )
    return total


CLAIM_LEASE = timedelta(minutes=2)
"""How long a sender may hold what it claimed."""

MIN_LEASE_LEFT = timedelta(seconds=50)
"""No send starts so shortly before its claim ends; longer than two of any channel's own deadlines."""

_CLAIM_LIMIT = 20
_MARK_TIMEOUT_S = 5.0
"""How long a database that is away is waited for with what a receiver answered; the process may be about to end."""
_MAX_API_MESSAGES = 3
"""Different words of the API in one message, at the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredChannel:
    """A channel that is configured, and what its settings are called together."""

    channel: Channel
    fingerprint: Callable[[], str]
    """Names the settings in force, secrets included: a suspended channel is tried again once it is another."""
    include_api_message: bool = False
    """Whether the API's own words go there too; elsewhere they never leave the database."""


class IncidentHooks(Protocol):
    """What delivery asks of incidents, which know about delivery and not the other way round.

    Each method that takes a connection is called in the transaction that marks a message.
    """

    def record_failure(self, conn: Connection, channel: str, *, error: str, now: datetime) -> None:
        """A channel is suspended or let a message die."""
        ...

    def record_delivery(self, conn: Connection, channel: str, *, now: datetime) -> None:
        """A message got through."""
        ...

    def redirect_refused(
        self, conn: Connection, ids: Collection[int], channel: str, *, reason: str, now: datetime
    ) -> None:
        """A receiver refused messages."""
        ...

    def resolve_removed(self, conn: Connection, *, now: datetime) -> None:
        """Ends what is open about channels that are not configured any more."""
        ...

    def reroute(self, conn: Connection, known: Collection[str]) -> int:
        """Moves what waits for channels that are not configured."""
        ...

    def api_messages(self, conn: Connection, incident_ids: Collection[int]) -> Mapping[int, str]:
        """What the API said, by incident."""
        ...

    async def resend(self, engine: Engine, channels: Mapping[str, Channel], *, utcnow: Callable[[], datetime]) -> None:
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
        before_claim: what else is to be done in the transaction that claims, such as telling what a silence kept back.
    """

    def __init__(
        self,
        engine: Engine,
        channels: Mapping[str, ConfiguredChannel],
        *,
        incident_hooks: IncidentHooks,
        holder: str,
        utcnow: Callable[[], datetime],
        rand: Callable[[], float],
        before_claim: Sequence[Callable[[Connection, datetime], object]] = (),
    ) -> None:
        self._engine = with_retry(engine, should_stop=lambda: False, max_wait_s=_MARK_TIMEOUT_S)
        self._channels, self._incident_hooks, self._holder = channels, incident_hooks, holder
        self._utcnow, self._rand, self._before_claim = utcnow, rand, before_claim
        self._threaded = frozenset(name for name, configured in channels.items() if configured.channel.threaded)

    async def deliver(self) -> DeliveryReport:
        """Sends everything that is due now, in batches.

        Raises:
            StoreError: when our database can't be used; claims then expire by themselves.
        """
        await asyncio.to_thread(self._reroute)
        total = await asyncio.to_thread(self._check_failing_channels)
        while claimed := await self._claim_in_thread():
            queues: dict[str, deque[ClaimedBatch]] = defaultdict(deque)
            for batch in claimed:
                queues[batch.channel].append(batch)
            results = await asyncio.gather(
                *(self._send_queue(queue) for queue in queues.values()), return_exceptions=True
            )
            total = sum_reports([total, *_raise_first_error(results)])
        channels = {name: configured.channel for name, configured in self._channels.items()}
        await self._incident_hooks.resend(self._engine, channels, utcnow=self._utcnow)
        return replace(total, blocked=await asyncio.to_thread(self._count_blocked))

    def _count_blocked(self) -> int:
        with reading(self._engine) as conn:
            return outbox.blocked(conn)

    def _check_failing_channels(self) -> DeliveryReport:
        """Opens suspended channels whose settings changed; tells of those that fail, and gives up what waited a day."""
        now = self._utcnow()
        with reading(self._engine) as conn:
            states = channel_state.load_all(conn).values()
        # what may be tried again shows in this very pass how it is
        unavailable = [
            each for each in states if each.suspended_at or (each.blocked_until and each.blocked_until > now)
        ]
        failing = [each for each in unavailable if is_failing(each, now=now)]
        if not failing:
            return DeliveryReport()
        suspended = [state for state in failing if state.suspended_at is not None]
        changed = {state.name for state in suspended if self._fingerprint(state.name) != state.fingerprint}
        still_failing = {state.name: state for state in failing if state.name not in changed}
        with writing(self._engine) as conn:
            channel_state.reset(conn, changed)
            dead = outbox.expire(
                conn, channels=[state.name for state in suspended if state.name in still_failing], now=now
            )
            for name, state in still_failing.items():
                # nothing is sent there meanwhile, and so nothing else would tell people of it
                self._incident_hooks.record_failure(conn, name, error=state.last_error or "suspended", now=now)
        return DeliveryReport(dead=sum(dead.values()))

    def _fingerprint(self, name: str) -> str | None:
        configured = self._channels.get(name)
        return configured.fingerprint() if configured else None

    async def _claim_in_thread(self) -> list[ClaimedBatch]:
        claiming = asyncio.create_task(asyncio.to_thread(self._claim))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # a thread can't be cancelled: what it claims goes back
            await asyncio.to_thread(self._release, await claiming, in_flight=False)
            raise

    def _claim(self) -> list[ClaimedBatch]:
        now = self._utcnow()
        with writing(self._engine) as conn:
            self._incident_hooks.resolve_removed(conn, now=now)
            for task in self._before_claim:
                task(conn, now)
            return outbox.claim(
                conn, holder=self._holder, now=now, lease=CLAIM_LEASE, limit=_CLAIM_LIMIT, threaded=self._threaded
            )

    async def _send_queue(self, queue: deque[ClaimedBatch]) -> DeliveryReport:
        """Sends one channel's messages in order, until one must wait; the rest is given back."""
        report, in_flight = DeliveryReport(), False
        try:
            while queue and self._utcnow() <= queue[0].claimed_until - MIN_LEASE_LEFT:
                in_flight = True
                result = await self._send(queue[0])
                fingerprint = await asyncio.to_thread(self._fingerprint_if_suspended, queue[0].channel, result)
                in_flight = False
                # Off the lane before it is marked: a thread can't be cancelled, and marks it in any case.
                mark = partial(self._mark, queue.popleft(), result, fingerprint, tuple(queue))
                # what arrived would be sent again if the database were away for a moment
                report = sum_reports([report, await asyncio.to_thread(run_with_retry, self._engine, mark)])
                if result.outcome in {SendOutcome.RETRY, SendOutcome.SUSPENDED}:
                    return report
        except asyncio.CancelledError:
            # Also what was on its way: its key is the same when it is sent again.
            await asyncio.shield(asyncio.to_thread(self._release, tuple(queue), in_flight))
            raise
        if queue:
            await asyncio.to_thread(self._release, tuple(queue), in_flight)
        return report

    def _reroute(self) -> None:
        """What waits for channels that nobody configured goes where its incident is routed now, if elsewhere."""
        with writing(self._engine) as conn:
            self._incident_hooks.reroute(conn, self._channels)

    async def _send(self, batch: ClaimedBatch) -> SendResult:
        configured = self._channels.get(batch.channel)
        if configured is None:
            return SendResult(outcome=SendOutcome.SUSPENDED, reason="no channel of this name is configured")
        message = (
            await asyncio.to_thread(self._with_api_messages, batch.message)
            if configured.include_api_message
            else batch.message
        )
        return await send_with_fallback(configured.channel, message, key=batch.key)

    def _with_api_messages(self, message: Message) -> Message:
        """The message with what the API said, for a channel whose owner asked for it."""
        ids = [part.incident_id for part in message.parts] or [message.incident_id]
        with reading(self._engine) as conn:
            api_messages = self._incident_hooks.api_messages(conn, ids)
        distinct = dict.fromkeys(api_messages[each] for each in ids if each in api_messages)
        parts = tuple(_with_quotes(part, [api_messages.get(part.incident_id, "")]) for part in message.parts)
        return replace(_with_quotes(message, list(distinct)[:_MAX_API_MESSAGES]), parts=parts)

    def _fingerprint_if_suspended(self, channel: str, result: SendResult) -> str | None:
        return self._fingerprint(channel) if result.outcome is SendOutcome.SUSPENDED else None

    def _mark(
        self, batch: ClaimedBatch, result: SendResult, fingerprint: str | None, rest: Sequence[ClaimedBatch]
    ) -> DeliveryReport:
        now = self._utcnow()
        with writing(self._engine) as conn:
            before = channel_state.load(conn, batch.channel)
            state = next_state(before, result, fingerprint=fingerprint, now=now, rand=self._rand())
            if state != before:
                channel_state.save(conn, state)
            report = self._store_result(conn, batch, result, state, rest)
        if result.outcome is not SendOutcome.DELIVERED:
            _log_failure(batch, result, state, report)
        return report

    def _store_result(
        self,
        conn: Connection,
        batch: ClaimedBatch,
        result: SendResult,
        state: ChannelState,
        rest: Sequence[ClaimedBatch],
    ) -> DeliveryReport:
        channel, now = batch.channel, self._utcnow()
        if result.outcome is SendOutcome.DELIVERED:
            outbox.mark_sent(conn, batch, now=now)
            self._incident_hooks.record_delivery(conn, channel, now=now)
            return DeliveryReport(sent=1, logged=int(_is_about_channel(batch) and channel == LOG_CHANNEL))
        if result.outcome is SendOutcome.REFUSED:
            outbox.mark_dead(conn, batch, error=result.reason, now=now)
            self._incident_hooks.redirect_refused(conn, batch.ids, channel, reason=result.reason, now=now)
            return DeliveryReport(dead=1, refused=1)
        outbox.defer(conn, batch, until=state.blocked_until or now, error=result.reason, certain=result.certain)
        for unsent in rest:
            outbox.release(conn, unsent)
        dead = outbox.expire(conn, channels=[channel], now=now).get(channel, 0)
        if dead or is_failing(state, now=now):
            self._incident_hooks.record_failure(conn, channel, error=result.reason, now=now)
        return DeliveryReport(deferred=outbox.count_pending(conn, channel=channel), dead=dead)

    def _release(self, unsent: Sequence[ClaimedBatch], in_flight: bool) -> None:  # noqa: FBT001  # called by position in a thread
        with writing(self._engine) as conn:
            for position, batch in enumerate(unsent):
                outbox.release(conn, batch, unsent=not (in_flight and position == 0))


def _with_quotes(message: Message, api_messages: Sequence[str]) -> Message:
    return replace(message, facts=(*message.facts, *(("the API said", each) for each in api_messages if each)))


def _is_about_channel(batch: ClaimedBatch) -> bool:
    return batch.message.cause is Cause.CHANNEL_FAILING


def _log_failure(batch: ClaimedBatch, result: SendResult, state: ChannelState, report: DeliveryReport) -> None:
    structlog.get_logger().error(
        "notification_not_delivered",
        channel=batch.channel,
        incident_id=batch.message.incident_id,
        outcome=result.outcome.value,
        reason=result.reason,
        next_attempt_at=state.blocked_until.isoformat() if state.blocked_until else None,
        deferred=report.deferred,
    )


def _raise_first_error(results: Sequence[DeliveryReport | BaseException]) -> list[DeliveryReport]:
    """The lanes' reports; what ended a lane is raised only now that the other lanes have ended too."""
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if isinstance(result, DeliveryReport)]
