"""The engine over HTTP: Gloo's routes, disturbed by faults. `engine` knows the answers; nothing is decided here.

Control, all JSON, under `/_sandbox`: `POST /faults` (a fault; see `faults.Fault`), `DELETE /faults`,
`POST /clients/{id}/revoke|restore`, `POST /keys/{key}/revoke|restore`, `POST /expire-tokens`,
`POST /items` (`count`, `status`, `filename`, `publisher_id`), `PATCH /items/{id}` (`status`, `publisher_id`),
`DELETE /items/{id}`, `GET /stats`, `POST /reset`. What is wrong with a call is said in a 400.
"""

import asyncio
import base64
import binascii
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from threading import RLock
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from monitor.sandbox.engine import Answer, Engine, SandboxSettings
from monitor.sandbox.faults import Fault, FaultPlan

__all__ = ["State", "build"]

MOST_MADE = 1_000_000


class State:
    """Everything that the server's thread and its owner share, behind one lock."""

    def __init__(self, settings: SandboxSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings, self.clock, self.lock = settings, clock, RLock()
        self.engine, self.faults = Engine(settings=settings), FaultPlan()
        self.requests: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0
        self.connections: dict[tuple[str, int], asyncio.Transport] = {}
        """By the client's address, so that a fault can drop one."""

    def reset(self) -> None:
        """Forgets everything."""
        with self.lock:
            self.engine, self.faults = Engine(settings=self.settings), FaultPlan()
            self.requests.clear()
            self.most_in_flight = 0


Handler = Callable[[State, Request], Awaitable[Answer]]


def build(state: State) -> ASGIApp:
    """The application that serves a state."""

    def guarded(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            with state.lock:
                refusal = state.engine.refusal(request.headers.get("authorization"), state.clock())
            return _response(refusal or await handler(state, request))

        return endpoint

    def opened(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return _response(await handler(state, request))

        return endpoint

    from monitor.sandbox.control import ROUTES

    routes = [
        Route("/oauth2/token", opened(_token), methods=["POST"]),
        Route("/engine/v2/items/{item_id}", guarded(_item), methods=["GET"]),
        Route("/engine/v2/items", guarded(_delete), methods=["DELETE"]),
        Route("/engine/v2/publisher/{publisher_id}/items", guarded(_listing), methods=["GET"]),
        Route("/ingestion/v2/files", guarded(_upload), methods=["POST"]),
        *(Route(f"/_sandbox{path}", opened(handler), methods=[method]) for method, path, handler in ROUTES),
    ]
    return _Disturbed(Starlette(routes=routes), state)


def _response(answer: Answer) -> Response:
    status, body = answer
    return Response(msgspec.json.encode(body), status, media_type="application/json")


async def _token(state: State, request: Request) -> Answer:
    form = await request.form()
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    with state.lock:
        return state.engine.token(_basic(request.headers.get("authorization", "")), fields, state.clock())


def _basic(header: str) -> tuple[str, str] | None:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
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
    except msgspec.DecodeError:
        body = None
    with state.lock:
        return state.engine.delete(body.get("item_ids") if isinstance(body, dict) else None)


class _Disturbed:
    """Counts every call, and answers those that a fault hits; the control endpoint is never hit."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_sandbox"):
            await self._app(scope, receive, send)
            return
        state = self._state
        with state.lock:
            fault = state.faults.hit(scope["method"], scope["path"])
            state.in_flight += 1
            state.most_in_flight = max(state.most_in_flight, state.in_flight)
        try:
            await self._serve(scope, receive, _counting(scope, send, state), fault)
        finally:
            with state.lock:
                state.in_flight -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send, fault: Fault | None) -> None:
        if fault is None:
            await self._app(scope, receive, send)
            return
        await asyncio.sleep(fault.delay_s)
        if fault.close:
            _count(self._state, scope, "closed")
            self._state.connections[tuple(scope["client"])].abort()
            while (await receive())["type"] != "http.disconnect":
                pass
        elif fault.passes:
            await self._app(scope, receive, send)
        else:
            await _faulty(fault)(scope, receive, send)


def _faulty(fault: Fault) -> Response:
    text = isinstance(fault.body, str)
    content = b"" if fault.body is None else str(fault.body).encode() if text else msgspec.json.encode(fault.body)
    response = Response(content, fault.status, media_type="text/html" if text else "application/json")
    for name, value in fault.headers.items():
        response.headers[name] = str(value)
    return response


def _counting(scope: Scope, send: Send, state: State) -> Send:
    async def counted(message: Any) -> None:  # noqa: ANN401  # an ASGI message
        if message["type"] == "http.response.start":
            _count(state, scope, str(message["status"]))
        await send(message)

    return counted


def _count(state: State, scope: Scope, ending: str) -> None:
    with state.lock:
        state.requests[f"{scope['method']} {_template(scope['path'])} {ending}"] += 1


def _template(path: str) -> str:
    parts: Sequence[str] = path.split("/")
    if parts[1:4] == ["engine", "v2", "items"] and len(parts) > 4:
        return "/engine/v2/items/{item_id}"
    if parts[1:4] == ["engine", "v2", "publisher"]:
        return "/engine/v2/publisher/{publisher_id}/items"
    return path
