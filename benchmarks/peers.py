"""The other clients in the client benchmark, in their own process: `python benchmarks/peers.py JSON`.

Each is a bare loop: it requests an item and parses the JSON, without retries, evaluation or storage.
"""

import asyncio
import json
import resource
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from id_logs import item_id

_PATH = "/engine/v2/items/"
_HEADERS = {"Authorization": "Bearer bench"}
_Ask = Callable[[str], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    peer: str
    url: str
    items: int = 1
    in_flight: int = 1
    ca_file: str | None = None

    @property
    def base(self) -> str:
        return self.url + _PATH

    @property
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)

    @property
    def authority(self) -> bytes:
        return Path(self.ca_file).read_bytes() if self.ca_file else b""

    @property
    def ids(self) -> list[str]:
        return [item_id(number) for number in range(self.items)]


async def _all(options: _Options, ask: _Ask) -> None:
    shared = iter(options.ids)

    async def work() -> None:
        for each in shared:
            await ask(options.base + each)

    await asyncio.gather(*(work() for _ in range(options.in_flight)))


async def _httpx(options: _Options) -> None:
    import httpx

    limits = httpx.Limits(max_connections=options.in_flight, max_keepalive_connections=options.in_flight)
    verify = options.context if options.ca_file else True
    async with httpx.AsyncClient(
        limits=limits, headers=_HEADERS, timeout=600, trust_env=False, verify=verify
    ) as client:

        async def ask(url: str) -> None:
            (await client.get(url)).raise_for_status().json()

        await _all(options, ask)


async def _aiohttp(options: _Options) -> None:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=options.in_flight, ssl=options.context if options.ca_file else True)
    async with aiohttp.ClientSession(connector=connector, headers=_HEADERS) as session:

        async def ask(url: str) -> None:
            async with session.get(url) as answer:
                answer.raise_for_status()
                await answer.json()

        await _all(options, ask)


async def _pyreqwest(options: _Options, authority: bytes) -> None:
    import msgspec
    from pyreqwest.client import ClientBuilder

    builder = ClientBuilder().no_proxy().error_for_status().default_headers(_HEADERS)
    if authority:
        builder = builder.add_root_certificate_pem(authority)
    async with builder.build() as client:

        async def ask(url: str) -> None:
            answer = await client.get(url).build().send()
            msgspec.json.decode(await answer.bytes())

        await _all(options, ask)


def _requests(options: _Options) -> None:
    """Like Gloo's tutorial: one request after another, each over a new connection."""
    import requests

    for each in options.ids:
        answer = requests.get(options.base + each, headers=_HEADERS, timeout=30, verify=options.ca_file or True)
        answer.raise_for_status()
        answer.json()


async def _json_list(options: _Options) -> None:
    """The whole list with httpx and `json.loads`."""
    import httpx

    path = "/engine/v2/publisher/11111111-1111-4111-8111-111111111111/items"
    async with httpx.AsyncClient(timeout=600, trust_env=False) as client:
        rows = json.loads((await client.get(options.url + path)).content)
    print(len({row["item_id"]: row["status"] for row in rows}))


_LOOPS: Mapping[str, Callable[[_Options], Any]] = {
    "requests": _requests,
    "httpx": lambda options: asyncio.run(_httpx(options)),
    "aiohttp": lambda options: asyncio.run(_aiohttp(options)),
    "pyreqwest": lambda options: asyncio.run(_pyreqwest(options, options.authority)),
    "list": lambda options: asyncio.run(_json_list(options)),
}


def _requests_once(url: str) -> object:
    import requests

    return requests.get(url, timeout=1).content


def _httpx_once(url: str) -> object:
    import httpx

    return httpx.get(url, timeout=1, trust_env=False).content


_ONCE: Mapping[str, Callable[[str], object]] = {"requests, once": _requests_once, "httpx, once": _httpx_once}
"""One item with a timeout of 1 s."""


def _asked_once(options: _Options) -> dict[str, float | str]:
    before_mb, began_s, ended = _peak_mb(), time.monotonic(), "an answer"
    try:
        _ONCE[options.peer](options.base + item_id(0))
    except Exception as error:  # noqa: BLE001  # the name of any is the result
        ended = type(error).__name__
    return {"took_s": time.monotonic() - began_s, "grown_mb": _peak_mb() - before_mb, "ended": ended}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    wanted = _Options(**json.loads(sys.argv[1]))
    if wanted.peer in _ONCE:
        print(json.dumps(_asked_once(wanted)))
    else:
        _LOOPS[wanted.peer](wanted)
        print("done", flush=True)
