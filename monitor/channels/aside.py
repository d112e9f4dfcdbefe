"""Blocking work beside the event loop, for libraries that know no deadline. It can't stop the work, only leave it."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["aside"]

_T = TypeVar("_T")


async def aside(work: Callable[[], _T], *, timeout_s: float) -> _T:
    """Does the work in a thread of its own, which the end of the process does not wait for, and gives its result.

    Args:
        work: blocking; what it raises is raised here.
        timeout_s: wall-clock seconds (> 0) after which it is left to itself.

    Raises:
        TimeoutError: it took longer.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # without an error it is the work's own

    def run() -> None:
        result, failed = None, None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  # raised again where it is awaited
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failed)

    # not `asyncio.to_thread`, whose threads the interpreter joins before it ends
    threading.Thread(target=run, name="channel", daemon=True).start()
    async with asyncio.timeout(timeout_s):
        return await done
