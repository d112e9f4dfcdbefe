"""The engine over HTTP: Gloo's routes and the control endpoint's. `engine` decides the answers."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, cast

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from monitor.sandbox.control import ROUTES, unknown_endpoint
from monitor.sandbox.fault_middleware import FaultMiddleware
from monitor.sandbox.responses import JsonAnswer
from monitor.sandbox.state import Handler, SandboxState

Endpoint = Callable[[Request], Awaitable[Response]]
AuthenticatedHandler = Callable[[SandboxState, Request], Awaitable[JsonAnswer | Iterator[bytes]]]
"""Answers one kind of request, perhaps with JSON in pieces."""

ALL_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def build_app(state: SandboxState) -> ASGIApp:
    """The application that serves a state."""

    def public(handler: Handler) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            return _response(await handler(state, request))

        return endpoint

    def authenticated(handler: AuthenticatedHandler) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            rejection, headers = state.authorize(request.headers.get("authorization"))
            response = _response(rejection or await handler(state, request))
            response.headers.update(headers)
            return response

        return endpoint

    routes = [
        Route("/oauth2/token", public(_token), methods=["POST"]),
        Route("/engine/v2/items/{item_id}", authenticated(_item), methods=["GET"]),
        Route("/engine/v2/items", authenticated(_delete), methods=["DELETE"]),
        Route("/engine/v2/publisher/{publisher_id}/items", authenticated(_list_items), methods=["GET"]),
        Route("/engine/v2/publisher/{publisher_id}/items/by-producer", authenticated(_by_producer), methods=["POST"]),
        Route("/engine/v1/files/{item_id}/snippets", authenticated(_snippets), methods=["GET"]),
        Route("/ingestion/v2/files", authenticated(_upload), methods=["POST"]),
        *(Route(f"/_sandbox{path}", public(handler), methods=[method]) for method, path, handler in ROUTES),
        Route("/_sandbox{rest:path}", public(unknown_endpoint), methods=ALL_METHODS),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _http_error})
    app.router.redirect_slashes = False  # Gloo does not redirect
    return FaultMiddleware(app, state)


def _response(answer: JsonAnswer | Iterator[bytes]) -> Response:
    if isinstance(answer, tuple):
        status, body = answer
        return Response(msgspec.json.encode(body), status, media_type="application/json")
    first = next(answer)
    second = next(answer, None)
    if second is None:  # short: sent whole, with its length
        return Response(first, media_type="application/json")

    async def chunks() -> AsyncIterator[bytes]:
        yield first
        yield second
        for chunk in answer:
            await asyncio.sleep(0)  # lets the loop notice that the client left
            yield chunk

    return StreamingResponse(chunks(), media_type="application/json")


async def _http_error(_: Request, error: Exception) -> Response:
    """No such route or method, or an unreadable form, in Gloo's form of an error."""
    rejection = cast("HTTPException", error)  # it is registered for this type
    return _response((rejection.status_code, {"detail": rejection.detail}))


async def _token(state: SandboxState, request: Request) -> JsonAnswer:
    async with request.form() as form:
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
    with state.lock:
        given = _basic(request.headers.get("authorization", ""))
        return state.engine.credentials.token(given, fields, state.clock())


def _basic(header: str) -> tuple[str, str] | None:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:  # not base64, or not text
        return None
    return name, password


async def _item(state: SandboxState, request: Request) -> JsonAnswer:
    with state.lock:
        return state.engine.item(request.path_params["item_id"], state.clock())


async def _list_items(state: SandboxState, request: Request) -> JsonAnswer | Iterator[bytes]:
    with state.lock:
        return state.engine.list_items(request.path_params["publisher_id"], state.clock())


async def _by_producer(state: SandboxState, request: Request) -> JsonAnswer:
    producer_ids = await _field(request, "producer_ids")
    with state.lock:
        return state.engine.by_producer(request.path_params["publisher_id"], producer_ids, state.clock())


async def _snippets(state: SandboxState, request: Request) -> JsonAnswer:
    limit = request.query_params.get("limit", "25")
    with state.lock:
        return state.engine.snippets(request.path_params["item_id"], limit, state.clock())


async def _upload(state: SandboxState, request: Request) -> JsonAnswer:
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


async def _delete(state: SandboxState, request: Request) -> JsonAnswer:
    item_ids = await _field(request, "item_ids")
    with state.lock:
        return state.engine.delete(item_ids, state.clock())


async def _field(request: Request, name: str) -> object:
    """One field of a JSON object; None if it or the object is missing."""
    body: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        body = msgspec.json.decode(await request.body())
    return body.get(name) if isinstance(body, dict) else None
