"""The channel `pagerduty`: an incident is one PagerDuty alert (Events API v2) from opening to resolution.

It pages once: PagerDuty adds later events to the open alert without a page.
"""

import hashlib
from collections.abc import Awaitable, Callable

from monitor.errors import MonitorError
from monitor.model.http import CallResult, Request
from monitor.notifications.channels import NO_REPORTS, SendOutcome, SendResult
from monitor.notifications.channels.http_post import HttpPost, read_api
from monitor.notifications.messages import Message, MessageKind, links, one_line, shown_safe_message, to_single_lines

ENQUEUE_URL = "https://events.pagerduty.com/v2/enqueue"

_ACTIONS = {MessageKind.ACKNOWLEDGED: "acknowledge", MessageKind.RESOLVED: "resolve"}
"""All others trigger the alert."""
_MAX_KEY, _MAX_SUMMARY = 255, 1024
"""Characters (Events API v2, Send an Alert Event)."""
_ELLIPSIS = "…"


class PagerDutyChannel:
    """Sends events to one integration; `read_url` and `send_request` as in `HttpPost`.

    `read_key` reads the integration's routing key, a secret, for each request.
    """

    threaded = True

    def __init__(
        self,
        read_url: Callable[[], str],
        read_key: Callable[[], str],
        send_request: Callable[[Request], Awaitable[CallResult]],
    ) -> None:
        self._read_key = read_key
        self._http_post = HttpPost(
            read_url=read_url, send_request=send_request, template="pagerduty", read_answer=read_api
        )

    async def send(self, message: Message, *, key: str, plain: bool = False) -> SendResult:
        """Sends the event.

        A resolution or acknowledgement is not sent while other incidents of the same alert are open. PagerDuty answers
        400 to a bad event and to a wrong routing key: if it refuses even the simplest event, the channel is suspended.
        """
        if message.kind is MessageKind.REPORT:
            return NO_REPORTS
        if message.kind in {MessageKind.RESOLVED, MessageKind.ACKNOWLEDGED} and message.others_open:
            return SendResult(outcome=SendOutcome.DELIVERED, reason="others of the same alert are still open")
        try:
            routing_key = self._read_key()
        except MonitorError as error:
            return SendResult(outcome=SendOutcome.SUSPENDED, reason=f"its routing key can't be read: {error}")
        event = as_event(message, key=key, plain=plain)
        result = await self._http_post({"routing_key": routing_key, **event}, key=key)
        if plain and result.outcome is SendOutcome.REFUSED:
            return SendResult(outcome=SendOutcome.SUSPENDED, reason=f"{result.reason}: check the routing key")
        return result


def as_event(message: Message, *, key: str, plain: bool = False) -> dict[str, object]:
    """The event without its routing key; `plain`: without details."""
    clean = to_single_lines(message)
    action = _ACTIONS.get(message.kind, "trigger")
    event: dict[str, object] = {"event_action": action, "dedup_key": dedup_key(message, key=key)}
    if action != "trigger":
        return event
    payload: dict[str, object] = {
        "summary": _truncate(clean.title, _MAX_SUMMARY),
        "source": _truncate(", ".join(dict.fromkeys(part.target for part in clean.parts or (clean,))), _MAX_SUMMARY),
        "severity": clean.severity.value,
        "timestamp": clean.at.isoformat(),
        "group": clean.environment,
        "class": clean.cause.value,
        **({"component": clean.group} if clean.group else {}),
    }
    if plain:
        return {**event, "client": "Ingestion Monitor", "payload": payload}
    addresses = {"client_url": clean.url, "links": _links(clean)} if clean.url else {}
    payload["custom_details"] = _details(clean)
    return {**event, "client": "Ingestion Monitor", **addresses, "payload": payload}


def dedup_key(message: Message, *, key: str) -> str:
    """Identifies the alert: the message's thread, or else its incident; at most 255 characters. A test message has
    neither: the delivery's key.
    """
    if message.kind is MessageKind.TEST:
        return key
    full_key = message.thread or f"ingestion-monitor/{one_line(message.environment)}/{message.incident_id}"
    return full_key if len(full_key) <= _MAX_KEY else hashlib.sha256(full_key.encode()).hexdigest()


def _details(message: Message) -> dict[str, object]:
    sentence = shown_safe_message(message)
    return {
        **({"what to check": list(message.what_to_check)} if message.what_to_check else {}),
        **dict(message.facts),
        **({"for your users": sentence} if sentence else {}),
        **dict(message.commands),
    }


def _links(message: Message) -> list[dict[str, str]]:
    return [{"href": url, "text": f"Open {label}"} for label, url in links(message)]


def _truncate(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + _ELLIPSIS
