"""Fakes for the tests; each implements a Protocol of the product."""

import asyncio
from dataclasses import dataclass, field

from monitor.model import BadBody, ItemState, ItemStatus
from monitor.model.http import RETRY_BUDGET_EXHAUSTED, ApiError, CallResult, Reply, Request
from monitor.notifications.channels import SendOutcome, SendResult
from monitor.notifications.delivery import ConfiguredChannel
from monitor.notifications.routing import LOG_CHANNEL

DELIVERED = SendResult(outcome=SendOutcome.DELIVERED, reason="accepted")


def configured_channels(channels, fingerprint="as configured"):
    """Configured channels for a sender, all with settings of this name."""
    return {
        name: ConfiguredChannel(channel=channel, fingerprint=lambda: fingerprint, is_log=name == LOG_CHANNEL)
        for name, channel in channels.items()
    }


class FakeChannel:
    """A channel that returns the given results, the last one repeatedly, and keeps its messages."""

    def __init__(self, *results, before=None, threaded=False):
        self.threaded = threaded
        self.results = list(results) or [DELIVERED]
        self.sent, self.keys = [], []
        self._before = before

    async def send(self, message, *, key, plain=False):
        """Awaits `before`, then returns the next result, or raises it if it is an exception."""
        if self._before is not None:
            await self._before()
        self.sent.append(message)
        self.keys.append(key)
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, Exception):
            raise result
        return result


class FakeAlerts(FakeChannel):
    """A channel whose receiver forgets alerts that are not sent again."""

    def __init__(self, *results):
        super().__init__(*results)
        self.resent, self.resent_messages = [], []

    async def resend(self, messages, *, at):
        self.resent.append((at, [each.incident_id for each in messages]))
        self.resent_messages += messages
        return self.results[0]


@dataclass
class FakeProvider:
    """A provider: ids are words, and a body is the status of the item."""

    name: str = "fake"
    token_path: str | None = None
    token_scope: str = ""

    def canonical(self, item_id):
        return item_id

    def list_request(self):
        return None

    def valid_id(self, item_id):
        return not item_id.startswith("bad")

    def item_request(self, item_id):
        return Request(method="GET", path=f"/items/{item_id}", template="/items/{item_id}")

    def read_item(self, body, item_id):
        status = body.decode()
        return ItemStatus(state=ItemState(status), stage=status) if status != "garbage" else BadBody(reason="garbage")


def ok(status="completed"):
    """A 200 with this status."""
    return CallResult(reply=Reply(status=200, headers={}, body=status.encode()), latency_ms=1.0)


def refused(status=None, **fields):
    """An error response."""
    return CallResult(error=ApiError(status=status, **fields), latency_ms=1.0)


@dataclass
class FakeItemClient:
    """A client that answers by item id, at once or when a gate opens, and counts requests in flight."""

    answers: dict = field(default_factory=dict)
    default: CallResult = field(default_factory=ok)
    gate: asyncio.Event | None = None
    """Answers wait for it."""
    tripped: bool = False
    asked: list = field(default_factory=list)
    cancelled: list = field(default_factory=list)
    in_flight: int = 0
    max_in_flight: int = 0
    before: object = None
    """Awaited with the item's id before each answer."""
    budget: int = 0
    """How many repeats it answers."""
    asked_again: list = field(default_factory=list)
    allowed: dict = field(default_factory=dict)
    """By item: how many attempts it was given, and whether they count for the service."""

    async def send(self, request, *, deadline_s, is_repeat=False, max_attempts=None, is_sample=True):
        self.allowed[request.path.rpartition("/")[2]] = max_attempts, is_sample
        item_id = request.path.rpartition("/")[2]
        if is_repeat and len(self.asked_again) >= self.budget:
            return CallResult(error=ApiError(status=None, code=RETRY_BUDGET_EXHAUSTED), attempts=0)
        (self.asked_again if is_repeat else self.asked).append(item_id)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0)
            if self.before is not None:
                await self.before(item_id)
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(item_id)
            raise
        finally:
            self.in_flight -= 1
        return self.answers.get(item_id, self.default)
