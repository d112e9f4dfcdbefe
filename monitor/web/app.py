"""The three endpoints as an ASGI app: GET and HEAD of three paths, and a word of JSON for everything else."""

import asyncio
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from monitor.logs import masked
from monitor.threads import aside
from monitor.web.database_snapshot import Reading, Readings
from monitor.web.metrics import chosen, render
from monitor.web.readiness import Life, Readiness, Reason, Status, life, readiness
from monitor.web.readiness_inputs import signs_of
from monitor.web.state import Pulse, Vitals

_READ = ["GET", "HEAD"]
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_RENDER_LIMIT_S = 5.0
"""Seconds that making one answer of /metrics may take."""


def build(vitals: Vitals, readings: Readings) -> ASGIApp:
    """The app that tells of a daemon.

    Args:
        vitals: what it knows of itself.
        readings: looks at its database.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    pages = _Pages(vitals, readings)
    for path, page in (("/healthz", pages.healthz), ("/readyz", pages.readyz), ("/metrics", pages.metrics)):
        app.add_api_route(path, page, methods=_READ, response_model=None)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(Exception, _apologise)
    return _Bodiless(app)


class _Pages:
    def __init__(self, vitals: Vitals, readings: Readings) -> None:
        self._vitals, self._readings = vitals, readings
        self._rendering = asyncio.Lock()
        self._rendered: dict[str, tuple[Reading, bytes]] = {}
        """The last answer by content type, and the look at the database that it tells of."""

    async def healthz(self) -> Response:
        pulse = self._vitals.pulse()
        state = life(beat_age_s=pulse.beat_age_s)
        return _json(_life_json(pulse, state), 200 if state is Life.OK else 503)

    async def readyz(self) -> Response:
        reading = await self._readings.latest()
        pulse = self._vitals.pulse()
        found = readiness(signs_of(pulse, reading), pulse.at)
        return _json(_readiness_json(found), 200 if found.status is Status.READY else 503)

    async def metrics(self, request: Request) -> Response:
        content_type = chosen(request.headers.get("accept", ""))
        body = await self._body(await self._readings.latest(), content_type)
        return Response(body, headers={**_HEADERS, "Content-Type": content_type})

    async def _body(self, reading: Reading, content_type: str) -> bytes:
        """One answer per look at the database, however many ask."""
        async with self._rendering:
            known = self._rendered.get(content_type)
            if known is not None and known[0] is reading:
                return known[1]
            pulse = self._vitals.pulse()
            body = await aside(lambda: render(pulse, reading, content_type), timeout_s=_RENDER_LIMIT_S)
            self._rendered[content_type] = (reading, body)
            return body


def _life_json(pulse: Pulse, state: Life) -> dict[str, Any]:
    return {
        "service": "ingestion-monitor",
        "status": state.value,
        "beat_age_s": round(pulse.beat_age_s, 1),
        "uptime_s": round((pulse.at - pulse.started_at).total_seconds(), 1),
    }


def _readiness_json(found: Readiness) -> dict[str, Any]:
    return {
        "service": "ingestion-monitor",
        "status": found.status.value,
        "reasons": [_reason_json(reason) for reason in found.reasons],
        "warnings": [_reason_json(reason) for reason in found.warnings],
    }


def _reason_json(reason: Reason) -> dict[str, Any]:
    about = {"target": reason.target, "channel": reason.channel}
    return {
        "part": reason.part.value,
        **{name: value for name, value in about.items() if value is not None},
        "reason": masked(reason.reason),
        "remedy": reason.remedy,
    }


def _json(content: dict[str, Any], status: int, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(content, status_code=status, headers={**_HEADERS, **(headers or {})})


async def _refuse(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    allowed = {"Allow": ", ".join(_READ)} if status == 405 else None
    return _json({"error": _WORDS.get(status, "refused")}, status, allowed)


_WORDS = {404: "there is /healthz, /readyz and /metrics", 405: "only GET and HEAD"}


async def _apologise(request: Request, error: Exception) -> Response:
    structlog.get_logger().error("web_page_failed", path=request.scope["route"].path, exc_info=error)
    return _json({"error": "this page failed; the daemon's log says more"}, 500)


class _Bodiless:
    """Refuses requests with a body, and the connection with it: nobody has a reason to send one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers:
            refusal = _json({"error": "no body is read here"}, 413, {"Connection": "close"})
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)
