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
from monitor.sandbox.rate_limits import read_rate
from monitor.sandbox.requests import Batch, ItemChange, RateChange, shaped
from monitor.sandbox.responses import Answer
from monitor.sandbox.state import Handler, State

T = TypeVar("T")

_DONE: Answer = (200, {"done": True})
_ACTS: dict[str, Callable[[Credentials, str], None]] = {"revoke": Credentials.revoke, "restore": Credentials.restore}


class _WrongCallError(Exception):
    """One sentence about what is wrong with the call."""


def stats(state: State) -> dict[str, Any]:
    """Requests by method, path template and how they ended; items; the most requests in flight at once."""
    with state.lock:
        return {
            "requests": dict(sorted(state.requests.items())),
            "items": state.engine.count(state.clock()),
            "most_in_flight": state.most_in_flight,
        }


async def _read(request: Request, convert: Callable[[object], T]) -> T:
    """The body, converted; an empty one is an empty object."""
    try:
        raw = msgspec.json.decode(await request.body() or b"{}")
    except (ValueError, RecursionError):
        raise _WrongCallError("the body is not JSON") from None
    try:
        return convert(raw)
    except ValueError as error:
        raise _WrongCallError(str(error)) from None


async def _add_fault(state: State, request: Request) -> Answer:
    fault = await _read(request, read_fault)
    with state.lock:
        state.faults.add(fault, state.clock())
    return _DONE


async def _clear_faults(state: State, request: Request) -> Answer:  # noqa: ARG001  # a handler's signature
    with state.lock:
        state.faults.clear()
    return _DONE


async def _limit_rate(state: State, request: Request) -> Answer:
    asked = await _read(request, lambda raw: shaped(raw, RateChange, "change of the rate"))
    try:
        state.limit(None if asked.rate is None else read_rate(asked.rate))
    except ValueError as error:
        raise _WrongCallError(str(error)) from None
    return _DONE


async def _switch_client(state: State, request: Request) -> Answer:
    return _switch(state, request, "client", state.settings.client_id)


async def _switch_key(state: State, request: Request) -> Answer:
    return _switch(state, request, "API key", state.settings.api_key)


def _switch(state: State, request: Request, what: str, known: str) -> Answer:
    name, act = request.path_params["name"], _ACTS.get(request.path_params["act"])
    if name != known:
        raise _WrongCallError(f"there is no {what} {name}; there is {known}")
    if act is None:
        raise _WrongCallError(f"the {what} can be told to {' or '.join(_ACTS)}")
    with state.lock:
        act(state.engine.credentials, name)
    return _DONE


async def _expire_tokens(state: State, request: Request) -> Answer:  # noqa: ARG001  # a handler's signature
    with state.lock:
        state.engine.credentials.expire_tokens()
    return _DONE


async def _make_items(state: State, request: Request) -> Answer:
    batch = await _read(request, lambda raw: shaped(raw, Batch, "batch of items"))
    with state.lock:
        made = state.engine.make(now_s=state.clock(), **msgspec.structs.asdict(batch))
    return 200, {"item_ids": made}


def _item(state: State, request: Request) -> Item:
    item = state.engine.items.get(request.path_params["item_id"].lower())
    if item is None:
        raise _WrongCallError("there is no such item")
    return item


async def _change_item(state: State, request: Request) -> Answer:
    change = await _read(request, lambda raw: shaped(raw, ItemChange, "change of an item"))
    if change == ItemChange():
        raise _WrongCallError("an item is changed by an object with status, publisher_id or both")
    with state.lock:
        item = _item(state, request)
        item.changed_s = state.clock()
        if change.status is not msgspec.UNSET:
            item.status = change.status
        if change.publisher_id is not msgspec.UNSET:
            item.publisher_id = change.publisher_id
    return _DONE


async def _remove_item(state: State, request: Request) -> Answer:
    with state.lock:
        del state.engine.items[_item(state, request).item_id]
    return _DONE


async def _stats(state: State, request: Request) -> Answer:  # noqa: ARG001  # a handler's signature
    return 200, stats(state)


async def _reset(state: State, request: Request) -> Answer:  # noqa: ARG001  # a handler's signature
    state.reset()
    return _DONE


def _explained(handler: Handler) -> Handler:
    async def explained(state: State, request: Request) -> Answer:
        try:
            return await handler(state, request)
        except _WrongCallError as error:
            return 400, {"error": str(error)}

    return explained


_CALLS: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/faults", _add_fault),
    ("DELETE", "/faults", _clear_faults),
    ("POST", "/rate", _limit_rate),
    ("POST", "/clients/{name}/{act}", _switch_client),
    ("POST", "/keys/{name}/{act}", _switch_key),
    ("POST", "/expire-tokens", _expire_tokens),
    ("POST", "/items", _make_items),
    ("PATCH", "/items/{item_id}", _change_item),
    ("DELETE", "/items/{item_id}", _remove_item),
    ("GET", "/stats", _stats),
    ("POST", "/reset", _reset),
)

ROUTES: tuple[tuple[str, str, Handler], ...] = tuple((method, path, _explained(call)) for method, path, call in _CALLS)
"""Method, path below `/_sandbox`, handler."""


async def unknown(state: State, request: Request) -> Answer:  # noqa: ARG001  # a handler's signature
    """Answers whatever else is sent there."""
    known = ", ".join(f"{method} {path}" for method, path, _ in _CALLS)
    return 400, {"error": f"{request.method} {request.url.path} is no call of the sandbox; there are {known}"}
