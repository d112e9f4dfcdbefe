"""Leases: at most one run per target. A lease expires, and its epoch fences off a process that outlived it.

All functions work inside the caller's transaction. `lease_now` defines the clock.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, Update, bindparam, func, or_, select, update
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from monitor.database.engine import insert, insert_in, limit_idle_columns, limit_idle_transaction
from monitor.database.tables import leases
from monitor.errors import LeaseHeldError, LeaseLostError

_WRITE_PROBE = ":proof"
_MAX_TTLS_AHEAD = 2
"""A lease that ends more TTLs ahead than this was left by a wrong clock."""
_LONGEST_TTL = timedelta(minutes=11)
"""Workers' leases last as long as their stall time allows, and others must respect them. They are on PostgreSQL."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a target, and until when."""

    target: str
    holder: str
    """As `host:pid`."""
    epoch: int
    acquired_at: datetime
    expires_at: datetime


def lease_now(conn: Connection, *, utcnow: Callable[[], datetime], limits_idle: bool = False) -> datetime:
    """The current time for leases: the server's clock on PostgreSQL, since the clocks of client machines may differ.

    Processes on one SQLite file share the clock of their machine, `utcnow`. `limits_idle`: `limit_idle_transaction` in
    the same statement.
    """
    if conn.dialect.name == "sqlite":
        return utcnow()
    also = limit_idle_columns(conn.dialect.name) if limits_idle else ()
    server_now: datetime = conn.execute(select(func.clock_timestamp(), *also)).one()[0]
    return server_now


def acquire(conn: Connection, *, target: str, holder: str, now: datetime, ttl: timedelta) -> int:
    """Acquires the lease of a target if it is free or expired, at `now` (from `lease_now`).

    This is one statement, so that exactly one of many processes gets it. A lease that ends absurdly late was left by a
    wrong clock and counts as expired; if its holder is still alive, the epoch fences it off.

    Returns the epoch, higher than any before for this target: the fencing token for the run's writes.

    Raises:
        LeaseHeldError: another process holds it.
    """
    longest = ttl if conn.dialect.name == "sqlite" else max(ttl, _LONGEST_TTL)
    values = {
        "of_target": target,
        "of_holder": holder,
        "at": now,
        "until": now + ttl,
        "absurd": now + _MAX_TTLS_AHEAD * longest,
    }
    taken = conn.execute(_acquiring(conn.dialect.name), values).first()
    if taken is None:
        found = conn.execute(select(leases).where(leases.c.target == target)).one()
        left = found.expires_at - now
        raise LeaseHeldError(target=target, holder=found.holder, since=found.acquired_at, expires_in=left)
    return int(taken.epoch)


def renew(conn: Connection, *, target: str, epoch: int, now: datetime, ttl: timedelta) -> None:
    """Extends the lease to `now + ttl`, even if it has expired. Raises LeaseLostError if another acquired it."""
    limit_idle_transaction(conn)
    if conn.execute(_renewing(), _held_by(target, epoch) | {"until": now + ttl}).rowcount != 1:
        raise _lost_error(target, epoch)


def verify(conn: Connection, *, target: str, epoch: int) -> None:
    """Checks that this process still holds the lease, and keeps others from acquiring it until the transaction ends.

    Raises:
        LeaseLostError: another process acquired it, or it was released.
    """
    # a row lock on PostgreSQL; on SQLite the write transaction is enough
    if conn.execute(_verifying(conn.dialect.name), _held_by(target, epoch)).first() is None:
        raise _lost_error(target, epoch)


def verify_shared(conn: Connection, *, target: str, epoch: int) -> None:
    """The same for a lease that many processes work under at a time: they do not keep each other from renewing it."""
    held = _verifying(conn.dialect.name).with_for_update(read=True, key_share=True)
    if conn.execute(held, _held_by(target, epoch)).first() is None:
        raise _lost_error(target, epoch)


def pass_on(conn: Connection, *, target: str, epoch: int, holder: str, now: datetime, ttl: timedelta) -> None:
    """Gives the lease to another holder under the same epoch, until `now + ttl`. Raises LeaseLostError as `renew`."""
    given = update(leases).where(*_is_held()).values(holder=holder, expires_at=now + ttl)
    given_to = given.returning(leases.c.epoch, *limit_idle_columns(conn.dialect.name))
    if conn.execute(given_to, _held_by(target, epoch)).first() is None:
        raise _lost_error(target, epoch)


def release(conn: Connection, *, target: str, epoch: int) -> bool:
    """Releases the lease, and keeps others from acquiring it until the transaction ends.

    Returns False, and does nothing, if it is no longer held under this epoch.
    """
    return conn.execute(_releasing(conn.dialect.name), _held_by(target, epoch)).first() is not None


def end(conn: Connection, *, target: str, epoch: int) -> None:
    """Releases the lease with the transaction that ends its work: verified and released in one statement.

    Raises:
        LeaseLostError: another process acquired it, or it was released.
    """
    if not release(conn, target=target, epoch=epoch):
        raise _lost_error(target, epoch)


def holder(conn: Connection, target: str) -> Lease | None:
    """The current lease, expired or not; None if it is released."""
    found = conn.execute(select(leases).where(leases.c.target == target, leases.c.holder.is_not(None)))
    row = found.mappings().first()
    return None if row is None else Lease(**row)


def check_writable(conn: Connection) -> None:
    """Writes one row, because a readable database may be full or read-only."""
    row = {"holder": None, "acquired_at": None, "expires_at": None}
    probe = insert(conn, leases).values(target=_WRITE_PROBE, epoch=1, **row)
    conn.execute(probe.on_conflict_do_update(index_elements=[leases.c.target], set_={"epoch": leases.c.epoch + 1}))


def last_acquired(conn: Connection, target: str) -> datetime | None:
    """When the lease was last acquired, whether it is held or not; None if never."""
    found: datetime | None = conn.execute(select(leases.c.acquired_at).where(leases.c.target == target)).scalar()
    return found


def _held_by(target: str, epoch: int) -> dict[str, object]:
    """The parameters of `_is_held`."""
    return {"of_target": target, "of_epoch": epoch}


def _is_held() -> tuple[ColumnElement[bool], ...]:
    of_target, of_epoch = leases.c.target == bindparam("of_target"), leases.c.epoch == bindparam("of_epoch")
    return of_target, of_epoch, leases.c.holder.is_not(None)


@cache
def _renewing() -> Update:
    return update(leases).where(*_is_held()).values(expires_at=bindparam("until"))


@cache  # as the others: every run executes it, and SQLAlchemy takes longer to put it together than SQLite for the row
def _acquiring(dialect: str) -> ReturningInsert[Any]:
    row = {
        "holder": bindparam("of_holder"),
        "acquired_at": bindparam("at", type_=leases.c.acquired_at.type),
        "expires_at": bindparam("until", type_=leases.c.expires_at.type),
    }
    expires_at = leases.c.expires_at
    statement = (
        insert_in(dialect, leases)
        .values(target=bindparam("of_target"), epoch=1, **row)
        .on_conflict_do_update(
            index_elements=[leases.c.target],
            # the target, too: an update of the key waits for those who verified the lease, also in `verify_shared`
            set_={"target": leases.c.target, "epoch": leases.c.epoch + 1, **row},
            where=or_(leases.c.holder.is_(None), expires_at <= row["acquired_at"], expires_at > bindparam("absurd")),
        )
    )
    return statement.returning(leases.c.epoch, *limit_idle_columns(dialect))


@cache
def _verifying(dialect: str) -> Select[Any]:
    held = select(leases.c.epoch, *limit_idle_columns(dialect)).where(*_is_held())
    return held.with_for_update(read=True)


@cache
def _releasing(dialect: str) -> ReturningUpdate[Any]:
    freed = update(leases).where(*_is_held()).values(holder=None, expires_at=None)
    return freed.returning(leases.c.epoch, *limit_idle_columns(dialect))


def _lost_error(target: str, epoch: int) -> LeaseLostError:
    return LeaseLostError(
        f"target {target}: the lease of this run (epoch {epoch}) expired and another process acquired it; results not "
        "yet stored are dropped, and the next run checks these items again"
    )
