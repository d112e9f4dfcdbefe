"""The ASGI app: the health endpoints, the page with its login, actions and public status, and errors of them all."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from secrets import token_hex
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Scope

from monitor.logs import redact_text
from monitor.threads import run_in_thread
from monitor.web.access import HEALTH_PATHS, Access, Gate
from monitor.web.actions import add_actions
from monitor.web.api import add_api
from monitor.web.database_probe import DatabaseProbe, ProbeResult, collect_inputs
from monitor.web.errors import TEXTS, USE_POST, refusal
from monitor.web.login_pages import add_login_pages
from monitor.web.metrics import negotiate_content_type, render
from monitor.web.pages import add_pages
from monitor.web.readiness import Liveness, Readiness, ReadinessStatus, Reason, liveness, readiness
from monitor.web.site import Site, UnavailableError
from monitor.web.state import StateSnapshot, StateTracker
from monitor.web.status_pages import add_status_pages

_METHODS = ["GET", "HEAD"]
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_RETRY_AFTER_S = "5"
_RENDER_TIMEOUT_S = 5.0
"""Limit for rendering /metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebApp:
    """The app of one daemon."""

    asgi: ASGIApp
    warm_up: Callable[[], Awaitable[None]]
    """Answers the pages that people open first, for nobody: their statements are compiled then."""
    close: Callable[[], None]
    """Closes its connections to the database."""


def build_app(tracker: StateTracker, database_probe: DatabaseProbe) -> WebApp:
    """Builds the app of one daemon."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    handlers = _Handlers(tracker, database_probe)
    for path, handler in (("/healthz", handlers.healthz), ("/readyz", handlers.readyz), ("/metrics", handlers.metrics)):
        app.add_api_route(path, handler, methods=_METHODS, response_model=None)
    site, gate = Site(tracker), Gate(tracker)
    add_pages(app, site)
    add_actions(app, site)
    add_status_pages(app, site, tracker, database_probe)
    add_login_pages(app, gate)
    add_api(app, site)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(UnavailableError, _unavailable)
    app.add_exception_handler(Exception, _server_error)

    async def warm_up() -> None:
        for path in ("/", *(f"/targets/{target.name}" for target in site.config.targets[:1]), "/incidents"):
            await _answer(app, path)

    return WebApp(asgi=Access(app, gate), warm_up=warm_up, close=site.close)


async def _answer(app: ASGIApp, path: str) -> None:
    """One answer that nobody reads."""
    request: Message = {"type": "http.request", "body": b"", "more_body": False}

    async def receive() -> Message:
        return request

    async def send(_: Message) -> None:
        """Drops it."""

    scope: Scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": path, "query_string": b"",
        "headers": [], "server": ("localhost", 80), "client": None,
    }  # fmt: skip
    await app(scope, receive, send)


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


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    allowed = {"Allow": ", ".join(_METHODS)} if status == 405 else {}
    if request.url.path in HEALTH_PATHS:
        return _json({"error": TEXTS.get(status, "refused")}, status, allowed)
    detail, headers = "", {}
    if isinstance(error, HTTPException):
        detail, headers = error.detail, dict(error.headers or {})
    if not detail or detail == HTTPStatus(status).phrase:
        detail = USE_POST if headers.get("Allow") == "POST" else TEXTS.get(status, "refused")
    return refusal(request, status, detail, headers={**allowed, **headers})


async def _unavailable(request: Request, error: Exception) -> Response:
    return refusal(request, 503, str(error), headers={"Retry-After": _RETRY_AFTER_S})


async def _server_error(request: Request, error: Exception) -> Response:
    # not the path, which may name an item
    route, reference = request.scope.get("route"), token_hex(4)
    structlog.get_logger().error(
        "endpoint_failed", path=getattr(route, "path", None), reference=reference, exc_info=error
    )
    if request.url.path in HEALTH_PATHS:
        return _json({"error": TEXTS[500]}, 500)
    return refusal(request, 500, TEXTS[500], reference=reference)
