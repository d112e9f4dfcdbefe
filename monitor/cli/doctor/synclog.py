"""Reads a target's sync log for real, from its beginning, and judges what stands there. It writes nothing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from monitor.cli.doctor.findings import Finding, Level, with_full_stop
from monitor.cli.doctor.locations import SettingLocation, SettingLocations
from monitor.config import SyncLogConfig, TargetConfig
from monitor.errors import MonitorError
from monitor.model import SyncLogEntry, SyncReport
from monitor.notifications.texts import format_items
from monitor.providers import Provider
from monitor.synclog.validation import add_counts, validate_entries

SAMPLE = 5
MAX_ROWS = 10_000
"""Rows that are read: enough to judge by, and quick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSample:
    """What the beginning of a sync log holds."""

    counts: SyncReport = field(default_factory=SyncReport)
    ids: tuple[str, ...] = ()
    """Each once."""
    complete: bool = True
    """Whether that is all of it."""

    def spread(self, count: int, accept: Callable[[str], bool]) -> list[str]:
        """Up to so many (> 0) ids of those that are wanted, spread over all."""
        accepted = [item_id for item_id in self.ids if accept(item_id)]
        count_taken = min(count, len(accepted))
        return [accepted[len(accepted) * position // count_taken] for position in range(count_taken)]


def read_sample(batches: Iterator[Sequence[SyncLogEntry]], *, now: datetime) -> LogSample:
    """Reads up to `MAX_ROWS` rows.

    Args:
        batches: the log; closed early if it is longer.
        now: aware.

    Raises:
        SyncLogError: the log can't be read.
        StoreError: the built-in log can't be read.
    """
    counts, ids, complete = SyncReport(), dict[str, None](), True
    for batch in batches:
        usable, batch_counts = validate_entries(batch, now=now)
        counts = add_counts(counts, batch_counts)
        ids.update((entry.item_id, None) for entry in usable if entry.item_id is not None)
        if counts.read >= MAX_ROWS:
            complete = next(batches, None) is None
            break
    return LogSample(counts=counts, ids=tuple(ids), complete=complete)


def check_log(sample: LogSample, target: TargetConfig, at: SettingLocation, *, option: str = "") -> Finding:
    """What there is to say about a log that could be read."""
    built_in, counts = target.sync_log is None, sample.counts
    name = "the built-in log" if built_in or target.sync_log is None else f'table "{target.sync_log.table}"'
    if not counts.read:
        if built_in:
            command = f"ingestion-monitor items import FILE --target {target.name}{option}"
            return _finding(Level.WARNING, f"{name} can be read, and is empty.", None, command=command)
        message = f"{name} can be read, and is empty: has the pipeline recorded anything yet?"
        return _finding(Level.WARNING, message, at)
    start = f"{name} can be read: " + (_rows(counts.read) if sample.complete else f"the first {_rows(counts.read)}")
    repeated = counts.read - counts.null - counts.blank - counts.unusable - len(sample.ids)
    irregular = [
        (counts.null, "without an id"),
        (counts.blank, "with a blank id"),
        (counts.unusable, "with an id that can't be used"),
        (repeated, "with an id that stands there already"),
        (counts.future, "uploaded in the future"),
    ]
    irregular_text = "".join(f", {count} {what}" for count, what in irregular if count)
    if not sample.ids:
        return _finding(Level.PROBLEM, f"{start}{irregular_text}: no usable id.", at)
    bad_ids = counts.null or counts.blank or counts.unusable or counts.future
    return _finding(
        Level.WARNING if bad_ids else Level.OK, f"{start}, {format_items(len(sample.ids))}{irregular_text}.", at
    )


def check_ids(sample: LogSample, provider: Provider, at: SettingLocation | None) -> Finding:
    """Whether the ids are such as the API could accept; no request is sent for others.

    Args:
        sample: what was read of the log.
        provider: whose ids they should be.
        at: the setting that names their column; None for the built-in log.
    """
    bad_ids = [item_id for item_id in sample.ids if not provider.valid_id(item_id)]
    if not bad_ids:
        message = f"{format_items(len(sample.ids))}, each with an id that {provider.name} can accept."
        return _finding(Level.OK, message, at, part="ids")
    shown = ", ".join(_shorten(item_id) for item_id in bad_ids[:SAMPLE])
    message = f"{len(bad_ids)} of {len(sample.ids)} can't be ids of {provider.name}'s, such as {shown}."
    level = Level.PROBLEM if len(bad_ids) == len(sample.ids) else Level.WARNING
    built_in = "take them out with `items remove`, and see that `items import` reads the right --id-column"
    remedy = "does the pipeline record what the API gave it?" if at else built_in
    return _finding(level, message, at, remedy, part="ids")


def log_unreadable(error: MonitorError, target: TargetConfig, locations: SettingLocations, row: int) -> Finding:
    """What is wrong with a log that could not be read, and which of its settings to look at."""
    log = target.sync_log
    if log is None:
        return _finding(Level.NOT_TRIED, "not tried, as it is in the database, which can't be used.", None)
    at = locations.of("targets", row, "sync_log", _setting(str(error), log))
    return _finding(Level.PROBLEM, with_full_stop(str(error)), at)


def _setting(sentence: str, log: SyncLogConfig) -> str:
    """The setting whose value the sentence names; columns before the table, which stands in every such sentence."""
    columns = {
        "id_column": log.id_column,
        "submitted_at_column": log.submitted_at_column,
        "group_column": log.group_column,
    }
    for key, value in columns.items():
        if f'no column "{value}"' in sentence:
            return key
    return "table" if f'table "{log.table.rpartition(".")[2]}"' in sentence else "url"


def _finding(
    level: Level,
    message: str,
    at: SettingLocation | None,
    remedy: str = "",
    *,
    part: str = "sync log",
    command: str = "",
) -> Finding:
    return Finding(
        part=part,
        level=level,
        message=message,
        remedy=remedy,
        command=command,
        setting=at.setting if at else None,
        location=at.where if at else None,
    )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _shorten(item_id: str) -> str:
    return item_id if len(item_id) <= 40 else f"{item_id[:39]}…"
