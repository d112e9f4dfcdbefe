"""Every fake of the tests: each stands where the product asks for a Protocol that has a second implementation."""

import asyncio
from dataclasses import dataclass, field

from monitor.model import BadBody, ItemState, ItemStatus
from monitor.model.http import BUDGET_SPENT, Answer, ApiError, Reply, Request
from monitor.notifications.channels import Ending, Verdict
from monitor.notifications.delivery import Outlet

DELIVERED = Verdict(ending=Ending.DELIVERED, reason="accepted")


def outlets(channels, fingerprint="as configured"):
    """Channels as a sender takes them, all with settings of that name."""
    return {name: Outlet(channel=channel, fingerprint=lambda: fingerprint) for name, channel in channels.items()}


class FakeChannel:
    """A channel that ends its sends as it was told, the last of them for ever; it keeps what it was given."""

    def __init__(self, *verdicts, before=None, threaded=False):
        self.threaded = threaded
        self.verdicts = list(verdicts) or [DELIVERED]
        self.sent, self.keys = [], []
        self._before = before

    async def send(self, message, *, key, plain=False):
        """Does what `before` says, if anything, then ends as told; an exception in place of a verdict is raised."""
        if self._before is not None:
            await self._before()
        self.sent.append(message)
        self.keys.append(key)
        verdict = self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]
        if isinstance(verdict, Exception):
            raise verdict
        return verdict


class FakeAlerts(FakeChannel):
    """A channel whose receiver forgets what it is not told again."""

    def __init__(self, *verdicts):
        super().__init__(*verdicts)
        self.refreshed = []

    async def refresh(self, messages, *, at):
        self.refreshed.append((at, [each.incident_id for each in messages]))
        return self.verdicts[0]


@dataclass
class FakeProvider:
    """Ids are words; a body is the item's status."""

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
    """A 200 that says so about the item."""
    return Answer(reply=Reply(status=200, headers={}, body=status.encode()), latency_ms=1.0)


def refused(status=None, **fields):
    """An answer that is an error."""
    return Answer(error=ApiError(status=status, **fields), latency_ms=1.0)


@dataclass
class FakeAsker:
    """A client that answers by item id, at once or when a gate opens; it counts how many requests are in flight."""

    answers: dict = field(default_factory=dict)
    default: Answer = field(default_factory=ok)
    gate: asyncio.Event | None = None
    """Answers wait for it."""
    tripped: bool = False
    asked: list = field(default_factory=list)
    cancelled: list = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    before: object = None
    """Awaited with the item's id before each answer."""
    budget: int = 0
    """Second questions that it answers."""
    asked_again: list = field(default_factory=list)

    async def ask(self, request, *, deadline_s, again=False):
        item_id = request.path.rpartition("/")[2]
        if again and len(self.asked_again) >= self.budget:
            return Answer(error=ApiError(status=None, code=BUDGET_SPENT), attempts=0)
        (self.asked_again if again else self.asked).append(item_id)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
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
