"""Connects to the addresses of a host, as browsers do: the next one begins while one is silent (RFC 8305)."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import TypeVar

from monitor.threads import run_in_lookup_pool

HEAD_START_S = 0.3
"""Seconds that one address has before the next is tried too; it goes on meanwhile."""

_T = TypeVar("_T")


async def addresses_of(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, in the order in which to try them. An address stands for itself.

    Raises:
        socket.gaierror: it has none.
    """
    if _is_address(host):
        return [host]
    try:
        found = await run_in_lookup_pool(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except UnicodeError:  # no label of a name is empty, or longer than 63 characters
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from None
    first = [str(each[4][0]) for each in found if each[0] == found[0][0]]
    second = [str(each[4][0]) for each in found if each[0] != found[0][0]]
    # RFC 8305, 4: the families take turns
    return list(dict.fromkeys(address for address in chain(*zip_longest(first, second)) if address is not None))


async def first_connected(
    addresses: Sequence[str], connect: Callable[[str], Awaitable[_T]], discard: Callable[[_T], object], *, each_s: float
) -> _T:
    """The first connection that is made; others that come too late are discarded. An address may take `each_s` seconds.

    Raises:
        OSError: no address could be connected to; it is the error of the last one.
    """
    if len(addresses) == 1:
        return await connect(addresses[0])
    waiting, running = list(addresses), set[asyncio.Task[_T]]()
    failure: OSError = ConnectionRefusedError()
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.ensure_future(_within(each_s, connect(waiting.pop(0)))))
            done, running = await asyncio.wait(
                running, timeout=HEAD_START_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in done:
                error = attempt.exception()
                if error is None:
                    running |= done - {attempt}
                    return attempt.result()
                if not isinstance(error, OSError):
                    raise error
                failure = error
        raise failure
    finally:
        for attempt in running:
            attempt.add_done_callback(lambda ended: _discard(ended, discard))
            attempt.cancel()
        if running:
            await asyncio.wait(running)


async def _within(limit_s: float, connecting: Awaitable[_T]) -> _T:
    async with asyncio.timeout(limit_s):
        return await connecting


def _discard(ended: "asyncio.Task[_T]", discard: Callable[[_T], object]) -> None:
    if not ended.cancelled() and ended.exception() is None:
        discard(ended.result())


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
