"""The engine over HTTP: Gloo's routes, and the control endpoint's. It decides nothing: `engine` knows the answers."""

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

from monitor.sandbox.control import ROUTES, unknown
from monitor.sandbox.fault_middleware import Disturbed
from monitor.sandbox.responses import Answer
from monitor.sandbox.state import Handler, State

Endpoint = Callable[[Request], Awaitable[Response]]
Answering = Callable[[State, Request], Awaitable[Answer | Iterator[bytes]]]
"""Answers one kind of call, perhaps with JSON in pieces."""

EVERY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def build(state: State) -> ASGIApp:
    """The application that serves a state."""

    def opened(handler: Handler) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            return _response(await handler(state, request))

        return endpoint

    def guarded(handler: Answering) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            refusal, told = state.admit(request.headers.get("authorization"))
            response = _response(refusal or await handler(state, request))
            response.headers.update(told)
            return response

        return endpoint

    routes = [
        Route("/oauth2/token", opened(_token), methods=["POST"]),
        Route("/engine/v2/items/{item_id}", guarded(_item), methods=["GET"]),
        Route("/engine/v2/items", guarded(_delete), methods=["DELETE"]),
        Route("/engine/v2/publisher/{publisher_id}/items", guarded(_listing), methods=["GET"]),
        Route("/engine/v2/publisher/{publisher_id}/items/by-producer", guarded(_by_producer), methods=["POST"]),
        Route("/engine/v1/files/{item_id}/snippets", guarded(_snippets), methods=["GET"]),
        Route("/ingestion/v2/files", guarded(_upload), methods=["POST"]),
        *(Route(f"/_sandbox{path}", opened(handler), methods=[method]) for method, path, handler in ROUTES),
        Route("/_sandbox{rest:path}", opened(unknown), methods=EVERY_METHOD),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refused})
    app.router.redirect_slashes = False  # Gloo's paths end as they are written
    return Disturbed(app, state)


def _response(answer: Answer | Iterator[bytes]) -> Response:
    if isinstance(answer, tuple):
        status, body = answer
        return Response(msgspec.json.encode(body), status, media_type="application/json")
    first = next(answer)
    second = next(answer, None)
    if second is None:  # short enough to be sent whole, with its length
        return Response(first, media_type="application/json")

    async def pieces() -> AsyncIterator[bytes]:
        yield first
        yield second
        for piece in answer:
            await asyncio.sleep(0)  # lets the loop hear that the client has left
            yield piece

    return StreamingResponse(pieces(), media_type="application/json")


async def _refused(_: Request, error: Exception) -> Response:
    """No such route or method, or a form that can't be parsed: said as Gloo says things."""
    refusal = cast("HTTPException", error)  # that is what it is registered for
    return _response((refusal.status_code, {"detail": refusal.detail}))


async def _token(state: State, request: Request) -> Answer:
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
    except ValueError:  # no base64, or no text in it
        return None
    return name, password


async def _item(state: State, request: Request) -> Answer:
    with state.lock:
        return state.engine.item(request.path_params["item_id"], state.clock())


async def _listing(state: State, request: Request) -> Answer | Iterator[bytes]:
    with state.lock:
        return state.engine.listing(request.path_params["publisher_id"], state.clock())


async def _by_producer(state: State, request: Request) -> Answer:
    producer_ids = await _field(request, "producer_ids")
    with state.lock:
        return state.engine.by_producer(request.path_params["publisher_id"], producer_ids, state.clock())


async def _snippets(state: State, request: Request) -> Answer:
    limit = request.query_params.get("limit", "25")
    with state.lock:
        return state.engine.snippets(request.path_params["item_id"], limit, state.clock())


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
    item_ids = await _field(request, "item_ids")
    with state.lock:
        return state.engine.delete(item_ids, state.clock())


async def _field(request: Request, name: str) -> object:
    """One field of a JSON object; None without it, and of anything else."""
    body: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        body = msgspec.json.decode(await request.body())
    return body.get(name) if isinstance(body, dict) else None
