"""The sandbox's control endpoint: faults, revocations, items made by hand, statistics. See `app` for the list."""

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request

from monitor.sandbox.app import MOST_MADE, Handler, State
from monitor.sandbox.engine import Answer
from monitor.sandbox.faults import read_fault

__all__ = ["ROUTES", "stats"]

_DONE: Answer = (200, {"done": True})


def stats(state: State) -> dict[str, Any]:
    """Requests by method, path template and status; tokens and items; the most requests in flight at once."""
    with state.lock:
        return {
            "requests": dict(sorted(state.requests.items())),
            "items": len(state.engine.items),
            "most_in_flight": state.most_in_flight,
        }


def _wrong(sentence: str) -> Answer:
    return 400, {"error": sentence}


async def _json(request: Request) -> Any:  # noqa: ANN401  # any JSON value
    """The body; None when it is no JSON."""
    try:
        return msgspec.json.decode(await request.body() or b"{}")
    except msgspec.DecodeError:
        return None


async def _add_fault(state: State, request: Request) -> Answer:
    try:
        fault = read_fault(await _json(request))
    except ValueError as error:
        return _wrong(str(error))
    with state.lock:
        state.faults.add(fault)
    return _DONE


async def _clear_faults(state: State, request: Request) -> Answer:  # noqa: ARG001  # a handler's signature
    with state.lock:
        state.faults.clear()
    return _DONE


def _revocation(act: Callable[[State, str], None], known: Callable[[State], str], what: str) -> Handler:
    async def handler(state: State, request: Request) -> Answer:
        name = request.path_params["name"]
        if name != known(state):
            return _wrong(f"there is no {what} {name}; there is {known(state)}")
        with state.lock:
            act(state, name)
        return _DONE

    return handler


async def _expire_tokens(state: State, request: Request) -> Answer:  # noqa: ARG001  # a handler's signature
    with state.lock:
        state.engine.expire_tokens()
    return _DONE


async def _make_items(state: State, request: Request) -> Answer:
    raw = await _json(request)
    if not isinstance(raw, dict) or raw.keys() - {"count", "status", "filename", "publisher_id"}:
        return _wrong("items are made from an object with count, status, filename, publisher_id")
    count = raw.get("count", 1)
    texts = [raw.get(name) for name in ("status", "filename", "publisher_id")]
    if not isinstance(count, int) or not 1 <= count <= MOST_MADE:
        return _wrong(f"count is a number from 1 to {MOST_MADE}")
    if not all(text is None or isinstance(text, str) for text in texts):
        return _wrong("status, filename and publisher_id are texts")
    with state.lock:
        made = [
            state.engine.add(texts[1] or "made.txt", now_s=state.clock(), status=texts[0], publisher_id=texts[2])
            for _ in range(count)
        ]
    return 200, {"item_ids": made}


async def _change_item(state: State, request: Request) -> Answer:
    raw = await _json(request)
    if not isinstance(raw, dict) or raw.keys() - {"status", "publisher_id"}:
        return _wrong("an item is changed by an object with status or publisher_id")
    with state.lock:
        item = state.engine.items.get(request.path_params["item_id"].lower())
        if item is None:
            return _wrong("there is no such item")
        item.status = raw.get("status", item.status)
        item.publisher_id = raw.get("publisher_id", item.publisher_id)
    return _DONE


async def _remove_item(state: State, request: Request) -> Answer:
    with state.lock:
        removed = state.engine.items.pop(request.path_params["item_id"].lower(), None)
    return _DONE if removed else _wrong("there is no such item")


async def _stats(state: State, request: Request) -> Answer:  # noqa: ARG001  # a handler's signature
    return 200, stats(state)


async def _reset(state: State, request: Request) -> Answer:  # noqa: ARG001  # a handler's signature
    state.reset()
    return _DONE


def _client(state: State) -> str:
    return state.settings.client_id


def _key(state: State) -> str:
    return state.settings.api_key


def _revoke(state: State, name: str) -> None:
    state.engine.revoke(name)


def _restore(state: State, name: str) -> None:
    state.engine.restore(name)


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/faults", _add_fault),
    ("DELETE", "/faults", _clear_faults),
    ("POST", "/clients/{name}/revoke", _revocation(_revoke, _client, "client")),
    ("POST", "/clients/{name}/restore", _revocation(_restore, _client, "client")),
    ("POST", "/keys/{name}/revoke", _revocation(_revoke, _key, "API key")),
    ("POST", "/keys/{name}/restore", _revocation(_restore, _key, "API key")),
    ("POST", "/expire-tokens", _expire_tokens),
    ("POST", "/items", _make_items),
    ("PATCH", "/items/{item_id}", _change_item),
    ("DELETE", "/items/{item_id}", _remove_item),
    ("GET", "/stats", _stats),
    ("POST", "/reset", _reset),
)
"""Method, path below `/_sandbox`, handler."""
