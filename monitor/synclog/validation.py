"""Separates valid from invalid rows of a sync log, and counts them. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from monitor.database.text import UNPRINTABLE, escape_unprintable, to_column_text
from monitor.model import SyncLogEntry, SyncReport

MAX_ID_LENGTH = 512
"""Characters; fits URLs and database indexes everywhere."""
MAX_SAMPLES = 5
MAX_SAMPLE_LENGTH = 60
MAX_GROUP_LENGTH = 200

_COUNTS = ("read", "null", "blank", "unusable", "without_params", "future", "unreadable")
_SAMPLED = ("unusable", "without_params")
"""Counts with samples of ids."""


def validate_entries(entries: Iterable[SyncLogEntry], *, now: datetime) -> tuple[list[SyncLogEntry], SyncReport]:
    """Drops rows with an invalid id or without a path parameter, upload times after `now`, and what a database can't
    store in a group.

    Ids stay exactly as they are, with surrounding spaces; an id of only whitespace is blank. Duplicates are kept.
    """
    usable: list[SyncLogEntry] = []
    counts: Counter[str] = Counter()
    bad_ids: dict[str, list[str]] = {name: [] for name in _SAMPLED}
    bad_time: str | None = None
    for entry in entries:
        problem = _id_problem(entry.item_id) or _params_problem(entry.params)
        late = not problem and entry.submitted_at is not None and entry.submitted_at > now
        counts.update(read=1, future=int(late))
        if entry.unreadable_time is not None and not problem:
            counts["unreadable"] += 1
            bad_time = bad_time or entry.unreadable_time
        if not problem:
            usable.append(_clean(entry, late=late))
            continue
        counts[problem] += 1
        if problem in bad_ids and len(bad_ids[problem]) < MAX_SAMPLES:
            bad_ids[problem].append(_sample(entry.item_id or ""))
    return usable, _report(counts, {name: tuple(ids) for name, ids in bad_ids.items()}, bad_time)


def add_counts(one: SyncReport, other: SyncReport) -> SyncReport:
    """The sum of two batches, with the first samples."""
    sums = {name: getattr(one, name) + getattr(other, name) for name in _COUNTS}
    bad_ids = {
        "unusable": (*one.unusable_ids, *other.unusable_ids)[:MAX_SAMPLES],
        "without_params": (*one.without_params_ids, *other.without_params_ids)[:MAX_SAMPLES],
    }
    return _report(sums, bad_ids, one.unreadable_time or other.unreadable_time)


def _report(
    counts: Mapping[str, int], samples: Mapping[str, tuple[str, ...]], unreadable_time: str | None
) -> SyncReport:
    values: dict[str, Any] = {name: counts.get(name, 0) for name in _COUNTS}
    values |= {f"{name}_ids": ids for name, ids in samples.items()}
    return SyncReport(**values, unreadable_time=unreadable_time)


def _id_problem(item_id: str | None) -> str | None:
    if item_id is None:
        return "null"
    if not item_id or item_id.isspace():
        return "blank"
    return "unusable" if len(item_id) > MAX_ID_LENGTH or UNPRINTABLE.search(item_id) else None


def _params_problem(params: Mapping[str, str | None] | None) -> str | None:
    """A parameter that is null, blank, or that no path can hold."""
    if params is None or all(map(_is_param, params.values())):
        return None
    return "without_params"


def _is_param(value: str | None) -> bool:
    if not value or value.isspace() or value in {".", ".."}:  # dot segments would lead to another path
        return False
    return len(value) <= MAX_ID_LENGTH and not UNPRINTABLE.search(value)


def _clean(entry: SyncLogEntry, *, late: bool) -> SyncLogEntry:
    group = to_column_text(entry.group, MAX_GROUP_LENGTH)
    if not late and group == entry.group:
        return entry
    return replace(entry, submitted_at=None if late else entry.submitted_at, group=group)


def _sample(item_id: str) -> str:
    return escape_unprintable(item_id[:MAX_SAMPLE_LENGTH])[:MAX_SAMPLE_LENGTH]
