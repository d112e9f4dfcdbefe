"""The client's loop: credentials, throttle, attempts, retries, one result. The rules are in the modules beside it.

It never raises for what the network or the API does, never sends after a deadline, and logs one event per request.
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

import msgspec
import structlog

from monitor.client.api_errors import parse_api_error, transport_api_error
from monitor.client.auth import Auth, Credential, Send
from monitor.client.classify import is_absent, rejects_credentials
from monitor.client.failure_log import FailureSummary
from monitor.client.limits import RetryBudget
from monitor.client.pages import page_words
from monitor.client.rate.limiter import RateSource
from monitor.client.redaction import make_redactor, redact_error, remembering
from monitor.client.retry import RetryAction, RetryReason, decide_retry
from monitor.client.secret_headers import SecretHeaders
from monitor.client.throttle import Throttle, breaker_open_error, deadline_exceeded, utcnow
from monitor.model import RunLimits
from monitor.model.http import (
    DEADLINE_EXCEEDED,
    RETRY_BUDGET_EXHAUSTED,
    ApiError,
    BodySink,
    CallResult,
    Meaning,
    NetworkFault,
    Operation,
    Reply,
    Request,
    Transport,
    TransportFault,
    plain_text,
)

_log = structlog.get_logger(__name__)

_MAX_ID_CHARS = 200


class Call(msgspec.Struct, kw_only=True):
    """The state of one call."""

    request: Request
    deadline_s: float
    attempts: int = 0
    max_attempts: int
    sink_factory: Callable[[], BodySink] | None = None
    is_repeat: bool = False
    replays: int = 0
    timeout_s: float = 0.0
    latency_ms: float = 0.0
    timed_out: bool = False
    is_sample: bool = True
    secret_headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Those of the last attempt."""
    redact: Callable[[str], str] = str
    """Removes the credential of the last attempt, and every other secret, from a text."""

    def __repr__(self) -> str:
        """Omits the secret headers."""
        return f"Call(request={self.request!r}, attempts={self.attempts!r})"


def _request_id(call: Call, result: Reply | ApiError) -> str | None:
    if isinstance(result, ApiError):
        return result.request_id
    found = result.headers.get("x-request-id") or result.headers.get("x-amzn-requestid", "")
    return call.redact(plain_text(found, _MAX_ID_CHARS)) or None


def call_logging_enabled() -> bool:
    """Whether the configured log level shows finished calls."""
    return bool(_log.is_enabled_for(logging.DEBUG))


def log_call(call: Call, result: Reply | ApiError) -> None:
    """Logs one event for a finished call."""
    failure = result if isinstance(result, ApiError) else None
    gateway = {"gateway": dict(failure.gateway)} if failure and failure.gateway else {}
    page = {"page": page_words(failure.page)} if failure and failure.page is not None else {}
    _log.debug(
        "request_finished",
        endpoint=call.request.template,
        http_status=result.status,
        code=failure.code if failure else None,
        request_id=_request_id(call, result),
        retry_count=max(0, call.attempts - 1),
        latency_ms=round(call.latency_ms, 1),
        timed_out=call.timed_out,
        **gateway,
        **page,
    )


_T = TypeVar("_T")
_MIN_TIMEOUT_SHARE = 0.9
"""Share of the attempt timeout. A service that is silent for longer has timed out, even if the deadline came too."""

_NO_HEADERS: Mapping[str, str] = {}
_TOKEN = Operation.TOKEN  # looked up once, as it is compared for every attempt


@dataclass(slots=True, kw_only=True, eq=False)
class Client:
    """Calls one API during one run.

    A call takes these steps: (1) an open breaker or a passed deadline refuses it; (2) the credentials are fetched, in
    single flight; (3) it is attempted, each time through the throttle, until it succeeds, `decide_retry` gives up, the
    breaker opens or the deadline passes; (4) after a 401 the credentials are renewed and the call is replayed once.
    """

    transport: Transport
    auth: Auth | None = None
    secret_headers: SecretHeaders | None = None
    attempt_timeout_s: float = 30.0
    max_attempts: int = 5
    throttle: Throttle = dataclasses.field(default_factory=Throttle)
    budget: RetryBudget = dataclasses.field(default_factory=RetryBudget)
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    monotonic: Callable[[], float] = time.monotonic
    utcnow: Callable[[], datetime] = utcnow
    rand: Callable[[], float] = random.random
    mask: Callable[[str], str] = str
    failure_summary: FailureSummary = dataclasses.field(default_factory=FailureSummary)
    log_calls: bool = dataclasses.field(default_factory=call_logging_enabled)
    """Looked up once: the lookup costs more than everything else that a call logs."""
    text_errors: bool = False
    """The API itself answers errors in plain text or HTML: then no page is taken for a gateway's."""
    read_meaning: Callable[[int, bytes], Meaning | None] | None = None
    """What the API's description says of an answer of any status (see `Provider`); None: the status alone counts."""
    _redactor: tuple[str, Callable[[str], str]] | None = dataclasses.field(default=None, init=False, repr=False)
    """The credential in use, and what removes it."""

    unretried: int = 0
    """Failed requests that were not sent again because the retry budget was used up."""
    _rate_wait_before_s: float = dataclasses.field(init=False)
    _rate_before_per_s: float | None = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        """Notes where the throttle stands, which other clients may share."""
        self._rate_wait_before_s = self.throttle.rate_wait_s
        self._rate_before_per_s = self.throttle.rate_limiter.per_s

    def limits(self) -> RunLimits:
        """What bounded this run."""
        limiter = self.throttle.rate_limiter
        source = limiter.source
        per_s = limiter.per_s if source is RateSource.STATED else self._rate_before_per_s or limiter.per_s
        return RunLimits(
            rate_per_s=limiter.ceiling_per_s if source is RateSource.CONFIGURED else per_s,
            rate_source=source.value,
            next_rate_per_s=limiter.learned_per_s,
            rate_wait_s=round(self.throttle.rate_wait_s - self._rate_wait_before_s, 3),
            unretried=self.unretried,
        )

    @property
    def tripped(self) -> bool:
        """Whether the breaker is open."""
        return self.throttle.breaker.open

    def share_retries(self, part: float) -> None:
        """Takes a part (above 0, at most 1) of the retry budget of a run: others have the rest. Call it first."""
        self.budget = RetryBudget(part)

    def attempts(self, requests: int) -> Mapping[str, int]:
        """Attempts so far by status class, given the requests for items; token requests count only if they failed."""
        failed = self.failure_summary.by_status_class
        succeeded = max(0, requests - failed.total() + self.failure_summary.token_failures)
        return {**failed, "2xx": succeeded + failed["2xx"]}

    async def send(
        self,
        request: Request,
        *,
        deadline_s: float,
        sink_factory: Callable[[], BodySink] | None = None,
        max_attempts: int | None = None,
        is_repeat: bool = False,
        is_sample: bool = True,
    ) -> CallResult:
        """Sends a request until it succeeds, a retry makes no sense, or `deadline_s` (on `monotonic`) passes.

        `sink_factory` makes a sink per attempt for the body of a 2xx; the body of the reply is then empty. Such an
        attempt may last until the deadline if the server is never silent for `attempt_timeout_s`. With `is_repeat` even
        the first attempt uses the retry budget. `is_sample` is False for an item whose failures say nothing about the
        service. No secret is masked in a body: that is for `CallResult.redact`, after it was read.

        Our own errors have neither status nor network fault but a code: `BREAKER_OPEN`, `RETRY_BUDGET_EXHAUSTED`,
        `DEADLINE_EXCEEDED` (before any other error) or `UNUSABLE_CREDENTIALS`. If `from_backoff` is set, the server
        sent the error to an earlier request, and this one was not sent.
        """
        if is_repeat and not self.budget.take():
            return CallResult(error=ApiError(status=None, code=RETRY_BUDGET_EXHAUSTED), attempts=0)
        limit = max_attempts or self.max_attempts
        call = Call(
            request=request,
            deadline_s=deadline_s,
            max_attempts=limit,
            sink_factory=sink_factory,
            is_repeat=is_repeat,
            is_sample=is_sample and not is_repeat,
        )
        now_s = self.monotonic()
        credential = self.auth.current(now_s) if self.auth is not None else None
        if (
            self.secret_headers is None
            and not is_repeat
            and (credential is not None or self.auth is None)
            and now_s < deadline_s
            and self.throttle.try_acquire(now_s)
        ):  # the rule: nothing to wait for before the first attempt, and nothing after it
            self.budget.record_first()
            result = await self._attempt(call, request, credential)
            if not isinstance(result, Reply):
                result = await self._attempt_with_replay(call, credential, first=result)
        else:
            result = await self._send_authorized(call)
        if self.log_calls:
            log_call(call, result)
        if isinstance(result, Reply):
            return CallResult(reply=result, attempts=call.attempts, latency_ms=call.latency_ms, redact=call.redact)
        return CallResult(
            error=result,
            attempts=call.attempts,
            latency_ms=call.latency_ms,
            timed_out=call.timed_out,
            redact=call.redact,
        )

    async def _send_authorized(self, call: Call) -> Reply | ApiError:
        if local_error := self._local_error(call):
            return local_error
        credential: Credential | ApiError | None = self.auth.current(self.monotonic()) if self.auth else None
        if credential is None and self.auth is not None:
            credential = await self._before_deadline(
                call, self.auth.acquire(self._token_sender(call), monotonic=self.monotonic)
            )
        if isinstance(credential, ApiError):
            return credential
        return await self._attempt_with_replay(call, credential)

    async def _attempt_with_replay(
        self, call: Call, credential: Credential | None, *, first: ApiError | None = None
    ) -> Reply | ApiError:
        """Attempts, and once more with renewed credentials after a 401. `first`: how the first attempt ended."""
        result = await self._attempt_with_retries(call, credential, first=first)
        if not (isinstance(result, ApiError) and rejects_credentials(result)):
            return result
        return await self._replay(call, result, credential)

    async def _replay(self, call: Call, refusal: ApiError, credential: Credential | None) -> Reply | ApiError:
        """The answer with renewed credentials; the refusal if there are none."""
        renewed = (
            self.secret_headers is not None and self.secret_headers.reread(self.monotonic()) != call.secret_headers
        )
        if self.auth is not None and credential is not None:
            send = self._token_sender(call)
            fresh = await self._before_deadline(call, self.auth.renew(credential, send, monotonic=self.monotonic))
            if isinstance(fresh, ApiError):
                return fresh
            credential, renewed = fresh or credential, renewed or fresh is not None
        if not renewed:
            return refusal
        call.replays += 1
        return await self._attempt_with_retries(call, credential)

    def _token_sender(self, call: Call) -> Send:
        async def send(request: Request) -> Reply | ApiError:
            token_call = Call(request=request, deadline_s=call.deadline_s, max_attempts=self.max_attempts)
            result = await self._attempt_with_retries(token_call, None)
            if self.log_calls:
                log_call(token_call, result)
            return result

        return send

    async def _before_deadline(self, call: Call, credentials: Awaitable[_T]) -> _T | ApiError:
        # a token request of another call may last longer than this call's deadline
        try:
            async with asyncio.timeout(max(0.0, call.deadline_s - self.monotonic())):
                return await credentials
        except TimeoutError:
            return deadline_exceeded()

    async def _attempt_with_retries(
        self, call: Call, credential: Credential | None, *, first: ApiError | None = None
    ) -> Reply | ApiError:
        """Attempts until a reply, or until `decide_retry` gives up. `first`: how the first attempt ended."""
        request = call.request
        if self.secret_headers is not None:
            secret_headers = self.secret_headers.current(self.monotonic())
            if isinstance(secret_headers, ApiError):
                return secret_headers
            call.secret_headers = secret_headers
            request = request.with_headers(secret_headers)
        failure: ApiError | None = None
        while True:
            result: Reply | ApiError
            if first is not None:
                result, first = first, None
            else:
                local_error = self._local_error(call)
                if local_error is None and not self.throttle.try_acquire(self.monotonic()):
                    local_error = await self.throttle.acquire(call.deadline_s)
                if local_error:
                    return failure or local_error
                if not (call.attempts or call.is_repeat):
                    self.budget.record_first()
                result = await self._attempt(call, request, credential)
            error = result if isinstance(result, ApiError) else None
            wait_s = self._retry_delay_s(call, error)
            if failure and error and error.is_local(DEADLINE_EXCEEDED):
                return failure
            if wait_s is None:
                return result
            failure = error
            await self.sleep(wait_s)

    async def _attempt(self, call: Call, request: Request, credential: Credential | None) -> Reply | ApiError:
        """Makes one attempt, and reports the result to the throttle."""
        recorded = False
        try:
            if credential is not None:  # a signature has the time of its attempt
                request = credential.authorize(request)
            started_s = self.monotonic()
            remaining_s = call.deadline_s - started_s
            call.timeout_s = min(self.attempt_timeout_s, remaining_s)
            if call.sink_factory is None:
                received = await self.transport.send(request, timeout_s=call.timeout_s)
            else:
                received = await self.transport.send(
                    request, timeout_s=remaining_s, sink=call.sink_factory(), read_timeout_s=self.attempt_timeout_s
                )
            call.attempts += 1
            call.latency_ms = (self.monotonic() - started_s) * 1000
            result = self._parse(call, received, credential.secret if credential else "")
            error = None if isinstance(result, Reply) else result
            if error is not None:
                if error.is_local(DEADLINE_EXCEEDED):
                    if not error.from_token_endpoint:
                        self.failure_summary.count_cut_off()
                    return result
                self._record_failure(error, call)
            if request.operation is not _TOKEN or self._counts_for_limits(error):
                recorded = True
                headers = received.headers if isinstance(received, Reply) else _NO_HEADERS
                self.throttle.release(error, headers, started_s=started_s, is_sample=call.is_sample)
            return result
        finally:
            if not recorded:
                self.throttle.release_unused()

    def _record_failure(self, error: ApiError, call: Call) -> None:
        if call.request.known_missing and is_absent(error):
            self.failure_summary.count_expected(error)
            return
        self.failure_summary.add(
            error,
            template=call.request.template,
            item_id=call.request.item_id,
            at=self.utcnow(),
            latency_ms=call.latency_ms,
            retry_count=call.attempts - 1,
        )

    def _counts_for_limits(self, error: ApiError | None) -> bool:
        """Whether the throttle counts a token request: one that is granted and a failed early refresh say nothing about
        the API.
        """
        return self.auth is None or (error is not None and self.auth.current(self.monotonic()) is None)

    def _parse(self, call: Call, received: Reply | TransportFault, secret: str) -> Reply | ApiError:
        """The reply or error without the caller's secrets and this call's credential."""
        from_token_endpoint = call.request.operation is _TOKEN
        if isinstance(received, Reply):
            call.timed_out = False
            call.redact = redact = self._redactor_for(secret)
            meaning = None
            if self.read_meaning is not None and not from_token_endpoint:
                meaning = self.read_meaning(received.status, received.body)
            if meaning is None and 200 <= received.status < 300:
                return received
            error = parse_api_error(
                received,
                from_token_endpoint=from_token_endpoint,
                now=self.utcnow(),
                redact=redact,
                text_errors=self.text_errors,
            )
            if meaning is not None and error.page is None:
                error = dataclasses.replace(error, meaning=meaning)
            return redact_error(error, redact)
        call.timed_out = received.fault is NetworkFault.TIMEOUT
        if call.timed_out and self._ended_by_deadline(call):
            # our own deadline ended it: that says nothing about the service
            return deadline_exceeded(from_token_endpoint=from_token_endpoint)
        return transport_api_error(received, from_token_endpoint=from_token_endpoint)

    def _redactor_for(self, credential: str) -> Callable[[str], str]:
        if self._redactor is None or self._redactor[0] != credential:
            self._redactor = credential, remembering(make_redactor(credential, self.mask))
        return self._redactor[1]

    def _ended_by_deadline(self, call: Call) -> bool:
        """Whether our deadline caused a timeout: too little time was left, or a body was still streaming."""
        if call.timeout_s < _MIN_TIMEOUT_SHARE * self.attempt_timeout_s:
            return True
        return call.sink_factory is not None and self.monotonic() >= call.deadline_s

    def _retry_delay_s(self, call: Call, failure: ApiError | None) -> float | None:
        """Seconds to wait before the next attempt, which uses the retry budget; None: no further attempt."""
        if failure is None or self.tripped:
            return None
        decision = decide_retry(
            failure,
            attempt=call.attempts - call.replays,
            max_attempts=call.max_attempts,
            budget_left=self.budget.remaining,
            operation=call.request.operation,
            now_s=self.monotonic(),
            deadline_s=call.deadline_s,
            rand=self.rand(),
        )
        self.unretried += decision.reason is RetryReason.RETRY_BUDGET_EXHAUSTED
        return decision.wait_s if decision.action is RetryAction.RETRY and self.budget.take() else None

    def _local_error(self, call: Call) -> ApiError | None:
        if self.tripped:
            return breaker_open_error()
        return deadline_exceeded() if self.monotonic() >= call.deadline_s else None
