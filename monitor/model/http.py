"""One exchange over HTTP, in our own words: what is asked, what comes back, and how it can fail.

Everything above speaks these types; only `client/wire/` knows a HTTP library. Nothing here does I/O.
"""

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
    """How an attempt ended without a usable HTTP answer."""

    DNS = "dns"
    REFUSED = "refused"
    TLS = "tls"
    TIMEOUT = "timeout"
    RESET = "reset"
    PROTOCOL = "protocol"
    TOO_LARGE = "too_large"


class Operation(StrEnum):
    """What a call does, which decides when repeating it is safe."""

    READ = "read"
    POLL = "poll"
    """A read that is repeated until something has happened, or the deadline has come."""
    WRITE = "write"
    CLOSE = "close"
    """A write that does no harm when it happens twice, such as a deletion."""
    TOKEN = "token"  # noqa: S105  # the name of an operation, not a secret


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call, relative to the target's base URL."""

    method: str
    path: str
    """Path and query, already escaped, beginning with a slash; or an absolute URL where there is no base."""
    template: str
    """The path with its parameters named (`/engine/v2/items/{item_id}`): what logs and incidents show."""
    operation: Operation = Operation.READ
    item_id: str = ""
    """The item that is asked about; empty when it is not about one."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    body: bytes | None = None
    max_bytes: int = 1 << 20
    """The most decoded bytes of the answer's body that are read."""

    def __repr__(self) -> str:
        """Without path, headers and body: they hold what no log may show."""
        return f"Request(method={self.method!r}, template={self.template!r}, operation={self.operation!r})"

    def with_header(self, name: str, value: str) -> "Request":
        """The same request with one header more, or another value of one."""
        return Request(
            method=self.method,
            path=self.path,
            template=self.template,
            operation=self.operation,
            item_id=self.item_id,
            headers={**self.headers, name: value},
            body=self.body,
            max_bytes=self.max_bytes,
        )


class Reply(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An HTTP answer of any status, its body whole and below the cap."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; repeated headers joined with a comma."""
    body: bytes
    reason: str = ""

    def __repr__(self) -> str:
        """Without headers and body: they hold what no log may show."""
        return f"Reply(status={self.status})"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportFault:
    """No usable HTTP answer came."""

    fault: NetworkFault
    text: str
    """Our own words, without URL or secret."""


BodySink = Callable[[bytes], bool]
"""Takes a body piece by piece, decoded; False once it wants no more, and nothing further is read. Never raises."""


class Transport(Protocol):
    """One attempt over HTTP: no retry, no redirect, no decision."""

    async def send(
        self, request: Request, *, timeout_s: float, sink: BodySink | None = None, read_timeout_s: float | None = None
    ) -> Reply | TransportFault:
        """Sends the request once and reads the whole answer.

        Args:
            request: what to send; `request.max_bytes` caps the decoded body (`too_large` beyond it).
            timeout_s: wall-clock seconds for all of it: name look-up, connect, headers, body. Nothing is sent when
                there are none left (≤ 0).
            sink: takes the body of a 2xx as it comes in; the reply's own is then empty. Any other body is read whole,
                and capped at 1 MiB.
            stall_s: how long (> 0, seconds) the server may send nothing at all; None: no limit but `timeout_s`.

        Returns:
            The reply, whatever its status (3xx included: never followed), or how it failed. Never raises for
            what the network or the server does; cancellation passes through.
        """
        ...

    async def close(self) -> None:
        """Closes every connection. Safe to call twice."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDetail:
    """One entry of a validation error; the `input` that APIs echo is never kept."""

    loc: str
    msg: str = dataclasses.field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiError:
    """Any failed call, whatever shape its body came in. Decisions rest on `status`; the rest is for people.

    The API's own words (`error`, `message`, `details`) may quote documents, so `repr` leaves them out.
    """

    status: int | None
    """HTTP status; None when no usable answer came (then `network` says why)."""
    code: str | None = None
    error: str | None = dataclasses.field(default=None, repr=False)
    type: str | None = None
    message: str | None = dataclasses.field(default=None, repr=False)
    field: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    details: tuple[ErrorDetail, ...] = dataclasses.field(default=(), repr=False)
    fault: str | None = None
    """Whose fault the API says it is (`client`, `provider`)."""
    retryable: bool | None = None
    """What the API says; it may veto a retry, never grant one."""
    retry_after: timedelta | None = None
    """The server's hint, sane and capped at one hour; None without one."""
    network: NetworkFault | None = None
    from_token_endpoint: bool = False
    from_backoff: bool = False
    """The server said it to an earlier request, and it is in force still: this one was not sent."""
    gateway: tuple[tuple[str, str], ...] = ()
    """`server`, `via` and `x-request-id` of a gateway's answer, for the log."""

    def is_local(self, code: str) -> bool:
        """Whether it is an error of our own, of that code: an API may say the same word."""
        return self.status is None and self.network is None and self.code == code


BREAKER_OPEN = "breaker_open"
RETRY_BUDGET_EXHAUSTED = "retry_budget_exhausted"
DEADLINE_EXCEEDED = "deadline_exceeded"
UNUSABLE_CREDENTIALS = "unusable_credentials"  # noqa: S105  # the name of an error, not a secret
"""Codes of our own errors, which have neither status nor network fault: the service was down in this run; a second
question would go beyond the budget; our deadline, and not the API, ended the call; the credentials can't be read or
sent."""


class CallResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a call ended after its retries: exactly one of `reply` (2xx) and `error` is set."""

    reply: Reply | None = None
    error: ApiError | None = None
    attempts: int = 1
    """Attempts that reached for the network, the first included; 0 when the client refused to start."""
    latency_ms: float = 0.0
    """Of the last attempt."""
    timed_out: bool = False


def is_valid_path(path: str) -> bool:
    """Whether path and query are escaped, at most 8 KiB, and free of dot segments, which lead elsewhere than they say.

    What is not is refused by every `Transport`.
    """
    if len(path) > _MAX_PATH_LENGTH or not _PATH.fullmatch(path):
        return False
    # most paths hold neither, and this runs for every request
    return not ("." in path or "%2" in path) or not {".", ".."}.intersection(_segments(path))


def are_valid_headers(headers: Mapping[str, str]) -> bool:
    """Whether each value is one line of printable ASCII. What is not is refused by every `Transport`."""
    for value in headers.values():  # noqa: SIM110  # `all` with a generator costs three times as much, per request
        if not (value.isascii() and value.isprintable()):
            return False
    return True


def _segments(path: str) -> Iterator[str]:
    # %2e is a dot to URL parsers
    return (segment.lower().replace("%2e", ".") for segment in path.partition("?")[0].split("/"))


def plain_text(text: str, limit: int) -> str:
    """The text on one line, at most `limit` characters, without control, bidi or surrogate characters; may be empty."""
    # cut before and after: a megabyte is not walked for the sake of its first line
    printable = "".join(char if char.isprintable() else " " for char in text[: limit * 4])
    return " ".join(printable.split())[:limit].rstrip()
