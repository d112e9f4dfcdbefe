"""Blocking calls in threads: what they return, and what becomes of one that hangs."""

import asyncio
import contextvars
import threading

import pytest

from monitor import threads
from monitor.threads import DaemonPool, StillRunningError, run_in_database_pool, run_in_sync_log_pool

NAME = contextvars.ContextVar("NAME", default="nobody")


async def started(event):
    while not event.is_set():  # noqa: ASYNC110  # set by a thread
        await asyncio.sleep(0.001)


class Hanging:
    """A call that hangs until it is let go."""

    def __init__(self):
        self.begun, self.gate = threading.Event(), threading.Event()

    def __call__(self):
        self.begun.set()
        self.gate.wait(60)
        return "late"


@pytest.fixture
def small_pool(monkeypatch):
    pool = DaemonPool(1, "small")
    monkeypatch.setattr(threads, "_database_pool", pool)
    return pool


async def test_a_call_returns_or_raises_what_its_work_does_in_the_callers_context():
    def fail():
        raise ValueError("no")

    NAME.set("caller")
    assert await run_in_database_pool(NAME.get) == "caller"
    with pytest.raises(ValueError, match="no"):
        await run_in_database_pool(fail)


async def test_many_calls_share_the_threads(small_pool):
    names = await asyncio.gather(*(run_in_database_pool(lambda: threading.current_thread().ident) for _ in range(50)))
    assert len(set(names)) == 1


async def test_a_call_that_is_cancelled_while_it_hangs_takes_no_thread_from_others(small_pool):
    hanging = Hanging()
    call = asyncio.create_task(run_in_database_pool(hanging))
    await started(hanging.begun)
    waiting = asyncio.create_task(run_in_database_pool(lambda: "done"))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    call.cancel()
    assert await waiting == "done"
    assert call.cancelled()
    hanging.gate.set()
    assert await asyncio.gather(*(run_in_database_pool(lambda: 1) for _ in range(5))) == [1] * 5


async def test_a_call_that_is_cancelled_before_it_begins_never_begins(small_pool):
    hanging, begun = Hanging(), []
    first = asyncio.create_task(run_in_database_pool(hanging))
    await started(hanging.begun)
    second = asyncio.create_task(run_in_database_pool(lambda: begun.append(1)))
    await asyncio.sleep(0.01)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    hanging.gate.set()
    assert await first == "late"
    await run_in_database_pool(lambda: None)
    assert begun == []


async def test_a_sync_log_that_an_abandoned_call_still_reads_is_not_read_again():
    hanging = Hanging()
    call = asyncio.create_task(run_in_sync_log_pool(hanging, key="log"))
    await started(hanging.begun)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    with pytest.raises(StillRunningError):
        await run_in_sync_log_pool(lambda: "again", key="log")
    assert await run_in_sync_log_pool(lambda: "other", key="another log") == "other"
    hanging.gate.set()
    async with asyncio.timeout(60):
        while True:
            try:
                assert await run_in_sync_log_pool(lambda: "again", key="log") == "again"
                break
            except StillRunningError:
                await asyncio.sleep(0.001)
