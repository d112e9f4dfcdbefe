"""The channel `alertmanager`: an incident is one alert of Prometheus Alertmanager's (API v2), under stable labels.

Alertmanager forgets what is not told again in time, so whoever keeps the time calls `resend`.
"""

import base64
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from monitor.model.http import CallResult, Request
from monitor.notifications.channels import SendOutcome, SendResult
from monitor.notifications.channels.http_post import HttpPost
from monitor.notifications.channels.text import to_single_lines
from monitor.notifications.messages import Message, MessageKind, shown_safe_message

_PATH = "/api/v2/alerts"


class AlertmanagerChannel:
    """Posts alerts to one Alertmanager.

    Args:
        read_url: gives its address, up to `/api/v2/alerts`, at the time of use.
        ask: sends one request, once, within a deadline of its own. Raises ValueError for a URL that can't be used.
        lasting: how long an open alert is to last without being told again; longer than the time between refreshes.
        authorization: gives the header's value at the time of use; None: none is asked for.
    """

    threaded = False

    def __init__(
        self,
        read_url: Callable[[], str],
        send_request: Callable[[Request], Awaitable[CallResult]],
        *,
        resolve_timeout: timedelta,
        authorization: Callable[[], str] | None = None,
    ) -> None:
        self._resolve_timeout, self._authorization = resolve_timeout, authorization
        self._http_post = HttpPost(
            read_url=lambda: read_url().rstrip("/").removesuffix(_PATH) + _PATH,
            send_request=send_request,
            template="alertmanager",
            auth_headers=self._auth_headers,
        )

    async def send(self, message: Message, *, key: str, plain: bool = False) -> SendResult:
        """Posts one alert, or one per part of a merged message; an acknowledgement changes no alert."""
        if message.kind is MessageKind.ACKNOWLEDGED:
            return SendResult(outcome=SendOutcome.DELIVERED, reason="an alert knows no acknowledgement")
        alerts = [
            as_alert(each, resolve_timeout=self._resolve_timeout, plain=plain) for each in message.parts or (message,)
        ]
        return await self._http_post(alerts, key=key)

    async def resend(self, messages: Sequence[Message], *, at: datetime) -> SendResult:
        """Tells the alerts that are open once more, so that they last on.

        Args:
            messages: the last about each open incident, merged ones included.
            at: now (aware).
        """
        single_messages = (each for message in messages for each in message.parts or (message,))
        alerts = list(
            _latest_per_labels(
                as_alert(replace(each, at=at), resolve_timeout=self._resolve_timeout) for each in single_messages
            )
        )
        if not alerts:
            return SendResult(outcome=SendOutcome.DELIVERED, reason="nothing is open")
        return await self._http_post(alerts, key=f"refresh-{at:%Y%m%dT%H%M%S}")

    def _auth_headers(self, _key: str, _body: bytes) -> Mapping[str, str]:
        return {"authorization": self._authorization()} if self._authorization else {}


def as_alert(message: Message, *, resolve_timeout: timedelta, plain: bool = False) -> dict[str, object]:
    """One incident's alert.

    The labels are its identity, and so hold nothing that changes between opening and end.

    Args:
        message: about one incident.
        lasting: how long after the message it ends by itself, unless it has ended.
        plain: with its title as the only annotation.
    """
    clean = to_single_lines(message)
    ends = clean.resolved_at or clean.at if clean.kind is MessageKind.RESOLVED else clean.at + resolve_timeout
    labels = {
        "alertname": _alert_name(clean),
        "cause": clean.cause.value,
        "target": clean.target,
        "environment": clean.environment,
        "severity": clean.severity.value,
        "team": clean.team.value,
        "group": clean.group,
    }
    return {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {"summary": clean.title} if plain else _annotations(clean),
        "startsAt": clean.opened_at.isoformat(),
        "endsAt": max(ends, clean.opened_at).isoformat(),
    }


def basic_auth(user: str, password: str) -> str:
    """The header `Authorization` for a user and password (RFC 7617)."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def bearer_auth(token: str) -> str:
    """The header `Authorization` for a token (RFC 6750)."""
    return f"Bearer {token}"


def _alert_name(message: Message) -> str:
    """`IngestionItemsFailed`: alerts are grouped by their name where nobody says otherwise, and so by cause."""
    if message.kind is MessageKind.TEST:
        return "IngestionMonitorTest"
    return "Ingestion" + message.cause.value.title().replace("_", "")


def _annotations(message: Message) -> dict[str, str]:
    annotations = {
        "summary": message.title,
        "what_to_check": "\n".join(message.what_to_check),
        "for_users": shown_safe_message(message) or "",
        "facts": _lines(message.facts),
        "commands": _lines(message.commands),
    }
    return {name: text for name, text in annotations.items() if text}


def _lines(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"{label}: {value}" for label, value in pairs)


def _latest_per_labels(alerts: Iterable[dict[str, object]]) -> Iterable[dict[str, object]]:
    """Of alerts with the same labels the last one: Alertmanager would take them for one."""
    return {tuple(sorted(_labels(alert).items())): alert for alert in alerts}.values()


def _labels(alert: Mapping[str, object]) -> Mapping[str, str]:
    labels = alert["labels"]
    return labels if isinstance(labels, dict) else {}
