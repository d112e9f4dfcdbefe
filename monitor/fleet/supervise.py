"""Repairs what deaths left behind: any process may do it at any time, and doing it twice changes nothing.

1. Jobs of dead workers wait again.
2. A run whose lease another one acquired is given up; other open runs keep their lease until their deadline.
3. Shares that wait and have no job are queued again, and so are those whose worker is silent.
4. Runs that are to be closed, and those whose deadline passed, are queued to be closed.
5. Claims on limits of dead processes are deleted.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy import Connection, Engine

from monitor.database import leases
from monitor.database.engine import limit_idle_transaction, writing
from monitor.errors import LeaseLostError
from monitor.fleet import share_store
from monitor.fleet.closing import end_shares
from monitor.fleet.handlers import ShareQueue
from monitor.fleet.share_check import lease_is_due, lease_ttl
from monitor.fleet.share_store import OpenRun, QueuedShare
from monitor.fleet.shares import CLOSE_GRACE, is_to_close
from monitor.runs import throttle_claims
from monitor.threads import run_in_database_pool

FORGET_CLAIMS_AFTER = 10
"""Stall times after which a claim on limits that nobody renewed is deleted; it counts no longer after one."""
GIVE_UP_AFTER = timedelta(hours=1)
"""After the deadline: a run that nobody closed by then, as its target is no longer configured, is given up."""


class RepairableQueue(ShareQueue, Protocol):
    """A queue that finds the jobs of dead workers."""

    async def retry_stalled(self) -> int:
        """Makes them wait again; returns how many."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repairs:
    """What may have to be queued."""

    freed: list[QueuedShare] = field(default_factory=list)
    """Shares whose worker is silent."""
    waiting: list[list[QueuedShare]] = field(default_factory=list)
    """By run, the shares that wait, those that come first first."""
    closes: list[int] = field(default_factory=list)


async def supervise_once(
    engine: Engine, queue: RepairableQueue, *, stalled_after: timedelta, lease_now: Callable[[Connection], datetime]
) -> None:
    """Does all of it once. Raises StoreError if the database can't be used."""
    if retried := await queue.retry_stalled():
        structlog.get_logger().warning("jobs_taken_over", jobs=retried)
    repairs = await run_in_database_pool(lambda: _repair(engine, stalled_after, lease_now))
    for share in repairs.freed:
        await queue.defer_share(share.run_id, share.number, share.priority)
        structlog.get_logger().warning("share_taken_over", **_fields(share), worker=share.worker)
    for waiting in repairs.waiting:
        for share in waiting:
            # the first that has a job shows that the others have: they were queued in this order
            if not await queue.defer_share(share.run_id, share.number, share.priority):
                break
            structlog.get_logger().warning("share_queued_again", **_fields(share))
    for run_id in repairs.closes:
        await queue.defer_close(run_id)


def _fields(share: QueuedShare) -> dict[str, object]:
    return {"run_id": share.run_id, "integration": share.target, "share": share.number}


def _repair(engine: Engine, stalled_after: timedelta, lease_now: Callable[[Connection], datetime]) -> _Repairs:
    """Writes what can be repaired in the database, in one transaction; nothing but two look-ups if no run is open."""
    repairs, ttl = _Repairs(), lease_ttl(stalled_after)
    with writing(engine) as conn:
        limit_idle_transaction(conn)
        now = lease_now(conn)
        throttle_claims.forget_dead(conn, before=now - FORGET_CLAIMS_AFTER * stalled_after)
        runs = share_store.open_runs(conn)
        if not runs:
            return repairs
        repairs.freed.extend(share_store.free_silent(conn, now=now, stalled_after=stalled_after))
        for run in runs:
            if not run.holds_lease or now >= run.deadline_at + GIVE_UP_AFTER:
                end_shares(conn, run_id=run.run_id, now=now)
                leases.release(conn, target=run.target, epoch=run.epoch)
                structlog.get_logger().warning("shared_run_given_up", run_id=run.run_id, integration=run.target)
                continue
            in_time = now < run.deadline_at + CLOSE_GRACE  # afterwards the next run need not wait for it
            if in_time and lease_is_due(run.lease_ends_at, now=now, ttl=ttl):
                with suppress(LeaseLostError):  # it was closed meanwhile
                    leases.renew(conn, target=run.target, epoch=run.epoch, now=now, ttl=ttl)
            _look_at(conn, run, repairs, now, stalled_after)
    return repairs


def _look_at(conn: Connection, run: OpenRun, repairs: _Repairs, now: datetime, stalled_after: timedelta) -> None:
    shares = share_store.progress(conn, run_id=run.run_id)
    is_due = is_to_close(shares, stopped=run.stopped, deadline_at=run.deadline_at, now=now, stalled_after=stalled_after)
    if is_due:
        repairs.closes.append(run.run_id)
    elif waiting := share_store.claim_unqueued(conn, run_id=run.run_id, now=now, stalled_after=stalled_after):
        repairs.waiting.append(waiting)
