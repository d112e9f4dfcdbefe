"""Stores what came of the items that a run asked about: their rows in the work list, and an event for each change."""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, insert, select, update

from monitor.health.transition import ItemChange
from monitor.store.bulk import Bulk, Moment, moments
from monitor.store.tables import item_events, items
from monitor.store.text import storable

__all__ = ["record", "recorded"]

_STORED = (
    "state",
    "reason",
    "known_state",
    "stage",
    "recognised",
    "since",
    "pending_since",
    "seen_at",
    "checked_at",
    "regressed_at",
    "http_status",
    "code",
    "request_id",
    "asked_run_id",
)

_RECORD = Bulk(
    update(items)
    .where(items.c.target == bindparam("of_target"), items.c.item_id == bindparam("of_item"))
    .values({name: bindparam(name) for name in _STORED}),
    (*_STORED, "of_target", "of_item"),
)
_NOTED = ("target", "item_id", "run_id", "at", "kind", "old", "new")
_NOTE = Bulk(insert(item_events).values({name: bindparam(name) for name in _NOTED}), _NOTED)


def record(conn: Connection, *, target: str, run_id: int, changes: Sequence[ItemChange]) -> None:
    """Stores outcomes: the rows of the items, and an event for each whose known state or stage changed."""
    if not changes:
        return
    moment = moments(conn)
    _RECORD.execute(conn, (_values(target, run_id, change, moment) for change in changes))
    events = [_event(target, run_id, change, moment) for change in changes if change.event]
    if events:
        _NOTE.execute(conn, events)


def recorded(conn: Connection, *, target: str, run_id: int, change: ItemChange) -> bool:
    """Whether a change of this run is stored, and with it all that was to be stored together with it.

    A transaction that is still being committed, on a connection that broke off, is waited for.
    """
    row = (items.c.target == target, items.c.item_id == change.item_id)
    found = conn.execute(select(items.c.asked_run_id).where(*row).with_for_update()).scalar()
    return bool(found == run_id)


def _values(target: str, run_id: int, change: ItemChange, moment: Moment) -> tuple[object, ...]:
    return (
        change.state.value,
        change.reason and change.reason.value,
        change.known_state and change.known_state.value,
        # the API's own words come in any length and with any character
        storable(change.stage, 200),
        change.recognised,
        moment(change.since),
        moment(change.pending_since),
        moment(change.seen_at),
        moment(change.checked_at),
        moment(change.regressed_at),
        change.http_status,
        storable(change.code, 200),
        storable(change.request_id, 200),
        run_id,
        target,
        change.item_id,
    )


def _event(target: str, run_id: int, change: ItemChange, moment: Moment) -> tuple[object, ...]:
    kind, old, new = change.event or ("", None, None)
    return target, change.item_id, run_id, moment(change.at), kind, storable(old, 200), storable(new, 200)
