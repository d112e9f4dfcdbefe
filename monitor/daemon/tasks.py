"""The daemon's work under way: tasks that outlive the loops that began them, and what becomes of them at the end."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from datetime import datetime

import structlog

from monitor.app import utcnow


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The time, and how to let it pass."""

    utcnow: Callable[[], datetime] = utcnow
    sleep: Callable[[float], Coroutine[None, None, None]] = asyncio.sleep

    async def sleep_until_set(self, event: asyncio.Event, seconds: float) -> None:
        """Sleeps for so long, or until the event is set."""
        both = asyncio.ensure_future(self.sleep(seconds)), asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in both:
                each.cancel()


_RESTART_DELAY_S = 5.0


class RunningTasks:
    """Pieces of work under way, by name: that of one name is never done twice at a time."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._tasks)

    def running(self) -> Collection[asyncio.Task[None]]:
        """Those of this moment."""
        return tuple(self._tasks.values())

    async def run(self, name: str, action: Callable[[], Awaitable[None]]) -> None:
        """Does a piece of work, after the one of its name that is still under way. Whoever waits may be cancelled.

        What it raises is logged, and ends nothing but it.
        """
        while (previous := self._tasks.get(name)) is not None:
            await asyncio.wait((previous,))
        task = asyncio.ensure_future(_run_logged(name, action))
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name))
        # neither cancels it nor raises what ended it
        await asyncio.wait((task,))

    async def drain(self, *, timeout_s: float, force: asyncio.Event) -> None:
        """Waits for work under way; what does not end in time, or when somebody hurries, is cancelled.

        Args:
            timeout_s: seconds (> 0).
            force: set by a second signal.
        """
        forcing = asyncio.ensure_future(force.wait())
        all_tasks = asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await asyncio.wait((all_tasks, forcing), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        forcing.cancel()
        unfinished = self.running()
        for task in unfinished:
            task.cancel()
        if unfinished:
            structlog.get_logger().warning("tasks_cancelled", tasks=sorted(self._tasks))
        await asyncio.gather(all_tasks, forcing, return_exceptions=True)


async def run_forever(name: str, loop: Callable[[], Awaitable[None]]) -> None:
    """Keeps a loop of the daemon's going: a defect in it is logged, and it begins anew."""
    while True:
        try:
            await loop()
        except Exception:  # noqa: BLE001  # one target's schedule must not stand still unseen; logged with its traceback
            structlog.get_logger().exception("background_loop_crashed", loop=name)
            await asyncio.sleep(_RESTART_DELAY_S)
        else:
            return


async def _run_logged(name: str, action: Callable[[], Awaitable[None]]) -> None:
    """Work that crashes is logged; the next comes all the same."""
    try:
        await action()
    except Exception:  # noqa: BLE001  # a defect in one piece must not end the daemon; it is logged with its traceback
        structlog.get_logger().exception("task_crashed", task=name)
