"""Stores and reads the histograms of times to indexed (table `time_to_indexed`). `indexing` decides what is known.

Rows only add up: an upload is one count in one slot, wherever that slot was merged to since. Uploads that are not
completed are not in the table; they are counted where they stand, in the work list.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, and_, case, delete, func, literal, or_, select, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from monitor.database.engine import insert
from monitor.database.tables import ITEM_IS_DUE, items, time_to_indexed
from monitor.model import PROBLEM_STATES, ItemState
from monitor.model.items import FirstCompletion
from monitor.rollups.bounds import KEPT, LOST, NOT_OBSERVED, SLOTS, bound_ms, quantile_s, slot_start
from monitor.rollups.indexing import Watch
from monitor.rollups.indexing import time_to_indexed as known_time
from monitor.rollups.slowest import IndexedUpload, name_slowest

ALL_TIME_S = 0
"""In place of the width of a slot: the sum of all slots and groups, which counters need."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WIDTHS_S = tuple(int(width.total_seconds()) for width in SLOTS)
_MERGES = 48
"""Slots that one run merges at most, so that a run after a long pause is hardly slower."""
_DECIDED = (ItemState.FAILED.value, ItemState.INVALID.value)
"""States in which an upload has failed, whatever its age; others may still become completed."""

_rows = time_to_indexed.c
_Key = tuple[int, datetime, str, int]
"""Width in seconds, start, group, bound."""


def count_completions(conn: Connection, *, target: str, completions: Iterable[FirstCompletion], watch: Watch) -> None:
    """Counts first completions, in the transaction that stores them with their items."""
    found_in = Counter[tuple[int, str, int]]()
    seconds_in = defaultdict[tuple[int, str, int], float](float)
    times: list[IndexedUpload] = []
    width_s = _WIDTHS_S[0]
    of_facts = defaultdict[tuple[object, ...], list[FirstCompletion]](list)
    for each in completions:
        of_facts[each.uploaded_at, each.group, each.upload_known, each.not_completed_at, each.at].append(each)
    for alike in of_facts.values():
        found = alike[0]
        took = known_time(found, watch)
        # slots by their number: a first run counts a million uploads in a few slots
        key = (int(found.uploaded_at.timestamp() // width_s), found.group or "", _bound(took))
        found_in[key] += len(alike)
        if took is not None:
            took_s = took.total_seconds()
            seconds_in[key] += took_s * len(alike)
            times += [
                IndexedUpload(item_id=each.item_id, group=each.group, took_s=took_s, indexed_at=each.at)
                for each in alike
            ]
    uploads, seconds = Counter[_Key](), defaultdict[_Key, float](float)
    for (number, group, bound), count in found_in.items():
        start = datetime.fromtimestamp(number * width_s, UTC)
        for into in ((width_s, start, group, bound), (ALL_TIME_S, _EPOCH, "", bound)):
            uploads[into] += count
            seconds[into] += seconds_in.get((number, group, bound), 0.0)
    _add(conn, target, uploads, seconds)
    name_slowest(conn, target=target, uploads=times)


def _bound(took: timedelta | None) -> int:
    return NOT_OBSERVED if took is None else bound_ms(took)


def count_lost(conn: Connection, *which: ColumnElement[bool], target: str, sign: int) -> None:
    """Counts uploads that failed and left the sync log (`sign` 1), or that came back (-1), of the items `which`."""
    uploaded, group = _uploaded(), func.coalesce(items.c.group_name, "")
    query = select(group, uploaded).where(
        *which,
        items.c.target == target,
        *_never_completed(),
        items.c.ignored_at.is_(None),
        items.c.known_state.in_([state.value for state in PROBLEM_STATES]),
    )
    uploads = Counter[_Key]()
    for name, at in conn.execute(query):
        for key in ((_WIDTHS_S[0], slot_start(at, SLOTS[0]), name, LOST), (ALL_TIME_S, _EPOCH, "", LOST)):
            uploads[key] += sign
    _add(conn, target, uploads, {})


def merge_old_slots(conn: Connection, *, target: str, now: datetime) -> None:
    """Merges slots that are old enough into the next width, at most some dozens, the oldest first.

    In a transaction that holds the target's lease, so that no two merge the same.
    """
    left = _MERGES
    for width_s, wider, kept in zip(_WIDTHS_S, SLOTS[1:], KEPT, strict=False):
        while left and (oldest := _oldest(conn, target, width_s)) is not None and oldest < now - kept:
            _merge(conn, target, width_s, slot_start(oldest, wider), wider)
            left -= 1


def _oldest(conn: Connection, target: str, width_s: int) -> datetime | None:
    found: datetime | None = conn.scalar(
        select(func.min(_rows.starts_at)).where(_rows.target == target, _rows.slot_s == width_s)
    )
    return found


def _merge(conn: Connection, target: str, width_s: int, start: datetime, wider: timedelta) -> None:
    within = (
        _rows.target == target,
        _rows.slot_s == width_s,
        _rows.starts_at >= start,
        _rows.starts_at < start + wider,
    )
    columns = (_rows.group_name, _rows.le_ms)
    query = select(*columns, func.sum(_rows.uploads), func.sum(_rows.sum_s)).where(*within).group_by(*columns)
    uploads, seconds = Counter[_Key](), dict[_Key, float]()
    for name, bound, count, sum_s in conn.execute(query):
        key = (int(wider.total_seconds()), start, name, bound)
        uploads[key], seconds[key] = int(count), sum_s
    _add(conn, target, uploads, seconds)
    conn.execute(delete(time_to_indexed).where(*within))


def _add(conn: Connection, target: str, uploads: Mapping[_Key, int], seconds: Mapping[_Key, float]) -> None:
    if not uploads:
        return
    row = insert(conn, time_to_indexed)
    added = row.on_conflict_do_update(
        index_elements=[*time_to_indexed.primary_key.columns],
        set_={"uploads": _rows.uploads + row.excluded.uploads, "sum_s": _rows.sum_s + row.excluded.sum_s},
    )
    # in one order, so that no two transactions wait for each other
    conn.execute(
        added,
        [
            {
                "target": target,
                "slot_s": width_s,
                "starts_at": start,
                "group_name": group,
                "le_ms": bound,
                "uploads": uploads[width_s, start, group, bound],
                "sum_s": seconds.get((width_s, start, group, bound), 0.0),
            }
            for width_s, start, group, bound in sorted(uploads)
        ],
    )


def _uploaded() -> ColumnElement[datetime]:
    return func.coalesce(items.c.submitted_at, items.c.first_seen_at)


def _never_completed() -> tuple[ColumnElement[bool], ...]:
    # an item that went back before revision 0013 has no `indexed_at`
    return items.c.indexed_at.is_(None), items.c.regressed_at.is_(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexingCount:
    """The uploads of one slot whose fate is decided."""

    start: datetime
    """Of the slot in which they were uploaded (aware, UTC)."""
    resolution: timedelta
    """The width of the slot: 5 minutes, an hour, a day or a week."""
    due: int
    """Completed with a known time, failed, or older than the objective."""
    good: int
    """Of these: first completed within the objective."""


def indexing_counts(
    conn: Connection,
    *,
    target: str,
    since: datetime,
    until: datetime,
    within: timedelta,
    now: datetime,
    group: str | None = None,
    with_failed: bool = True,
) -> list[IndexingCount]:
    """How many uploads of each slot were due, and how many of them were indexed `within` (> 0) an objective.

    Slots that start from `since` to before `until`, oldest first, without empty ones; of one group, or of all (None).
    An upload is due once its fate is decided at `now`: it was completed, it failed or is invalid, or it is older than
    the objective. Uploads that were completed without a known time are never due. An upload that left the sync log
    after it had failed stays due; one that left it before, or that is ignored, does not count unless it was completed.
    Without `with_failed`, failed and invalid uploads do not count.

    Exact if the objective is one of the bounds (`bounds.ROUND` has the usual ones); else the next lower bound counts,
    which is at most 5% stricter.
    """
    due, good = Counter[tuple[datetime, int]](), Counter[tuple[datetime, int]]()
    within_ms = within // timedelta(milliseconds=1)
    indexed = case((and_(_rows.le_ms >= 0, _rows.le_ms <= within_ms), _rows.uploads), else_=0)
    query = select(_rows.starts_at, _rows.slot_s, func.sum(_rows.uploads), func.sum(indexed))
    left_out = {NOT_OBSERVED} if with_failed else {NOT_OBSERVED, LOST}
    query = query.where(*_slots(target, since, until, group), _rows.le_ms.not_in(sorted(left_out)))
    for start, width_s, count, fast in conn.execute(query.group_by(_rows.starts_at, _rows.slot_s)):
        due[start, width_s] += int(count)
        good[start, width_s] += int(fast)
    has_failed, is_old = items.c.known_state.in_(_DECIDED), _uploaded() <= now - within
    overdue = or_(has_failed, is_old) if with_failed else and_(is_old, has_failed.is_not(True))
    slot = _Slot(_uploaded(), literal(_WIDTHS_S[0], Integer))
    bad = select(slot, func.count()).where(*_unfinished(target, since, until, group), overdue).group_by(slot)
    for number, count in conn.execute(bad):
        due[datetime.fromtimestamp(int(number) * _WIDTHS_S[0], UTC), _WIDTHS_S[0]] += count
    return [
        IndexingCount(start=start, resolution=timedelta(seconds=width_s), due=count, good=max(0, good[start, width_s]))
        for (start, width_s), count in sorted(due.items())
        if count > 0
    ]


def _slots(target: str, since: datetime, until: datetime, group: str | None) -> tuple[ColumnElement[bool], ...]:
    found = (_rows.target == target, _rows.slot_s.in_(_WIDTHS_S), _rows.starts_at >= since, _rows.starts_at < until)
    return found if group is None else (*found, _rows.group_name == group)


def _unfinished(target: str, since: datetime, until: datetime, group: str | None) -> tuple[ColumnElement[bool], ...]:
    """Tracked uploads of a period that were never completed; found by the index of the items that are due."""
    due: Any = text(ITEM_IS_DUE)
    width = SLOTS[0]
    # as slots: from the first that starts in the period to the last
    first, last = (slot_start(each - timedelta(microseconds=1), width) + width for each in (since, until))
    at = _uploaded()
    found = (items.c.target == target, due, *_never_completed(), at >= first, at < last)
    return found if group is None else (*found, func.coalesce(items.c.group_name, "") == group)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimesToIndexed:
    """What became of the uploads of a period."""

    buckets: Mapping[int, int] = field(default_factory=dict)
    """Uploads with a known time by the upper bound of their bucket in ms."""
    sum_s: float = 0.0
    not_observed: int = 0
    """Completed at an unknown time."""
    failed: int = 0
    """Failed, invalid or not found, also those that left the sync log since."""
    waiting: int = 0
    """Not completed yet."""

    @property
    def indexed(self) -> int:
        """Uploads with a known time."""
        return sum(self.buckets.values())

    @property
    def uploads(self) -> int:
        """All uploads of the period."""
        return self.indexed + self.not_observed + self.failed + self.waiting

    def within(self, bound: timedelta) -> int:
        """How many were indexed within one of the bounds of `bounds`."""
        most_ms = bound // timedelta(milliseconds=1)
        return sum(count for each, count in self.buckets.items() if each <= most_ms)

    def quantile_s(self, share: float) -> float | None:
        """See `bounds.quantile_s`."""
        return quantile_s(self.buckets, share)


def times_by_group(conn: Connection, *, target: str, since: datetime, until: datetime) -> dict[str, TimesToIndexed]:
    """What became of the uploads from `since` to before `until`, by group (empty: without a group).

    Bounds of the period are as fine as the slots there: five minutes, an hour, a day or a week.
    """
    buckets, sums = defaultdict[str, dict[int, int]](dict), defaultdict[str, float](float)
    failed, waiting = Counter[str](), Counter[str]()
    kinds = (_rows.group_name, _rows.le_ms)
    query = select(*kinds, func.sum(_rows.uploads), func.sum(_rows.sum_s))
    for name, bound, count, sum_s in conn.execute(query.where(*_slots(target, since, until, None)).group_by(*kinds)):
        buckets[name][bound] = int(count)
        sums[name] += sum_s
    group = func.coalesce(items.c.group_name, "")
    bad = case((items.c.known_state.in_([state.value for state in PROBLEM_STATES]), 1), else_=0)
    unfinished = select(group, func.count(), func.sum(bad)).where(*_unfinished(target, since, until, None))
    for name, count, failures in conn.execute(unfinished.group_by(group)):
        failed[name], waiting[name] = int(failures), count - int(failures)
    return {
        name: TimesToIndexed(
            buckets={bound: count for bound, count in buckets[name].items() if bound >= 0},
            sum_s=sums[name],
            not_observed=buckets[name].get(NOT_OBSERVED, 0),
            failed=failed[name] + max(0, buckets[name].get(LOST, 0)),
            waiting=waiting[name],
        )
        for name in sorted({*buckets, *waiting})
    }


def times_by_span(conn: Connection, *, target: str, bounds: Sequence[datetime]) -> list[TimesToIndexed]:
    """The times that are known of the uploads of each span [start, end), oldest first. `bounds`: n + 1 for n spans."""
    found = []
    for start, end in pairwise(bounds):
        # a statement per span: in a join with the spans SQLite would compare every row with every span
        query = select(_rows.le_ms, func.sum(_rows.uploads), func.sum(_rows.sum_s)).group_by(_rows.le_ms)
        rows = conn.execute(query.where(*_slots(target, start, end, None), _rows.le_ms >= 0)).all()
        buckets = {bound: int(count) for bound, count, _ in rows}
        found.append(TimesToIndexed(buckets=buckets, sum_s=sum(sum_s for _, _, sum_s in rows)))
    return found


def add_up(times: Iterable[TimesToIndexed]) -> TimesToIndexed:
    """The sum of several groups."""
    parts, buckets = list(times), Counter[int]()
    for each in parts:
        buckets.update(each.buckets)
    return TimesToIndexed(
        buckets=buckets,
        sum_s=sum(each.sum_s for each in parts),
        not_observed=sum(each.not_observed for each in parts),
        failed=sum(each.failed for each in parts),
        waiting=sum(each.waiting for each in parts),
    )


def all_times(conn: Connection, *, targets: Sequence[str]) -> dict[str, TimesToIndexed]:
    """All times of these targets that were ever counted, without uploads that are not completed: these never fall."""
    buckets, sums = defaultdict[str, dict[int, int]](dict), defaultdict[str, float](float)
    of_all_time = (_rows.target.in_(targets), _rows.slot_s == ALL_TIME_S, _rows.le_ms != LOST)
    for name, bound, count, sum_s in conn.execute(
        select(_rows.target, _rows.le_ms, _rows.uploads, _rows.sum_s).where(*of_all_time)
    ):
        buckets[name][bound] = count
        sums[name] += sum_s
    return {
        name: TimesToIndexed(
            buckets={bound: count for bound, count in found.items() if bound >= 0},
            sum_s=sums[name],
            not_observed=found.get(NOT_OBSERVED, 0),
        )
        for name, found in buckets.items()
    }


class _Slot(FunctionElement[int]):
    """The number of the slot (whole widths since 1970) that a time belongs to; arguments: the time, the width in s."""

    type = Integer()
    inherit_cache = True
    name = "slot_number"


@compiles(_Slot, "sqlite")
def _on_sqlite(element: _Slot, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  # SQLAlchemy's signature
    at, width = (compiler.process(clause, **options) for clause in element.clauses)
    return f"(CAST(strftime('%s', {at}) AS INTEGER) / {width})"


@compiles(_Slot, "postgresql")
def _on_postgresql(element: _Slot, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  # SQLAlchemy's signature
    at, width = (compiler.process(clause, **options) for clause in element.clauses)
    return f"CAST(FLOOR(EXTRACT(EPOCH FROM {at}) / {width}) AS BIGINT)"
