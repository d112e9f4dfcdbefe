"""Items as commands, pages and the API show them: a list, one item with its events, and what an id refers to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from monitor.config import Config
from monitor.reports import item_queries
from monitor.reports.item_queries import ItemEvent, ItemFilter, ItemRow
from monitor.reports.items import item_json, items_json
from monitor.synclog import builtin as builtin_log

MAX_EVENTS = 10_000
"""Changes of one item that are shown."""


def stuck_after(config: Config) -> Mapping[str, timedelta]:
    """How long an item of each configured target may be pending."""
    return {target.name: target.check.stuck_after for target in config.targets}


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsView:
    """The first items that a filter selects."""

    filters: ItemFilter
    items: Sequence[ItemRow]
    """Problems before the rest, then newest first."""
    total: int
    unknown: int
    """Items that are unknown now, but were last known in a wanted state."""
    now: datetime


def items_view(conn: Connection, filters: ItemFilter, *, limit: int, now: datetime) -> ItemsView:
    """The first `limit` (> 0) items that a filter selects, and how many it selects."""
    total, rows = item_queries.listing(conn, filters, limit=limit, now=now)
    unknown = item_queries.count_unknown(conn, filters, now=now)
    return ItemsView(filters=filters, items=rows, total=total, unknown=unknown, now=now)


def items_view_json(view: ItemsView) -> dict[str, Any]:
    """The list as JSON values."""
    return {**items_json(view.items, total=view.total), "unknown_now": view.unknown}


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemView:
    """One item with its changes."""

    item: ItemRow
    events: Sequence[ItemEvent]
    """The newest ones, oldest first."""
    event_count: int
    """All events."""
    now: datetime


def item_view(conn: Connection, item: ItemRow, *, now: datetime) -> ItemView:
    """An item that `look_up` found, with its newest `MAX_EVENTS` events."""
    total, events = item_queries.events(conn, target=item.target, item_id=item.item_id, limit=MAX_EVENTS)
    return ItemView(item=item, events=events, event_count=total, now=now)


def item_view_json(view: ItemView) -> dict[str, Any]:
    """The item as JSON values."""
    events = [
        {
            "at": event.at.isoformat(),
            "kind": event.kind,
            "from": event.old,
            "to": event.new,
            "run_id": event.run_id or None,
        }
        for event in view.events
    ]
    return {**item_json(view.item), "events": events}


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemLookup:
    """What an id refers to."""

    items: Sequence[ItemRow]
    """Once per target that has it."""
    waiting: Sequence[str] = ()
    """If none has it: targets whose built-in log has it, but no run has read it yet."""
    similar: Sequence[str] = ()
    """If it is not there either: ids like it."""


def look_up(conn: Connection, config: Config, item_id: str, *, target: str | None, now: datetime) -> ItemLookup:
    """What an id, printable text, refers to in one target, or in all (None)."""
    found = item_queries.find(conn, item_id, target=target, stuck_after=stuck_after(config), now=now)
    if found:
        return ItemLookup(items=found)
    waiting = [name for name in builtin_log.added_at(conn, item_id=item_id) if target in {None, name}]
    if waiting:
        return ItemLookup(items=(), waiting=waiting)
    return ItemLookup(items=(), similar=item_queries.similar_ids(conn, item_id, target=target))
