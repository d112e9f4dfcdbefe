"""Adds up the histograms of times to indexed (table `time_to_indexed`). `indexing` decides what is known.

Rows only add up: an upload is one count in a slot of each width that is still kept, so that a reader takes wide slots
for a long time and narrow ones for its ends. Uploads that are not completed are not in the table; they are counted
where they stand, in the work list. The queries are in `indexing_queries`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import groupby
from operator import attrgetter

import msgspec
from sqlalchemy import ColumnElement, Connection, Delete, bindparam, delete, func, or_, select

from monitor.database.bulk import timestamp_encoder
from monitor.database.tables import items, time_to_indexed
from monitor.model import PROBLEM_STATES
from monitor.model.items import FirstCompletion
from monitor.rollups.bounds import LOST, NOT_OBSERVED, bound_ms, kept_since_s, start_s
from monitor.rollups.cover import WIDTHS_S
from monitor.rollups.indexing import Watch, is_watched
from monitor.rollups.indexing import time_to_indexed as known_time
from monitor.rollups.slowest import IndexedUpload, name_slowest

ALL_TIME_S = 0
"""In place of the width of a slot: the sum of all slots and groups, which counters need."""
_rows = time_to_indexed.c
_FACTS = attrgetter("uploaded_at", "group", "upload_known", "not_completed_at")
"""What decides whether and where a completion counts; with its time, as what."""
_AT = attrgetter("at")
_Slot = tuple[int, int, str]
"""Width in seconds, start in seconds since 1970, group."""


@dataclass(slots=True)
class _Added:
    """What is added to one slot."""

    buckets: dict[int, int] = field(default_factory=dict)
    sum_s: float = 0.0

    def add(self, bound: int, count: int, sum_s: float = 0.0) -> None:
        self.buckets[bound] = self.buckets.get(bound, 0) + count
        self.sum_s += sum_s

    def merge(self, other: "_Added") -> None:
        for bound, count in other.buckets.items():
            self.buckets[bound] = self.buckets.get(bound, 0) + count
        self.sum_s += other.sum_s


def count_completions(conn: Connection, *, target: str, completions: Iterable[FirstCompletion], watch: Watch) -> None:
    """Counts first completions, in the transaction that stores them with their items."""
    found_in = defaultdict[tuple[int, str], _Added](_Added)
    times: list[IndexedUpload] = []
    now = None
    of_facts = defaultdict[tuple[object, ...], list[FirstCompletion]](list)
    for facts, neighbours in groupby(completions, _FACTS):
        of_facts[facts] += neighbours
    for alike in of_facts.values():
        found, newest = alike[0], max(map(_AT, alike))
        now = newest if now is None else max(now, newest)
        # slots by their number: a first run counts a million uploads in a few slots
        slot = found_in[int(found.uploaded_at.timestamp() // WIDTHS_S[0]), found.group or ""]
        if not is_watched(found, watch):
            slot.add(NOT_OBSERVED, len(alike))
            continue
        for each in alike:
            took = known_time(each, watch)
            took_s = 0.0 if took is None else took.total_seconds()
            slot.add(_bound(took), 1, took_s)
            if took is not None:
                times.append(IndexedUpload(item_id=each.item_id, group=each.group, took_s=took_s, indexed_at=each.at))
    if now is not None:
        _add(conn, target, {(number * WIDTHS_S[0], group): each for (number, group), each in found_in.items()}, now)
    name_slowest(conn, target=target, uploads=times)


def _bound(took: timedelta | None) -> int:
    return NOT_OBSERVED if took is None else bound_ms(took)


def count_lost(conn: Connection, *which: ColumnElement[bool], target: str, sign: int, now: datetime) -> None:
    """Counts uploads that failed and left the sync log (`sign` 1), or that came back (-1), of the items `which`."""
    group = func.coalesce(items.c.group_name, "")
    query = select(group, uploaded()).where(
        *which,
        items.c.target == target,
        *never_completed(),
        items.c.ignored_at.is_(None),
        items.c.known_state.in_([state.value for state in PROBLEM_STATES]),
    )
    found_in = defaultdict[tuple[int, str], _Added](_Added)
    for name, at in conn.execute(query):
        found_in[start_s(int(at.timestamp()), WIDTHS_S[0]), name].add(LOST, sign)
    if found_in:
        _add(conn, target, found_in, now)


def drop_old_slots(conn: Connection, *, target: str, now: datetime) -> None:
    """Deletes narrow slots that are old enough: their uploads are in the wider ones, too."""
    kept = {f"kept_{n}": datetime.fromtimestamp(kept_since_s(now, n), UTC) for n in range(len(WIDTHS_S) - 1)}
    conn.execute(_dropping(), {"of_target": target, **kept})


@cache
def _dropping() -> Delete:
    old = [
        (_rows.slot_s == width_s) & (_rows.starts_at < bindparam(f"kept_{number}"))
        for number, width_s in enumerate(WIDTHS_S[:-1])
    ]
    return delete(time_to_indexed).where(_rows.target == bindparam("of_target"), or_(*old))


def _add(conn: Connection, target: str, found_in: Mapping[tuple[int, str], _Added], now: datetime) -> None:
    """Adds counts by narrow slot and group to the slots of each width that is kept, and to the sum of all time.

    A narrow slot that is no longer kept is left out, and then none as old is left: else it would lack these uploads.
    """
    into, left_out = defaultdict[_Slot, _Added](_Added), False
    kept_s = [kept_since_s(now, number) for number in range(len(WIDTHS_S) - 1)]
    for (narrow_s, group), added in found_in.items():
        slots: list[_Slot] = [(ALL_TIME_S, 0, "")]
        for number, width_s in enumerate(WIDTHS_S):
            if number < len(kept_s) and narrow_s < kept_s[number]:
                left_out = True
            else:
                slots.append((width_s, start_s(narrow_s, width_s), group))
        for slot in slots:
            into[slot].merge(added)
    if left_out:
        drop_old_slots(conn, target=target, now=now)
    encode = timestamp_encoder(conn)
    rows = [
        {
            "target": target,
            "slot_s": width_s,
            "starts_at": encode(datetime.fromtimestamp(at_s, UTC)),
            "group_name": group,
            "buckets": buckets_text(added.buckets),
            "indexed": sum(count for bound, count in added.buckets.items() if bound >= 0),
            "sum_s": added.sum_s,
        }
        # in one order, so that no two transactions wait for each other
        for (width_s, at_s, group), added in sorted(into.items(), key=lambda each: each[0])
    ]
    # not by SQLAlchemy, which takes longer for a row than SQLite
    conn.exec_driver_sql(_adding(conn.dialect.name), rows)


def buckets_text(buckets: Mapping[int, int]) -> str:
    """Counts by bucket as they are stored."""
    return msgspec.json.encode({bound: count for bound, count in sorted(buckets.items()) if count}).decode()


_EACH = {"sqlite": "json_each({0})", "postgresql": "json_each_text(CAST({0} AS json)) AS pair (key, value)"}
_OBJECT = {"sqlite": "json_group_object(key, uploads)", "postgresql": "CAST(json_object_agg(key, uploads) AS text)"}


_ADD = """
INSERT INTO time_to_indexed (target, slot_s, starts_at, group_name, buckets, indexed, sum_s)
VALUES ({values})
ON CONFLICT (target, slot_s, starts_at, group_name) DO UPDATE SET
buckets = (
    SELECT {object} FROM (
        SELECT key, CAST(sum(CAST(value AS INTEGER)) AS INTEGER) AS uploads
        FROM (SELECT key, value FROM {stored} UNION ALL SELECT key, value FROM {added}) AS pairs GROUP BY key
    ) AS summed
),
indexed = time_to_indexed.indexed + excluded.indexed, sum_s = time_to_indexed.sum_s + excluded.sum_s
"""
"""Adds a row to the one of the same slot and group: the database adds, so that nothing is overwritten."""


@cache
def _adding(dialect: str) -> str:
    named = "%({})s" if dialect == "postgresql" else ":{}"
    stored, added = (_EACH[dialect].format(of) for of in ("time_to_indexed.buckets", "excluded.buckets"))
    values = ", ".join(named.format(column.name) for column in time_to_indexed.c)
    return _ADD.format(values=values, object=_OBJECT[dialect], stored=stored, added=added)


def uploaded() -> ColumnElement[datetime]:
    """When an item was uploaded, as far as is known."""
    return func.coalesce(items.c.submitted_at, items.c.first_seen_at)


def never_completed() -> tuple[ColumnElement[bool], ...]:
    """The conditions of an item that was never seen completed."""
    # an item that went back before revision 0013 has no `indexed_at`
    return items.c.indexed_at.is_(None), items.c.regressed_at.is_(None)
