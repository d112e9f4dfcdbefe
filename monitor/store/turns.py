"""What one run changed in the work list, grouped for people: how many items went which way, and a few of their ids."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from monitor.store.tables import item_events

__all__ = ["ItemTurn", "of_run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemTurn:
    """Items that went the same way in one run."""

    kind: str
    """`state`, `stage`, `removed` or `returned`."""
    old: str | None
    new: str | None
    count: int
    sample_ids: tuple[str, ...]


def of_run(conn: Connection, run_id: int, *, samples: int = 3) -> list[ItemTurn]:
    """The turns of a run, the most frequent first.

    Args:
        conn: a connection.
        run_id: the run.
        samples: how many ids to name per turn (≥ 1).
    """
    ways = (item_events.c.kind, item_events.c.old, item_events.c.new)
    grouped = (
        select(*ways, func.count().label("times"))
        .where(item_events.c.run_id == run_id)
        .group_by(*ways)
        .order_by(func.count().desc(), *ways)
    )
    return [
        ItemTurn(
            kind=row.kind,
            old=row.old,
            new=row.new,
            count=row.times,
            sample_ids=_sample(conn, run_id, (row.kind, row.old, row.new), samples),
        )
        for row in conn.execute(grouped).all()
    ]


def _sample(conn: Connection, run_id: int, way: tuple[str, str | None, str | None], limit: int) -> tuple[str, ...]:
    kind, old, new = way
    query = select(item_events.c.item_id).where(
        item_events.c.run_id == run_id,
        item_events.c.kind == kind,
        item_events.c.old.is_not_distinct_from(old),
        item_events.c.new.is_not_distinct_from(new),
    )
    return tuple(conn.execute(query.order_by(item_events.c.item_id).limit(limit)).scalars())
