"""The state of a channel after an attempt (healthy, backing off, suspended), and its row in `channels`."""

from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, or_, select, update

from monitor.database.engine import insert
from monitor.database.tables import channels
from monitor.database.text import to_column_text
from monitor.model import ChannelState
from monitor.model.durations import exponential_backoff_s
from monitor.notifications.channels import SendOutcome, SendResult

INITIAL_BACKOFF = timedelta(seconds=30)
MAX_BACKOFF = timedelta(minutes=15)
"""The backoff doubles from the first to the second."""

FAILING_AFTER = timedelta(minutes=15)
"""A channel that is unreachable for this long opens an incident."""

_MAX_RETRY_AFTER = timedelta(hours=1)
"""The longest `Retry-After` that is honoured."""


def next_state(
    state: ChannelState, result: SendResult, *, fingerprint: str | None, now: datetime, rand: float
) -> ChannelState:
    """The state after one attempt with settings of this fingerprint (None: no such channel is configured). Pure.

    A refused message shows that the receiver can be reached. `rand` is from 0 to 1: the wait is between half of the
    backoff and all of it.
    """
    if result.outcome in {SendOutcome.DELIVERED, SendOutcome.REFUSED}:
        return ChannelState(name=state.name)
    failed = replace(
        state, failures=state.failures + 1, failing_since=state.failing_since or now, last_error=result.reason
    )
    if result.outcome is SendOutcome.SUSPENDED:
        return replace(failed, suspended_at=state.suspended_at or now, fingerprint=fingerprint, blocked_until=None)
    retry_after = min(result.retry_after or timedelta(0), _MAX_RETRY_AFTER)
    return replace(failed, blocked_until=now + max(backoff(state.failures, rand=rand), retry_after))


def backoff(failures: int, *, rand: float) -> timedelta:
    """The wait after one more failure than so many. Pure; `rand` as in `next_state`."""
    seconds = exponential_backoff_s(
        failures, initial_s=INITIAL_BACKOFF.total_seconds(), max_s=MAX_BACKOFF.total_seconds(), jitter=0.5 + rand / 2
    )
    return timedelta(seconds=seconds)


def is_failing(state: ChannelState, *, now: datetime) -> bool:
    """Whether the channel is suspended, or unreachable for `FAILING_AFTER`. Pure."""
    unreachable = state.failing_since is not None and now - state.failing_since >= FAILING_AFTER
    return unreachable or state.suspended_at is not None


_COLUMNS = [channels.c[field.name] for field in fields(ChannelState)]


def load_all(conn: Connection) -> dict[str, ChannelState]:
    """The channels that have a row, since they failed once or were sent alerts again, by name."""
    return {row["name"]: ChannelState(**row) for row in conn.execute(select(*_COLUMNS)).mappings()}


def load(conn: Connection, name: str) -> ChannelState:
    """Loads a channel's state; in a writing transaction its row is locked until the end."""
    row = conn.execute(select(*_COLUMNS).where(channels.c.name == name).with_for_update()).mappings().first()
    return ChannelState(name=name) if row is None else ChannelState(**row)


def save(conn: Connection, new_state: ChannelState) -> None:
    """Stores a channel's state."""
    row = {**asdict(new_state), "last_error": to_column_text(new_state.last_error, 500)}
    changes = {name: value for name, value in row.items() if name != "name"}
    conn.execute(insert(conn, channels).values(row).on_conflict_do_update(index_elements=["name"], set_=changes))


def reset(conn: Connection, names: Iterable[str]) -> int:
    """Makes suspended and waiting channels ready for the next attempt; returns how many there were."""
    healthy = {
        name: value for name, value in asdict(ChannelState(name="")).items() if name not in {"name", "failing_since"}
    }
    unhealthy = or_(channels.c.suspended_at.is_not(None), channels.c.blocked_until.is_not(None))
    return conn.execute(update(channels).where(channels.c.name.in_(list(names)), unhealthy).values(healthy)).rowcount


def claim_resend(conn: Connection, name: str, *, now: datetime, before: datetime) -> bool:
    """Whether this process may resend the open incidents of a channel: the last resend was at or before `before`.

    Must run in a writing transaction: of several processes only one gets True.
    """
    first = insert(conn, channels).values(name=name, failures=0, resent_at=now)
    is_due = or_(channels.c.resent_at.is_(None), channels.c.resent_at <= before)
    upsert = first.on_conflict_do_update(index_elements=["name"], set_={"resent_at": now}, where=is_due)
    return conn.execute(upsert, execution_options={"preserve_rowcount": True}).rowcount == 1
