"""The lease and the row of a run, if threads are busy or the run is cancelled."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest

from monitor.errors import LeaseLostError
from monitor.runs.progress import NoProgress
from monitor.runs.report import RunContext
from monitor.runs.run import Run
from monitor.runs.store import PastRuns
from monitor.threads import run_in_database_pool

OPEN = "SELECT status, abort_reason, finished_at FROM runs"


def begun(world, **changes):
    """A run against an API that hangs."""
    world.track(2)
    world.sandbox.add_fault(path="/engine", delay_s=60)
    return asyncio.create_task(Run(world.job(**changes), interrupt=asyncio.Event(), progress=NoProgress())())


async def asking(world):
    while world.sandbox.stats()["max_in_flight"] < 1:  # noqa: ASYNC110  # a sandbox in a process of its own
        await asyncio.sleep(0.02)


async def test_a_lease_is_renewed_while_all_database_threads_are_busy(small_world):
    gate = threading.Event()
    lease = {"lease_ttl": timedelta(seconds=0.3), "lease_now": lambda _conn: datetime.now(UTC)}
    running = begun(small_world, **lease)
    await asking(small_world)
    stuck = [asyncio.create_task(run_in_database_pool(lambda: gate.wait(60))) for _ in range(40)]
    ends = set()
    while len(ends) < 4:
        ends |= {row["expires_at"] for row in small_world.rows("SELECT expires_at FROM leases")}
        await asyncio.sleep(0.02)
    gate.set()
    assert all(await asyncio.gather(*stuck)), "none had given up by then"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_cancelled_run_is_closed_as_crashed_and_releases_its_lease(world):
    running = begun(world)
    await asking(world)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    (row,) = world.rows(OPEN)
    assert (row["status"], row["abort_reason"]) == ("crashed", None)
    assert row["finished_at"] is not None
    assert world.rows("SELECT holder FROM leases") == [{"holder": None}]
    assert world.rows("SELECT 1 FROM snapshots") == []


def test_a_closed_run_is_not_changed(world):
    world.track(2)
    world.run()
    assert [(row["status"], row["abort_reason"]) for row in world.rows(OPEN)] == [("complete", None)]


def test_a_run_releases_its_lease_with_the_transaction_that_closes_it(world):
    world.track(2)
    world.run()
    assert world.rows("SELECT holder, expires_at FROM leases") == [{"holder": None, "expires_at": None}]


async def test_a_renewal_that_waited_for_the_end_of_its_own_run_has_lost_nothing(small_world):
    """It finds the lease released by the transaction that it waited for."""
    world = small_world
    world.track(1)
    run = Run(world.job(), interrupt=asyncio.Event(), progress=NoProgress())
    report = await run()
    context = RunContext(target="gloo", run_id=report.run_id, epoch=1, at=world.clock(), past=PastRuns())
    run._renew(context)
    with world.app.engine.begin() as conn:
        conn.exec_driver_sql("UPDATE runs SET status = 'running'")
    with pytest.raises(LeaseLostError):
        run._renew(context)
