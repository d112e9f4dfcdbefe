"""The loop that ties the client together: credentials, turns, attempts, retries, one answer. The rules live next door.

It never raises for what the network or the API does, never sends past a deadline, and logs one event per request.
"""

import asyncio
import dataclasses
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import structlog

from monitor.client.api_errors import fault_error, read_failure
from monitor.client.auth import Ask, Auth, Grant
from monitor.client.failure_log import FailureDigest
from monitor.client.limits import RetryBudget
from monitor.client.redaction import hiding, without_credential, without_secrets
from monitor.client.retry import Verdict, decide
from monitor.client.throttle import Throttle, breaker_open, deadline_exceeded, utcnow
from monitor.model.http import (
    RETRY_BUDGET_EXHAUSTED,
    DEADLINE_EXCEEDED,
    CallResult,
    ApiError,
    NetworkFault,
    Operation,
    Reply,
    Request,
    BodySink,
    Transport,
    TransportFault,
    plain_text,
)

_log = structlog.get_logger(__name__)

_ID_CHARS = 200


@dataclass(slots=True, kw_only=True)
class Call:
    """What one call has come to so far."""

    request: Request
    deadline_s: float
    attempts: int = 0
    max_attempts: int
    into: Callable[[], BodySink] | None = None
    again: bool = False
    """It was asked before in this run, in another call."""
    replays: int = 0
    allowed_s: float = 0.0
    """How long the last attempt was allowed to take."""
    latency_ms: float = 0.0
    timed_out: bool = False


def _request_id(result: Reply | ApiError) -> str | None:
    if isinstance(result, ApiError):
        return result.request_id
    return plain_text(result.headers.get("x-request-id", ""), _ID_CHARS) or None


def logs_calls() -> bool:
    """Whether the log, as it is set up now, shows finished calls."""
    return bool(_log.is_enabled_for(logging.DEBUG))


def log_call(call: Call, result: Reply | ApiError) -> None:
    """One event per finished call."""
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


_T = TypeVar("_T")
_FAIR_SHARE = 0.9
"""Of the attempt timeout: a service that stays silent for longer has timed out, whatever the deadline."""

_NO_HEADERS: Mapping[str, str] = {}


@dataclass(slots=True, kw_only=True, eq=False)
class Client:
    """Asks one API, for one run.

    A call takes these steps: (1) an open breaker or a passed deadline refuses it; (2) its credentials are fetched,
    in single flight; (3) it is attempted, each time in its turn, until it succeeds, `decide` gives up, the breaker
    opens or the deadline comes; (4) a 401 renews the credentials and replays it, once.
    """

    wire: Transport
    auth: Auth | None = None
    attempt_timeout_s: float = 30.0
    max_attempts: int = 5
    throttle: Throttle = dataclasses.field(default_factory=Throttle)
    budget: RetryBudget = dataclasses.field(default_factory=RetryBudget)
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    monotonic: Callable[[], float] = time.monotonic
    utcnow: Callable[[], datetime] = utcnow
    rand: Callable[[], float] = random.random
    mask: Callable[[str], str] = str
    """Takes the caller's secrets out of a text that an API sent."""
    digest: FailureDigest = dataclasses.field(default_factory=FailureDigest)
    logs: bool = dataclasses.field(default_factory=logs_calls)
    """Whether finished calls are logged: looked up once, since that costs more than all else that a call logs."""

    @property
    def tripped(self) -> bool:
        """Whether the breaker has stopped this client."""
        return self.throttle.breaker.open

    def attempts(self, requests: int) -> Mapping[str, int]:
        """Attempts so far by status class; so many were no requests for tokens, which count only where they failed."""
        failed = self.digest.by_status_class
        return {"2xx": max(0, requests - failed.total() + self.digest.for_tokens), **failed}

    async def ask(
        self,
        request: Request,
        *,
        deadline_s: float,
        into: Callable[[], BodySink] | None = None,
        max_attempts: int | None = None,
        again: bool = False,
    ) -> CallResult:
        """Asks until there is an answer or no sense in asking.

        Args:
            request: what to ask.
            deadline_s: an instant on `monotonic`; no attempt and no wait lasts beyond it.
            into: makes what takes the body of a 2xx, anew for each attempt; the reply's own is then empty. An attempt
                may last until the deadline, as long as the server is never silent for `attempt_timeout_s`. What is
                handed on so is as the API sent it: no secret is masked in it.
            max_attempts: instead of the client's own.
            again: it was asked before in this run, so that even the first attempt draws on the budget.

        Returns:
            The 2xx reply or the last error. Errors of our own have neither status nor network fault but the code
            `BREAKER_OPEN`, `RETRY_BUDGET_EXHAUSTED`, `DEADLINE_EXCEEDED` (it came before anything else went wrong) or
            `UNUSABLE_CREDENTIALS`. One that is `held` was said to an earlier request, and this one was not sent.
        """
        if again and not self.budget.take():
            return CallResult(error=ApiError(status=None, code=RETRY_BUDGET_EXHAUSTED), attempts=0)
        most = max_attempts or self.max_attempts
        call = Call(request=request, deadline_s=deadline_s, max_attempts=most, into=into, again=again)
        result = await self._authorised(call)
        if self.logs:
            log_call(call, result)
        return CallResult(
            reply=result if isinstance(result, Reply) else None,
            error=result if isinstance(result, ApiError) else None,
            attempts=call.attempts,
            latency_ms=call.latency_ms,
            timed_out=call.timed_out,
        )

    async def _authorised(self, call: Call) -> Reply | ApiError:
        refused = self._refused(call)
        if refused or self.auth is None:
            return refused or await self._attempts(call, None)
        grant: Grant | ApiError | None = self.auth.current(self.monotonic())
        if grant is None:
            grant = await self._in_time(call, self.auth.grant(self._token_loop(call), monotonic=self.monotonic))
        if isinstance(grant, ApiError):
            return grant
        result = await self._attempts(call, grant)
        if not (isinstance(result, ApiError) and result.status == 401):
            return result
        ask = self._token_loop(call)
        fresh = await self._in_time(call, self.auth.renew(grant, ask, monotonic=self.monotonic))
        if not isinstance(fresh, Grant):
            return fresh or result
        call.replays += 1
        return await self._attempts(call, fresh)

    def _token_loop(self, call: Call) -> Ask:
        async def ask(request: Request) -> Reply | ApiError:
            token_call = Call(request=request, deadline_s=call.deadline_s, max_attempts=self.max_attempts)
            result = await self._attempts(token_call, None)
            if self.logs:
                log_call(token_call, result)
            return result

        return ask

    async def _in_time(self, call: Call, credentials: Awaitable[_T]) -> _T | ApiError:
        # another call's token request may outlast this call's deadline
        try:
            async with asyncio.timeout(max(0.0, call.deadline_s - self.monotonic())):
                return await credentials
        except TimeoutError:
            return deadline_exceeded()

    async def _attempts(self, call: Call, grant: Grant | None) -> Reply | ApiError:
        """Attempts until a reply, or a failure that is not worth another."""
        request = call.request
        if grant:
            request = request.with_header(grant.header, grant.value)
        failure: ApiError | None = None
        while True:
            refused = self._refused(call)
            if refused is None and not self.throttle.try_enter(self.monotonic()):
                refused = await self.throttle.enter(call.deadline_s)
            if refused:
                return failure or refused
            if not (call.attempts or call.again):
                self.budget.first()
            result = await self._in_turn(call, request, grant)
            error = result if isinstance(result, ApiError) else None
            wait_s = self._next_wait_s(call, error)
            if failure and error and error.is_local(DEADLINE_EXCEEDED):
                return failure
            if wait_s is None:
                return result
            failure = error
            await self.sleep(wait_s)

    async def _in_turn(self, call: Call, request: Request, grant: Grant | None) -> Reply | ApiError:
        """One attempt, with what the throttle learns from it."""
        started_s, told = self.monotonic(), False
        try:
            came = await self._sent(call, request)
            result = self._read(call, came, grant.secret if grant else "")
            error = result if isinstance(result, ApiError) else None
            if error is not None and error.is_local(DEADLINE_EXCEEDED):
                if not error.from_token_endpoint:
                    self.digest.cut_off()
                return result
            if error is not None:
                self._note(error, call)
            if self._is_about_the_api(error, request):
                told = True
                headers = came.headers if isinstance(came, Reply) else _NO_HEADERS
                self.throttle.leave(error, headers, started_s=started_s, is_sample=not call.again)
            return result
        finally:
            if not told:
                self.throttle.give_back()

    def _note(self, error: ApiError, call: Call) -> None:
        self.digest.add(
            error,
            template=call.request.template,
            item_id=call.request.item_id,
            at=self.utcnow(),
            latency_ms=call.latency_ms,
            retry_count=call.attempts - 1,
        )

    def _is_about_the_api(self, error: ApiError | None, request: Request) -> bool:
        """A token that was granted says nothing about the API behind it, nor does one that is refused too early."""
        if request.operation is not Operation.TOKEN or self.auth is None:
            return True
        return error is not None and self.auth.current(self.monotonic()) is None

    async def _sent(self, call: Call, request: Request) -> Reply | TransportFault:
        started_s = self.monotonic()
        left_s = call.deadline_s - started_s
        call.allowed_s = min(self.attempt_timeout_s, left_s)
        if call.into is None:
            came = await self.wire.send(request, timeout_s=call.allowed_s)
        else:
            came = await self.wire.send(
                request, timeout_s=left_s, sink=call.into(), read_timeout_s=self.attempt_timeout_s
            )
        call.attempts += 1
        call.latency_ms = (self.monotonic() - started_s) * 1000
        return came

    def _read(self, call: Call, came: Reply | TransportFault, credential: str) -> Reply | ApiError:
        """What came, without what the caller calls secret, and without the credential that this call carried."""
        from_token_endpoint = call.request.operation is Operation.TOKEN
        if isinstance(came, Reply):
            call.timed_out = False
            if 200 <= came.status < 300:
                return without_credential(came, credential)
            hide = hiding(credential, self.mask)
            error = read_failure(came, from_token_endpoint=from_token_endpoint, now=self.utcnow(), hide=hide)
            return without_secrets(error, hide)
        call.timed_out = came.fault is NetworkFault.TIMEOUT
        if call.timed_out and self._cut_short(call):
            # cut short by our own deadline: that says nothing about the service
            return deadline_exceeded(from_token_endpoint=from_token_endpoint)
        return fault_error(came, from_token_endpoint=from_token_endpoint)

    def _cut_short(self, call: Call) -> bool:
        """Whether a timeout was our deadline's doing: it left too little time, or a stream was still under way."""
        if call.allowed_s < _FAIR_SHARE * self.attempt_timeout_s:
            return True
        return call.into is not None and self.monotonic() >= call.deadline_s

    def _next_wait_s(self, call: Call, failure: ApiError | None) -> float | None:
        """Seconds to wait before the next attempt, which the budget then grants; None when there shall be none."""
        if failure is None or self.tripped:
            return None
        decision = decide(
            failure,
            attempt=call.attempts - call.replays,
            max_attempts=call.max_attempts,
            budget_left=self.budget.left,
            operation=call.request.operation,
            now_s=self.monotonic(),
            deadline_s=call.deadline_s,
            rand=self.rand(),
        )
        return decision.wait_s if decision.verdict is Verdict.RETRY and self.budget.take() else None

    def _refused(self, call: Call) -> ApiError | None:
        if self.tripped:
            return breaker_open()
        return deadline_exceeded() if self.monotonic() >= call.deadline_s else None
