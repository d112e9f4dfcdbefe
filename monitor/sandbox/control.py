"""The control endpoint, JSON under `/_sandbox`. An invalid request gets a 400 with one sentence."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from monitor.sandbox.credentials import Credentials
from monitor.sandbox.engine import Item
from monitor.sandbox.faults import read_fault
from monitor.sandbox.rate_limits import parse_rate
from monitor.sandbox.requests import ItemBatch, ItemUpdate, RateChange, to_struct
from monitor.sandbox.responses import JsonAnswer
from monitor.sandbox.state import Handler, SandboxState

T = TypeVar("T")

_DONE: JsonAnswer = (200, {"done": True})
_CREDENTIAL_ACTIONS: dict[str, Callable[[Credentials, str], None]] = {
    "revoke": Credentials.revoke,
    "restore": Credentials.restore,
}


def stats(state: SandboxState) -> dict[str, Any]:
    """Requests by method, path template and result; items; the most requests in flight at once."""
    with state.lock:
        return {
            "requests": dict(sorted(state.requests.items())),
            "items": state.engine.count(state.clock()),
            "max_in_flight": state.max_in_flight,
        }


async def _read(request: Request, convert: Callable[[object], T]) -> T:
    """The body, converted; an empty one is an empty object."""
    try:
        raw = msgspec.json.decode(await request.body() or b"{}")
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON") from None
    return convert(raw)


def _change(act: Callable[[SandboxState], object]) -> Handler:
    """The handler of a change that needs nothing from the request."""

    async def handler(state: SandboxState, _: Request) -> JsonAnswer:
        with state.lock:
            act(state)
        return _DONE

    return handler


async def _add_fault(state: SandboxState, request: Request) -> JsonAnswer:
    fault = await _read(request, read_fault)
    with state.lock:
        state.faults.add(fault, state.clock())
    return _DONE


async def _limit_rate(state: SandboxState, request: Request) -> JsonAnswer:
    asked = await _read(request, lambda raw: to_struct(raw, RateChange, "change of the rate"))
    state.limit(None if asked.rate is None else parse_rate(asked.rate))
    return _DONE


async def _change_credential(state: SandboxState, request: Request, *, what: str) -> JsonAnswer:
    known = state.settings.client_id if what == "client" else state.settings.api_key
    name, action = request.path_params["name"], _CREDENTIAL_ACTIONS.get(request.path_params["act"])
    if name != known:
        raise ValueError(f"unknown {what} {name}: it is {known}")
    if action is None:
        raise ValueError(f"unknown action for the {what}: use {' or '.join(_CREDENTIAL_ACTIONS)}")
    with state.lock:
        action(state.engine.credentials, name)
    return _DONE


async def _create_items(state: SandboxState, request: Request) -> JsonAnswer:
    batch = await _read(request, lambda raw: to_struct(raw, ItemBatch, "batch of items"))
    with state.lock:
        created = state.engine.create_items(batch, state.clock())
    return 200, {"item_ids": created}


def _item(state: SandboxState, request: Request) -> Item:
    item = state.engine.items.get(request.path_params["item_id"].lower())
    if item is None:
        raise ValueError("there is no such item")
    return item


async def _change_item(state: SandboxState, request: Request) -> JsonAnswer:
    change = await _read(request, lambda raw: to_struct(raw, ItemUpdate, "change of an item"))
    if change == ItemUpdate():
        raise ValueError("a change of an item needs status, publisher_id or both")
    with state.lock:
        item = _item(state, request)
        item.changed_s = state.clock()
        if change.status is not msgspec.UNSET:
            item.status = change.status
        if change.publisher_id is not msgspec.UNSET:
            item.publisher_id = change.publisher_id
    return _DONE


async def _remove_item(state: SandboxState, request: Request) -> JsonAnswer:
    with state.lock:
        del state.engine.items[_item(state, request).item_id]
    return _DONE


async def _stats(state: SandboxState, request: Request) -> JsonAnswer:  # noqa: ARG001  # a handler's signature
    return 200, stats(state)


def _with_error_answer(handler: Handler) -> Handler:
    async def with_error_answer(state: SandboxState, request: Request) -> JsonAnswer:
        try:
            return await handler(state, request)
        except ValueError as error:
            return 400, {"error": str(error)}

    return with_error_answer


_ENDPOINTS: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/faults", _add_fault),
    ("DELETE", "/faults", _change(lambda state: state.faults.clear())),
    ("POST", "/rate", _limit_rate),
    ("POST", "/clients/{name}/{act}", partial(_change_credential, what="client")),
    ("POST", "/keys/{name}/{act}", partial(_change_credential, what="API key")),
    ("POST", "/expire-tokens", _change(lambda state: state.engine.credentials.expire_tokens())),
    ("POST", "/items", _create_items),
    ("PATCH", "/items/{item_id}", _change_item),
    ("DELETE", "/items/{item_id}", _remove_item),
    ("GET", "/stats", _stats),
    ("POST", "/reset", _change(SandboxState.reset)),
)

ROUTES: tuple[tuple[str, str, Handler], ...] = tuple(
    (method, path, _with_error_answer(call)) for method, path, call in _ENDPOINTS
)
"""Method, path below `/_sandbox`, handler."""


async def unknown_endpoint(state: SandboxState, request: Request) -> JsonAnswer:  # noqa: ARG001  # a handler's signature
    """Answers everything else."""
    known = ", ".join(f"{method} {path}" for method, path, _ in _ENDPOINTS)
    return 400, {"error": f"unknown request {request.method} {request.url.path}: use {known}"}
