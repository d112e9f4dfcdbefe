"""The channel `webhook`: each message is POSTed as versioned JSON (docs/webhook.md) with an `Idempotency-Key`.

With a secret it is signed as Standard Webhooks 1.0 want it: the receiver can tell who sent it, and when.
"""

import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import msgspec

from monitor.model.http import CallResult, Request
from monitor.notifications.channels import SendResult
from monitor.notifications.channels.http_post import HttpPost
from monitor.notifications.channels.text import to_single_lines
from monitor.notifications.messages import Message, to_text

PAYLOAD_VERSION = 1
"""Of the payload: it grows when a field changes its meaning or goes; new fields alone do not change it."""

_PREFIX = "whsec_"


class WebhookChannel:
    """Posts messages to one URL.

    Args:
        read_url: gives the URL, which is a secret, at the time of use.
        ask: sends one request, once, within a deadline of its own. Raises ValueError for a URL that can't be used.
        sign: makes the headers that prove who sends, of key and body (`signer`); None: there are none.
    """

    threaded = False

    def __init__(
        self,
        read_url: Callable[[], str],
        send_request: Callable[[Request], Awaitable[CallResult]],
        *,
        sign: Callable[[str, bytes], Mapping[str, str]] | None = None,
    ) -> None:
        self._http_post = HttpPost(read_url=read_url, send_request=send_request, template="webhook", auth_headers=sign)

    async def send(self, message: Message, *, key: str, plain: bool = False) -> SendResult:
        """Posts the message; delivered once the receiver has answered 2xx. A URL that can't be read parks it."""
        clean = to_single_lines(message)
        if plain:
            return await self._http_post({"text": to_text(clean)}, key=key)
        return await self._http_post({"version": PAYLOAD_VERSION, "key": key, **_payload(clean)}, key=key)


def signer(read_secret: Callable[[], str], utcnow: Callable[[], datetime]) -> Callable[[str, bytes], Mapping[str, str]]:
    """Signs requests as Standard Webhooks 1.0 want it.

    Args:
        read_secret: gives `whsec_` and the key in base64, which is a secret, at the time of use.
        utcnow: the clock that a signature is dated by.
    """

    def sign(key: str, body: bytes) -> Mapping[str, str]:
        timestamp = str(int(utcnow().timestamp()))
        digest = signature(read_secret(), f"{key}.{timestamp}.".encode() + body)
        return {"webhook-id": key, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{digest}"}

    return sign


def signature(secret: str, content: bytes) -> str:
    """HMAC-SHA256 in base64 (Standard Webhooks 1.0).

    Args:
        secret: `whsec_` and the key in base64.
        content: `id.timestamp.body`.

    Raises:
        ValueError: the secret is not of that form.
    """
    if not secret.startswith(_PREFIX):
        raise ValueError("the secret does not begin with whsec_")
    key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    return base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()


def _payload(message: Message) -> dict[str, object]:
    """The message as JSON values; each of its parts in the same form."""
    return {
        **msgspec.to_builtins(message),
        "facts": dict(message.facts),
        "commands": dict(message.commands),
        "parts": [_payload(part) for part in message.parts],
    }
