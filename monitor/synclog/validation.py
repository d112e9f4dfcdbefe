"""Separates valid from invalid rows of a sync log, and counts them. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from monitor.database.text import UNPRINTABLE, escape_unprintable, to_column_text
from monitor.model import SyncLogEntry, SyncReport

MAX_ID_LENGTH = 512
"""Characters; fits URLs and database indexes everywhere."""
MAX_SAMPLES = 5
MAX_TIME_SAMPLES = 3
MAX_SAMPLE_LENGTH = 60
MAX_GROUP_LENGTH = 200

_COUNTS = ("read", "null", "blank", "unusable", "without_params", "future", "unreadable")


@dataclass(slots=True)
class _Samples:
    """The first of what can't be used."""

    ids: list[str] = field(default_factory=list)
    without_params: list[str] = field(default_factory=list)
    kind: str | None = None
    future: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def validate_entries(entries: Iterable[SyncLogEntry], *, now: datetime) -> tuple[list[SyncLogEntry], SyncReport]:
    """Drops rows with an invalid id or without a path parameter, upload times after `now`, and what a database can't
    store in a group.

    Ids stay exactly as they are, with surrounding spaces; an id of only whitespace is blank. Duplicates are kept.
    """
    usable: list[SyncLogEntry] = []
    counts: Counter[str] = Counter()
    samples = _Samples()
    for entry in entries:
        counts["read"] += 1
        problem = _id_problem(entry) or _params_problem(entry.params)
        if problem:
            counts[problem] += 1
            _add_bad_id(samples, entry, problem)
            continue
        late = entry.submitted_at is not None and entry.submitted_at > now
        if late or entry.unreadable_time is not None:
            counts["future" if late else "unreadable"] += 1
            _add_bad_time(samples, entry)
        usable.append(_clean(entry, late=late))
    return usable, _report(counts, samples)


def add_counts(one: SyncReport, other: SyncReport) -> SyncReport:
    """The sum of two batches, with the first samples."""
    sums = {name: getattr(one, name) + getattr(other, name) for name in _COUNTS}
    samples = _Samples(
        ids=[*one.unusable_ids, *other.unusable_ids],
        without_params=[*one.without_params_ids, *other.without_params_ids],
        kind=one.unusable_kind or other.unusable_kind,
        future=[*one.future_times, *other.future_times],
        unreadable=[*one.unreadable_times, *other.unreadable_times],
    )
    return _report(sums, samples)


def _report(counts: Mapping[str, int], samples: _Samples) -> SyncReport:
    values: dict[str, Any] = {name: counts.get(name, 0) for name in _COUNTS}
    return SyncReport(
        **values,
        unusable_ids=tuple(samples.ids[:MAX_SAMPLES]),
        unusable_kind=samples.kind,
        without_params_ids=tuple(samples.without_params[:MAX_SAMPLES]),
        future_times=tuple(samples.future[:MAX_TIME_SAMPLES]),
        unreadable_times=tuple(samples.unreadable[:MAX_TIME_SAMPLES]),
    )


def _id_problem(entry: SyncLogEntry) -> str | None:
    item_id = entry.item_id
    if entry.not_an_id is not None:
        return "unusable"
    if item_id is None:
        return "null"
    if not item_id or item_id.isspace():
        return "blank"
    if len(item_id) > MAX_ID_LENGTH or UNPRINTABLE.search(item_id):
        return "unusable"
    return None


def _add_bad_id(samples: _Samples, entry: SyncLogEntry, problem: str) -> None:
    if problem == "unusable":
        samples.kind = samples.kind or entry.not_an_id
        if entry.item_id is not None and len(samples.ids) < MAX_SAMPLES:
            samples.ids.append(_sample(entry.item_id))
    if problem == "without_params" and len(samples.without_params) < MAX_SAMPLES:
        samples.without_params.append(_sample(entry.item_id or ""))


def _add_bad_time(samples: _Samples, entry: SyncLogEntry) -> None:
    if entry.submitted_at is not None and len(samples.future) < MAX_TIME_SAMPLES:
        samples.future.append(entry.submitted_at.isoformat(timespec="seconds").replace("+00:00", "Z"))
    if entry.unreadable_time is not None and len(samples.unreadable) < MAX_TIME_SAMPLES:
        samples.unreadable.append(entry.unreadable_time)


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
