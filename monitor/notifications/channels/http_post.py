"""One POST of JSON to a URL that is a secret, and how the answer is taken. It repeats nothing and quotes no URL."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import msgspec

from monitor.errors import MonitorError
from monitor.model.http import Answer, ApiError, NetworkFault, Operation, Request
from monitor.notifications.channels import Ending, Verdict

_PARKS = frozenset({401, 403, 404, 410})
_REFUSES = frozenset({400, 413, 422})
_NEVER_SENT = frozenset({NetworkFault.DNS, NetworkFault.REFUSED, NetworkFault.TLS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """Posts JSON to one URL."""

    read_url: Callable[[], str]
    """Gives the URL, which is a secret, at the time of use."""
    ask: Callable[[Request], Awaitable[Answer]]
    """Sends one request, once, within a deadline of its own. Raises ValueError for a URL that can't be used."""
    template: str
    """What logs call the URL."""
    known: Mapping[str, str] | None = None
    """Words with which this kind of receiver explains a refusal, and what they mean; other words are never repeated."""
    prove: Callable[[str, bytes], Mapping[str, str]] | None = None
    """Makes the headers that prove who sends, of the key and the body. Raises MonitorError for a secret that can't be
    read."""

    async def __call__(self, payload: object, *, key: str) -> Verdict:
        """Posts the payload with its `Idempotency-Key`; delivered once the receiver has answered 2xx.

        Args:
            payload: JSON values.
            key: the same on every attempt to deliver the same payload.
        """
        try:
            url = self.read_url()
        except MonitorError as error:
            return Verdict(ending=Ending.PARKED, reason=f"its URL can't be read: {error}")
        body = msgspec.json.encode(payload)
        try:
            proof = self.prove(key, body) if self.prove else {}
        except MonitorError as error:
            return Verdict(ending=Ending.PARKED, reason=f"its secret can't be read: {error}")
        request = Request(
            method="POST",
            path=url,
            template=self.template,
            operation=Operation.WRITE,
            headers={"content-type": "application/json", "idempotency-key": key, **proof},
            body=body,
        )
        try:
            return verdict(await self.ask(request), self.known or {})
        except ValueError:
            # what the wire says when it can't take a URL apart; a URL is a secret, and so its words stay here
            return Verdict(ending=Ending.PARKED, reason="its URL can't be used: check the address in the configuration")


def verdict(answer: Answer, known: Mapping[str, str] | None = None) -> Verdict:
    """How a receiver's answer is taken: 401, 403, 404 and 410 park the channel, 400, 413 and 422 refuse the message.

    docs/channels.md has the whole table.

    Args:
        answer: how the call ended.
        known: whole bodies that the reason may explain, and how it does.
    """
    error = answer.error
    if error is None:
        return Verdict(ending=Ending.DELIVERED, reason="accepted")
    reason = _reason(error, known or {})
    if error.status in _PARKS:
        return Verdict(ending=Ending.PARKED, reason=reason)
    if error.status in _REFUSES:
        return Verdict(ending=Ending.REFUSED, reason=reason)
    sent = error.status is None and error.network not in _NEVER_SENT
    return Verdict(ending=Ending.RETRY, reason=reason, retry_after=error.retry_after, certain=not sent)


def _reason(error: ApiError, known: Mapping[str, str]) -> str:
    """The status or fault, and words of ours: a receiver's body may echo what it should not."""
    if error.status is None:
        return f"no answer ({error.network or 'not sent'})"
    meaning = known.get(error.message or "")
    return f"HTTP {error.status}: {meaning}" if meaning else f"HTTP {error.status}"
