"""The channel `alertmanager`: an incident is one alert of Prometheus Alertmanager (API v2) with stable labels.

Alertmanager resolves alerts that are not sent again in time: the caller keeps the time and calls `resend`.
"""

import base64
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from monitor.model.http import CallResult, Request
from monitor.notifications.channels import NO_REPORTS, SendOutcome, SendResult
from monitor.notifications.channels.http_post import HttpPost, read_api
from monitor.notifications.messages import Message, MessageKind, shown_safe_message, to_single_lines

_PATH = "/api/v2/alerts"


class AlertmanagerChannel:
    """Posts alerts to one Alertmanager; `read_url` and `send_request` as in `HttpPost`; the URL may lack the path.

    An alert stays open for `resolve_timeout` without being sent again: longer than the resend interval. `authorization`
    reads the value of the header for each request.
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
            read_answer=read_api,
            auth_headers=self._auth_headers,
        )

    async def send(self, message: Message, *, key: str, plain: bool = False) -> SendResult:
        """Posts one alert per incident; an acknowledgement is not sent."""
        if message.kind is MessageKind.REPORT:
            return NO_REPORTS
        if message.kind is MessageKind.ACKNOWLEDGED:
            return SendResult(outcome=SendOutcome.DELIVERED, reason="Alertmanager has no acknowledgements")
        parts = message.parts or (message,)
        alerts = [as_alert(each, resolve_timeout=self._resolve_timeout, plain=plain) for each in parts]
        return await self._http_post(alerts, key=key)

    async def resend(self, messages: Sequence[Message], *, at: datetime) -> SendResult:
        """Sends the open alerts again, so that Alertmanager keeps them open. Of equal labels the last alert is sent."""
        alerts = [
            as_alert(replace(each, at=at), resolve_timeout=self._resolve_timeout)
            for message in messages
            for each in message.parts or (message,)
        ]
        by_labels = {repr(alert["labels"]): alert for alert in alerts}  # their names are always in the same order
        if not by_labels:
            return SendResult(outcome=SendOutcome.DELIVERED, reason="nothing is open")
        return await self._http_post(list(by_labels.values()), key=f"refresh-{at:%Y%m%dT%H%M%S}")

    def _auth_headers(self, _key: str, _body: bytes) -> Mapping[str, str]:
        return {"authorization": self._authorization()} if self._authorization else {}


def as_alert(message: Message, *, resolve_timeout: timedelta, plain: bool = False) -> dict[str, object]:
    """The alert of one incident; `plain`: with the title as its only annotation.

    Its labels are its identity: nothing in them changes from opening to resolution, except a severity that rises. An
    open alert ends by itself `resolve_timeout` after the message's time, and so does that of the lower severity.
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
        "also_team": " ".join(team.value for team in clean.also_teams),
        "group": clean.group,
    }
    return {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {"summary": clean.title} if plain else _annotations(clean),
        **({"generatorURL": clean.url} if clean.url and not plain else {}),
        "startsAt": clean.opened_at.isoformat(),
        "endsAt": max(ends, clean.opened_at).isoformat(),
    }


def basic_auth(user: str, password: str) -> str:
    """The value of `Authorization` for a user and password (RFC 7617)."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def bearer_auth(token: str) -> str:
    """The value of `Authorization` for a token (RFC 6750)."""
    return f"Bearer {token}"


def _alert_name(message: Message) -> str:
    """`IngestionItemsFailed`: one name per cause, since Alertmanager groups by name by default."""
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
