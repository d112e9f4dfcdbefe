"""The loop that ties the client together: credentials, attempts, retries, one answer. The rules live in its neighbours.

It never raises for what the network or the API does, never sends past a deadline, and logs one event per request.
"""

import asyncio
import dataclasses
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import structlog

from monitor.client.auth import Ask, Auth, Grant
from monitor.client.failure import fault_error, plain_text, read_failure
from monitor.client.limits import Breaker
from monitor.client.retry import Verdict, decide
from monitor.client.secrecy import without_secrets
from monitor.exchange import (
    BREAKER_OPEN,
    PAST_DEADLINE,
    Answer,
    ApiError,
    NetworkFault,
    Operation,
    Reply,
    Request,
    Wire,
    WireFault,
)

__all__ = ["AttemptRecord", "Client"]

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")
_ID_CHARS = 200
_FAIR_SHARE = 0.9
"""Of the attempt timeout: a service that stays silent for longer has timed out, whatever the deadline."""

_MASK = "**********"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One attempt that reached for the network, as statistics want it: no URL, no words of the API."""

    template: str
    operation: Operation
    status: int | None
    network: NetworkFault | None
    latency_ms: float
    retry_count: int
    """Attempts that this call made before."""
    timed_out: bool
    request_id: str | None
    code: str | None
    wait_s: float
    """How long the client waits before the next attempt; 0 when there is none."""


@dataclass(slots=True, kw_only=True)
class _Call:
    """What one call has come to so far."""

    request: Request
    deadline_s: float
    attempts: int = 0
    replays: int = 0
    latency_ms: float = 0.0
    timed_out: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class Client:
    """Asks one API, for one run.

    A call takes these steps: (1) an open breaker or a passed deadline refuses it; (2) its credentials are fetched,
    in single flight; (3) it is attempted until it succeeds, `decide` gives up, the breaker opens or the deadline comes;
    (4) a 401 renews the credentials and replays it, once.
    """

    wire: Wire
    auth: Auth | None = None
    attempt_timeout_s: float = 30.0
    max_attempts: int = 5
    breaker: Breaker = dataclasses.field(default_factory=Breaker)
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    monotonic: Callable[[], float] = time.monotonic
    utcnow: Callable[[], datetime] = lambda: datetime.now(UTC)
    rand: Callable[[], float] = random.random
    mask: Callable[[str], str] = str
    """Takes the caller's secrets out of a text that an API sent."""
    observe: Callable[[AttemptRecord], None] | None = None

    @property
    def tripped(self) -> bool:
        """Whether the breaker has stopped this client."""
        return self.breaker.open

    async def ask(self, request: Request, *, deadline_s: float) -> Answer:
        """Asks until there is an answer or no sense in asking.

        Args:
            request: what to ask.
            deadline_s: an instant on `monotonic`; no attempt and no wait lasts beyond it.

        Returns:
            The 2xx reply or the last error. Errors of our own have neither status nor network fault but the code
            `BREAKER_OPEN`, `PAST_DEADLINE` (it came before anything else went wrong) or `UNUSABLE_SECRET`.
        """
        call = _Call(request=request, deadline_s=deadline_s)
        result = await self._authorised(call)
        _log_call(call, result)
        return Answer(
            reply=result if isinstance(result, Reply) else None,
            error=result if isinstance(result, ApiError) else None,
            attempts=call.attempts,
            latency_ms=call.latency_ms,
            timed_out=call.timed_out,
        )

    async def aclose(self) -> None:
        """Closes the wire. Safe to call twice."""
        await self.wire.close()

    async def _authorised(self, call: _Call) -> Reply | ApiError:
        refused = self._refused(call)
        if refused or self.auth is None:
            return refused or await self._attempts(call, None)
        ask = self._token_loop(call)
        grant = await self._in_time(call, self.auth.grant(ask, monotonic=self.monotonic))
        if isinstance(grant, ApiError):
            return grant
        result = await self._attempts(call, grant)
        if not (isinstance(result, ApiError) and result.status == 401):
            return result
        fresh = await self._in_time(call, self.auth.renew(grant, ask, monotonic=self.monotonic))
        if not isinstance(fresh, Grant):
            return fresh or result
        call.replays += 1
        return await self._attempts(call, fresh)

    def _token_loop(self, call: _Call) -> Ask:
        async def ask(request: Request) -> Reply | ApiError:
            token_call = _Call(request=request, deadline_s=call.deadline_s)
            result = await self._attempts(token_call, None)
            _log_call(token_call, result)
            return result

        return ask

    async def _in_time(self, call: _Call, credentials: Awaitable[_T]) -> _T | ApiError:
        # another call's token request may outlast this call's deadline
        try:
            async with asyncio.timeout(max(0.0, call.deadline_s - self.monotonic())):
                return await credentials
        except TimeoutError:
            return _past_deadline()

    async def _attempts(self, call: _Call, grant: Grant | None) -> Reply | ApiError:
        """Attempts until a reply, or a failure that is not worth another."""
        request = call.request
        if grant:
            request = dataclasses.replace(request, headers={**request.headers, grant.header: grant.value})
        failure: ApiError | None = None
        while True:
            refused = self._refused(call)
            if refused:
                return failure or refused
            result = self._discreet(await self._attempt(call, request), grant)
            error = result if isinstance(result, ApiError) else None
            if error or request.operation is not Operation.TOKEN:
                # a token that was granted says nothing about the API behind it
                self.breaker.record(error)
            wait_s = self._next_wait_s(call, error)
            if self.observe:
                self.observe(_attempt_record(call, result, wait_s or 0.0))
            if failure and error and error.code == PAST_DEADLINE:
                return failure
            if wait_s is None:
                return result
            failure = error
            await self.sleep(wait_s)

    def _discreet(self, result: Reply | ApiError, grant: Grant | None) -> Reply | ApiError:
        """What came back without what the caller calls secret, and without the credential that this call carried."""
        credential = grant.value.rpartition(" ")[2] if grant else ""
        if isinstance(result, ApiError):
            return without_secrets(
                result, lambda text: self.mask(text.replace(credential, _MASK) if credential else text)
            )
        if credential and credential.encode() in result.body:
            return dataclasses.replace(result, body=result.body.replace(credential.encode(), _MASK.encode()))
        return result

    async def _attempt(self, call: _Call, request: Request) -> Reply | ApiError:
        started_s = self.monotonic()
        allowed_s = min(self.attempt_timeout_s, call.deadline_s - started_s)
        result = await self.wire.send(request, timeout_s=allowed_s)
        call.attempts += 1
        call.latency_ms = (self.monotonic() - started_s) * 1000
        call.timed_out = isinstance(result, WireFault) and result.fault is NetworkFault.TIMEOUT
        from_token_endpoint = request.operation is Operation.TOKEN
        if isinstance(result, Reply):
            if 200 <= result.status < 300:
                return result
            return read_failure(result, from_token_endpoint=from_token_endpoint, now=self.utcnow())
        if call.timed_out and allowed_s < _FAIR_SHARE * self.attempt_timeout_s:
            # cut short by our own deadline: that says nothing about the service
            return _past_deadline(from_token_endpoint=from_token_endpoint)
        return fault_error(result, from_token_endpoint=from_token_endpoint)

    def _next_wait_s(self, call: _Call, failure: ApiError | None) -> float | None:
        """Seconds to wait before the next attempt; None when there shall be none."""
        if failure is None or self.breaker.open:
            return None
        decision = decide(
            failure,
            attempt=call.attempts - call.replays,
            max_attempts=self.max_attempts,
            operation=call.request.operation,
            now_s=self.monotonic(),
            deadline_s=call.deadline_s,
            rand=self.rand(),
        )
        return decision.wait_s if decision.verdict is Verdict.RETRY else None

    def _refused(self, call: _Call) -> ApiError | None:
        if self.breaker.open:
            message = "the service was down in this run; nothing further was sent"
            return ApiError(status=None, code=BREAKER_OPEN, message=message)
        return _past_deadline() if self.monotonic() >= call.deadline_s else None


def _past_deadline(*, from_token_endpoint: bool = False) -> ApiError:
    return ApiError(
        status=None,
        code=PAST_DEADLINE,
        message="the deadline came before there was an answer",
        from_token_endpoint=from_token_endpoint,
    )


def _attempt_record(call: _Call, result: Reply | ApiError, wait_s: float) -> AttemptRecord:
    failure = result if isinstance(result, ApiError) else None
    return AttemptRecord(
        template=call.request.template,
        operation=call.request.operation,
        status=result.status,
        network=failure.network if failure else None,
        latency_ms=call.latency_ms,
        retry_count=call.attempts - 1,
        timed_out=call.timed_out,
        request_id=_request_id(result),
        code=failure.code if failure else None,
        wait_s=wait_s,
    )


def _request_id(result: Reply | ApiError) -> str | None:
    if isinstance(result, ApiError):
        return result.request_id
    return plain_text(result.headers.get("x-request-id", ""), _ID_CHARS) or None


def _log_call(call: _Call, result: Reply | ApiError) -> None:
    failure = result if isinstance(result, ApiError) else None
    gateway = {"gateway": dict(failure.gateway)} if failure and failure.gateway else {}
    _log.debug(
        "request_finished",
        endpoint=call.request.template,
        http_status=result.status,
        code=failure.code if failure else None,
        request_id=_request_id(result),
        retry_count=max(0, call.attempts - 1),
        latency_ms=round(call.latency_ms, 1),
        timed_out=call.timed_out,
        **gateway,
    )
