"""Threads apart from those for our own database: some for reading sync logs, a few for renewing leases.

They do nothing else, so that a lease is renewed however many logs hang and however many runs wait for a database.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["AT_ONCE", "read_aside", "renew_aside"]

AT_ONCE = 32
"""So many logs are read at one time; each takes a connection to our own database along."""
_RENEWED_AT_ONCE = 8
"""A renewal is one short write, and hundreds are done in the time that one lease lives."""

_readers = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="sync-log")
_renewers = ThreadPoolExecutor(max_workers=_RENEWED_AT_ONCE, thread_name_prefix="lease")
_T = TypeVar("_T")


async def read_aside(work: Callable[[], _T]) -> _T:
    """Does the work in a thread for sync logs, with the context of the caller, and gives its result.

    Args:
        work: blocking; what it raises is raised here.
    """
    return await _aside(_readers, work)


async def renew_aside(work: Callable[[], _T]) -> _T:
    """Does the work in a thread for leases, likewise: no run that waits for a database keeps it from its turn.

    Args:
        work: blocking, and short; what it raises is raised here.
    """
    return await _aside(_renewers, work)


async def _aside(threads: Executor, work: Callable[[], _T]) -> _T:
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(threads, context.run, work)
