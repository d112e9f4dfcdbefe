"""Thread pools for blocking calls: one to read sync logs, one to renew leases, one for our own database, one to
look up names.

They are separate, so that a lease is renewed even while many sync logs hang or many runs wait for a database. A call
that is cancelled while it runs is abandoned: its thread can't be stopped, but another one takes its place, and neither
the run nor the end of the process waits for it.
"""

import asyncio
import contextlib
import contextvars
import os
import queue
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

MAX_SYNC_LOG_READS = 32
"""Sync logs read at a time; each also needs a connection to our own database."""
_MAX_LEASE_RENEWALS = 8
"""A renewal is one short write; hundreds fit into the lifetime of a lease."""
_MAX_DATABASE_CALLS = min(32, (os.cpu_count() or 1) + 4)
"""As many as asyncio's own pool has."""

_MAX_LOOKUPS = 32
"""Names looked up at a time: a look-up may hang for a minute, and is abandoned before."""

_T = TypeVar("_T")
_Task = tuple[Future[Any], Callable[[], Any]]


class StillRunningError(Exception):
    """An abandoned call for the same thing still hangs: another one would hang as well."""


class DaemonPool:
    """At most `max_workers` (≥ 1) daemon threads, started when needed and kept.

    Python's own pool is joined at exit: one call that hangs would keep the process from ending.
    """

    def __init__(self, max_workers: int, name: str) -> None:
        self._max_workers, self._name = max_workers, name
        self._tasks = queue.SimpleQueue[_Task]()
        self._lock = threading.Lock()
        self._workers = self._idle = self._waiting = 0

    def submit(self, work: Callable[[], _T]) -> "Future[_T]":
        """Runs the work in a thread, once one is free."""
        future: Future[_T] = Future()
        with self._lock:
            self._waiting += 1
        self._tasks.put((future, work))
        self._start_worker()
        return future

    def abandon(self, future: "Future[Any]") -> None:
        """Gives up a call: it is not begun, or its thread is replaced by another until it ends."""
        if future.cancel() or future.done():
            return
        self._resize(1)
        future.add_done_callback(lambda _: self._resize(-1))
        self._start_worker()

    def _resize(self, by: int) -> None:
        with self._lock:
            self._max_workers += by

    def _start_worker(self) -> None:
        with self._lock:
            if self._waiting <= self._idle or self._workers >= self._max_workers:
                return
            self._workers += 1
        threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if self._workers > self._max_workers:
                    self._workers -= 1
                    return
                self._idle += 1
            future, work = self._tasks.get()
            with self._lock:
                self._idle -= 1
                self._waiting -= 1
            if future.set_running_or_notify_cancel():
                _settle(future, work)
            del future, work  # else the result lives until the next call


def _settle(future: "Future[Any]", work: Callable[[], Any]) -> None:
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001  # raised again where it is awaited
        future.set_exception(error)
    else:
        future.set_result(result)


_lookup_pool = DaemonPool(_MAX_LOOKUPS, "lookup")
_sync_log_pool = DaemonPool(MAX_SYNC_LOG_READS, "sync-log")
_lease_pool = DaemonPool(_MAX_LEASE_RENEWALS, "lease")
_database_pool = DaemonPool(_MAX_DATABASE_CALLS, "database")
_reads: set[Hashable] = set()
"""The sync logs that a thread is reading, abandoned ones included."""


async def run_in_sync_log_pool(work: Callable[[], _T], *, key: Hashable) -> _T:
    """Runs blocking work on one sync log in a thread, with the caller's context. Raises what the work raises.

    Raises:
        StillRunningError: an abandoned call with this key still hangs.
    """
    if key in _reads:
        raise StillRunningError
    _reads.add(key)
    return await _run_in_pool(_sync_log_pool, work, at_end=lambda: _reads.discard(key))


async def run_in_lease_pool(work: Callable[[], _T]) -> _T:
    """Runs short blocking work in a thread for leases, with the caller's context. Raises what the work raises."""
    return await _run_in_pool(_lease_pool, work)


async def run_in_database_pool(work: Callable[[], _T]) -> _T:
    """Runs blocking work on our own database, or with files, in a thread, with the caller's context. Raises what the
    work raises.
    """
    return await _run_in_pool(_database_pool, work)


async def run_in_lookup_pool(work: Callable[[], _T]) -> _T:
    """Looks up a name in a thread, with the caller's context. Raises what the work raises."""
    return await _run_in_pool(_lookup_pool, work)


async def _run_in_pool(pool: DaemonPool, work: Callable[[], _T], *, at_end: Callable[[], object] = int) -> _T:
    """`at_end` is called when the work has ended, or was cancelled before it began."""
    context = contextvars.copy_context()
    future = pool.submit(lambda: context.run(work))
    future.add_done_callback(lambda _: at_end())
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        pool.abandon(future)
        raise


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
