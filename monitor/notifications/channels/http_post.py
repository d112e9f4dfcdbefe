"""One POST of JSON to a secret URL, and what its response means. It never retries and never shows the URL."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from monitor.errors import MonitorError
from monitor.model.http import ApiError, CallResult, NetworkFault, Operation, Reply, Request
from monitor.notifications.channels import SendOutcome, SendResult

_SUSPENDING_STATUSES = frozenset({401, 403, 404, 410})
_REFUSED_STATUSES = frozenset({400, 413, 422})
_NOT_SENT_FAULTS = frozenset({NetworkFault.DNS, NetworkFault.REFUSED, NetworkFault.TLS})


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpPost:
    """Posts JSON to one URL."""

    read_url: Callable[[], str]
    """Reads the URL, a secret, for each request."""
    send_request: Callable[[Request], Awaitable[CallResult]]
    """Sends one request once, within its own deadline. Raises ValueError for a URL that can't be used."""
    template: str
    """The URL's name in logs."""
    explanations: Mapping[str, str] = field(default_factory=dict)
    """Known response bodies of this receiver and what they mean; other bodies are never repeated."""
    read_answer: Callable[[Reply], SendResult | None] | None = None
    """What a 2xx response says about the delivery; None: it is delivered."""
    auth_headers: Callable[[str, bytes], Mapping[str, str]] | None = None
    """Key and body → headers that authenticate the sender. Raises MonitorError for a secret that can't be read."""

    async def __call__(self, payload: object, *, key: str) -> SendResult:
        """Posts the payload, JSON values, with `key` as `Idempotency-Key`; a 2xx response means delivered."""
        try:
            url = self.read_url()
        except MonitorError as error:
            return SendResult(outcome=SendOutcome.SUSPENDED, reason=f"its URL can't be read: {error}")
        body = msgspec.json.encode(payload)
        try:
            headers = self.auth_headers(key, body) if self.auth_headers else {}
        except MonitorError as error:
            return SendResult(outcome=SendOutcome.SUSPENDED, reason=f"its secret can't be read: {error}")
        request = Request(
            method="POST",
            path=url,
            template=self.template,
            operation=Operation.WRITE,
            headers={"content-type": "application/json", "idempotency-key": key, **headers},
            body=body,
        )
        try:
            answer = await self.send_request(request)
        except ValueError:
            # the transport's error text quotes the URL, which is a secret
            reason = "its URL can't be used: check the address in the configuration"
            return SendResult(outcome=SendOutcome.SUSPENDED, reason=reason)
        said = self.read_answer(answer.reply) if self.read_answer and answer.reply is not None else None
        return said or classify_response(answer, self.explanations)


def classify_response(answer: CallResult, explanations: Mapping[str, str] | None = None) -> SendResult:
    """What a response means: 401, 403, 404 and 410 suspend the channel; 400, 413 and 422 refuse the message.

    docs/channels.md has the full table. `explanations` are whole response bodies and what they mean.
    """
    error = answer.error
    if error is None:
        return SendResult(outcome=SendOutcome.DELIVERED, reason="accepted")
    reason = _reason(error, explanations or {})
    if error.status in _SUSPENDING_STATUSES:
        return SendResult(outcome=SendOutcome.SUSPENDED, reason=reason)
    if error.status in _REFUSED_STATUSES:
        return SendResult(outcome=SendOutcome.REFUSED, reason=reason)
    sent = error.status is None and error.network not in _NOT_SENT_FAULTS
    return SendResult(outcome=SendOutcome.RETRY, reason=reason, retry_after=error.retry_after, certain=not sent)


def _reason(error: ApiError, explanations: Mapping[str, str]) -> str:
    """The status or fault and our own text: a response body may echo secrets."""
    if error.status is None:
        return f"no answer ({error.network or 'not sent'})"
    explanation = explanations.get(error.message or "")
    return f"HTTP {error.status}: {explanation}" if explanation else f"HTTP {error.status}"
