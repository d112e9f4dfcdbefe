"""State shared by the server's thread and its owner, behind one lock."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import RLock

from starlette.requests import Request

from monitor.sandbox.engine import Engine
from monitor.sandbox.faults import FaultPlan
from monitor.sandbox.rate_limits import Rate, TokenBuckets
from monitor.sandbox.responses import RATE_LIMITED, JsonAnswer
from monitor.sandbox.settings import SandboxSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConnection:
    """One open connection; only the server's own thread uses it."""

    transport: asyncio.Transport
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def stays_open(self, delay_s: float) -> bool:
        """Waits up to `delay_s`; whether the connection is still open then."""
        if delay_s:
            try:
                await asyncio.wait_for(self.closed.wait(), delay_s)
            except TimeoutError:
                return True
        return not self.closed.is_set()


class SandboxState:
    """The engine, the active faults and rate limit, and the counts. `clock` gives seconds, monotonic."""

    def __init__(self, settings: SandboxSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings, self.clock, self.lock = settings, clock, RLock()
        self._epoch = datetime.now(UTC) - timedelta(seconds=clock())
        self.connections: dict[tuple[str, int], ClientConnection] = {}
        """By the client's address, so that a fault can drop one."""
        self.requests: Counter[str] = Counter()
        self.in_flight = self.max_in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Resets everything but the connections and the requests in flight."""
        with self.lock:
            self.engine, self.faults = Engine(settings=self.settings, epoch=self._epoch), FaultPlan()
            self.limit(self.settings.rate)
            self.requests.clear()
            self.max_in_flight = self.in_flight

    def limit(self, rate: Rate | None) -> None:
        """Sets an unused rate limit, or ends it."""
        with self.lock:
            self._buckets = TokenBuckets(rate=rate) if rate else None

    def authorize(self, authorization: str | None) -> tuple[JsonAnswer | None, Mapping[str, str]]:
        """Why a request with this `Authorization` header is refused, if it is, and its rate-limit headers."""
        with self.lock:
            now_s = self.clock()
            subject = self.engine.credentials.authorize(authorization, now_s)
            if not isinstance(subject, str):
                return subject, {}
            if self._buckets is None:
                return None, {}
            decision = self._buckets.take(subject, now_s)
            unix_s = self._epoch.timestamp() + now_s
            headers = decision.headers(unix_s=unix_s, now_s=now_s, retry_after=self.settings.retry_after)
            return (None if decision.allowed else (429, RATE_LIMITED)), headers


Handler = Callable[[SandboxState, Request], Awaitable[JsonAnswer]]
