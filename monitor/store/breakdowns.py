"""The tracked items of a target broken down: by group, by stage, and those that are stuck.

Each is one aggregate or a bounded list, made by the database.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from sqlalchemy import ColumnElement, Connection, case, func, select

from monitor.model import ItemState
from monitor.store.items import active, stuck
from monitor.store.tables import items

__all__ = ["GroupHealth", "StageCount", "StuckItem", "by_group", "by_stage", "longest_stuck"]

_TROUBLED = (ItemState.FAILED, ItemState.NOT_FOUND, ItemState.INVALID)
_STAGED = tuple(state.value for state in (ItemState.COMPLETED, ItemState.PENDING, ItemState.FAILED))
"""States in which the provider shows an item, and with it a stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupHealth:
    """One group of a target: how many of its items are in each state."""

    name: str | None
    """None: the items that belong to no group."""
    counts: Mapping[ItemState, int]
    """Every state, also those with no item."""
    stuck: int

    @property
    def total(self) -> int:
        """Items of the group."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCount:
    """How many items were last seen in one of the provider's statuses."""

    state: ItemState
    stage: str | None
    """The status as the provider spells it."""
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckItem:
    """One item that is pending for longer than it may."""

    item_id: str
    group: str | None
    stage: str | None
    pending_since: datetime


def by_group(
    conn: Connection, *, target: str, as_of: datetime, stuck_after: timedelta, limit: int
) -> tuple[int, list[GroupHealth]]:
    """How many groups a target has, and the first of them: those with the most trouble, then the largest.

    Args:
        conn: a connection.
        target: whose items.
        as_of: aware; what `stuck` is measured against.
        stuck_after: how long an item may be pending.
        limit: how many groups to give back (> 0).
    """
    counts = {state: _count(items.c.state == state.value) for state in ItemState}
    late = _count(stuck(as_of - stuck_after))
    trouble = sum((counts[state] for state in _TROUBLED), late)
    query = (
        select(
            items.c.group_name,
            func.count().over().label("groups"),
            late.label("stuck"),
            *(count.label(state.value) for state, count in counts.items()),
        )
        .where(items.c.target == target, *active())
        .group_by(items.c.group_name)
        .order_by(trouble.desc(), func.count().desc(), items.c.group_name)
        .limit(limit)
    )
    rows = conn.execute(query).mappings().all()
    found = [
        GroupHealth(
            name=row["group_name"],
            counts=MappingProxyType({state: row[state.value] for state in ItemState}),
            stuck=row["stuck"],
        )
        for row in rows
    ]
    return (rows[0]["groups"] if rows else 0), found


def by_stage(conn: Connection, *, target: str, limit: int) -> tuple[int, list[StageCount]]:
    """How many stages the items of a target were last seen in, and the most frequent of them.

    An item that this run could not find out about stands where it was seen last; what the provider does not show
    (`not_found`, `invalid`) stands nowhere.

    Args:
        conn: a connection.
        target: whose items.
        limit: how many stages to give back (> 0).
    """
    kinds = (items.c.known_state, items.c.stage)
    how_many = func.count()
    query = select(*kinds, how_many.label("items"), func.count().over().label("stages"))
    query = query.where(items.c.target == target, *active(), items.c.known_state.in_(_STAGED))
    query = query.group_by(*kinds).order_by(how_many.desc(), *kinds).limit(limit)
    rows = conn.execute(query).mappings().all()
    found = [StageCount(state=ItemState(row["known_state"]), stage=row["stage"], items=row["items"]) for row in rows]
    return (rows[0]["stages"] if rows else 0), found


def longest_stuck(
    conn: Connection, *, target: str, as_of: datetime, stuck_after: timedelta, limit: int
) -> list[StuckItem]:
    """The stuck items that are pending the longest, at most `limit` (> 0); the arguments are those of `by_group`."""
    query = select(items.c.item_id, items.c.group_name, items.c.stage, items.c.pending_since)
    query = query.where(items.c.target == target, *active(), stuck(as_of - stuck_after))
    rows = conn.execute(query.order_by(items.c.pending_since, items.c.item_id).limit(limit))
    return [
        StuckItem(item_id=row.item_id, group=row.group_name, stage=row.stage, pending_since=row.pending_since)
        for row in rows
    ]


def _count(which: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((which, 1), else_=0))
