"""The channel `webhook`: each message is POSTed as versioned JSON (docs/webhook.md) with an `Idempotency-Key`."""

from collections.abc import Awaitable, Callable

import msgspec

from monitor.channels import Verdict
from monitor.channels.posting import Post
from monitor.exchange import Answer, Request
from monitor.incidents.message import Message
from monitor.incidents.render import to_text

__all__ = ["VERSION", "WebhookChannel"]

VERSION = 1
"""Of the payload: it grows when a field changes its meaning or goes; new fields alone do not change it."""


class WebhookChannel:
    """Posts messages to one URL.

    Args:
        read_url: gives the URL, which is a secret, at the time of use.
        ask: sends one request, once, within a deadline of its own. Raises ValueError for a URL that can't be used.
    """

    threaded = False

    def __init__(self, read_url: Callable[[], str], ask: Callable[[Request], Awaitable[Answer]]) -> None:
        self._post = Post(read_url=read_url, ask=ask, template="webhook")

    async def send(self, message: Message, *, key: str, plain: bool = False) -> Verdict:
        """Posts the message; delivered once the receiver has answered 2xx. A URL that can't be read parks it."""
        if plain:
            return await self._post({"text": to_text(message)}, key=key)
        facts = dict(message.facts)
        return await self._post(
            {"version": VERSION, "key": key, **msgspec.to_builtins(message), "facts": facts}, key=key
        )
