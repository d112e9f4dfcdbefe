"""One POST of JSON to a URL that is a secret, and how the answer is taken. It repeats nothing and quotes no URL."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import msgspec

from monitor.errors import MonitorError
from monitor.model.http import ApiError, CallResult, NetworkFault, Operation, Request
from monitor.notifications.channels import SendOutcome, SendResult

_SUSPENDING_STATUSES = frozenset({401, 403, 404, 410})
_REFUSED_STATUSES = frozenset({400, 413, 422})
_NOT_SENT_FAULTS = frozenset({NetworkFault.DNS, NetworkFault.REFUSED, NetworkFault.TLS})


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpPost:
    """Posts JSON to one URL."""

    read_url: Callable[[], str]
    """Gives the URL, which is a secret, at the time of use."""
    send_request: Callable[[Request], Awaitable[CallResult]]
    """Sends one request, once, within a deadline of its own. Raises ValueError for a URL that can't be used."""
    template: str
    """What logs call the URL."""
    explanations: Mapping[str, str] | None = None
    """Words with which this kind of receiver explains a refusal, and what they mean; other words are never repeated."""
    auth_headers: Callable[[str, bytes], Mapping[str, str]] | None = None
    """Makes the headers that prove who sends, of the key and the body. Raises MonitorError for a secret that can't be
    read."""

    async def __call__(self, payload: object, *, key: str) -> SendResult:
        """Posts the payload with its `Idempotency-Key`; delivered once the receiver has answered 2xx.

        Args:
            payload: JSON values.
            key: the same on every attempt to deliver the same payload.
        """
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
            return classify_response(await self.send_request(request), self.explanations or {})
        except ValueError:
            # what the wire says when it can't take a URL apart; a URL is a secret, and so its words stay here
            return SendResult(
                outcome=SendOutcome.SUSPENDED, reason="its URL can't be used: check the address in the configuration"
            )


def classify_response(answer: CallResult, explanations: Mapping[str, str] | None = None) -> SendResult:
    """How a receiver's answer is taken: 401, 403, 404 and 410 park the channel, 400, 413 and 422 refuse the message.

    docs/channels.md has the whole table.

    Args:
        answer: how the call ended.
        known: whole bodies that the reason may explain, and how it does.
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
    """The status or fault, and words of ours: a receiver's body may echo what it should not."""
    if error.status is None:
        return f"no answer ({error.network or 'not sent'})"
    explanation = explanations.get(error.message or "")
    return f"HTTP {error.status}: {explanation}" if explanation else f"HTTP {error.status}"
