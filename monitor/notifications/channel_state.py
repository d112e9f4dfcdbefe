"""How a channel stands after an attempt: well, waiting for its next try, or suspended. Pure."""

from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, or_, select, update

from monitor.database.engine import insert
from monitor.database.tables import channels
from monitor.database.text import to_column_text
from monitor.model import ChannelState
from monitor.notifications.channels import SendOutcome, SendResult

INITIAL_BACKOFF = timedelta(seconds=30)
MAX_BACKOFF = timedelta(minutes=15)
"""The wait doubles from one to the other."""

FAILING_AFTER = timedelta(minutes=15)
"""A channel that could not be reached for so long is told of on the others."""

_MAX_RETRY_AFTER = timedelta(hours=1)
"""A receiver that asks for more is asked again after this."""


def next_state(
    state: ChannelState, result: SendResult, *, fingerprint: str | None, now: datetime, rand: float
) -> ChannelState:
    """How a channel stands after one attempt.

    Args:
        state: before it.
        verdict: how it ended. A refused message shows that the receiver can be reached.
        fingerprint: of the settings that were used; None: no such channel is configured.
        now: when it ended (aware).
        rand: jitter, from 0 to 1: the wait is between half and all of the backoff.
    """
    if result.outcome in {SendOutcome.DELIVERED, SendOutcome.REFUSED}:
        return ChannelState(name=state.name)
    failed = replace(
        state, failures=state.failures + 1, failing_since=state.failing_since or now, last_error=result.reason
    )
    if result.outcome is SendOutcome.SUSPENDED:
        return replace(failed, suspended_at=state.suspended_at or now, fingerprint=fingerprint, blocked_until=None)
    backoff = min(MAX_BACKOFF, INITIAL_BACKOFF * 2 ** min(state.failures, 10)) * (0.5 + rand / 2)
    retry_after = min(result.retry_after or timedelta(0), _MAX_RETRY_AFTER)
    return replace(failed, blocked_until=now + max(backoff, retry_after))


def is_failing(state: ChannelState, *, now: datetime) -> bool:
    """Whether others are to be told that nothing gets through there: it is suspended, or was not reached for long."""
    if state.suspended_at is not None:
        return True
    return state.failing_since is not None and now - state.failing_since >= FAILING_AFTER


_COLUMNS = [channels.c[field.name] for field in fields(ChannelState)]


def load_all(conn: Connection) -> dict[str, ChannelState]:
    """The channels that ever failed, by name."""
    return {row["name"]: ChannelState(**row) for row in conn.execute(select(*_COLUMNS)).mappings()}


def load(conn: Connection, name: str) -> ChannelState:
    """How one channel is; in a writing transaction nobody else changes that before its end."""
    row = conn.execute(select(*_COLUMNS).where(channels.c.name == name).with_for_update()).mappings().first()
    return ChannelState(name=name) if row is None else ChannelState(**row)


def save(conn: Connection, new_state: ChannelState) -> None:
    """Stores how a channel is."""
    row = {**asdict(new_state), "last_error": to_column_text(new_state.last_error, 500)}
    changes = {name: value for name, value in row.items() if name != "name"}
    conn.execute(insert(conn, channels).values(row).on_conflict_do_update(index_elements=["name"], set_=changes))


def reset(conn: Connection, names: Iterable[str]) -> int:
    """Forgets that channels failed, so that they are tried at once; gives back how many were suspended or waiting."""
    healthy = {
        name: value for name, value in asdict(ChannelState(name="")).items() if name not in {"name", "failing_since"}
    }
    unhealthy = or_(channels.c.suspended_at.is_not(None), channels.c.blocked_until.is_not(None))
    return conn.execute(update(channels).where(channels.c.name.in_(list(names)), unhealthy).values(healthy)).rowcount


def claim_resend(conn: Connection, name: str, *, now: datetime, before: datetime) -> bool:
    """Whether it is this process's turn to tell a channel again what is open: the last time was before a moment.

    Must run in a writing transaction; of many processes one gets the turn.
    """
    first = insert(conn, channels).values(name=name, failures=0, resent_at=now)
    is_due = or_(channels.c.resent_at.is_(None), channels.c.resent_at <= before)
    upsert = first.on_conflict_do_update(index_elements=["name"], set_={"resent_at": now}, where=is_due)
    return conn.execute(upsert, execution_options={"preserve_rowcount": True}).rowcount == 1
