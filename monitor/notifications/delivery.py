"""Delivers the outbox: claim → send → mark. At least once, with the same key on every attempt.

1. One short transaction makes batches of the notifications that are due (`batching`) and claims them for two minutes.
2. Each batch is sent by its channel: channels in parallel, the messages of one channel in order, without a transaction.
3. Each batch is marked by itself: sent, due again later, or dead. When a channel fails, its other messages wait, so
   that each attempt sends only one message to a receiver that is down.
A channel that is suspended, unreachable for long, or has dead letters opens an incident on the other channels
(`IncidentHooks`). If a sender dies between 2 and 3, its claim expires and the next sender uses the same key.
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
from monitor.notifications.messages import Message, with_links
from monitor.notifications.outbox import ClaimedBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReport:
    """What one pass over the outbox did. Sent messages count once each, deferred notifications individually."""

    sent: int = 0
    partly: int = 0
    """Of the sent ones, those that the receiver refused for a part of the recipients."""
    deferred: int = 0
    """Includes those that wait because another message of their channel failed."""
    dead: int = 0
    refused: int = 0
    """Of the dead ones, those that their receiver refused: it was reached."""
    reached: int = 0
    """Of the deferred ones, those that wait for a part of the recipients: their receiver was reached."""
    logged: int = 0
    """Of the sent ones, those about a failing channel that went only to the log."""
    log_only: int = field(default=0, compare=False)
    """Of the sent ones, those of the built-in channel `log`, which notifies nobody."""
    blocked: int = field(default=0, compare=False)
    """Undelivered notifications of channels that are suspended or back off, at the end of the pass."""

    @property
    def unreachable(self) -> bool:
        """Whether something was due and no channel was reached."""
        return self.sent == self.logged and self.deferred + self.dead > self.refused + self.reached


def sum_reports(reports: Iterable[DeliveryReport]) -> DeliveryReport:
    """The sums; `blocked` is left out, since it is a state at the end."""
    counts = ("sent", "partly", "deferred", "dead", "refused", "reached", "logged", "log_only")
    every = list(reports)
    return DeliveryReport(**{name: sum(getattr(each, name) for each in every) for name in counts})


CLAIM_LEASE = timedelta(minutes=2)
MIN_LEASE_LEFT = timedelta(seconds=50)
"""No send starts later than this before the end of its claim: longer than two attempts of any channel."""

_CLAIM_LIMIT = 20
_MARK_TIMEOUT_S = 5.0
"""How long to wait for a database that is away before a result is lost; the process may be about to end."""
_MAX_API_MESSAGES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredChannel:
    """A channel and the settings of it that delivery needs."""

    channel: Channel
    fingerprint: Callable[[], str]
    """A hash of its settings, secrets included: when it changes, a suspended channel is tried again."""
    include_api_message: bool = False
    """Whether its messages include the API's own text, which otherwise never leaves the database."""
    is_log: bool = False
    """Whether it is our own log, which notifies nobody; a channel that was configured may have its name."""


class IncidentHooks(Protocol):
    """What `incidents` does for delivery, which must not import it; with a connection, in delivery's transaction."""

    def record_failure(self, conn: Connection, channel: str, *, error: str, now: datetime) -> None:
        """A channel fails, or has new dead letters."""

    def record_delivery(self, conn: Connection, channel: str, *, now: datetime) -> None:
        """A message was delivered."""

    def redirect_refused(
        self, conn: Connection, ids: Collection[int], channel: str, *, reason: str, now: datetime
    ) -> None:
        """A receiver refused messages."""

    def resolve_removed(self, conn: Connection, *, now: datetime) -> None:
        """Resolves incidents about channels that are no longer configured."""

    def reroute(self, conn: Connection, known: Collection[str], *, now: datetime) -> int:
        """Moves notifications for unknown channels to the channels of their incident's route; returns how many.

        Reports to such channels become dead letters.
        """

    def api_messages(self, conn: Connection, incident_ids: Collection[int]) -> Mapping[int, str]:
        """The API's own text, by incident."""

    async def resend(self, engine: Engine, channels: Mapping[str, Channel], *, utcnow: Callable[[], datetime]) -> None:
        """Sends open incidents again to channels with `SupportsResend`."""


class Sender:
    """Delivers the outbox, for one process (`holder`, as `host:pid`).

    `rand` gives numbers from 0 to 1, for jitter. `before_claim` runs in the transaction that claims, such as the
    notifications of a silence that ended. `public_url`: the page's address, to which messages link.
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
        public_url: str | None = None,
    ) -> None:
        self._engine = with_retry(engine, should_stop=lambda: False, max_wait_s=_MARK_TIMEOUT_S)
        self._channels, self._incident_hooks, self._holder = channels, incident_hooks, holder
        self._utcnow, self._rand, self._before_claim = utcnow, rand, before_claim
        self._public_url = public_url
        self._threaded = frozenset(name for name, configured in channels.items() if configured.channel.threaded)

    async def deliver(self) -> DeliveryReport:
        """Sends all messages that are due. Raises StoreError if our database can't be used; claims then expire."""
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
        """Resets suspended channels with new settings; records the others as failing and expires old notifications."""
        now = self._utcnow()
        with reading(self._engine) as conn:
            states = channel_state.load_all(conn).values()
        # a channel whose backoff is over is tried in this pass, which shows its state
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
                # nothing else is sent on this channel at this time, so no other step records its failure
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
            # a thread can't be cancelled: release what it claims
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
        """Sends one channel's messages in order until one fails; the others are released."""
        report, in_flight = DeliveryReport(), False
        try:
            while queue and self._utcnow() <= queue[0].claimed_until - MIN_LEASE_LEFT:
                in_flight = True
                result = await self._send(queue[0])
                fingerprint = await asyncio.to_thread(self._fingerprint_if_suspended, queue[0].channel, result)
                in_flight = False
                # removed from the queue before it is marked: a thread can't be cancelled, and will mark it
                mark = partial(self._mark, queue.popleft(), result, fingerprint, tuple(queue))
                # retried, since an unmarked message that arrived would be sent again
                report = sum_reports([report, await asyncio.to_thread(run_with_retry, self._engine, mark)])
                if result.outcome in {SendOutcome.RETRY, SendOutcome.SUSPENDED}:
                    return report
        except asyncio.CancelledError:
            # includes the message in flight: it is sent again with the same key
            await asyncio.shield(asyncio.to_thread(self._release, tuple(queue), in_flight))
            raise
        if queue:
            await asyncio.to_thread(self._release, tuple(queue), in_flight)
        return report

    def _reroute(self) -> None:
        with writing(self._engine) as conn:
            self._incident_hooks.reroute(conn, self._channels, now=self._utcnow())

    async def _send(self, batch: ClaimedBatch) -> SendResult:
        configured = self._channels.get(batch.channel)
        if configured is None:
            return SendResult(outcome=SendOutcome.SUSPENDED, reason="no channel of this name is configured")
        message = batch.message
        if configured.include_api_message:
            message = await asyncio.to_thread(self._with_api_messages, message)
        # not when the message is written: an address that was changed since then would lead nowhere
        return await send_with_fallback(configured.channel, with_links(message, self._public_url), key=batch.key)

    def _with_api_messages(self, message: Message) -> Message:
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
        if result.outcome is not SendOutcome.DELIVERED or result.deferred:
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
        if result.outcome is SendOutcome.DELIVERED and result.deferred:
            return self._store_remainder(conn, batch, result)
        if result.outcome is SendOutcome.DELIVERED:
            outbox.mark_sent(conn, batch, now=now, error=None if result.complete else result.reason)
            self._incident_hooks.record_delivery(conn, channel, now=now)
            in_log = channel in self._channels and self._channels[channel].is_log
            logged = in_log and batch.message.cause is Cause.CHANNEL_FAILING
            return DeliveryReport(sent=1, logged=int(logged), log_only=int(in_log), partly=int(not result.complete))
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

    def _store_remainder(self, conn: Connection, batch: ClaimedBatch, result: SendResult) -> DeliveryReport:
        """Some recipients have it, others are deferred: they get it later, and hold up no other message."""
        now = self._utcnow()
        outbox.defer_recipients(
            conn,
            batch,
            recipients=result.deferred,
            until=lambda attempts: now + channel_state.backoff(attempts, rand=self._rand()),
            error=result.reason,
            now=now,
        )
        self._incident_hooks.record_delivery(conn, batch.channel, now=now)
        accepted = set(result.deferred) != set(batch.message.recipients)
        dead = outbox.expire(conn, channels=[batch.channel], now=now).get(batch.channel, 0)
        waiting = 0 if dead else len(batch.ids)
        return DeliveryReport(sent=int(accepted), deferred=waiting, dead=dead, refused=dead, reached=waiting)

    def _release(self, unsent: Sequence[ClaimedBatch], in_flight: bool) -> None:  # noqa: FBT001  # called by position in a thread
        with writing(self._engine) as conn:
            for position, batch in enumerate(unsent):
                outbox.release(conn, batch, unsent=not (in_flight and position == 0))


def _with_quotes(message: Message, api_messages: Sequence[str]) -> Message:
    return replace(message, facts=(*message.facts, *(("API message", each) for each in api_messages if each)))


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
    """The queues' reports; raises the first error, after all queues have ended."""
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if isinstance(result, DeliveryReport)]
