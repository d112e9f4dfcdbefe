"""A scripted transport, and a clock that moves only when someone sleeps."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from monitor.model.http import NetworkFault, Reply, Request, TransportFault

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)


class ScriptedTransport:
    """Answers each request with the next of its outcomes (the last one repeatedly), after `takes_s` of the clock."""

    def __init__(self, *outcomes: object, clock: Clock | None = None, takes_s: float = 0.0) -> None:
        self.outcomes = list(outcomes)
        self.clock, self.takes_s = clock or Clock(), takes_s
        self.sent: list[Request] = []
        self.timeouts_s: list[float] = []
        self.closed = 0

    async def send(self, request: Request, *, timeout_s: float) -> Reply | TransportFault:
        self.sent.append(request)
        self.timeouts_s.append(timeout_s)
        await asyncio.sleep(0)
        self.clock.now_s += min(self.takes_s, timeout_s)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        return outcome(request) if isinstance(outcome, Callable) else outcome

    async def close(self) -> None:
        self.closed += 1

    def to(self, path: str) -> list[Request]:
        return [request for request in self.sent if request.path == path]


def reply(status: int, body: bytes = b"{}", **headers: str) -> Reply:
    return Reply(status=status, body=body, headers={name.replace("_", "-"): text for name, text in headers.items()})


def fault(kind: NetworkFault) -> TransportFault:
    return TransportFault(fault=kind, text="")
