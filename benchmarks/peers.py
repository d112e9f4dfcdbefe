"""The other clients in the client benchmark, in their own process: `python benchmarks/peers.py JSON`, figures as JSON.

Each is a bare loop: it requests an item and parses the JSON, without retries, evaluation or storage.
"""

import asyncio
import json
import resource
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import httpx
import msgspec
import requests
from processes import CLIENT_CORE, hold_to, stats
from pyreqwest.client import ClientBuilder

_PATH = "/engine/v2/items/"
_HEADERS = {"Authorization": "Bearer bench"}
_Ask = Callable[[str], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    peer: str
    url: str
    items: int = 1
    concurrency: int = 1
    memory_mb: int = 0
    """The most memory that the process may map; 0 for no ceiling."""


async def _all(ids: Iterable[str], concurrency: int, ask: _Ask) -> None:
    shared = iter(ids)

    async def work() -> None:
        for item_id in shared:
            await ask(item_id)

    await asyncio.gather(*(work() for _ in range(concurrency)))


async def _httpx(base: str, ids: Iterable[str], concurrency: int) -> None:
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(limits=limits, headers=_HEADERS, timeout=None, trust_env=False) as client:  # noqa: S113  # speed

        async def ask(item_id: str) -> None:
            (await client.get(base + item_id)).raise_for_status().json()

        await _all(ids, concurrency, ask)


async def _aiohttp(base: str, ids: Iterable[str], concurrency: int) -> None:
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, headers=_HEADERS) as session:

        async def ask(item_id: str) -> None:
            async with session.get(base + item_id) as answer:
                answer.raise_for_status()
                await answer.json()

        await _all(ids, concurrency, ask)


async def _pyreqwest(base: str, ids: Iterable[str], concurrency: int) -> None:
    async with ClientBuilder().no_proxy().error_for_status().default_headers(_HEADERS).build() as client:

        async def ask(item_id: str) -> None:
            answer = await client.get(base + item_id).build().send()
            msgspec.json.decode(await answer.bytes())

        await _all(ids, concurrency, ask)


def _tutorial(base: str, ids: Iterable[str], _: int) -> None:
    """Like Gloo's tutorial: one request after another, each over a new connection."""
    for item_id in ids:
        answer = requests.get(base + item_id, headers=_HEADERS, timeout=30)
        answer.raise_for_status()
        answer.json()


_LOOPS: Mapping[str, Callable[[str, Iterable[str], int], Any]] = {
    "tutorial": _tutorial,
    "httpx": lambda *given: asyncio.run(_httpx(*given)),
    "aiohttp": lambda *given: asyncio.run(_aiohttp(*given)),
    "pyreqwest": lambda *given: asyncio.run(_pyreqwest(*given)),
}


def _run_candidates(options: _Options) -> dict[str, float]:
    ids = [str(uuid.uuid4()) for _ in range(options.items)]
    before, cpu_s, started_s = stats(options.url), time.process_time(), time.monotonic()
    _LOOPS[options.peer](options.url + _PATH, ids, options.concurrency)
    took_s, cpu_s = time.monotonic() - started_s, time.process_time() - cpu_s
    after = stats(options.url)
    return {
        "took_s": took_s,
        "cpu_share": cpu_s / took_s,
        "server_share": (after["cpu_s"] - before["cpu_s"]) / (after["at_s"] - before["at_s"]),
    }


_ONCE: Mapping[str, Callable[[str], object]] = {
    "requests, once": lambda url: requests.get(url, timeout=1).content,
    "httpx, once": lambda url: httpx.get(url, timeout=1, trust_env=False).content,
}
"""One item with a timeout of 1 s."""


def _asked_once(options: _Options) -> dict[str, float | str]:
    if options.memory_mb:
        ceiling = options.memory_mb << 20
        resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
    before_mb, started_s, ended = _peak_mb(), time.monotonic(), "an answer"
    try:
        _ONCE[options.peer](options.url + _PATH + str(uuid.uuid4()))
    except (requests.RequestException, httpx.HTTPError, MemoryError) as error:
        ended = type(error).__name__
    return {"took_s": time.monotonic() - started_s, "grown_mb": _peak_mb() - before_mb, "ended": ended}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    hold_to(CLIENT_CORE)
    wanted = _Options(**json.loads(sys.argv[1]))
    print(json.dumps(_asked_once(wanted) if wanted.peer in _ONCE else _run_candidates(wanted)))
