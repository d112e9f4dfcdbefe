"""Runs a coroutine in a new event loop: uvloop's where it is installed, else asyncio's. Both behave alike."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the loop; None stands for asyncio's own. uvloop has no package for Windows or PyPy, among others."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return None
    return new_event_loop


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """The coroutine's result. Like `asyncio.run`: SIGINT cancels it, and raises KeyboardInterrupt."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main)
