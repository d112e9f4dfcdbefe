"""`connect` and `Engine`: one target's API by the resilient client, from a program's own event loop."""

import asyncio
import dataclasses
import json as json_module
import os
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from monitor.api.errors import ApiError
from monitor.api.multipart import File, encode_form
from monitor.api.paths import Query, build_path
from monitor.api.results import Item, Response, WaitOutcome, item_of, outcome_of
from monitor.app import App, build_provider, open_database
from monitor.app.waiting import Waiting, client_for, entries_of, watched_items
from monitor.client.limits import RetryBudget
from monitor.config import Config, TargetConfig, load_config
from monitor.errors import ConfigError
from monitor.logs import configure_as_library, register_secret
from monitor.model import ItemState
from monitor.model.durations import parse_duration
from monitor.model.http import ApiError as Failure
from monitor.model.http import Operation, Request, are_valid_headers
from monitor.providers import Provider, is_list_only, request_for
from monitor.threads import run_in_database_pool

if TYPE_CHECKING:
    from monitor.client.client import Client
    from monitor.waits.rules import WatchedItem

DEFAULT_TIMEOUT = timedelta(minutes=10)
"""Of a wait."""
CALL_TIMEOUT = timedelta(minutes=2)
"""Of any other call, retries included."""
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS = _READING | {"POST", "PUT", "PATCH", "DELETE"}
_MAX_RESPONSE_BYTES = 64 << 20
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_HEADERS = frozenset({"authorization", "connection", "content-length", "host", "transfer-encoding"})
"""The client sets them: another length would cut the body, another framing would break the connection."""


@asynccontextmanager
async def connect(config: "str | os.PathLike[str] | Config", target: str) -> "AsyncIterator[Engine]":
    """Opens a target of a configuration: a path of `monitor.toml`, or what `monitor.config.load_config` returns.

    The client inherits the limits that earlier runs and waits have learned, and leaves its own behind. Log events,
    warnings and above, go to the logger `ingestion_monitor`, unless the program has configured structlog.

    Raises:
        ConfigError: the configuration is wrong, or has no such target.
        StoreError: the monitor's database can't be used.
    """
    configure_as_library()
    loaded = config if isinstance(config, Config) else await run_in_database_pool(lambda: load_config(Path(config)))
    for secret in loaded.secrets():
        register_secret(secret.reveal())
    settings = next((each for each in loaded.targets if each.name == target), None)
    if settings is None:
        names = ", ".join(each.name for each in loaded.targets)
        raise ConfigError([f"there is no target {target!a}; choose from {names}"])
    provider = build_provider(settings)
    database = await run_in_database_pool(lambda: open_database(loaded))
    try:
        app = App(config=loaded, engine=database)
        async with client_for(app, settings, provider) as client:
            yield Engine(app=app, target=settings, provider=provider, client=client)
    finally:
        await run_in_database_pool(database.dispose)


class Engine:
    """One target's API. Made by `connect`; its calls may run side by side in one event loop."""

    def __init__(self, *, app: App, target: TargetConfig, provider: Provider, client: "Client") -> None:
        self._app, self._target, self._provider, self._client = app, target, provider, client
        self._waiting = Waiting(app=app, target=target, provider=provider, client=client)

    @property
    def params(self) -> Mapping[str, str]:
        """The target's own path parameters, such as `publisher_id`."""
        own = {"publisher_id": self._target.publisher_id} if self._target.publisher_id else {}
        return {**own, **self._target.params}

    async def get(
        self,
        item_ids: str | Iterable[str],
        *,
        params: Mapping[str, str] | None = None,
        timeout: timedelta | float | str = CALL_TIMEOUT,  # noqa: ASYNC109  # the budget of the call, retries included
    ) -> tuple[Item, ...]:
        """What the API knows of items now: one question each, with retries. Nothing is stored.

        `params` are path parameters for these items, in place of what the sync log says. An item that the API did not
        answer about is `unknown`, with its error; that raises nothing.

        Raises:
            ConfigError: a path parameter is missing.
            StoreError: the monitor's database can't be read.
        """
        items = await self._items(item_ids, params)
        budget = _budget(timeout)
        report = await self._waiting.look(items, timeout=budget, interrupt=asyncio.Event()).run()
        method, template = self._question()
        return tuple(item_of(each, method=method, template=template) for each in report.items)

    async def status(
        self,
        item_id: str,
        *,
        params: Mapping[str, str] | None = None,
        timeout: timedelta | float | str = CALL_TIMEOUT,  # noqa: ASYNC109  # as in `get`
    ) -> Item:
        """The same for one item.

        Raises:
            ApiError: the API gave no answer about it. A 404, or an id that it rejects, is an answer.
            ConfigError, StoreError: as in `get`; ConfigError also for a blank id.
        """
        found = await self.get(item_id, params=params, timeout=timeout)
        if not found:
            raise ConfigError(["the id of the item is blank"])
        (item,) = found
        if item.state is ItemState.UNKNOWN:
            method, template = self._question()
            raise item.error or ApiError(Failure(status=None), method=method, template=template)
        return item

    async def wait(
        self,
        item_ids: str | Iterable[str],
        *,
        params: Mapping[str, str] | None = None,
        timeout: timedelta | float | str = DEFAULT_TIMEOUT,  # noqa: ASYNC109  # the budget of the wait
    ) -> WaitOutcome:
        """Waits until each item is completed, failed, missing or invalid, or until `timeout` (seconds, or "10m").

        Never longer, whatever the API does. It ends early where waiting does not help: a rejected key, a spending
        limit. It is a row of the monitor's history, as `ingestion-monitor wait` is; cancelled, it is stored as
        `interrupted`.

        Raises:
            ConfigError: a path parameter is missing.
            StoreError: the monitor's database can't be used.
        """
        items = await self._items(item_ids, params)
        wait = self._waiting.wait(items, timeout=_budget(timeout), interrupt=asyncio.Event())
        method, template = self._question()
        return outcome_of(await self._waiting.run(wait), method=method, template=template)

    async def request(  # noqa: PLR0913  # the parts of a request, each by its name
        self,
        method: str,
        path: str,
        *,
        operation: Operation | str | None = None,
        params: Mapping[str, str] | None = None,
        query: Query | None = None,
        json: object = None,
        form: Mapping[str, str] | None = None,
        files: Mapping[str, File] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: timedelta | float | str = CALL_TIMEOUT,  # noqa: ASYNC109  # the budget of the call, retries included
    ) -> Response:
        """Sends any request to the API, with its credentials, limits and retries.

        `path` is relative to the target's `base_url`; its `{names}` are filled from `params`, and from the target's
        own, each escaped. It is logged as it stands here, without the values.

        `operation` says what may be repeated (see `Operation`): by default `read` for GET, HEAD and OPTIONS, else
        `write`, which is never repeated after an ambiguous failure such as a timeout. Use `close` for what may safely
        happen twice, such as a deletion.

        Raises:
            ApiError: the API refused the request or gave no usable answer.
            ConfigError: the request can't be sent as it is.
        """
        request = self._request(method, path, operation=operation, params=params, query=query, headers=headers)
        content_type, body = _body(json, form, files, content)
        if body is not None:
            own = {} if content_type is None else {"content-type": content_type}
            request = _with_body(request, body, {**own, **request.headers})
        client = self._fresh_client()
        deadline_s = time.monotonic() + _budget(timeout).total_seconds()
        result = await client.send(request, deadline_s=deadline_s)
        if result.reply is None:
            failure = result.error or Failure(status=None)
            raise ApiError(failure, method=request.method, template=request.template)
        reply = result.reply
        return Response(status=reply.status, headers=reply.headers, body=reply.body, attempts=result.attempts)

    def _fresh_client(self) -> "Client":
        """The client with a retry budget for this call, and, if it has found the API down, with one more try."""
        if self._client.tripped:
            self._client.throttle.start_run()
        return dataclasses.replace(self._client, budget=RetryBudget())

    def _request(
        self,
        method: str,
        path: str,
        *,
        operation: Operation | str | None,
        params: Mapping[str, str] | None,
        query: Query | None,
        headers: Mapping[str, str] | None,
    ) -> Request:
        verb = method.upper()
        if verb not in _METHODS:
            raise ConfigError([f"the method {method!a} is none of {', '.join(sorted(_METHODS))}"])
        if not are_valid_headers(headers or {}):
            raise ConfigError(["the value of a header must be one line of printable ASCII"])
        if wrong := [name for name in headers or {} if not _HEADER_NAME.fullmatch(name)]:
            raise ConfigError([f"{wrong[0]!a} is no name of a header"])
        if own := sorted(name for name in headers or {} if name.lower() in _OWN_HEADERS):
            raise ConfigError([f"the header {own[0]} is set by the client: leave it out"])
        template, built = build_path(path, {**self.params, **(params or {})}, query or {})
        return Request(
            method=verb,
            path=built,
            template=template,
            operation=_operation(operation, verb),
            headers={name.lower(): value for name, value in (headers or {}).items()},
            max_bytes=_MAX_RESPONSE_BYTES,
        )

    async def _items(self, item_ids: str | Iterable[str], params: Mapping[str, str] | None) -> "list[WatchedItem]":
        given = [item_ids] if isinstance(item_ids, str) else list(item_ids)
        entries = entries_of(self._provider, given, params=params)
        return await run_in_database_pool(lambda: watched_items(self._app, self._target, self._provider, entries))

    def _question(self) -> tuple[str, str]:
        """Method and path template of the question about an item, for errors."""
        if is_list_only(self._provider):
            listed = self._provider.list_request()
            return (listed.method, listed.template) if listed else ("GET", "")
        names = self._target.sync_log.param_columns if self._target.sync_log else {}
        asked = request_for(self._provider, "id", dict.fromkeys(names, "value"))
        return asked.method, asked.template


def _operation(given: Operation | str | None, method: str) -> Operation:
    if given is None:
        return Operation.READ if method in _READING else Operation.WRITE
    allowed = [each for each in Operation if each is not Operation.TOKEN]
    if given not in allowed:
        raise ConfigError([f"the operation {given!a} is none of {', '.join(allowed)}"])
    return Operation(given)


def _body(
    json: object, form: Mapping[str, str] | None, files: Mapping[str, File] | None, content: bytes | None
) -> tuple[str | None, bytes | None]:
    """The content type and the body; None without one."""
    if sum((json is not None, bool(form or files), content is not None)) > 1:
        raise ConfigError(["a request has one body: give json, or form and files, or content"])
    if json is not None:
        try:
            return "application/json", json_module.dumps(json, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError([f"the body is no JSON value: {error}"]) from None
    if form or files:
        return encode_form(form or {}, files or {})
    return None, content


def _with_body(request: Request, body: bytes, headers: Mapping[str, str]) -> Request:
    return msgspec.structs.replace(request, body=body, headers=headers)


def _budget(timeout: timedelta | float | str) -> timedelta:
    """A budget in any of its forms. Raises ConfigError if it is none, or not above zero."""
    try:
        if isinstance(timeout, str):
            budget = parse_duration(timeout)
        else:
            budget = timeout if isinstance(timeout, timedelta) else timedelta(seconds=timeout)
    except (ValueError, OverflowError):
        budget = timedelta(0)
    if budget <= timedelta(0):
        raise ConfigError([f'the timeout {timeout!a} is no time above zero: give seconds, a timedelta, or "10m"'])
    return budget
