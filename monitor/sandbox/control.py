"""The sandbox's control endpoint, all JSON, under `/_sandbox`: faults, rates, revocations, items by hand, statistics.

`ROUTES` lists the calls. What is wrong with a call is said in one sentence, in a 400.
"""

from collections.abc import Callable
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


class _BadCallError(Exception):
    """One sentence about what is wrong with the call."""


def stats(state: SandboxState) -> dict[str, Any]:
    """Requests by method, path template and how they ended; items; the most requests in flight at once."""
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
        raise _BadCallError("the body is not JSON") from None
    try:
        return convert(raw)
    except ValueError as error:
        raise _BadCallError(str(error)) from None


async def _add_fault(state: SandboxState, request: Request) -> JsonAnswer:
    fault = await _read(request, read_fault)
    with state.lock:
        state.faults.add(fault, state.clock())
    return _DONE


async def _clear_faults(state: SandboxState, request: Request) -> JsonAnswer:  # noqa: ARG001  # a handler's signature
    with state.lock:
        state.faults.clear()
    return _DONE


async def _limit_rate(state: SandboxState, request: Request) -> JsonAnswer:
    asked = await _read(request, lambda raw: to_struct(raw, RateChange, "change of the rate"))
    try:
        state.limit(None if asked.rate is None else parse_rate(asked.rate))
    except ValueError as error:
        raise _BadCallError(str(error)) from None
    return _DONE


async def _change_client(state: SandboxState, request: Request) -> JsonAnswer:
    return _change_credential(state, request, "client", state.settings.client_id)


async def _change_key(state: SandboxState, request: Request) -> JsonAnswer:
    return _change_credential(state, request, "API key", state.settings.api_key)


def _change_credential(state: SandboxState, request: Request, what: str, known: str) -> JsonAnswer:
    name, action = request.path_params["name"], _CREDENTIAL_ACTIONS.get(request.path_params["act"])
    if name != known:
        raise _BadCallError(f"there is no {what} {name}; there is {known}")
    if action is None:
        raise _BadCallError(f"the {what} can be told to {' or '.join(_CREDENTIAL_ACTIONS)}")
    with state.lock:
        action(state.engine.credentials, name)
    return _DONE


async def _expire_tokens(state: SandboxState, request: Request) -> JsonAnswer:  # noqa: ARG001  # a handler's signature
    with state.lock:
        state.engine.credentials.expire_tokens()
    return _DONE


async def _create_items(state: SandboxState, request: Request) -> JsonAnswer:
    batch = await _read(request, lambda raw: to_struct(raw, ItemBatch, "batch of items"))
    with state.lock:
        created = state.engine.create_items(now_s=state.clock(), **msgspec.structs.asdict(batch))
    return 200, {"item_ids": created}


def _item(state: SandboxState, request: Request) -> Item:
    item = state.engine.items.get(request.path_params["item_id"].lower())
    if item is None:
        raise _BadCallError("there is no such item")
    return item


async def _change_item(state: SandboxState, request: Request) -> JsonAnswer:
    change = await _read(request, lambda raw: to_struct(raw, ItemUpdate, "change of an item"))
    if change == ItemUpdate():
        raise _BadCallError("an item is changed by an object with status, publisher_id or both")
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


async def _reset(state: SandboxState, request: Request) -> JsonAnswer:  # noqa: ARG001  # a handler's signature
    state.reset()
    return _DONE


def _with_error_answer(handler: Handler) -> Handler:
    async def with_error_answer(state: SandboxState, request: Request) -> JsonAnswer:
        try:
            return await handler(state, request)
        except _BadCallError as error:
            return 400, {"error": str(error)}

    return with_error_answer


_ENDPOINTS: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/faults", _add_fault),
    ("DELETE", "/faults", _clear_faults),
    ("POST", "/rate", _limit_rate),
    ("POST", "/clients/{name}/{act}", _change_client),
    ("POST", "/keys/{name}/{act}", _change_key),
    ("POST", "/expire-tokens", _expire_tokens),
    ("POST", "/items", _create_items),
    ("PATCH", "/items/{item_id}", _change_item),
    ("DELETE", "/items/{item_id}", _remove_item),
    ("GET", "/stats", _stats),
    ("POST", "/reset", _reset),
)

ROUTES: tuple[tuple[str, str, Handler], ...] = tuple(
    (method, path, _with_error_answer(call)) for method, path, call in _ENDPOINTS
)
"""Method, path below `/_sandbox`, handler."""


async def unknown_endpoint(state: SandboxState, request: Request) -> JsonAnswer:  # noqa: ARG001  # a handler's signature
    """Answers whatever else is sent there."""
    known = ", ".join(f"{method} {path}" for method, path, _ in _ENDPOINTS)
    return 400, {"error": f"{request.method} {request.url.path} is no call of the sandbox; there are {known}"}
