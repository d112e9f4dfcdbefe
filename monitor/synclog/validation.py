"""Rows of a sync log, sorted into those that can be tracked and those that can't, with the count of each. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from monitor.database.text import UNSTORABLE, spelled_out, storable
from monitor.model import LogEntry, SyncReport

LONGEST_ID = 512
"""Characters: what a URL and an index carry everywhere."""
SAMPLES = 5
LONGEST_SAMPLE = 60
LONGEST_GROUP = 200

_COUNTS = ("read", "null", "blank", "unusable", "future")


def screen(entries: Iterable[LogEntry], *, now: datetime) -> tuple[list[LogEntry], SyncReport]:
    """Takes out the rows whose id can't be tracked, and from the others what can't be used.

    Ids are kept to the letter, with any spaces around them; one of nothing but whitespace is blank.

    Returns:
        The usable rows, repeated ids included, and the counts of `read`, `null`, `blank`, `unusable` and `future`.
    """
    usable: list[LogEntry] = []
    counts: Counter[str] = Counter()
    bad_ids: list[str] = []
    for entry in entries:
        fault = _fault(entry.item_id)
        late = not fault and entry.submitted_at is not None and entry.submitted_at > now
        counts.update(read=1, future=int(late))
        if not fault:
            usable.append(_fit(entry, late=late))
            continue
        counts[fault] += 1
        if fault == "unusable" and len(bad_ids) < SAMPLES:
            bad_ids.append(_sample(entry.item_id or ""))
    return usable, _report(counts, tuple(bad_ids))


def add(one: SyncReport, other: SyncReport) -> SyncReport:
    """The counts of two batches together, with the first samples."""
    sums = {name: getattr(one, name) + getattr(other, name) for name in _COUNTS}
    return _report(sums, (*one.unusable_ids, *other.unusable_ids)[:SAMPLES])


def _report(counts: Mapping[str, int], unusable_ids: tuple[str, ...]) -> SyncReport:
    values: dict[str, Any] = {name: counts.get(name, 0) for name in _COUNTS}
    return SyncReport(**values, unusable_ids=unusable_ids)


def _fault(item_id: str | None) -> str | None:
    if item_id is None:
        return "null"
    if not item_id or item_id.isspace():
        return "blank"
    return "unusable" if len(item_id) > LONGEST_ID or UNSTORABLE.search(item_id) else None


def _fit(entry: LogEntry, *, late: bool) -> LogEntry:
    group = storable(entry.group, LONGEST_GROUP)
    if not late and group == entry.group:
        return entry
    return replace(entry, submitted_at=None if late else entry.submitted_at, group=group)


def _sample(item_id: str) -> str:
    return spelled_out(item_id[:LONGEST_SAMPLE])[:LONGEST_SAMPLE]
