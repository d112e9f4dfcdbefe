"""How the channels are: what their last attempts came to, for the senders of all processes."""

from collections.abc import Iterable
from dataclasses import asdict, fields
from datetime import datetime

from sqlalchemy import Connection, or_, select, update

from monitor.model import ChannelState
from monitor.store.engine import insert
from monitor.store.tables import channels
from monitor.store.text import storable

__all__ = ["clear", "state", "states", "take_refresh", "write"]

_COLUMNS = [channels.c[field.name] for field in fields(ChannelState)]


def states(conn: Connection) -> dict[str, ChannelState]:
    """The channels that ever failed, by name."""
    return {row["name"]: ChannelState(**row) for row in conn.execute(select(*_COLUMNS)).mappings()}


def state(conn: Connection, name: str) -> ChannelState:
    """How one channel is; in a writing transaction nobody else changes that before its end."""
    row = conn.execute(select(*_COLUMNS).where(channels.c.name == name).with_for_update()).mappings().first()
    return ChannelState(name=name) if row is None else ChannelState(**row)


def write(conn: Connection, now_is: ChannelState) -> None:
    """Stores how a channel is."""
    row = {**asdict(now_is), "last_error": storable(now_is.last_error, 500)}
    changes = {name: value for name, value in row.items() if name != "name"}
    conn.execute(insert(conn, channels).values(row).on_conflict_do_update(index_elements=["name"], set_=changes))


def clear(conn: Connection, names: Iterable[str]) -> int:
    """Forgets that channels failed, so that they are tried at once; gives back how many were parked or waiting."""
    well = {
        name: value for name, value in asdict(ChannelState(name="")).items() if name not in {"name", "failing_since"}
    }
    ailing = or_(channels.c.parked_at.is_not(None), channels.c.blocked_until.is_not(None))
    return conn.execute(update(channels).where(channels.c.name.in_(list(names)), ailing).values(well)).rowcount


def take_refresh(conn: Connection, name: str, *, now: datetime, before: datetime) -> bool:
    """Whether it is this process's turn to tell a channel again what is open: the last time was before a moment.

    Must run in a writing transaction; of many processes one gets the turn.
    """
    first = insert(conn, channels).values(name=name, failures=0, refreshed_at=now)
    due = or_(channels.c.refreshed_at.is_(None), channels.c.refreshed_at <= before)
    taken = first.on_conflict_do_update(index_elements=["name"], set_={"refreshed_at": now}, where=due)
    return conn.execute(taken, execution_options={"preserve_rowcount": True}).rowcount == 1
