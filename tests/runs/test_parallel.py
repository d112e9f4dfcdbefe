"""How many runs are in progress at a time."""

import asyncio

import pytest

from monitor.runs.parallel import ParallelRuns, default_parallel


@pytest.mark.parametrize(
    ("processors", "on_sqlite", "expected"),
    [(1, False, 16), (2, False, 16), (4, False, 32), (64, False, 64), (64, True, 16), (1, True, 16)],
)
def test_by_default_as_many_run_as_processors_and_database_can_serve(processors, on_sqlite, expected):
    assert default_parallel(on_sqlite=on_sqlite, processors=processors) == expected
    assert 16 <= default_parallel(on_sqlite=on_sqlite) <= 64


async def most_at_a_time(parallel, runs, *, end=None):
    running, most, order = 0, 0, []

    async def run(number):
        nonlocal running, most
        async with parallel.one():
            running += 1
            most = max(most, running)
            order.append(number)
            await (asyncio.sleep(0) if end is None else end.wait())
            running -= 1

    tasks = [asyncio.create_task(run(number)) for number in range(runs)]
    return tasks, lambda: (most, order)


@pytest.mark.parametrize("parallel", [1, 3])
async def test_no_more_than_the_chosen_number_run_at_a_time_in_their_order(parallel):
    tasks, seen = await most_at_a_time(ParallelRuns(parallel, on_sqlite=True), 10)
    await asyncio.gather(*tasks)
    assert seen() == (parallel, list(range(10)))


async def test_runs_that_wait_for_their_api_do_not_hold_back_the_others():
    end = asyncio.Event()
    tasks, seen = await most_at_a_time(ParallelRuns(on_sqlite=True, patience_s=0.01), 40, end=end)
    while seen()[0] < 40:  # noqa: ASYNC110  # timers of the loop
        await asyncio.sleep(0.01)
    end.set()
    await asyncio.gather(*tasks)
    assert seen()[0] == 40


async def test_a_chosen_number_holds_however_long_a_run_lasts():
    end = asyncio.Event()
    tasks, seen = await most_at_a_time(ParallelRuns(2, on_sqlite=True, patience_s=0.001), 5, end=end)
    await asyncio.sleep(0.05)
    assert seen()[0] == 2
    end.set()
    await asyncio.gather(*tasks)
    assert seen()[0] == 2


async def test_a_run_that_fails_or_is_cancelled_makes_room_for_the_next():
    parallel = ParallelRuns(1, on_sqlite=True)
    with pytest.raises(ValueError, match="defect"):
        async with parallel.one():
            raise ValueError("defect")
    holder = asyncio.Event()
    (first, second, third), seen = await most_at_a_time(parallel, 3, end=holder)
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    holder.set()
    await asyncio.gather(first, second, return_exceptions=True)
    await third
    assert seen()[1][-1] == 2
