"""The ASGI app: GET and HEAD of three paths, and a JSON error for everything else."""

import asyncio
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from monitor.logs import redact_text
from monitor.threads import run_in_thread
from monitor.web.api import add_api
from monitor.web.database_probe import DatabaseProbe, ProbeResult, collect_inputs
from monitor.web.metrics import negotiate_content_type, render
from monitor.web.pages import add_pages
from monitor.web.readiness import Liveness, Readiness, ReadinessStatus, Reason, liveness, readiness
from monitor.web.site import Site
from monitor.web.state import StateSnapshot, StateTracker

_METHODS = ["GET", "HEAD"]
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_RENDER_TIMEOUT_S = 5.0
"""Limit for rendering /metrics."""


def build_app(tracker: StateTracker, database_probe: DatabaseProbe) -> ASGIApp:
    """Builds the app of one daemon."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    handlers = _Handlers(tracker, database_probe)
    for path, handler in (("/healthz", handlers.healthz), ("/readyz", handlers.readyz), ("/metrics", handlers.metrics)):
        app.add_api_route(path, handler, methods=_METHODS, response_model=None)
    site = Site(tracker)
    add_pages(app, site)
    add_api(app, site)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _server_error)
    return _RejectBodies(app)


class _Handlers:
    def __init__(self, tracker: StateTracker, database_probe: DatabaseProbe) -> None:
        self._tracker, self._database_probe = tracker, database_probe
        self._render_lock = asyncio.Lock()
        self._cached: dict[str, tuple[ProbeResult, bytes]] = {}
        """The last /metrics body by content type, with the probe that it was rendered from."""

    async def healthz(self) -> Response:
        daemon = self._tracker.snapshot()
        state = liveness(heartbeat_age_s=daemon.heartbeat_age_s)
        return _json(_liveness_json(daemon, state), 200 if state is Liveness.OK else 503)

    async def readyz(self) -> Response:
        probe = await self._database_probe.latest()
        daemon = self._tracker.snapshot()
        result = readiness(collect_inputs(daemon, probe), daemon.at)
        return _json(_readiness_json(result), 200 if result.status is ReadinessStatus.READY else 503)

    async def metrics(self, request: Request) -> Response:
        content_type = negotiate_content_type(request.headers.get("accept", ""))
        body = await self._body(await self._database_probe.latest(), content_type)
        return Response(body, headers={**_HEADERS, "Content-Type": content_type})

    async def _body(self, probe: ProbeResult, content_type: str) -> bytes:
        """Renders once per probe of the database."""
        async with self._render_lock:
            cached = self._cached.get(content_type)
            if cached is not None and cached[0] is probe:
                return cached[1]
            daemon = self._tracker.snapshot()
            body = await run_in_thread(lambda: render(daemon, probe, content_type), timeout_s=_RENDER_TIMEOUT_S)
            self._cached[content_type] = (probe, body)
            return body


def _liveness_json(daemon: StateSnapshot, state: Liveness) -> dict[str, Any]:
    return {
        "service": "ingestion-monitor",
        "status": state.value,
        "heartbeat_age_s": round(daemon.heartbeat_age_s, 1),
        "uptime_s": round((daemon.at - daemon.started_at).total_seconds(), 1),
    }


def _readiness_json(result: Readiness) -> dict[str, Any]:
    return {
        "service": "ingestion-monitor",
        "status": result.status.value,
        "reasons": [_reason_json(reason) for reason in result.reasons],
        "warnings": [_reason_json(reason) for reason in result.warnings],
    }


def _reason_json(reason: Reason) -> dict[str, Any]:
    labels = {"target": reason.target, "channel": reason.channel}
    return {
        "part": reason.part.value,
        **{name: value for name, value in labels.items() if value is not None},
        "reason": redact_text(reason.reason),
        "remedy": reason.remedy,
    }


def _json(content: dict[str, Any], status: int, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(content, status_code=status, headers={**_HEADERS, **(headers or {})})


async def _http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    allowed = {"Allow": ", ".join(_METHODS)} if status == 405 else None
    return _json({"error": _ERROR_TEXTS.get(status, "refused")}, status, allowed)


_ERROR_TEXTS = {404: "use /healthz, /readyz or /metrics", 405: "use GET or HEAD"}


async def _server_error(request: Request, error: Exception) -> Response:
    structlog.get_logger().error("endpoint_failed", path=request.scope["route"].path, exc_info=error)
    return _json({"error": "internal error; see the daemon's log"}, 500)


class _RejectBodies:
    """Refuses requests with a body and closes their connection."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers:
            rejection = _json({"error": "requests must have no body"}, 413, {"Connection": "close"})
            await rejection(scope, receive, send)
        else:
            await self._app(scope, receive, send)
