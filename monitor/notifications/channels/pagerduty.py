"""The channel `pagerduty`: an incident is one alert of PagerDuty's (Events API v2), from its opening to its end.

It pages once: further events of an open alert are added to that alert, and PagerDuty notifies nobody of them.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping

from monitor.errors import MonitorError
from monitor.model.http import CallResult, Request
from monitor.notifications.channels import SendOutcome, SendResult
from monitor.notifications.channels.http_post import HttpPost
from monitor.notifications.channels.text import one_line, to_single_lines
from monitor.notifications.messages import Message, MessageKind, shown_safe_message

ENQUEUE_URL = "https://events.pagerduty.com/v2/enqueue"

_ACTIONS: Mapping[MessageKind, str] = {
    MessageKind.OPENED: "trigger",
    MessageKind.UPDATED: "trigger",
    MessageKind.REMINDER: "trigger",
    MessageKind.TEST: "trigger",
    MessageKind.ACKNOWLEDGED: "acknowledge",
    MessageKind.RESOLVED: "resolve",
}
_MAX_KEY, _MAX_SUMMARY = 255, 1024
"""Characters that PagerDuty takes (Events API v2, Send an Alert Event)."""
_ELLIPSIS = "…"


class PagerDutyChannel:
    """Sends events to one integration.

    Args:
        read_url: gives where events go, at the time of use.
        read_key: gives the integration's routing key, which is a secret, at the time of use.
        ask: sends one request, once, within a deadline of its own. Raises ValueError for a URL that can't be used.
    """

    threaded = True

    def __init__(
        self,
        read_url: Callable[[], str],
        read_key: Callable[[], str],
        send_request: Callable[[Request], Awaitable[CallResult]],
    ) -> None:
        self._read_key = read_key
        self._http_post = HttpPost(read_url=read_url, send_request=send_request, template="pagerduty")

    async def send(self, message: Message, *, key: str, plain: bool = False) -> SendResult:
        """Sends the event; delivered once PagerDuty has taken it, or when there is none to send.

        Nothing is sent when one incident ends, or is acknowledged, while others of the same alert are open. PagerDuty
        answers 400 to a wrong routing key as to a bad event: one that refuses even the simplest event is suspended.
        """
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
    """The event without its routing key.

    Args:
        message: what to tell.
        key: of the delivery; a test message, which has no incident, is filed under it.
        plain: without details.
    """
    clean = to_single_lines(message)
    action = _ACTIONS[message.kind]
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
    details = {} if plain else {"custom_details": _details(clean)}
    return {**event, "client": "Ingestion Monitor", "payload": {**payload, **details}}


def dedup_key(message: Message, *, key: str) -> str:
    """What PagerDuty files a message's alert under: its thread, or else its incident; at most 255 characters."""
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


def _truncate(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + _ELLIPSIS
