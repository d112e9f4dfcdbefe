"""Exchanges the limits of a credential with the other processes that use it, twice a second, through the database.

It moves values between live throttles and rows: `client/parts` divides, and the throttle applies its part. Only with
workers, in every process that sends requests: workers, the daemon, and commands by hand; see docs/client.md.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec
import structlog
from sqlalchemy import Connection, Engine

from monitor.client.parts import Claimed, leads, lost_part, next_part
from monitor.client.rate.probe import RateCut, RequestCounts
from monitor.client.throttle import Throttle, utcnow
from monitor.database import leases
from monitor.database.engine import writing
from monitor.errors import StoreError
from monitor.logs import warn_rate_limited
from monitor.model import LearnedLimits
from monitor.runs import throttle_claims, throttle_store
from monitor.runs.throttle_claims import Claim, StoredCut
from monitor.threads import run_in_database_pool

_T = TypeVar("_T")
_NEWS_S = 0.1
"""How much later a hint must end to be told again."""


class FleetLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How this process shares limits with others."""

    holder: str
    """As `host:pid`."""
    stalled_after: timedelta
    """A process that was not seen for so long has lost its part."""
    share_concurrency: int | None
    """Requests in flight of one run or share at most (≥ 1); None: only its part bounds them."""
    only_while_sending: bool = False
    """Whether a part is handed back between requests: a wait or a canary sends one now and then."""
    interval_s: float = 0.5
    """Between two exchanges (> 0)."""


@dataclass(slots=True, kw_only=True)
class _Use:
    """The use of one key in this process."""

    key: str
    origin: str
    throttle: Throttle
    weight: int = 0
    part: float = 0.0
    """As stored; 0: none yet."""
    exchanged_s: float = -math.inf
    """When the last exchange that succeeded began, on the monotonic clock."""
    is_lost: bool = False
    counted_starts: int | None = None
    """Requests that had started at the last exchange; None: it is to claim a part, whether it sends or not."""
    is_claimed: bool = False
    """Whether a row of it may be stored."""
    seen_at: datetime | None = None
    """When it was exchanged, by the clock of leases."""
    began_at: datetime | None = None
    """When the newest of its runs began, by the same clock: it begins with a probe, whatever others met before."""
    opened_at: datetime | None = None
    """When its own breaker opened, as others know; None: it is closed, or they don't know yet."""
    heard: tuple[RateCut, StoredCut] | None = None
    """The newest cut of another process, here and as it is stored: it is told on with its own time."""
    counted: Mapping[str, RequestCounts] = field(default_factory=dict)
    """The answers of others, by holder, as far as the throttle knows."""
    leads: bool = True
    told_until_s: float = -math.inf
    """The end of the hint that others know, on the monotonic clock."""


class _Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What is told about one key."""

    use: _Use
    weight: int
    """As the exchange began: a run may end while it is on its way."""
    is_idle: bool
    """Whether it claims nothing now, but listens."""
    starts: int
    is_open: bool
    until_s: float
    """When the server's hint ends, on the monotonic clock."""
    cut: RateCut | None
    counts: RequestCounts
    learned: LearnedLimits | None
    """What is stored for all at once; None: no news."""


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an exchange about one key."""

    now: datetime
    part: float
    """What it takes, or would take with its next request."""
    opened_at: datetime | None
    others: Sequence[Claim]
    stored: LearnedLimits | None


class LimitsExchange:
    """The keys in use in one process. Its methods are for one event loop at a time."""

    def __init__(self, fleet: FleetLimits) -> None:
        self._fleet = fleet
        self._uses: dict[str, _Use] = {}
        self._lock = asyncio.Lock()
        self._urgent = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def join(self, engine: Engine, *, key: str, origin: str, throttle: Throttle) -> None:
        """A run or share begins: waits for its part. Call it before the throttle's `start_run`."""
        use = self._uses.setdefault(key, _Use(key=key, origin=origin, throttle=throttle))
        use.weight += 1
        use.counted_starts, use.is_claimed = None, True
        if use.weight == 1:
            throttle.on_stop = self._urgent.set
        await self._exchange(engine, [use])
        use.began_at = use.seen_at
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._exchange_periodically(engine))

    async def leave(self, engine: Engine, *, key: str) -> None:
        """A run or share ended; after the last one under a key, its part is free at once."""
        use = self._uses[key]
        use.weight -= 1
        if use.weight:
            self._apply_part(use)
            return
        async with self._lock:  # an exchange that was given up could still store the claim, after its end
            if not self._is_unused(use):
                return
            del self._uses[key]
            use.throttle.on_stop = use.throttle.on_start = None
            if not self._uses and self._task is not None:
                self._task.cancel()
                self._task = None
            await self._release(engine, use)

    def _is_unused(self, use: _Use) -> bool:
        """Whether no other run has joined meanwhile, or has ended it."""
        return self._uses.get(use.key) is use and not use.weight

    async def _release(self, engine: Engine, use: _Use) -> None:
        offer = self._offer(use)

        def release(conn: Connection) -> None:
            now = leases.lease_now(conn, utcnow=utcnow, limits_idle=True)
            if offer.is_open:  # others must still learn that it is
                throttle_claims.write(conn, [self._claim(offer, part=0.0, now=now, mono_s=time.monotonic())], now=now)
            else:
                throttle_claims.release(conn, key=use.key, holder=self._fleet.holder)
            if offer.learned is not None:
                throttle_store.write(conn, key=use.key, origin=use.origin, limits=offer.learned)
            throttle_claims.forget_dead(conn, before=now - 2 * self._fleet.stalled_after)

        try:
            await run_in_database_pool(lambda: _written(engine, release))
        except StoreError as error:
            warn_rate_limited("limits_not_released", reason=str(error))

    async def _exchange_periodically(self, engine: Engine) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._fleet.interval_s):
                    await self._urgent.wait()
            self._urgent.clear()
            await self._exchange(engine, list(self._uses.values()))

    async def _exchange(self, engine: Engine, uses: Sequence[_Use]) -> None:
        """One transaction about all of these keys. If it fails, requests go on; after the stall time, more slowly."""
        stalled_s = self._fleet.stalled_after.total_seconds()
        async with self._lock:
            began_s = time.monotonic()
            offers = [self._offer(use) for use in uses if use.weight]
            if not offers:
                return
            ends_s = min((use.exchanged_s + stalled_s for use in uses if not use.is_lost), default=began_s + stalled_s)
            limit_s = ends_s - began_s if ends_s > began_s else stalled_s
            try:
                async with asyncio.timeout(limit_s):
                    answers = await run_in_database_pool(
                        lambda: _written(engine, lambda conn: self._told(conn, offers))
                    )
            except (StoreError, TimeoutError) as error:
                reason = str(error) or "the database did not answer"
                warn_rate_limited("limits_not_exchanged", reason=reason)
                self._lose_parts(uses)
            except Exception as error:  # noqa: BLE001  # a defect here must not stop or free requests
                structlog.get_logger().error("limits_exchange_failed", reason=type(error).__name__)
                self._lose_parts(uses)
            else:
                for offer in offers:
                    self._take_in(offer, answers[offer.use.key], began_s=began_s)

    def _lose_parts(self, uses: Sequence[_Use]) -> None:
        """After the stall time others take this process for dead, and its part for free."""
        now_s, stalled_s = time.monotonic(), self._fleet.stalled_after.total_seconds()
        for use in uses:
            if not use.is_lost and now_s - use.exchanged_s >= stalled_s:
                use.is_lost = True
                self._apply_part(use)

    def _offer(self, use: _Use) -> _Offer:
        throttle = use.throttle
        is_open = throttle.breaker.opened_here
        until_s = throttle.server_backoff.until_s
        has_news = until_s > use.told_until_s + _NEWS_S or (is_open and use.opened_at is None)
        counted, starts = use.counted_starts, throttle.starts
        is_idle = self._fleet.only_while_sending and throttle.is_idle and counted == starts and not is_open
        return _Offer(
            use=use,
            weight=use.weight,
            is_idle=is_idle,
            starts=starts,
            is_open=is_open,
            until_s=until_s,
            cut=throttle.rate_limiter.last_cut,
            counts=throttle.rate_limiter.counts,
            learned=throttle.learned() if has_news else None,
        )

    def _told(self, conn: Connection, offers: Sequence[_Offer]) -> Mapping[str, _Answer]:
        """Tells and hears everything, in one transaction. The order of rows is the same in every process."""
        now, mono_s = leases.lease_now(conn, utcnow=utcnow, limits_idle=True), time.monotonic()
        by_key = {offer.use.key: offer for offer in sorted(offers, key=lambda offer: offer.use.key)}
        keys = list(by_key)
        since = now - self._fleet.stalled_after
        others = throttle_claims.read(conn, keys=keys, holder=self._fleet.holder, since=since)
        claims = {}
        for key, offer in by_key.items():
            claimed = [Claimed(weight=each.weight, part=each.part) for each in others.get(key, ())]
            part = next_part(weight=offer.weight, part=offer.use.part, others=claimed)
            claims[key] = self._claim(offer, part=part, now=now, mono_s=mono_s)
        self._write(conn, by_key, claims, now)
        for key, offer in by_key.items():
            if offer.learned is not None:
                throttle_store.write(conn, key=key, origin=offer.use.origin, limits=offer.learned)
        stored = throttle_store.read_all(conn, keys=keys)
        return {
            key: _Answer(
                now=now, part=claim.part, opened_at=claim.opened_at, others=others.get(key, ()), stored=stored.get(key)
            )
            for key, claim in claims.items()
        }

    def _write(
        self, conn: Connection, by_key: Mapping[str, _Offer], claims: Mapping[str, Claim], now: datetime
    ) -> None:
        """Stores the claims of those that send, and deletes those of the others."""
        throttle_claims.write(conn, [claim for key, claim in claims.items() if not by_key[key].is_idle], now=now)
        for key, offer in by_key.items():
            if offer.is_idle and offer.use.is_claimed:
                throttle_claims.release(conn, key=key, holder=self._fleet.holder)

    def _claim(self, offer: _Offer, *, part: float, now: datetime, mono_s: float) -> Claim:
        cut, stored, heard = offer.cut, None, offer.use.heard
        if heard is not None and heard[0] is cut:
            stored = heard[1]
        elif cut is not None:
            stored = StoredCut(
                at=now - timedelta(seconds=mono_s - cut.at_s),
                initial_per_s=cut.initial_per_s,
                plateau_per_s=cut.plateau_per_s,
                recovery_s=cut.recovery_s,
            )
        return Claim(
            key=offer.use.key,
            holder=self._fleet.holder,
            weight=offer.weight,
            part=part,
            opened_at=(offer.use.opened_at or now) if offer.is_open else None,
            cut=stored,
            accepted=offer.counts.accepted,
            refused=offer.counts.refused,
        )

    def _take_in(self, offer: _Offer, answer: _Answer, *, began_s: float) -> None:
        use = offer.use
        use.exchanged_s, use.is_lost, use.part = began_s, False, answer.part
        use.seen_at, use.opened_at, use.told_until_s = answer.now, answer.opened_at, offer.until_s
        use.counted_starts, use.is_claimed = offer.starts, not offer.is_idle
        use.leads = leads(self._fleet.holder, [each.holder for each in answer.others if each.weight])
        self._apply_part(use)
        self._add_counts(use, answer.others)
        throttle, mono_s = use.throttle, time.monotonic()
        throttle.on_start = self._claim_again(throttle) if offer.is_idle else None
        if offer.is_idle and (throttle.starts != offer.starts or not throttle.is_idle):
            self._urgent.set()
        if answer.stored is not None and throttle.server_backoff.until_s <= offer.until_s:
            throttle.restore_backoff(answer.stored)
            use.told_until_s = throttle.server_backoff.until_s
        for other in answer.others:
            if other.opened_at is not None and (use.began_at is None or other.opened_at > use.began_at):
                throttle.trip()
            if other.cut is not None:
                cut = _on_our_clock(other.cut, answer.now, mono_s)
                throttle.rate_limiter.adopt(cut, in_flight=throttle.in_flight)
                if throttle.rate_limiter.last_cut is cut:
                    use.heard = cut, other.cut

    def _add_counts(self, use: _Use, others: Sequence[Claim]) -> None:
        """Tells the throttle what others were answered since the last exchange."""
        known = use.counted
        use.counted = {each.holder: RequestCounts(accepted=each.accepted, refused=each.refused) for each in others}
        both = [(known[name], now) for name, now in use.counted.items() if name in known]
        accepted = sum(max(0, now.accepted - before.accepted) for before, now in both)  # a new run counts from 0
        refused = sum(max(0, now.refused - before.refused) for before, now in both)
        if accepted or refused:
            use.throttle.add_others(RequestCounts(accepted=accepted, refused=refused))

    def _claim_again(self, throttle: Throttle) -> Callable[[], None]:
        def claim_again() -> None:
            throttle.on_start = None  # once is enough
            self._urgent.set()

        return claim_again

    def _apply_part(self, use: _Use) -> None:
        part = lost_part(use.part or 1.0) if use.is_lost else use.part or 1.0
        most = self._fleet.share_concurrency
        use.throttle.set_part(part, most_in_flight=most * use.weight if most is not None else None, leads=use.leads)


def _written(engine: Engine, work: Callable[[Connection], _T]) -> _T:
    with writing(engine) as conn:
        return work(conn)


def _on_our_clock(cut: StoredCut, now: datetime, mono_s: float) -> RateCut:
    return RateCut(
        at_s=mono_s - (now - cut.at).total_seconds(),
        initial_per_s=cut.initial_per_s,
        plateau_per_s=cut.plateau_per_s,
        recovery_s=cut.recovery_s,
    )
