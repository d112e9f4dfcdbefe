"""Reads the beginning of a target's sync log, and checks its rows and ids. It writes nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from monitor.cli.doctor.findings import Finding, Level, finding_at, with_full_stop
from monitor.cli.doctor.locations import SettingLocation, SettingLocations
from monitor.config import SyncLogConfig, TargetConfig
from monitor.errors import MonitorError
from monitor.model import SyncLogEntry, SyncReport
from monitor.notifications.messages import format_age
from monitor.notifications.texts import format_items
from monitor.providers import Provider, has_uuid_ids
from monitor.providers.preset import find_preset
from monitor.reports.log_rows import RowProblem, row_problems
from monitor.synclog.ids import canonical_uuid
from monitor.synclog.validation import add_counts, validate_entries

SAMPLE = 5
_PART = "sync log"
MAX_ROWS = 10_000
"""Rows that are read: enough for a sample, and quick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSample:
    """The beginning of a sync log."""

    counts: SyncReport = field(default_factory=SyncReport)
    ids: tuple[str, ...] = ()
    """Without duplicates."""
    params: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Path parameters by id, if the log has any."""
    complete: bool = True
    """Whether the log has no more rows."""
    newest: datetime | None = None
    """The newest upload time that is not in the future."""
    oldest: datetime | None = None

    def spread(self, count: int, accept: Callable[[str], bool]) -> list[str]:
        """Up to `count` (> 0) accepted ids, spread over all."""
        accepted = [item_id for item_id in self.ids if accept(item_id)]
        count_taken = min(count, len(accepted))
        return [accepted[len(accepted) * position // count_taken] for position in range(count_taken)]


def read_sample(batches: Iterator[Sequence[SyncLogEntry]], *, now: datetime) -> LogSample:
    """Reads up to `MAX_ROWS` rows. Raises SyncLogError or StoreError if the log can't be read."""
    counts, ids, complete = SyncReport(), dict[str, Mapping[str, str | None] | None](), True
    times: set[datetime] = set()
    for batch in batches:
        usable, batch_counts = validate_entries(batch, now=now)
        counts = add_counts(counts, batch_counts)
        for entry in usable:
            if entry.item_id is not None:
                ids.setdefault(entry.item_id, entry.params)
        times |= {entry.submitted_at for entry in usable if entry.submitted_at is not None}
        if counts.read >= MAX_ROWS:
            complete = next(batches, None) is None
            break
    params = {
        item_id: {name: value for name, value in given.items() if value is not None}
        for item_id, given in ids.items()
        if given
    }
    unusable = counts.null + counts.blank + counts.unusable + counts.without_params
    return LogSample(
        counts=replace(counts, duplicate=counts.read - unusable - len(ids)),
        ids=tuple(ids),
        params=params,
        complete=complete,
        newest=max(times, default=None),
        oldest=min(times, default=None),
    )


def check_log(
    sample: LogSample,
    target: TargetConfig,
    at: SettingLocation,
    *,
    now: datetime,
    hidden: bool = False,
    option: str = "",
) -> Finding:
    """The finding about a log that could be read; `hidden`: row-level security may hide its rows."""
    counts = sample.counts
    name = "the built-in log" if target.sync_log is None else f'table "{target.sync_log.table}"'
    if not counts.read:
        if target.sync_log is None:
            command = f"ingestion-monitor items import FILE --target {target.name}{option}"
            return finding_at(None, _PART, Level.WARNING, f"{name} is readable, but empty.", command=command)
        if hidden:
            message = f"{name} has no row that this user may see: row-level security is active on it."
            remedy = "create a policy for SELECT for the monitor's role, or give that role BYPASSRLS"
            return finding_at(at, _PART, Level.WARNING, message, remedy)
        if target.sync_log.where:
            message = f"{name} is readable, but no row of it matches where."
            return finding_at(at, _PART, Level.WARNING, message, "check the columns and values of where")
        message = f"{name} is readable, but empty: has the pipeline recorded anything yet?"
        return finding_at(at, _PART, Level.WARNING, message)
    start = f"{name} is readable: " + (_rows(counts.read) if sample.complete else f"the first {_rows(counts.read)}")
    problems = row_problems(counts)
    irregular = "".join(f", {each.count} {each.what}{_quoted(each)}" for each in problems)
    if not sample.ids:
        return finding_at(at, _PART, Level.PROBLEM, f"{start}{irregular}: no usable id.")
    level = Level.OK if all(each.harmless for each in problems) else Level.WARNING
    times = _times_text(sample, now)
    message = f"{start}, {format_items(len(sample.ids))}{times}{irregular}."
    return finding_at(at, _PART, level, message, _time_remedy(counts))


def _times_text(sample: LogSample, now: datetime) -> str:
    if sample.newest is None or sample.oldest is None:
        return ""
    newest, oldest = now - sample.newest, now - sample.oldest
    return f", newest upload {format_age(newest)} ago, oldest {_rough_age(oldest)}"


def _rough_age(age: timedelta) -> str:
    return f"{age.days} d" if age.days else format_age(age)


def _quoted(problem: RowProblem) -> str:
    return f": {', '.join(problem.samples)}" if problem.samples else ""


def _time_remedy(counts: SyncReport) -> str:
    remedies = [
        (counts.unreadable, "say how the times are written, with time_format"),
        (counts.future, "if the times have no offset, set timezone to the zone that the pipeline writes"),
    ]
    return "; ".join(remedy for count, remedy in remedies if count)


def check_ids(sample: LogSample, provider: Provider, target: TargetConfig, at: SettingLocation | None) -> Finding:
    """Whether the API could accept the ids; no request is sent for others. `at`: None for the built-in log."""
    bad_ids = [item_id for item_id in sample.ids if not provider.valid_id(item_id)]
    pattern = target.item.id_pattern if target.item else None
    if not bad_ids:
        message = f"{format_items(len(sample.ids))}, each with an id that {provider.name} can accept."
        return finding_at(at, "ids", Level.OK, message)
    more = f" and {len(bad_ids) - SAMPLE} more" if len(bad_ids) > SAMPLE else ""
    shown = ", ".join(bad_ids[:SAMPLE]) + more
    rule = f", which have the form {pattern}" if pattern and not right_id(target) else ""
    message = f"{len(bad_ids)} of {len(sample.ids)} can't be ids of target {target.name}{rule}, such as {shown}."
    message += right_id(target)
    level = Level.PROBLEM if len(bad_ids) == len(sample.ids) else Level.WARNING
    built_in = "remove them with `items remove`, and check the --id-column of `items import`"
    recorded = "does the pipeline record the ids that the API returned?"
    if has_uuid_ids(provider) and all(map(canonical_uuid, bad_ids)):
        recorded = 'set id_format = "auto": they are UUIDs in another form'
    remedy = recorded if at else built_in
    return finding_at(at, "ids", level, message, remedy)


def right_id(target: TargetConfig) -> str:
    """A sentence, with a space before it, that says what a right id looks like; empty if the API's preset does not."""
    preset = find_preset(target.provider)
    return f" A right id is {preset.id}." if preset is not None and preset.id else ""


def log_unreadable(error: MonitorError, target: TargetConfig, locations: SettingLocations, row: int) -> Finding:
    """The finding about a log that could not be read, with the setting to change."""
    log = target.sync_log
    if log is None:
        return finding_at(None, _PART, Level.NOT_TRIED, "not tried: it is in the database, which can't be used.")
    at = locations.of("targets", row, "sync_log", _setting(str(error), log))
    return finding_at(at, _PART, Level.PROBLEM, with_full_stop(str(error)))


def _setting(sentence: str, log: SyncLogConfig) -> str:
    """The setting whose value the sentence names; columns first, since every such sentence names the table."""
    if "where can't compare" in sentence or any(f'no column "{name}"' in sentence for name in log.where):
        return "where"
    columns = {
        "id_column": log.id_column,
        "submitted_at_column": log.submitted_at_column,
        "group_column": log.group_column,
        "updated_at_column": log.updated_at_column,
        "param_columns": next((name for name in log.param_columns.values() if f'no column "{name}"' in sentence), None),
    }
    for key, value in columns.items():
        if f'column "{value}"' in sentence:
            return key
    return "table" if f'table "{log.table.rpartition(".")[2]}"' in sentence else "url"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
