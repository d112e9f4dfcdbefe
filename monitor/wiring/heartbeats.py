"""The dead man's switch of a target, with its URL read when it is used."""

from uuid import uuid4

from monitor.config import Target
from monitor.exchange import Answer, Request
from monitor.heartbeat import Heartbeat
from monitor.wiring.channels import ask_once
from monitor.wiring.clients import reader

__all__ = ["heartbeat_of"]

_ATTEMPTS = 2


def heartbeat_of(target: Target) -> Heartbeat | None:
    """The switch that is told of a target's runs; None when there is none."""
    if target.heartbeat is None:
        return None
    return Heartbeat(target=target.name, read_url=reader(target.heartbeat), ask=_ask, new_rid=lambda: str(uuid4()))


async def _ask(request: Request, within_s: float) -> Answer:
    return await ask_once(request, timeout_s=within_s, attempts=_ATTEMPTS)
