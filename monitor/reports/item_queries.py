"""Queries about items: a filtered list, one item with its events, and ids similar to a mistyped one."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, case, false, func, or_, select, true

from monitor.database.lookups import every_target
from monitor.database.tables import active, in_state, item_events, items, stuck
from monitor.model import PROBLEM_STATES, ItemState

REMOVED, IGNORED = "removed", "ignored"
"""States shown for items that are neither counted nor checked."""
LISTED_STATES = (*(state.value for state in ItemState), REMOVED, IGNORED)
"""States that a list can be limited to."""
_SHORTEST_PREFIX = 3
_PROBLEMS = tuple(state.value for state in PROBLEM_STATES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFilter:
    """Which items are wanted; the defaults select all tracked items."""

    target: str | None = None
    states: frozenset[str] = frozenset()
    """Item states, `removed` and `ignored`; empty: all tracked items."""
    known_states: frozenset[str] = frozenset()
    """Last known states, also of items that are unknown now; empty: any."""
    incident_id: int | None = None
    """Only members of this incident."""
    stuck: bool = False
    group: str | None = None
    stage: str | None = None
    """The provider's status, case-insensitive."""
    state_since_before: datetime | None = None
    """Only items whose state began before this time."""
    stuck_after: Mapping[str, timedelta]
    """Per target, how long an item may be pending; items of other targets are never stuck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRow:
    """One stored item; `monitor/database/tables.py` explains the columns."""

    target: str
    item_id: str
    group: str | None
    submitted_at: datetime | None
    first_seen_at: datetime
    removed_at: datetime | None
    ignored_at: datetime | None
    ignore_reason: str | None
    state: ItemState
    reason: str | None
    known_state: str | None
    stage: str | None
    recognised: bool
    since: datetime | None
    pending_since: datetime | None
    seen_at: datetime | None
    checked_at: datetime | None
    http_status: int | None
    code: str | None
    request_id: str | None
    page: str | None
    """The title of a gateway's page that was the last answer."""
    unverified_runs: int
    """Runs in a row in which it stayed unknown for a trouble of its own."""
    failure_reason: str | None
    """The provider's code for its failure, last known."""
    failure_message: str | None
    """The provider's text about it, which may quote the document."""
    incident_id: int | None
    stuck: bool
    state_since: datetime
    """When its state began, as far as known: pending since, in its state since, uploaded, or first seen."""

    @classmethod
    def from_row(cls, row: RowMapping) -> "ItemRow":
        """An item of the query `rows_of`."""
        return cls(**{**row, "state": ItemState(row["state"]), "stuck": bool(row["stuck"])})

    @property
    def display_state(self) -> str:
        """The state shown to users."""
        if self.removed_at is not None:
            return REMOVED
        return IGNORED if self.ignored_at is not None else self.state.value


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemEvent:
    """One turn in an item's life."""

    at: datetime
    kind: str
    """`state`, `stage`, `removed`, `returned`, `ignored` or `unignored`."""
    old: str | None
    new: str | None
    run_id: int
    """0: made by a command, not by a run."""


_STORED = tuple(field.name for field in fields(ItemRow) if field.name not in {"group", "stuck", "state_since"})
_state_since = func.coalesce(items.c.pending_since, items.c.since, items.c.submitted_at, items.c.first_seen_at)


def listing(conn: Connection, filters: ItemFilter, *, limit: int, now: datetime) -> tuple[int, list[ItemRow]]:
    """The number of matching items, and the first `limit` (> 0): problems before the rest, then newest first."""
    stuck_now = is_stuck(filters.stuck_after, now)
    where = conditions(filters, stuck_now)
    total = conn.execute(select(func.count()).select_from(items).where(*where)).scalar_one()
    urgency = case(
        (or_(items.c.state.in_(_PROBLEMS), stuck_now), 0),
        (items.c.state == ItemState.UNKNOWN.value, 1),
        (items.c.state == ItemState.PENDING.value, 2),
        else_=3,
    )
    order = (urgency, _state_since.desc(), items.c.target, items.c.item_id)
    rows = conn.execute(rows_of(stuck_now).where(*where).order_by(*order).limit(limit)).mappings()
    return total, [ItemRow.from_row(row) for row in rows]


def known_states_of(filters: ItemFilter) -> frozenset[str]:
    """The wanted states that an item which is unknown now can have been in: pending, for stuck items."""
    known = filters.states - {REMOVED, IGNORED, ItemState.UNKNOWN.value}
    return known | {ItemState.PENDING.value} if filters.stuck else known


def count_unknown(conn: Connection, filters: ItemFilter, *, now: datetime) -> int:
    """How many items are unknown now, but were last known in one of `known_states_of` the filters."""
    known = known_states_of(filters)
    states = frozenset({ItemState.UNKNOWN.value})
    where = conditions(
        replace(filters, states=states, known_states=known, stuck=False), is_stuck(filters.stuck_after, now)
    )
    return conn.execute(select(func.count()).select_from(items).where(*where)).scalar_one() if known else 0


def find(
    conn: Connection, item_id: str, *, target: str | None, stuck_after: Mapping[str, timedelta], now: datetime
) -> list[ItemRow]:
    """The item with that id, once per target that has it; arguments as in `ItemFilter`."""
    query = rows_of(is_stuck(stuck_after, now)).where(items.c.item_id == item_id).order_by(items.c.target)
    if target is None:
        # one look-up per target: the index begins with the target
        query = query.where(items.c.target.in_(select(every_target(items.c.target).c.target)))
    else:
        query = query.where(items.c.target == target)
    return [ItemRow.from_row(row) for row in conn.execute(query).mappings()]


def events(conn: Connection, *, target: str, item_id: str, limit: int) -> tuple[int, list[ItemEvent]]:
    """The number of an item's events, and the newest `limit` (> 0), oldest first."""
    mine = item_events.c.target == target, item_events.c.item_id == item_id
    total = conn.execute(select(func.count()).select_from(item_events).where(*mine)).scalar_one()
    newest = select(item_events).where(*mine).order_by(item_events.c.at.desc(), item_events.c.id.desc()).limit(limit)
    rows = conn.execute(newest).mappings().all()
    names = [field.name for field in fields(ItemEvent)]
    return total, [ItemEvent(**{name: row[name] for name in names}) for row in reversed(rows)]


def similar_ids(conn: Connection, item_id: str, *, target: str | None, limit: int = 5) -> list[str]:
    """Ids that share the longest prefix with this one, case-insensitive: for typos and shortened ids (`…`)."""
    begin, was_shortened, end = item_id.partition("…")
    query = select(items.c.item_id).distinct().order_by(items.c.item_id).limit(limit)
    if target is not None:
        query = query.where(items.c.target == target)
    if was_shortened:
        query = query.where(items.c.item_id.iendswith(end, autoescape=True))
    whole = len(begin)
    for length in (whole, whole - 1, whole - 2, whole * 3 // 4, whole // 2, whole // 4):
        if length < _SHORTEST_PREFIX:
            break
        close = conn.execute(query.where(items.c.item_id.istartswith(begin[:length], autoescape=True))).scalars().all()
        if close:
            return list(close)
    return []


def is_stuck(stuck_after: Mapping[str, timedelta], now: datetime) -> ColumnElement[bool]:
    """The condition of an item that is pending for too long; `stuck_after` as in `ItemFilter`."""
    targets: dict[timedelta, list[str]] = {}
    for target, patience in stuck_after.items():
        targets.setdefault(patience, []).append(target)
    # not a term per target: SQLite refuses an expression of a thousand
    of_each = (and_(items.c.target.in_(names), stuck(now - patience)) for patience, names in targets.items())
    return and_(*active(), or_(false(), *of_each))


def conditions(filters: ItemFilter, stuck_now: ColumnElement[bool]) -> list[ColumnElement[bool]]:
    """The conditions of the items that a filter selects; `stuck_now` is that of `is_stuck`."""
    where = [_in_states(filters.states, is_member=filters.incident_id is not None)]
    if filters.known_states:
        where.append(items.c.known_state.in_(filters.known_states))
    if filters.incident_id is not None:
        where.append(items.c.incident_id == filters.incident_id)
    if filters.target is not None:
        where.append(items.c.target == filters.target)
    if filters.stuck:
        where.append(stuck_now)
    if filters.group is not None:
        where.append(items.c.group_name == filters.group)
    if filters.stage is not None:
        # both by the database: SQLite changes the case of ASCII letters alone
        where.append(func.lower(items.c.stage) == func.lower(filters.stage))
    if filters.state_since_before is not None:
        where.append(_state_since < filters.state_since_before)
    return where


def _in_states(states: frozenset[str], *, is_member: bool) -> ColumnElement[bool]:
    if not states:  # a member that left the sync log since the last run still is one
        return true() if is_member else and_(*active())
    named = [ItemState(state) for state in states if state not in {REMOVED, IGNORED}]
    of_state = items.c.state.in_(named) if ItemState.COMPLETED in named else in_state(*named)
    ways = [and_(*active(), of_state)]
    if REMOVED in states:
        ways.append(items.c.removed_at.is_not(None))
    if IGNORED in states:
        ways.append(and_(items.c.removed_at.is_(None), items.c.ignored_at.is_not(None)))
    return or_(*ways)


def rows_of(stuck_now: ColumnElement[bool]) -> Select[tuple[Any, ...]]:
    """A query for rows that `ItemRow.from_row` reads."""
    stored = (items.c[name] for name in _STORED)
    derived = (items.c.group_name.label("group"), case((stuck_now, 1), else_=0).label("stuck"))
    return select(*stored, *derived, _state_since.label("state_since"))
