"""One call: what it has come to so far, and what is kept and logged of it. No URL, no secret, no words of the API."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from monitor.exchange import ApiError, NetworkFault, Operation, Reply, Request, Sink, plain_text

__all__ = ["AttemptRecord", "Call", "attempt_record", "log_call", "logs_calls"]

_log = structlog.get_logger(__name__)

_ID_CHARS = 200


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
class Call:
    """What one call has come to so far."""

    request: Request
    deadline_s: float
    attempts: int = 0
    max_attempts: int
    into: Callable[[], Sink] | None = None
    replays: int = 0
    allowed_s: float = 0.0
    """How long the last attempt was allowed to take."""
    latency_ms: float = 0.0
    timed_out: bool = False


def attempt_record(call: Call, result: Reply | ApiError, wait_s: float) -> AttemptRecord:
    """The record of the attempt that ended so."""
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
