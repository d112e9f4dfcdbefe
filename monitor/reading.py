"""Threads for reading sync logs, apart from those for our own database: who waits for a log that hangs, waits alone.

They do nothing else, so that a lease is renewed and a message marked however many logs hang.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["AT_ONCE", "read_aside"]

AT_ONCE = 32
"""So many logs are read at one time; each takes a connection to our own database along."""

_readers = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="sync-log")
_T = TypeVar("_T")


async def read_aside(work: Callable[[], _T]) -> _T:
    """Does the work in a thread for sync logs, with the context of the caller, and gives its result.

    Args:
        work: blocking; what it raises is raised here.
    """
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_readers, context.run, work)
