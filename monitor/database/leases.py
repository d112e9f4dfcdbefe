"""One run per target at a time: a lease that expires, and an epoch that fences off whoever outlived it.

Every function works inside the caller's transaction and commits nothing. By whose clock leases run says `lease_now`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, func, or_, select, update

from monitor.database.engine import insert, limit_idle_transaction
from monitor.database.tables import leases
from monitor.errors import LeaseHeldError, LeaseLostError

_WRITE_PROBE = ":proof"
_MAX_TTLS_AHEAD = 2
"""No holder is alive whose lease ends later than so many of its spans from now: its clock was ahead, and it is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who holds a target, since when and until when."""

    target: str
    holder: str
    """As `host:pid`."""
    epoch: int
    acquired_at: datetime
    expires_at: datetime
    """From then on anyone may take it."""


def lease_now(conn: Connection, *, utcnow: Callable[[], datetime]) -> datetime:
    """The time by which leases are taken and end.

    A PostgreSQL server has processes on many machines, whose clocks may be far apart: its own clock counts. A SQLite
    file has those of one machine, and they share its clock.

    Args:
        conn: the connection.
        utcnow: this process's clock.
    """
    if conn.dialect.name == "sqlite":
        return utcnow()
    server_now: datetime = conn.execute(select(func.clock_timestamp())).scalar_one()
    return server_now


def acquire(conn: Connection, *, target: str, holder: str, now: datetime, ttl: timedelta) -> int:
    """Takes the lease of a target that nobody holds, or whose holder let it expire.

    It is one statement, so that of many processes at once exactly one gets it. A lease that ends absurdly late was left
    by a clock that was ahead; should its holder live all the same (the clock was set back), the epoch fences it off.

    Args:
        conn: a writing transaction.
        target: what to hold.
        holder: who takes it, as `host:pid`.
        now: see `lease_now`.
        ttl: how long it lasts, the same for all holders.

    Returns:
        The epoch, greater than any before it for this target: the fencing token of all that the run writes.

    Raises:
        LeaseHeldError: when an unexpired holder exists.
    """
    limit_idle_transaction(conn)
    row = {"holder": holder, "acquired_at": now, "expires_at": now + ttl}
    statement = (
        insert(conn, leases)
        .values(target=target, epoch=1, **row)
        .on_conflict_do_update(
            index_elements=[leases.c.target],
            set_={"epoch": leases.c.epoch + 1, **row},
            where=or_(
                leases.c.holder.is_(None), leases.c.expires_at <= now, leases.c.expires_at > now + _MAX_TTLS_AHEAD * ttl
            ),
        )
    )
    taken = conn.execute(statement, execution_options={"preserve_rowcount": True}).rowcount == 1
    found = conn.execute(select(leases).where(leases.c.target == target)).one()
    if not taken:
        left = found.expires_at - now
        raise LeaseHeldError(target=target, holder=found.holder, since=found.acquired_at, expires_in=left)
    return int(found.epoch)


def renew(conn: Connection, *, target: str, epoch: int, now: datetime, ttl: timedelta) -> None:
    """Moves the end of the lease to `now + ttl`. One that expired but that nobody took is still ours.

    Raises:
        LeaseLostError: when someone else took it, or it was released.
    """
    limit_idle_transaction(conn)
    held = update(leases).where(*_held_by(target, epoch)).values(expires_at=now + ttl)
    if conn.execute(held).rowcount != 1:
        raise _lost_error(target, epoch)


def verify(conn: Connection, *, target: str, epoch: int) -> None:
    """Makes sure that what this transaction writes is still ours to write: nobody can take the lease before its end.

    Raises:
        LeaseLostError: when someone else took it, or it was released.
    """
    limit_idle_transaction(conn)
    # The row lock holds PostgreSQL's takers off; on SQLite the write transaction itself does.
    held = select(leases.c.epoch).where(*_held_by(target, epoch)).with_for_update(read=True)
    if conn.execute(held).first() is None:
        raise _lost_error(target, epoch)


def release(conn: Connection, *, target: str, epoch: int) -> None:
    """Gives the lease back. When someone else holds it by now, nothing happens."""
    conn.execute(update(leases).where(*_held_by(target, epoch)).values(holder=None, expires_at=None))


def holder(conn: Connection, target: str) -> Lease | None:
    """Who holds the target, expired or not; None when nobody does."""
    found = conn.execute(select(leases).where(leases.c.target == target, leases.c.holder.is_not(None)))
    row = found.mappings().first()
    return None if row is None else Lease(**row)


def check_writable(conn: Connection) -> None:
    """Writes one row that stands for nobody: what can be read may still be full, or read-only."""
    row = {"holder": None, "acquired_at": None, "expires_at": None}
    probe = insert(conn, leases).values(target=_WRITE_PROBE, epoch=1, **row)
    conn.execute(probe.on_conflict_do_update(index_elements=[leases.c.target], set_={"epoch": leases.c.epoch + 1}))


def last_acquired(conn: Connection, target: str) -> datetime | None:
    """When the target's lease was taken last, whether it is held or not; None when it never was."""
    found: datetime | None = conn.execute(select(leases.c.acquired_at).where(leases.c.target == target)).scalar()
    return found


def _held_by(target: str, epoch: int) -> tuple[ColumnElement[bool], ...]:
    return leases.c.target == target, leases.c.epoch == epoch, leases.c.holder.is_not(None)


def _lost_error(target: str, epoch: int) -> LeaseLostError:
    return LeaseLostError(
        f"target {target}: this run's lease (epoch {epoch}) ran out and is no longer its own; what it had not stored "
        "yet is dropped, the next run asks again"
    )
