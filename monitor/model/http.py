"""HTTP value types: request, reply, and how a call can fail. Only `client/transports/` imports an HTTP library."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

import msgspec

_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@%/?\[\]]*")
_MAX_PATH_LENGTH = 8192


class NetworkFault(StrEnum):
    """Why an attempt brought no usable HTTP response."""

    DNS = "dns"
    REFUSED = "refused"
    TLS = "tls"
    TIMEOUT = "timeout"
    RESET = "reset"
    PROTOCOL = "protocol"
    TOO_LARGE = "too_large"


class Operation(StrEnum):
    """What a call does; this decides when a retry is safe."""

    READ = "read"
    POLL = "poll"
    """A read that is repeated until a condition holds or the deadline passes."""
    WRITE = "write"
    CLOSE = "close"
    """A write that may safely happen twice, such as a deletion."""
    TOKEN = "token"  # noqa: S105  # the name of an operation, not a secret


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call, relative to the target's base URL."""

    method: str
    path: str
    """Escaped path and query, beginning with a slash; or an absolute URL where there is no base."""
    template: str
    """The path with placeholders (`/engine/v2/items/{item_id}`), for logs and incidents."""
    operation: Operation = Operation.READ
    item_id: str = ""
    """The item in question; empty for a request about no single item."""
    known_missing: bool = False
    """The item belongs to an incident because it is missing: that it still is needs no log event."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    body: bytes | None = None
    max_bytes: int = 1 << 20
    """Limit for the decoded body of the response."""

    def __repr__(self) -> str:
        """Omits path, headers and body, which must not appear in logs."""
        return f"Request(method={self.method!r}, template={self.template!r}, operation={self.operation!r})"

    def for_missing_item(self) -> "Request":
        """A copy about an item that is known to be missing."""
        return msgspec.structs.replace(self, known_missing=True)

    def with_headers(self, headers: Mapping[str, str]) -> "Request":
        """A copy with these headers added or replaced."""
        return msgspec.structs.replace(self, headers={**self.headers, **headers})


class Reply(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An HTTP response of any status; its body is complete and within the limit."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; repeated headers joined with a comma."""
    body: bytes
    reason: str = ""

    def __repr__(self) -> str:
        """Omits headers and body, which must not appear in logs."""
        return f"Reply(status={self.status})"


class TransportFault(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt brought no usable HTTP response."""

    fault: NetworkFault
    text: str
    """Written by us, without URL or secret."""
    unanswered: bool = False
    """The connection broke before an answer began."""


BodySink = Callable[[bytes], bool]
"""Receives decoded chunks of a body; returns False to stop reading. Never raises."""


class Transport(Protocol):
    """One attempt over HTTP, without retries and redirects."""

    async def send(
        self, request: Request, *, timeout_s: float, sink: BodySink | None = None, read_timeout_s: float | None = None
    ) -> Reply | TransportFault:
        """Sends the request once and reads the response: a reply of any status (3xx are not followed), or a fault.

        Never raises for faults of the network or the server. `timeout_s` (wall clock) covers DNS lookup, connect,
        headers and body; nothing is sent if it is ≤ 0. The server may send nothing for `read_timeout_s` seconds (> 0;
        None: no limit). `sink` receives the body of a 2xx as it arrives, and the reply's own is empty; any other body
        is read whole, up to 1 MiB. A decoded body longer than `request.max_bytes` is the fault `too_large`.
        """
        ...

    async def close(self) -> None:
        """Closes every connection. Safe to call twice."""
        ...


class Meaning(StrEnum):
    """What an answer means according to the provider's description, whatever its status says.

    All but the first two are request causes, and have the values of `Cause`.
    """

    NOT_FOUND = "not_found"
    """The API has no such item."""
    INVALID = "invalid"
    """The API can't accept this id."""
    SPENDING_LIMIT = "spending_limit"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    WRONG_SCOPE = "wrong_scope"
    RATE_LIMITED = "rate_limited"
    OUTAGE = "outage"
    BAD_REQUEST = "bad_request"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDetail:
    """One entry of a validation error; the `input` that APIs echo is dropped."""

    loc: str
    msg: str = dataclasses.field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiError:
    """A failed call, normalized from any error body. Decisions use `status`; the rest is for people.

    The API's texts (`error`, `message`, `details`) may quote documents, so `repr` omits them.
    """

    status: int | None
    """HTTP status; None without a usable response, and then `network` says why."""
    code: str | None = None
    error: str | None = dataclasses.field(default=None, repr=False)
    type: str | None = None
    message: str | None = dataclasses.field(default=None, repr=False)
    field: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    details: tuple[ErrorDetail, ...] = dataclasses.field(default=(), repr=False)
    fault: str | None = None
    """Who is at fault, according to the API (`client`, `provider`)."""
    retryable: bool | None = None
    """The API's own flag; it can forbid a retry, but not permit one."""
    retry_after: timedelta | None = None
    """The server's hint, validated and capped at one hour."""
    network: NetworkFault | None = None
    from_token_endpoint: bool = False
    from_backoff: bool = False
    """The server said so to an earlier request and it still applies; this one was not sent."""
    gateway: tuple[tuple[str, str], ...] = ()
    """`server`, `via` and `x-request-id` of a gateway's response, for the log."""
    page: str | None = dataclasses.field(default=None, repr=False)
    """The title of a page (HTML or plain text) where the API would have sent JSON; empty if it has none. None: the
    answer is the API's own."""
    cached: bool = False
    """A cache answered (`Age` is over 0): it shows nothing about the credentials."""
    meaning: Meaning | None = None
    """What the provider's description says of this answer; it wins over the status."""

    def is_local(self, code: str) -> bool:
        """Whether it is our own error with this code; an API may use the same code."""
        return self.status is None and self.network is None and self.code == code


BREAKER_OPEN = "breaker_open"
RETRY_BUDGET_EXHAUSTED = "retry_budget_exhausted"
DEADLINE_EXCEEDED = "deadline_exceeded"
UNUSABLE_CREDENTIALS = "unusable_credentials"  # the name of an error, not a secret
"""Codes of our own errors, which have neither status nor network fault: the circuit breaker is open; a repeat would
exceed the retry budget; our deadline ended the call; the credentials can't be read or sent."""


class CallResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a call ended, retries included; exactly one of `reply` (2xx) and `error` is set."""

    reply: Reply | None = None
    error: ApiError | None = None
    attempts: int = 1
    """Attempts that were sent, the first included; 0 if the client refused to send."""
    latency_ms: float = 0.0
    """Of the last attempt."""
    timed_out: bool = False
    redact: Callable[[str], str] = str
    """Removes secrets from a text of the reply before it is stored or shown; reading comes first."""

    @property
    def cached(self) -> bool:
        """Whether a cache answered instead of the API."""
        return self.error.cached if self.error is not None else self.reply is not None and is_cached(self.reply.headers)


def is_cached(headers: Mapping[str, str]) -> bool:
    """Whether an answer came out of a cache (RFC 9111, 5.1: `Age` in seconds)."""
    age = headers.get("age")
    return age is not None and age.isascii() and age.strip().isdigit() and int(age.strip()[:9]) > 0


def is_valid_path(path: str) -> bool:
    """Whether path and query are escaped, at most 8 KiB, and free of dot segments; no `Transport` sends others."""
    if len(path) > _MAX_PATH_LENGTH or not _PATH.fullmatch(path):
        return False
    # most paths contain neither, and this runs for every request
    return not ("." in path or "%2" in path) or not {".", ".."}.intersection(_segments(path))


def are_valid_headers(headers: Mapping[str, str]) -> bool:
    """Whether each value is one line of printable ASCII. Every `Transport` refuses other values."""
    for value in headers.values():  # noqa: SIM110  # `all` with a generator costs three times as much, per request
        if not (value.isascii() and value.isprintable()):
            return False
    return True


def _segments(path: str) -> Iterator[str]:
    # URL parsers read %2e as a dot
    return (segment.lower().replace("%2e", ".") for segment in path.partition("?")[0].split("/"))


def plain_text(text: str, limit: int) -> str:
    """The text on one line, at most `limit` characters, without control, bidi or surrogate characters; may be empty."""
    # cut first, so that a megabyte is not scanned for its first line
    printable = text[: limit * 4]
    if not printable.isprintable():
        printable = "".join(char if char.isprintable() else " " for char in printable)
    return " ".join(printable.split())[:limit].rstrip()
