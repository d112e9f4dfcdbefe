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

from monitor.client.auth import Ask, Auth, Grant
from monitor.client.call import AttemptRecord, Call, attempt_record, log_call
from monitor.client.failure import fault_error, read_failure
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
    Sink,
    Wire,
    WireFault,
)

__all__ = ["AttemptRecord", "Client"]

_T = TypeVar("_T")
_FAIR_SHARE = 0.9
"""Of the attempt timeout: a service that stays silent for longer has timed out, whatever the deadline."""

_MASK = "**********"


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

    async def ask(
        self,
        request: Request,
        *,
        deadline_s: float,
        into: Callable[[], Sink] | None = None,
        max_attempts: int | None = None,
    ) -> Answer:
        """Asks until there is an answer or no sense in asking.

        Args:
            request: what to ask.
            deadline_s: an instant on `monotonic`; no attempt and no wait lasts beyond it.
            into: makes what takes the body of a 2xx, anew for each attempt; the reply's own is then empty. An attempt
                may last until the deadline, as long as the server is never silent for `attempt_timeout_s`. What is
                handed on so is as the API sent it: no secret is masked in it.
            max_attempts: instead of the client's own.

        Returns:
            The 2xx reply or the last error. Errors of our own have neither status nor network fault but the code
            `BREAKER_OPEN`, `PAST_DEADLINE` (it came before anything else went wrong) or `UNUSABLE_SECRET`.
        """
        most = max_attempts or self.max_attempts
        call = Call(request=request, deadline_s=deadline_s, max_attempts=most, into=into)
        result = await self._authorised(call)
        log_call(call, result)
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

    async def _authorised(self, call: Call) -> Reply | ApiError:
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

    def _token_loop(self, call: Call) -> Ask:
        async def ask(request: Request) -> Reply | ApiError:
            token_call = Call(request=request, deadline_s=call.deadline_s, max_attempts=self.max_attempts)
            result = await self._attempts(token_call, None)
            log_call(token_call, result)
            return result

        return ask

    async def _in_time(self, call: Call, credentials: Awaitable[_T]) -> _T | ApiError:
        # another call's token request may outlast this call's deadline
        try:
            async with asyncio.timeout(max(0.0, call.deadline_s - self.monotonic())):
                return await credentials
        except TimeoutError:
            return _past_deadline()

    async def _attempts(self, call: Call, grant: Grant | None) -> Reply | ApiError:
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
                self.observe(attempt_record(call, result, wait_s or 0.0))
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

    async def _attempt(self, call: Call, request: Request) -> Reply | ApiError:
        started_s = self.monotonic()
        left_s = call.deadline_s - started_s
        allowed_s = min(self.attempt_timeout_s, left_s)
        if call.into is None:
            result = await self.wire.send(request, timeout_s=allowed_s)
        else:
            result = await self.wire.send(request, timeout_s=left_s, sink=call.into(), stall_s=self.attempt_timeout_s)
        call.attempts += 1
        call.latency_ms = (self.monotonic() - started_s) * 1000
        call.timed_out = isinstance(result, WireFault) and result.fault is NetworkFault.TIMEOUT
        from_token_endpoint = request.operation is Operation.TOKEN
        if isinstance(result, Reply):
            if 200 <= result.status < 300:
                return result
            return read_failure(result, from_token_endpoint=from_token_endpoint, now=self.utcnow())
        if call.timed_out and self._cut_short(call, allowed_s):
            # cut short by our own deadline: that says nothing about the service
            return _past_deadline(from_token_endpoint=from_token_endpoint)
        return fault_error(result, from_token_endpoint=from_token_endpoint)

    def _cut_short(self, call: Call, allowed_s: float) -> bool:
        """Whether a timeout was our deadline's doing: it left too little time, or a stream was still under way."""
        if allowed_s < _FAIR_SHARE * self.attempt_timeout_s:
            return True
        return call.into is not None and self.monotonic() >= call.deadline_s

    def _next_wait_s(self, call: Call, failure: ApiError | None) -> float | None:
        """Seconds to wait before the next attempt; None when there shall be none."""
        if failure is None or self.breaker.open:
            return None
        decision = decide(
            failure,
            attempt=call.attempts - call.replays,
            max_attempts=call.max_attempts,
            operation=call.request.operation,
            now_s=self.monotonic(),
            deadline_s=call.deadline_s,
            rand=self.rand(),
        )
        return decision.wait_s if decision.verdict is Verdict.RETRY else None

    def _refused(self, call: Call) -> ApiError | None:
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
