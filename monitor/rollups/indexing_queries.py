"""Reads the histograms of times to indexed, for several targets at a time. Uploads that are not completed are counted
where they stand, in the work list.

Each question is one statement for all targets and periods: the slots that `cover` chooses are its parameter.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from itertools import pairwise
from operator import attrgetter
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    String,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from monitor.database.bulk import RowSet
from monitor.database.lookups import TARGETS, is_due
from monitor.database.tables import UtcDateTime, items, time_to_indexed
from monitor.model import PROBLEM_STATES, ItemState
from monitor.rollups.bounds import LOST, NOT_OBSERVED, SLOTS, quantile_s, slot_start
from monitor.rollups.cover import WHOLE, WIDTHS_S, Kept, Part, Slots, aligned, cover, parts_of_spans
from monitor.rollups.indexing_store import ALL_TIME_S, never_completed, uploaded

_rows = time_to_indexed.c
_NARROW = SLOTS[0]
_DECIDED = (ItemState.FAILED.value, ItemState.INVALID.value)
"""States in which an upload has failed, whatever its age; others may still become completed."""
_buckets = msgspec.json.Decoder(dict[int, int])
_histograms = msgspec.json.Decoder(list[tuple[int, dict[int, int]]])
"""Of slots: how many were indexed, and counts by bucket."""
_of_groups = msgspec.json.Decoder(list[tuple[str, float, dict[int, int]]])
"""Of slots: the group, seconds, and counts by bucket."""


class TimesToIndexed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the uploads of a period."""

    buckets: Mapping[int, int] = msgspec.field(default_factory=dict)
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


@dataclass(slots=True)
class _Sum:
    """The sum of some slots: counts by bucket, also those that stand for no time."""

    counts: defaultdict[int, int] = field(default_factory=partial(defaultdict, int))
    seconds: float = 0.0

    def add(self, counts: Mapping[int, int], seconds: float, sign: int) -> None:
        mine = self.counts
        if sign < 0:
            for bound, count in counts.items():
                mine[bound] -= count
        elif mine:
            for bound, count in counts.items():  # a report adds up a hundred thousand buckets
                mine[bound] += count
        else:
            mine.update(counts)
        self.seconds += sign * seconds

    def times(self, *, failed: int = 0, waiting: int = 0) -> TimesToIndexed:
        return TimesToIndexed(
            buckets={bound: count for bound, count in self.counts.items() if bound >= 0 and count},
            sum_s=self.seconds,
            not_observed=self.counts.get(NOT_OBSERVED, 0),
            failed=failed + max(0, self.counts.get(LOST, 0)),
            waiting=waiting,
        )


class PeriodTimes(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the uploads of one target in a period."""

    groups: Mapping[str, TimesToIndexed]
    """By group; empty: without a group."""
    spans: tuple[TimesToIndexed, ...]
    """Of each span of the period, oldest first: only completed uploads with a known time."""


def times_of_period(conn: Connection, *, targets: Sequence[str], bounds: Sequence[datetime]) -> dict[str, PeriodTimes]:
    """What became of the uploads of each target from the first of `bounds` to before the last, by group and span.

    `bounds` ascend: n + 1 for n spans. They are as fine as the slots there: five minutes, an hour, a day or a week.
    """
    by_group = defaultdict[tuple[str, str], _Sum](_Sum)
    by_span = defaultdict[tuple[str, int], _Sum](_Sum)
    alike = defaultdict[tuple[Kept, tuple[int, ...]], list[str]](list)
    for target, kept in _kept(conn, targets).items():
        alike[kept, tuple(aligned(bound, kept) for bound in bounds)].append(target)
    for (kept, edges), names in alike.items():
        parts = parts_of_spans(edges, kept)
        for target, number, histograms in _read_parts(conn, names, parts):
            for group, seconds, counts in _of_groups.decode(f"[{histograms or ''}]"):
                for span, sign in parts[number].signs:
                    into = by_group[target, group] if span == WHOLE else by_span[target, span]
                    into.add(counts, seconds, sign)
    unfinished = _unfinished_by_group(conn, targets, bounds[0], bounds[-1])
    groups = defaultdict[str, dict[str, TimesToIndexed]](dict)
    for target, group in sorted({*by_group, *unfinished}):
        failed, waiting = unfinished.get((target, group), (0, 0))
        groups[target][group] = by_group[target, group].times(failed=failed, waiting=waiting)
    return {
        target: PeriodTimes(
            groups=groups[target], spans=tuple(_known(by_span[target, span]) for span in range(len(bounds) - 1))
        )
        for target in targets
    }


def _known(found: _Sum) -> TimesToIndexed:
    counts = {bound: count for bound, count in found.counts.items() if bound >= 0 and count}
    return TimesToIndexed(buckets=counts, sum_s=found.seconds)


def _kept(conn: Connection, targets: Iterable[str]) -> dict[str, Kept]:
    """From when on narrow slots are kept of each target."""
    found = conn.execute(_oldest(), TARGETS.of(conn, [(name,) for name in targets]))
    return {name: Kept.of(starts) for name, *starts in found}


@cache
def _oldest() -> Select[Any]:
    target, names = TARGETS.c.target, TARGETS.table
    oldest = [
        select(func.min(_rows.starts_at))
        .where(_rows.target == target, _rows.slot_s == width_s)
        .correlate(names)
        .scalar_subquery()
        for width_s in WIDTHS_S[:-1]
    ]
    return select(target, *oldest)


_WANTED = RowSet(
    "wanted", number=Integer(), target=String(), slot_s=Integer(), since=UtcDateTime(), until=UtcDateTime()
)
_PARTS = RowSet("parts", number=Integer(), slot_s=Integer(), since=UtcDateTime(), until=UtcDateTime())


def _read_parts(conn: Connection, targets: Sequence[str], parts: Sequence[Part]) -> Sequence[Any]:
    """Of each target and part: both, and of each of its slots the group, seconds and counts by bucket, as the text of
    a list without its brackets; None without slots.
    """
    rows = [
        (number, part.slots.width_s, _at(part.slots.start_s), _at(part.slots.end_s))
        for number, part in enumerate(parts)
    ]
    return conn.execute(_reading_parts(), _PARTS.of(conn, rows) | TARGETS.of(conn, [(each,) for each in targets])).all()


@cache
def _reading_parts() -> Select[Any]:
    target, part = TARGETS.c.target, _PARTS.c
    which = (
        _rows.target == target, _rows.slot_s == part.slot_s,
        _rows.starts_at >= part.since, _rows.starts_at < part.until,
    )  # fmt: skip
    found = _as_lists(_JsonText(_rows.group_name), cast(_rows.sum_s, Text), _rows.buckets)
    found = found.where(*which).correlate(TARGETS.table, _PARTS.table)
    return select(target, part.number, found.scalar_subquery()).join_from(TARGETS.table, _PARTS.table, true())


def _as_lists(*columns: ColumnElement[str]) -> Select[Any]:
    """A query that puts rows together as the text of one list each, separated by commas: one row of the answer costs as
    much as the histogram in it. The columns are texts of JSON.
    """
    first, *others = columns
    each = sum((literal(",", Text) + column for column in others), literal("[", Text) + first)
    return select(func.aggregate_strings(each + "]", ","))


@cache
def _at(at_s: int) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)


def _read_slots(conn: Connection, wanted: Sequence[tuple[str, Slots]], group: str | None) -> Sequence[Any]:
    """Of the slots of a group, or of all: number in `wanted`, and for each slot how many were indexed and its counts by
    bucket, as the text of a list without its brackets; None without slots.
    """
    rows = [
        (number, target, slots.width_s, _at(slots.start_s), _at(slots.end_s))
        for number, (target, slots) in enumerate(wanted)
    ]
    return conn.execute(_reading_slots(group), _WANTED.of(conn, rows)).all()


@cache
def _reading_slots(group: str | None) -> Select[Any]:
    which = [
        _rows.target == _WANTED.c.target, _rows.slot_s == _WANTED.c.slot_s,
        _rows.starts_at >= _WANTED.c.since, _rows.starts_at < _WANTED.c.until,
    ]  # fmt: skip
    if group is not None:
        which.append(_rows.group_name == group)
    found = _as_lists(cast(_rows.indexed, Text), _rows.buckets).where(*which).correlate(_WANTED.table)
    return select(_WANTED.c.number, found.scalar_subquery())


def _unfinished_by_group(
    conn: Connection, targets: Sequence[str], since: datetime, until: datetime
) -> dict[tuple[str, str], tuple[int, int]]:
    """The tracked uploads of a period that were never completed: how many failed, and how many are waiting."""
    group = func.coalesce(items.c.group_name, "")
    bad = case((items.c.known_state.in_([state.value for state in PROBLEM_STATES]), 1), else_=0)
    first, last = _first(since), _first(until)
    which = (items.c.target.in_(targets), *is_due(), *never_completed(), uploaded() >= first, uploaded() < last)
    query = select(items.c.target, group, func.count(), func.sum(bad)).where(*which)
    rows = conn.execute(query.group_by(items.c.target, group))
    return {(target, name): (int(failed), count - int(failed)) for target, name, count, failed in rows}


def _first(at: datetime) -> datetime:
    """The start of the first narrow slot that starts at a time or later."""
    return slot_start(at - timedelta(microseconds=1), _NARROW) + _NARROW


class IndexingCount(msgspec.Struct, frozen=True, kw_only=True):
    """The uploads of one slot, or of several of one width in a row, whose fate is decided."""

    start: datetime
    """Of the first slot in which they were uploaded (aware, UTC)."""
    length: timedelta
    """Of all these slots."""
    due: int
    """Completed with a known time, failed, or older than the objective."""
    good: int
    """Of these: first completed within the objective."""


class Uploads(msgspec.Struct, frozen=True, kw_only=True):
    """The uploads of a target that a question is about, and when they are due.

    An upload is due once its fate is decided at `now`: it was completed, it failed or is invalid, or it is older than
    the objective. Uploads that were completed without a known time are never due. An upload that left the sync log
    after it had failed stays due; one that left it before, or that is ignored, does not count unless it was completed.
    """

    target: str
    since: datetime
    until: datetime
    """Slots that start from `since` to before this."""
    within: timedelta
    """The objective (> 0). Exact if it is one of the bounds (`bounds.ROUND` has the usual ones); else the next lower
    bound counts, which is at most 5% stricter."""
    now: datetime
    group: str | None = None
    """Uploads of one group, or of all (None)."""
    with_failed: bool = True
    """Whether failed and invalid uploads count."""
    cuts: tuple[datetime, ...] = ()
    """Times at which a slot must begin, or the narrowest slot there is at that time: between them slots are wide, and
    those of one width are counted together."""


def indexing_counts(conn: Connection, asked: Sequence[Uploads]) -> list[list[IndexingCount]]:
    """Of each question, how many uploads were due between its cuts, and how many of them were indexed in time.

    Oldest first, by runs of slots of one width, without empty ones; uploads that were never completed are in slots of
    five minutes of their own.
    """
    if not asked:
        return []
    kept = _kept(conn, {each.target for each in asked})
    found: list[list[IndexingCount]] = [[] for _ in asked]
    for group in {each.group for each in asked}:
        places = [
            (number, slots)
            for number, each in enumerate(asked)
            if each.group == group
            for slots in _between_cuts(each, kept[each.target])
        ]
        wanted = [(asked[number].target, slots) for number, slots in places]
        for place, histograms in _read_slots(conn, wanted, group):
            number, slots = places[place]
            due, good = _decided(asked[number], histograms or "")
            if due > 0:
                start, length = _at(slots.start_s), timedelta(seconds=slots.end_s - slots.start_s)
                found[number].append(IndexingCount(start=start, length=length, due=due, good=good))
    for number, start, count in _overdue(conn, asked):
        found[number].append(IndexingCount(start=start, length=_NARROW, due=count, good=0))
    return [sorted(counts, key=_by_start) for counts in found]


_by_start = attrgetter("start")


def _decided(asked: Uploads, histograms: str) -> tuple[int, int]:
    """How many uploads in some slots were due, and how many of them were indexed in time."""
    most_ms = asked.within // timedelta(milliseconds=1)
    due = good = 0
    for indexed, counts in _histograms.decode(f"[{histograms}]"):
        due += indexed + (counts.get(LOST, 0) if asked.with_failed else 0)
        in_time = max(counts, default=0) <= most_ms  # all of them, as a rule
        good += indexed if in_time else sum([n for bound, n in counts.items() if 0 <= bound <= most_ms])
    return due, max(0, good)


def _between_cuts(asked: Uploads, kept: Kept) -> Iterable[Slots]:
    first, last = aligned(asked.since, kept), aligned(asked.until, kept)
    edges = {aligned(cut, kept, up=False) for cut in asked.cuts}
    between = sorted({first, last, *(edge for edge in edges if first < edge < last)})
    return (slots for start, end in pairwise(between) for slots in cover(start, end, kept))


_ASKED = RowSet(
    "asked", number=Integer(), target=String(), since=UtcDateTime(), until=UtcDateTime(), overdue=UtcDateTime(),
    of_group=String(), with_failed=Integer(),
)  # fmt: skip


def _overdue(conn: Connection, asked: Sequence[Uploads]) -> Iterable[tuple[int, datetime, int]]:
    """Uploads that were never completed and are due, by number in `asked` and narrow slot."""
    rows = [
        (
            number, each.target, _first(each.since), _first(each.until), each.now - each.within, each.group,
            int(each.with_failed),
        )
        for number, each in enumerate(asked)
    ]  # fmt: skip
    counted = conn.execute(_counting_overdue(), _ASKED.of(conn, rows))
    return ((number, _at(int(slot) * WIDTHS_S[0]), count) for number, slot, count in counted)


@cache
def _counting_overdue() -> Select[Any]:
    of, at = _ASKED.c, uploaded()
    has_failed, is_old = items.c.known_state.in_(_DECIDED), at <= of.overdue
    which = (
        items.c.target == of.target, *is_due(), *never_completed(), at >= of.since, at < of.until,
        or_(of.of_group.is_(None), func.coalesce(items.c.group_name, "") == of.of_group),
        or_(and_(of.with_failed == 1, or_(has_failed, is_old)), and_(is_old, has_failed.is_not(true()))),
    )  # fmt: skip
    slot = SlotNumber(at, literal(WIDTHS_S[0], Integer))
    return select(of.number, slot, func.count()).where(*which).group_by(of.number, slot)


def counted_since(conn: Connection, *, targets: Sequence[str]) -> dict[str, datetime]:
    """Since when the uploads of each target are counted: the start of the slot of the first with a known time.

    Before that, what had been completed is not known, while what failed or never arrived still stands in the work list:
    shares of such a time would show nothing but failures. It is so after a first look at an old sync log, and after the
    upgrade to revision 0013. Targets without such an upload are left out.
    """
    found = conn.execute(_first_counted(), TARGETS.of(conn, [(each,) for each in targets]))
    return {name: _narrowed(start, narrower) for name, start, *narrower in found if start is not None}


@cache
def _first_counted() -> Select[Any]:
    name, names = TARGETS.c.target, TARGETS.table
    first_of_each = [
        select(_rows.starts_at)
        .where(_rows.target == name, _rows.slot_s == width_s, _rows.indexed > 0)
        .order_by(_rows.starts_at)
        .limit(1)
        .correlate(names)
        .scalar_subquery()
        for width_s in reversed(WIDTHS_S)
    ]
    return select(name, *first_of_each)


def _narrowed(start: datetime, narrower: Iterable[datetime | None]) -> datetime:
    """The start of the narrowest slot of the first week: a narrower one that is of another week is not the first."""
    for width, at in zip(reversed(SLOTS), narrower, strict=False):
        if at is None or at >= start + width:
            break
        start = at
    return start


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
    of_all_time = select(_rows.target, _rows.buckets, _rows.sum_s).where(
        _rows.target.in_(targets), _rows.slot_s == ALL_TIME_S
    )
    found = {}
    for name, buckets, seconds in conn.execute(of_all_time):
        counts = {bound: count for bound, count in _buckets.decode(buckets).items() if bound != LOST}
        if counts:
            found[name] = _Sum(defaultdict(int, counts), seconds).times()
    return found


class SlotNumber(FunctionElement[int]):
    """The number of the slot (whole widths since 1970) that a time belongs to; arguments: the time, the width in s."""

    type = Integer()
    inherit_cache = True
    name = "slot_number"


@compiles(SlotNumber, "sqlite")
def _on_sqlite(element: SlotNumber, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  # SQLAlchemy's signature
    at, width = (compiler.process(clause, **options) for clause in element.clauses)
    return f"(CAST(strftime('%s', {at}) AS INTEGER) / {width})"


@compiles(SlotNumber, "postgresql")
def _on_postgresql(element: SlotNumber, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  # SQLAlchemy's signature
    at, width = (compiler.process(clause, **options) for clause in element.clauses)
    return f"CAST(FLOOR(EXTRACT(EPOCH FROM {at}) / {width}) AS BIGINT)"


class _JsonText(FunctionElement[str]):
    """A text as JSON, with its quotes."""

    type = Text()
    inherit_cache = True
    name = "json_text"


@compiles(_JsonText, "sqlite")
def _quoted(element: _JsonText, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  # SQLAlchemy's signature
    return f"json_quote({compiler.process(element.clauses, **options)})"


@compiles(_JsonText, "postgresql")
def _as_json(element: _JsonText, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  # SQLAlchemy's signature
    return f"CAST(to_json({compiler.process(element.clauses, **options)}) AS TEXT)"
