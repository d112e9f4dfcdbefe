"""The daemon's running tasks: they outlive the loops that started them, and are drained at shutdown."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from datetime import datetime

import structlog

from monitor.app import utcnow


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The time and `sleep`; tests replace both."""

    utcnow: Callable[[], datetime] = utcnow
    sleep: Callable[[float], Coroutine[None, None, None]] = asyncio.sleep

    async def sleep_until_set(self, event: asyncio.Event, seconds: float) -> None:
        """Sleeps for so many seconds, or until the event is set."""
        both = asyncio.ensure_future(self.sleep(seconds)), asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in both:
                each.cancel()


_RESTART_DELAY_S = 5.0


class RunningTasks:
    """Running tasks by name; at most one per name."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        """The number of running tasks."""
        return len(self._tasks)

    def running(self) -> Collection[asyncio.Task[None]]:
        """The tasks that run now."""
        return tuple(self._tasks.values())

    async def run(self, name: str, action: Callable[[], Awaitable[None]]) -> None:
        """Runs an action after the previous one of its name. Cancelling the caller does not cancel the action.

        An exception is logged and ends only this action.
        """
        while (previous := self._tasks.get(name)) is not None:
            await asyncio.wait((previous,))
        task = asyncio.ensure_future(_run_logged(name, action))
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name))
        # unlike `await task`, this neither cancels it nor raises its exception
        await asyncio.wait((task,))

    async def drain(self, *, timeout_s: float, force: asyncio.Event) -> None:
        """Waits for running tasks; cancels those that remain after the timeout (> 0), or when `force` is set."""
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
    """Runs a loop, and restarts it after a crash, which is logged."""
    while True:
        try:
            await loop()
        except Exception:  # noqa: BLE001  # a loop must not end unnoticed; logged with its traceback
            structlog.get_logger().exception("background_loop_crashed", loop=name)
            await asyncio.sleep(_RESTART_DELAY_S)
        else:
            return


async def _run_logged(name: str, action: Callable[[], Awaitable[None]]) -> None:
    try:
        await action()
    except Exception:  # noqa: BLE001  # a defect in one task must not end the daemon; it is logged with its traceback
        structlog.get_logger().exception("task_crashed", task=name)
