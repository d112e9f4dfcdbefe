"""The list of items page by page: problems first, then by target and id. A page costs the same wherever it stands.

Pages are found by the last item of the page before (keyset), so no page reads those before it. Totals are counted up to
a limit.
"""

import json
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from urllib.parse import quote, unquote

from sqlalchemy import ColumnElement, Connection, String, and_, case, func, or_, select, text, tuple_

from monitor.database.bulk import RowSet
from monitor.database.lookups import count_rows
from monitor.database.tables import active, in_state, items
from monitor.model import PROBLEM_STATES, ItemState
from monitor.reports.formatting import COUNTED_ROWS
from monitor.reports.item_queries import IGNORED, REMOVED, ItemFilter, ItemRow, conditions, is_stuck, rows_of

ITEMS_PER_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The place of an item in the list."""

    urgency: int
    """0: problems and stuck items, then unknown, pending, and all others."""
    target: str
    item_id: str

    def encode(self) -> str:
        """As text that `decode` reads."""
        return f"{self.urgency}:{quote(self.target, safe='')}:{quote(self.item_id, safe='')}"


def decode_position(encoded: str) -> Position | None:
    """A position; None if the text is none."""
    urgency, _, rest = encoded.partition(":")
    target, _, item_id = rest.partition(":")
    if urgency not in {str(n) for n in range(_URGENCIES)} or not target or not item_id:
        return None
    return Position(urgency=int(urgency), target=unquote(target), item_id=unquote(item_id))


_URGENCIES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsPage:
    """One page of the items that a filter selects."""

    items: Sequence[ItemRow]
    total: int
    """How many the filter selects, counted up to `COUNTED_ROWS`."""
    before: Position | None
    """The first item of this page, if there are items before it."""
    after: Position | None
    """The last item of this page, if there are items after it."""

    @property
    def total_is_minimum(self) -> bool:
        """Whether there may be more than `total`."""
        return self.total >= COUNTED_ROWS


def items_page(
    conn: Connection,
    filters: ItemFilter,
    *,
    prefix: str = "",
    after: Position | None = None,
    before: Position | None = None,
    size: int = ITEMS_PER_PAGE,
    now: datetime,
) -> ItemsPage:
    """The `size` (> 0) items after a position, or before it; the first ones without any.

    `prefix`: only ids that begin with it, whatever their case.
    """
    stuck = is_stuck(filters.stuck_after, now)
    where = conditions(filters, stuck)
    if prefix:
        keys = _beginning_with(conn, prefix, filters.target)
        if keys is not None:
            rows = rows_of(stuck).join_from(_KEYS.table, items, _IS_NAMED).where(*where)
            named = [ItemRow.from_row(row) for row in conn.execute(rows, _KEYS.of(conn, keys)).mappings()]
            return _part(named, after=after, before=before, size=size)
        where.append(items.c.item_id.istartswith(prefix, autoescape=True))
    backward = before is not None
    at = before or after
    few = bool(
        (prefix and conn.dialect.name != "sqlite")
        or filters.group
        or filters.stage
        or filters.incident_id
        or (filters.states and filters.states <= _INACTIVE)
    )
    query = _Query(where=where, stuck=stuck, urgencies=_urgencies(filters), few=few)
    found = query.rows(conn, at=at, backward=backward, limit=size + 1)
    more = len(found) > size
    found = found[:size]
    if backward:
        found.reverse()
    first = _position(found[0]) if found else None
    last = _position(found[-1]) if found else None
    whole = at is None and not more
    counted = select(items.c.item_id).where(*where)
    return ItemsPage(
        items=found,
        total=len(found) if whole else count_rows(conn, counted, at_most=COUNTED_ROWS),
        before=first if (more if backward else after is not None) else None,
        after=last if (backward or more) else None,
    )


_KEYS = RowSet("keys", target=String(), item_id=String())
_IS_NAMED = and_(items.c.target == _KEYS.c.target, items.c.item_id == _KEYS.c.item_id)
_FIRST_LETTERS, _FEW = 3, 500
_TARGETS = (
    "WITH RECURSIVE named(target) AS (SELECT min(target) FROM items UNION ALL "
    "SELECT (SELECT min(target) FROM items WHERE target > named.target) FROM named WHERE named.target IS NOT NULL) "
)
_BEGINNING_WITH = text(
    f"{_TARGETS} SELECT items.target, items.item_id FROM named CROSS JOIN (SELECT json_extract(value, '$[0]') AS low, "  # noqa: S608  # our own names
    "json_extract(value, '$[1]') AS high FROM json_each(:stretches)) AS stretch CROSS JOIN items "
    "ON items.target = named.target AND items.item_id >= stretch.low AND items.item_id < stretch.high "
    "WHERE (:target IS NULL OR named.target = :target) AND lower(items.item_id) LIKE lower(:prefix) || '%' ESCAPE '/' "
    "LIMIT :most"
)
"""A cross join, as SQLite would else read all items of each target."""


def _beginning_with(conn: Connection, prefix: str, target: str | None) -> list[tuple[str, str]] | None:
    """The target and id of the items that begin with some text, whatever its case; None if there are many.

    SQLite compares texts by their bytes: the key has these items in few stretches, one per way to write the first
    letters. None for PostgreSQL, whose key is in the order of a language.
    """
    if conn.dialect.name != "sqlite":
        return None
    ways = ({letter, letter.lower(), letter.upper()} for letter in prefix[:_FIRST_LETTERS])
    begins = sorted({"".join(letters) for letters in product(*ways)})
    escaped = prefix.replace("/", "//").replace("%", "/%").replace("_", "/_")
    values = {"stretches": json.dumps([(each, each + chr(sys.maxunicode)) for each in begins]), "prefix": escaped}
    found = conn.execute(_BEGINNING_WITH, {**values, "target": target, "most": _FEW + 1}).all()
    return None if len(found) > _FEW else [(name, item_id) for name, item_id in found]


def _part(rows: Sequence[ItemRow], *, after: Position | None, before: Position | None, size: int) -> ItemsPage:
    """The page of a list of which all rows are known."""
    ordered = sorted(rows, key=_place)
    first, last = 0, len(ordered)
    if before is not None:
        last = bisect_left(ordered, _place_of(before), key=_place)
        first = max(0, last - size)
    elif after is not None:
        first = bisect_right(ordered, _place_of(after), key=_place)
    shown = ordered[first : min(last, first + size)]
    return ItemsPage(
        items=shown,
        total=len(ordered),
        before=_position(shown[0]) if shown and first else None,
        after=_position(shown[-1]) if shown and first + len(shown) < len(ordered) else None,
    )


def _place(item: ItemRow) -> tuple[int, str, str]:
    return _place_of(_position(item))


def _place_of(position: Position) -> tuple[int, str, str]:
    return position.urgency, position.target, position.item_id


def _urgencies(filters: ItemFilter) -> list[int]:
    """Those that the items of a filter can have."""
    if filters.stuck:
        return [0]
    if not filters.states:
        return [*range(_URGENCIES)]
    return sorted({urgency for state in filters.states for urgency in _URGENCIES_OF.get(state, (0,))})


_INACTIVE = frozenset({REMOVED, IGNORED})
_URGENCIES_OF = {
    ItemState.UNKNOWN.value: (1,),
    ItemState.PENDING.value: (0, 2),
    ItemState.COMPLETED.value: (3,),
    REMOVED: (3,),
    IGNORED: (3,),
}
"""All others are problems."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Query:
    """The items that a filter selects, urgency by urgency: together they would have to be sorted."""

    where: Sequence[ColumnElement[bool]]
    stuck: ColumnElement[bool]
    urgencies: Sequence[int]
    few: bool
    """Whether a condition probably selects few of the completed items."""

    def rows(self, conn: Connection, *, at: Position | None, backward: bool, limit: int) -> list[ItemRow]:
        """At most `limit` rows from a position on, in the order of the list or, backward, in the opposite one."""
        found: list[ItemRow] = []
        for urgency in reversed(self.urgencies) if backward else self.urgencies:
            if len(found) >= limit:
                break
            query, key = rows_of(self.stuck).where(*self.where, _of_urgency(urgency, self.stuck)), self._key(urgency)
            if at is not None:
                if (urgency > at.urgency) if backward else (urgency < at.urgency):
                    continue
                if urgency == at.urgency:
                    here = (at.target, at.item_id)
                    query = query.where(tuple_(*key) < here if backward else tuple_(*key) > here)
            query = query.order_by(*(column.desc() if backward else column for column in key))
            found += [ItemRow.from_row(row) for row in conn.execute(query.limit(limit - len(found))).mappings()]
        return found

    def _key(self, urgency: int) -> tuple[ColumnElement[str], ColumnElement[str]]:
        """What the items of an urgency are ordered by."""
        if urgency == _URGENCIES - 1 and not self.few:
            return items.c.target, items.c.item_id
        # as expressions: in the order of the primary key the database would read all items to find few
        return func.coalesce(items.c.target, ""), func.coalesce(items.c.item_id, "")


def _of_urgency(urgency: int, stuck: ColumnElement[bool]) -> ColumnElement[bool]:
    match urgency:
        case 0:
            # the first condition is that of the index
            not_completed = in_state(*PROBLEM_STATES, ItemState.PENDING)
            return and_(not_completed, *active(), or_(items.c.state.in_(_PROBLEMS), stuck))
        case 1:
            return and_(in_state(ItemState.UNKNOWN), *active())
        case 2:
            # not as NOT: it would be null for an item without `pending_since`
            return and_(in_state(ItemState.PENDING), *active(), case((stuck, 1), else_=0) == 0)
        case _:
            gone = or_(items.c.removed_at.is_not(None), items.c.ignored_at.is_not(None))
            return or_(gone, items.c.state == ItemState.COMPLETED.value)


_PROBLEMS = tuple(state.value for state in PROBLEM_STATES)


def _position(item: ItemRow) -> Position:
    return Position(urgency=_urgency(item), target=item.target, item_id=item.item_id)


def _urgency(item: ItemRow) -> int:
    if item.display_state in {REMOVED, IGNORED}:
        return 3
    if item.state.is_problem or item.stuck:
        return 0
    return {ItemState.UNKNOWN: 1, ItemState.PENDING: 2}.get(item.state, 3)
