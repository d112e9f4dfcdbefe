"""The tracked items of a target by whether they are completed: what is compared with a provider's list.

After most runs nearly all items are settled: the last run saw them completed, and nothing else is to know about them.
Their ids come out of the primary key's index alone; the rows of all others are read once, if they are few.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Engine, Label, Select, String, and_, bindparam, func, literal_column, select, text
from sqlalchemy import union_all as all_of

from monitor.database.retry import read_page
from monitor.database.tables import ITEM_IS_DUE, ITEM_IS_INACTIVE, active, items
from monitor.model import ItemCompletion, ItemState

MAX_UNSETTLED = 50_000
"""Items whose rows are kept while the ids of all others are compared: 10 MB."""

_COLUMNS = (items.c.item_id, items.c.known_state, items.c.state)
_IDS = msgspec.json.Decoder(list[str])


def iter_completions(engine: Engine, *, target: str, batch: int = 5000) -> Iterator[list[ItemCompletion]]:
    """Yields every tracked item of a target, by id. Each batch (> 0 items) has its own read transaction."""
    query = select(*_COLUMNS).where(items.c.target == target, *active()).order_by(items.c.item_id).limit(batch)
    last = ""
    while rows := read_page(engine, query.where(items.c.item_id > last)):
        yield [_completion(row) for row in rows]
        last = rows[-1][0]


def read_unsettled(
    engine: Engine, *, target: str, limit: int = MAX_UNSETTLED
) -> Mapping[str, ItemCompletion | None] | None:
    """The items that are not settled, by id; None for a removed or ignored one. None if they are over `limit`."""
    rows = read_page(engine, _unsettled().params(target=target, limit=limit + 1))
    if len(rows) > limit:
        return None
    return {row[0]: _completion(row) if row[3] else None for row in rows}


def iter_settled(engine: Engine, *, target: str, but: Collection[str], batch: int = 10_000) -> Iterator[Sequence[str]]:
    """Yields the ids of all items but those that `read_unsettled` has found. Batches are as in `iter_completions`.

    What is ignored meanwhile is left in: the same items come each time, until a sync changes the work list.
    """
    on_sqlite = engine.dialect.name == "sqlite"
    last: str | None = ""
    while True:
        [row] = read_page(engine, _ids(on_sqlite=on_sqlite).params(target=target, last=last, batch=batch))
        ids: list[str] = _IDS.decode(row[0]) if on_sqlite else row[0]
        last = max(ids, default=None) if on_sqlite else row[1]
        if last is None:
            return
        yield [item_id for item_id in ids if item_id not in but] if but else ids


def _completion(row: Sequence[Any]) -> ItemCompletion:
    completed = ItemState.COMPLETED.value
    return ItemCompletion(item_id=row[0], known_completed=row[1] == completed, last_seen_completed=row[2] == completed)


@cache
def _unsettled() -> Select[tuple[Any, ...]]:
    """From three indexes, each of which has only such items; one in two of them comes twice."""
    tracked: Label[int] = literal_column("1").label("tracked")
    conditions: list[tuple[ColumnElement[bool], ColumnElement[int]]] = [
        (text(ITEM_IS_DUE), tracked),  # type: ignore[list-item] # used as a condition
        (and_(items.c.state != literal_column("'completed'"), *active()), tracked),
        (text(ITEM_IS_INACTIVE), literal_column("0").label("tracked")),  # type: ignore[list-item] # as above
    ]
    of_target = items.c.target == bindparam("target", type_=String)
    parts = [select(*_COLUMNS, is_tracked).where(of_target, each) for each, is_tracked in conditions]
    found = all_of(*parts).subquery()
    return select(found).limit(bindparam("limit"))


@cache
def _ids(*, on_sqlite: bool) -> Select[tuple[Any, ...]]:
    """A batch as one value: a row for each would cost more. PostgreSQL, which may have an order of its own, adds the
    last id; SQLite's order is Python's, which finds it in a third of the time.
    """
    of_target = items.c.target == bindparam("target", type_=String), items.c.item_id > bindparam("last", type_=String)
    page = select(items.c.item_id).where(*of_target).order_by(items.c.item_id).limit(bindparam("batch")).subquery()
    columns: list[ColumnElement[Any]] = [func.json_group_array(page.c.item_id)]
    if not on_sqlite:
        columns = [func.array_agg(page.c.item_id), func.max(page.c.item_id)]
    return select(*columns)
