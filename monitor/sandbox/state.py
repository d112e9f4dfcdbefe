"""What the server's thread and its owner share, behind one lock. It answers nothing itself."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import RLock

from starlette.requests import Request

from monitor.sandbox.engine import Answer, Engine
from monitor.sandbox.faults import FaultPlan
from monitor.sandbox.settings import SandboxSettings

__all__ = ["Connection", "Handler", "State"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One open connection; only the server's own thread touches it."""

    transport: asyncio.Transport
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is closed, by whichever side."""


class State:
    """The engine, the faults in force, and what has been counted.

    Args:
        settings: how the sandbox behaves.
        clock: seconds on a steady clock.
    """

    def __init__(self, settings: SandboxSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings, self.clock, self.lock = settings, clock, RLock()
        self._epoch = datetime.now(UTC) - timedelta(seconds=clock())
        self.connections: dict[tuple[str, int], Connection] = {}
        """By the client's address, so that a fault can drop one."""
        self.requests: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Forgets everything but the connections and the calls that are in flight."""
        with self.lock:
            self.engine, self.faults = Engine(settings=self.settings, epoch=self._epoch), FaultPlan()
            self.requests.clear()
            self.most_in_flight = self.in_flight


Handler = Callable[[State, Request], Awaitable[Answer]]
"""Answers one kind of call."""
