"""The engine over HTTP: Gloo's routes, and the control endpoint's. It decides nothing: `engine` knows the answers."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from monitor.sandbox.control import ROUTES, unknown
from monitor.sandbox.disturbance import Disturbed
from monitor.sandbox.engine import Answer
from monitor.sandbox.state import Handler, State

__all__ = ["build"]

Endpoint = Callable[[Request], Awaitable[Response]]

EVERY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def build(state: State) -> ASGIApp:
    """The application that serves a state."""

    def opened(handler: Handler) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            return _response(await handler(state, request))

        return endpoint

    def guarded(handler: Handler) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            with state.lock:
                refusal = state.engine.refusal(request.headers.get("authorization"), state.clock())
            return _response(refusal or await handler(state, request))

        return endpoint

    routes = [
        Route("/oauth2/token", opened(_token), methods=["POST"]),
        Route("/engine/v2/items/{item_id}", guarded(_item), methods=["GET"]),
        Route("/engine/v2/items", guarded(_delete), methods=["DELETE"]),
        Route("/engine/v2/publisher/{publisher_id}/items", guarded(_listing), methods=["GET"]),
        Route("/ingestion/v2/files", guarded(_upload), methods=["POST"]),
        *(Route(f"/_sandbox{path}", opened(handler), methods=[method]) for method, path, handler in ROUTES),
        Route("/_sandbox{rest:path}", opened(unknown), methods=EVERY_METHOD),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refused})
    app.router.redirect_slashes = False  # Gloo's paths end as they are written
    return Disturbed(app, state)


def _response(answer: Answer) -> Response:
    status, body = answer
    return Response(msgspec.json.encode(body), status, media_type="application/json")


async def _refused(_: Request, error: Exception) -> Response:
    """No such route or method, or a form that can't be parsed: said as Gloo says things."""
    refusal = cast("HTTPException", error)  # that is what it is registered for
    return _response((refusal.status_code, {"detail": refusal.detail}))


async def _token(state: State, request: Request) -> Answer:
    async with request.form() as form:
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
    with state.lock:
        return state.engine.token(_basic(request.headers.get("authorization", "")), fields, state.clock())


def _basic(header: str) -> tuple[str, str] | None:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:  # no base64, or no text in it
        return None
    return name, password


async def _item(state: State, request: Request) -> Answer:
    with state.lock:
        return state.engine.item(request.path_params["item_id"], state.clock())


async def _listing(state: State, request: Request) -> Answer:
    with state.lock:
        return state.engine.listing(request.path_params["publisher_id"], state.clock())


async def _upload(state: State, request: Request) -> Answer:
    async with request.form() as form:
        publisher = form.get("publisher_id")
        parts = [part for part in form.getlist("files") if isinstance(part, UploadFile)]
        files = [(part.filename or "unnamed", await part.read()) for part in parts]
    with state.lock:
        return state.engine.upload(
            publisher if isinstance(publisher, str) else None,
            files,
            producer_id=request.query_params.get("producer_id"),
            now_s=state.clock(),
        )


async def _delete(state: State, request: Request) -> Answer:
    try:
        body: Any = msgspec.json.decode(await request.body())
    except (ValueError, RecursionError):
        body = None
    with state.lock:
        return state.engine.delete(body.get("item_ids") if isinstance(body, dict) else None)
