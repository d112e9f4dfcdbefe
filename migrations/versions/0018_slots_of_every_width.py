"""An upload is counted in slots of every width, and a slot is one row.

Revision ID: 0018
Revises: 0017
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_WIDTHS_S = (300, 3_600, 86_400, 604_800)
_MONDAY_S = 4 * 86_400
_Slot = tuple[int, int, str]
"""Width, start in seconds since 1970, group."""
_Row = Mapping[str, Any]
_CHUNK = 1_000


def _table(name: str, *values: sa.Column[Any], key: tuple[str, ...] = ()) -> sa.Table:
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("slot_s", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("group_name", sa.String(200), server_default=sa.text("''"), nullable=False),
        *values,
        sa.Column("sum_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("target", "slot_s", "starts_at", "group_name", *key, name="pk_time_to_indexed"),
        sqlite_with_rowid=False,
    )


def _rows_of_buckets(name: str) -> sa.Table:
    return _table(
        name,
        sa.Column("le_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("uploads", sa.Integer(), nullable=False),
        key=("le_ms",),
    )


def _rows_of_slots(name: str) -> sa.Table:
    return _table(
        name, sa.Column("buckets", sa.Text(), nullable=False), sa.Column("indexed", sa.Integer(), nullable=False)
    )


def upgrade() -> None:
    """One revision up: what was counted is added up for the wider slots."""
    _rebuild(_rows_of_buckets, _rows_of_slots, _in_every_width)


def downgrade() -> None:
    """One revision down: each upload is counted once, in the narrowest slot that is kept. Nothing is lost."""
    _rebuild(_rows_of_slots, _rows_of_buckets, _in_one_width)


def _rebuild(
    before: Callable[[str], sa.Table],
    after: Callable[[str], sa.Table],
    converted: Callable[[Iterable[_Row]], Iterator[_Row]],
) -> None:
    conn = op.get_bind()
    op.rename_table("time_to_indexed", "time_to_indexed_before")
    if conn.dialect.name == "postgresql":
        op.execute("ALTER INDEX pk_time_to_indexed RENAME TO pk_time_to_indexed_before")
    old, new = before("time_to_indexed_before"), after("time_to_indexed")
    new.create(conn)
    for target in conn.execute(sa.select(old.c.target).distinct()).scalars().all():
        rows = conn.execute(sa.select(old).where(old.c.target == target)).mappings()
        found = [{"target": target, **row} for row in converted(list(map(dict, rows)))]
        for start in range(0, len(found), _CHUNK):
            conn.execute(sa.insert(new), found[start : start + _CHUNK])
    op.drop_table("time_to_indexed_before")


def _start_s(at_s: int, width_s: int) -> int:
    return (at_s - _MONDAY_S) // width_s * width_s + _MONDAY_S


def _seconds(at: datetime) -> int:
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def _in_every_width(rows: Iterable[_Row]) -> Iterator[_Row]:
    """Each slot into those of all wider widths.

    Narrow ones go from where a wider one begins that was merged before: late uploads alone came after that.
    """
    own = defaultdict[_Slot, Counter[int]](Counter)
    seconds: defaultdict[_Slot, float] = defaultdict(float)
    for row in rows:
        slot = (row["slot_s"], _seconds(row["starts_at"]), row["group_name"])
        own[slot][row["le_ms"]] += row["uploads"]
        seconds[slot] += row["sum_s"]
    merged = {
        width_s: max((at + width_s for each_s, at, _ in own if each_s == width_s), default=0) for width_s in _WIDTHS_S
    }
    found = defaultdict[_Slot, Counter[int]](Counter)
    sums: defaultdict[_Slot, float] = defaultdict(float)
    for (width_s, at, group), counts in own.items():
        wider = [each for each in _WIDTHS_S if each >= width_s] if width_s else [0]
        for each in wider:
            older = max((merged[other] for other in _WIDTHS_S if other > each), default=0)
            if each in {0, _WIDTHS_S[-1]} or at >= older:
                slot = (each, _start_s(at, each) if each else 0, group)
                found[slot].update(counts)
                sums[slot] += seconds[width_s, at, group]
    for (width_s, at, group), counts in found.items():
        yield {
            "slot_s": width_s,
            "starts_at": datetime.fromtimestamp(at, UTC),
            "group_name": group,
            "buckets": json.dumps({bound: count for bound, count in counts.items() if count}),
            "indexed": sum(count for bound, count in counts.items() if bound >= 0),
            "sum_s": sums[width_s, at, group],
        }


def _in_one_width(rows: Iterable[_Row]) -> Iterator[_Row]:
    """Of each slot what is in no narrower one."""
    left = {
        (row["slot_s"], _seconds(row["starts_at"]), row["group_name"]): (
            Counter({int(bound): count for bound, count in json.loads(row["buckets"]).items()}),
            row["sum_s"],
        )
        for row in rows
    }
    inside = defaultdict[_Slot, list[_Slot]](list)
    for width_s, at, group in left:
        if width_s in _WIDTHS_S[:-1]:
            wider_s = _WIDTHS_S[_WIDTHS_S.index(width_s) + 1]
            inside[wider_s, _start_s(at, wider_s), group].append((width_s, at, group))
    for (width_s, at, group), (counts, sum_s) in left.items():
        rest, rest_s = Counter(counts), sum_s
        for narrow in inside[width_s, at, group]:
            rest.subtract(left[narrow][0])
            rest_s -= left[narrow][1]
        kept = {bound: count for bound, count in rest.items() if count}
        for number, (bound, count) in enumerate(sorted(kept.items())):
            start = datetime.fromtimestamp(at, UTC)
            yield {
                "slot_s": width_s, "starts_at": start, "group_name": group, "le_ms": bound, "uploads": count,
                # the sum of the bucket is not known: the first one has the slot's
                "sum_s": 0.0 if number else rest_s,
            }  # fmt: skip
