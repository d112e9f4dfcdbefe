"""The channel `webhook`: each message is POSTed as versioned JSON (docs/webhook.md) with an `Idempotency-Key`.

With a secret, requests are signed as in Standard Webhooks 1.0: the receiver can verify the sender and the time.
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
from monitor.notifications.messages import Message, ReportContent, to_single_lines, to_text

PAYLOAD_VERSION = 1
"""Incremented when a field is removed or changes its meaning, not when one is added."""

_PREFIX = "whsec_"


class WebhookChannel:
    """Posts messages to one URL; `read_url`, `send_request` and `sign` (`auth_headers`) as in `HttpPost`."""

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
        """Posts the message, or `{"text": …}` if `plain`."""
        clean = to_single_lines(message)
        if plain:
            return await self._http_post({"text": to_text(clean)}, key=key)
        return await self._http_post({"version": PAYLOAD_VERSION, "key": key, **_payload(clean)}, key=key)


def signer(read_secret: Callable[[], str], utcnow: Callable[[], datetime]) -> Callable[[str, bytes], Mapping[str, str]]:
    """Makes the headers of Standard Webhooks 1.0; reads the secret for each request."""

    def sign(key: str, body: bytes) -> Mapping[str, str]:
        timestamp = str(int(utcnow().timestamp()))
        digest = signature(read_secret(), f"{key}.{timestamp}.".encode() + body)
        return {"webhook-id": key, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{digest}"}

    return sign


def signature(secret: str, content: bytes) -> str:
    """HMAC-SHA256 in base64 of `id.timestamp.body` (Standard Webhooks 1.0).

    Raises:
        ValueError: the secret is not `whsec_` followed by the key in base64.
    """
    if not secret.startswith(_PREFIX):
        raise ValueError("the secret does not begin with whsec_")
    key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    return base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()


def _report_payload(message: Message, content: ReportContent) -> dict[str, object]:
    """A report as JSON values: nothing of an incident."""
    return {
        "kind": message.kind.value,
        "environment": message.environment,
        "title": message.title,
        "at": message.at,
        **({"url": message.url} if message.url else {}),
        "facts": dict(message.facts),
        "report": content.data,
    }


def _payload(message: Message) -> dict[str, object]:
    """The message and its parts as JSON values."""
    if message.report is not None:
        return _report_payload(message, message.report)
    fields = msgspec.to_builtins(message)
    del fields["recipients"], fields["first_look"], fields["report"]  # they are for delivery
    if message.url is None:
        del fields["url"]
    return {
        **fields,
        "facts": dict(message.facts),
        "commands": dict(message.commands),
        "parts": [_payload(part) for part in message.parts],
    }
