"""One POST of JSON to a secret URL, and what its response means. It never retries and never shows the URL."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import msgspec

from monitor.errors import MonitorError
from monitor.model.http import ApiError, CallResult, NetworkFault, Operation, Reply, Request
from monitor.notifications.channels import SendOutcome, SendResult

_SUSPENDING_STATUSES = frozenset({401, 403, 404, 410})
_REFUSED_STATUSES = frozenset({400, 413, 422})
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<[a-zA-Z!?]")
"""A web page: with a doctype, an XML declaration, a comment or neither."""
_NO_FLAGS, _NO_VALUES = ("ok", "success"), frozenset({"false", "0", "no"})
_NO_STATUSES = frozenset({"error", "fail", "failed", "failure", "invalid event"})
_NOT_SENT_FAULTS = frozenset({NetworkFault.DNS, NetworkFault.REFUSED, NetworkFault.TLS})


def is_page(body: bytes) -> bool:
    """Whether a 2xx response is a web page: a proxy or a login answered in place of the receiver."""
    return _PAGE.match(body) is not None


def stated_error(body: bytes) -> str | None:
    """The error that a JSON object states in a 2xx; empty if it only says no, None if it does not.

    Such as `{"ok": false, "error": "…"}` of Slack and its relays, `{"success": false}`, `{"status": "error"}`, or an
    `error` beside nothing that says yes.
    """
    try:
        said = msgspec.json.decode(body.decode("utf-8-sig", errors="replace"))
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    fields = {name.lower(): value for name, value in said.items()}
    flags = [fields[name] for name in _NO_FLAGS if name in fields]
    error = fields.get("error")
    says_no = any(not flag or str(flag).lower() in _NO_VALUES for flag in flags)
    says_no = says_no or str(fields.get("status")).lower() in _NO_STATUSES
    if not says_no and (flags or not error):
        return None
    return error.strip() if isinstance(error, str) else ""


def unaccepted(reply: Reply, why: str) -> SendResult:
    """The result of a 2xx response that is no delivery: it is tried again, when `Retry-After` says so."""
    wait = reply.headers.get("retry-after", "").strip()
    retry_after = timedelta(seconds=int(wait)) if wait.isascii() and wait.isdigit() and len(wait) < 6 else None
    return SendResult(outcome=SendOutcome.RETRY, reason=f"HTTP {reply.status}, but {why}", retry_after=retry_after)


def read_receiver(reply: Reply) -> SendResult | None:
    """What a receiver of any kind says in a 2xx response; None if it does not say no. Its words may repeat a secret."""
    return None if stated_error(reply.body) is None else unaccepted(reply, "its body says that it did not accept it")


def read_api(reply: Reply) -> SendResult | None:
    """The same for an API that never answers with a web page."""
    if is_page(reply.body):
        return unaccepted(reply, "with a web page: is there a proxy or a login in between?")
    return read_receiver(reply)


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
    read_answer: Callable[[Reply], SendResult | None] = read_receiver
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
        said = self.read_answer(answer.reply) if answer.reply is not None else None
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
