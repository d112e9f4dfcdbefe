"""Bounds every wait of one run: whatever an API, a database or a file does, it ends by its deadline and 5 s of grace.

`TimeLimit.enforce` is around a whole run, and it alone is the guarantee. What is inside stops earlier, so that there is
time to store what was finished: the sync log and the requests end with the deadline, a worker shortly after it.

All of this needs a free event loop: blocking calls go to the pools of `monitor.threads`, which can abandon a thread.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar

from monitor.errors import RunOverdueError
from monitor.model.durations import format_duration

GRACE_S = 5.0
"""Seconds after the deadline by which a run has ended."""
DEADLINE_GRACE_S = 1.5
"""Seconds after the deadline that requests and the sync log may take to end: the rest is for storing."""
SIGNAL_GRACE_S = 7.5
"""Seconds after a signal by which a run has ended; the process is ended by force after 9.5 s."""
_CANCEL_S = 1.0
"""Seconds for what was cancelled to end: it may release the lease."""

_T = TypeVar("_T")


class TimeLimit:
    """The time of one run. `step` names what it works on, for the error."""

    def __init__(self, *, target: str, deadline: timedelta, interrupt: asyncio.Event) -> None:
        self._target, self._deadline, self._interrupt = target, deadline, interrupt
        self.deadline_s = time.monotonic() + deadline.total_seconds()
        """On the monotonic clock."""
        self._end_s = self.deadline_s + GRACE_S
        self.step = "the database"

    def should_stop(self) -> bool:
        """Whether it is no use to try again: a signal came, or the run ends soon. Callable from any thread."""
        return self._interrupt.is_set() or time.monotonic() >= self._end_s - _CANCEL_S

    async def enforce(self, run: Coroutine[Any, Any, _T]) -> _T:
        """The result of a run; cancels it in time, and abandons it if it does not end even then.

        Raises:
            RunOverdueError: it did not end in time. What it stored remains.
        """
        running = asyncio.create_task(run)
        interrupted = asyncio.create_task(self._interrupt.wait())
        try:
            await asyncio.wait((running, interrupted), timeout=self._left_s(), return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                await asyncio.wait((running,), timeout=min(self._left_s(), SIGNAL_GRACE_S - _CANCEL_S))
        except asyncio.CancelledError:
            await settle(running, interrupted, timeout_s=GRACE_S)
            raise
        await settle(running, interrupted)
        if running.done() and not running.cancelled():
            return running.result()
        raise RunOverdueError(
            f"target {self._target}: the run was ended, since {self.step} did not answer within its deadline "
            f"({format_duration(self._deadline)}) and {GRACE_S:.0f} s of grace; look at {self.step}. "
            "What was stored remains, and the next run goes on from there"
        )

    @asynccontextmanager
    async def closing(self, opened: AbstractAsyncContextManager[_T]) -> AsyncIterator[_T]:
        """The same context; once the deadline has passed, it may take a second to close, and is abandoned then."""
        value = await opened.__aenter__()
        try:
            yield value
        finally:
            closing = asyncio.ensure_future(opened.__aexit__(None, None, None))
            await asyncio.wait((closing,), timeout=max(_CANCEL_S, self.deadline_s - time.monotonic()))
            if closing.done():
                closing.result()
            closing.cancel()

    def _left_s(self) -> float:
        """Seconds until the run is cancelled (≥ 0)."""
        return max(0.0, self._end_s - _CANCEL_S - time.monotonic())


async def settle(*tasks: asyncio.Task[Any], timeout_s: float = _CANCEL_S) -> None:
    """Cancels tasks and waits until they ended, but not for long: a task may swallow its cancellation."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=timeout_s)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()  # the caller asks the tasks that matter; the others must not be logged as forgotten
