"""Thread pools for blocking calls: one to read sync logs, one to renew leases.

They are separate, so that a lease is renewed even while many sync logs hang or many runs wait for a database.
"""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

MAX_SYNC_LOG_READS = 32
"""Sync logs read at a time; each also needs a connection to our own database."""
_MAX_LEASE_RENEWALS = 8
"""A renewal is one short write; hundreds fit into the lifetime of a lease."""

_sync_log_pool = ThreadPoolExecutor(max_workers=MAX_SYNC_LOG_READS, thread_name_prefix="sync-log")
_lease_pool = ThreadPoolExecutor(max_workers=_MAX_LEASE_RENEWALS, thread_name_prefix="lease")
_T = TypeVar("_T")


async def run_in_sync_log_pool(work: Callable[[], _T]) -> _T:
    """Runs blocking work in a thread for sync logs, with the caller's context. Raises what the work raises."""
    return await _run_in_pool(_sync_log_pool, work)


async def run_in_lease_pool(work: Callable[[], _T]) -> _T:
    """Runs short blocking work in a thread for leases, with the caller's context. Raises what the work raises."""
    return await _run_in_pool(_lease_pool, work)


async def _run_in_pool(executor: Executor, work: Callable[[], _T]) -> _T:
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(executor, context.run, work)


async def run_in_thread(work: Callable[[], _T], *, timeout_s: float) -> _T:
    """Runs blocking work in its own thread, which the end of the process does not wait for. Raises what the work
    raises.

    Raises:
        TimeoutError: it took longer than `timeout_s` (> 0, wall clock) and was abandoned.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # without an error it is the work's result

    def run() -> None:
        result, failed = None, None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  # raised again where it is awaited
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, failed)

    # not `asyncio.to_thread`: the interpreter joins its threads before it exits
    threading.Thread(target=run, name="channel", daemon=True).start()
    async with asyncio.timeout(timeout_s):
        return await done
