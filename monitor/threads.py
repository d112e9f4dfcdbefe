"""Threads apart from those for our own database: some for reading sync logs, a few for renewing leases.

They do nothing else, so that a lease is renewed however many logs hang and however many runs wait for a database.
"""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

MAX_SYNC_LOG_READS = 32
"""So many logs are read at one time; each takes a connection to our own database along."""
_MAX_LEASE_RENEWALS = 8
"""A renewal is one short write, and hundreds are done in the time that one lease lives."""

_sync_log_pool = ThreadPoolExecutor(max_workers=MAX_SYNC_LOG_READS, thread_name_prefix="sync-log")
_lease_pool = ThreadPoolExecutor(max_workers=_MAX_LEASE_RENEWALS, thread_name_prefix="lease")
_T = TypeVar("_T")


async def run_in_sync_log_pool(work: Callable[[], _T]) -> _T:
    """Does the work in a thread for sync logs, with the context of the caller, and gives its result.

    Args:
        work: blocking; what it raises is raised here.
    """
    return await _run_in_pool(_sync_log_pool, work)


async def run_in_lease_pool(work: Callable[[], _T]) -> _T:
    """Does the work in a thread for leases, likewise: no run that waits for a database keeps it from its turn.

    Args:
        work: blocking, and short; what it raises is raised here.
    """
    return await _run_in_pool(_lease_pool, work)


async def _run_in_pool(executor: Executor, work: Callable[[], _T]) -> _T:
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(executor, context.run, work)


async def run_in_thread(work: Callable[[], _T], *, timeout_s: float) -> _T:
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
