"""The channel `webhook`: each message is POSTed as versioned JSON (docs/webhook.md) with an `Idempotency-Key`."""

from collections.abc import Awaitable, Callable

import msgspec

from monitor.channels import Ending, Verdict
from monitor.errors import MonitorError
from monitor.exchange import Answer, ApiError, Operation, Request
from monitor.incidents.message import Message

__all__ = ["VERSION", "WebhookChannel", "verdict"]

VERSION = 1
"""Of the payload: it grows when a field changes its meaning or goes; new fields alone do not change it."""

_PARKS = frozenset({401, 403, 404, 410})
_REFUSES = frozenset({400, 413, 422})


class WebhookChannel:
    """Posts messages to one URL.

    Args:
        read_url: gives the URL, which is a secret, at the time of use.
        ask: sends one request, once, within a deadline of its own. Raises ValueError for a URL that can't be used.
    """

    def __init__(self, read_url: Callable[[], str], ask: Callable[[Request], Awaitable[Answer]]) -> None:
        self._read_url = read_url
        self._ask = ask

    async def send(self, message: Message, *, key: str) -> Verdict:
        """Posts the message; delivered once the receiver has answered 2xx. A URL that can't be read parks it."""
        payload = {"version": VERSION, "key": key, **msgspec.to_builtins(message), "facts": dict(message.facts)}
        try:
            url = self._read_url()
        except MonitorError as error:
            return Verdict(ending=Ending.PARKED, reason=f"its URL can't be read: {error}")
        request = Request(
            method="POST",
            path=url,
            template="webhook",
            operation=Operation.WRITE,
            headers={"content-type": "application/json", "idempotency-key": key},
            body=msgspec.json.encode(payload),
        )
        try:
            return verdict(await self._ask(request))
        except ValueError:
            # what the wire says when it can't take a URL apart; a URL is a secret, and so its words stay here
            return Verdict(ending=Ending.PARKED, reason="its URL can't be used: check the address in the configuration")


def verdict(answer: Answer) -> Verdict:
    """How a receiver's answer is taken: 401, 403, 404 and 410 park the channel, 400, 413 and 422 refuse the message."""
    error = answer.error
    if error is None:
        return Verdict(ending=Ending.DELIVERED, reason="accepted")
    reason = _reason(error)
    if error.status in _PARKS:
        return Verdict(ending=Ending.PARKED, reason=reason)
    if error.status in _REFUSES:
        return Verdict(ending=Ending.REFUSED, reason=reason)
    return Verdict(ending=Ending.RETRY, reason=reason, retry_after=error.retry_after)


def _reason(error: ApiError) -> str:
    """The status or fault alone: a receiver's body may echo what it should not."""
    return f"HTTP {error.status}" if error.status is not None else f"no answer ({error.network or 'not sent'})"
