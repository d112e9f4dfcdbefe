"""One call: what it has come to so far, and what is kept and logged of it. No URL, no secret, no words of the API."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from monitor.exchange import ApiError, Reply, Request, Sink, plain_text

__all__ = ["Call", "log_call", "logs_calls"]

_log = structlog.get_logger(__name__)

_ID_CHARS = 200


@dataclass(slots=True, kw_only=True)
class Call:
    """What one call has come to so far."""

    request: Request
    deadline_s: float
    attempts: int = 0
    max_attempts: int
    into: Callable[[], Sink] | None = None
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
