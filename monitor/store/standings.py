"""What the work list knows of every tracked item, for the comparison with a provider's list: ids and two facts each."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Engine, select

from monitor.model import ItemState, Standing
from monitor.store.engine import FEW
from monitor.store.items import active
from monitor.store.patience import read_page
from monitor.store.tables import items

__all__ = ["read", "states"]


def read(engine: Engine, *, target: str, batch: int = 5000) -> Iterator[list[Standing]]:
    """Every tracked item of a target, by id; each batch (> 0 items) is a read transaction of its own.

    Raises:
        StoreError: when the database can't be read.
    """
    columns = (items.c.item_id, items.c.known_state, items.c.state)
    query = select(*columns).where(items.c.target == target, *active()).order_by(items.c.item_id).limit(batch)
    last = ""
    completed = ItemState.COMPLETED.value
    while True:
        rows = read_page(engine, query.where(items.c.item_id > last))
        if not rows:
            return
        yield [
            Standing(item_id=item_id, finished=known == completed, seen_so=state == completed)
            for item_id, known, state in rows
        ]
        last = rows[-1][0]


def states(engine: Engine, *, target: str, run_id: int, item_ids: Sequence[str]) -> list[ItemState]:
    """What a run found out about some items (at most `FEW`), as far as it asked about them; in no order."""
    query = select(items.c.state).where(
        items.c.target == target, items.c.item_id.in_(item_ids[:FEW]), items.c.asked_run_id == run_id
    )
    return [ItemState(row[0]) for row in read_page(engine, query)]
