"""Reads the files of `items import` and `items remove`, and names their bad lines on stderr."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import BinaryIO
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from monitor.app import build_provider, utcnow
from monitor.cli.session import unknown_target
from monitor.config import Config
from monitor.config.sync_log import time_format_problem
from monitor.errors import ConfigError
from monitor.model import SyncLogEntry, SyncReport
from monitor.providers import has_uuid_ids
from monitor.reports.formatting import plural
from monitor.synclog.ids import canonical_uuid
from monitor.synclog.import_file import FORMATS, BadLine, FileSpec, ImportedFile, LineReader, read_items
from monitor.synclog.timestamps import AUTO
from monitor.synclog.validation import add_counts, validate_entries

STDIN = "-"
BATCH = 1000
MAX_LISTED = 20
"""Bad lines that are listed; the rest are counted."""


def file_spec(
    file: str,
    file_format: str | None,
    id_column: str | None,
    *,
    submitted_at_column: str | None = None,
    group_column: str | None = None,
    time_format: str = AUTO,
    timezone: str = "UTC",
    uuid_ids: bool = False,
) -> FileSpec:
    """How to read a file. Raises ConfigError if there is no such format or time zone."""
    if problem := time_format_problem(time_format):
        raise ConfigError([f"--time-format {problem}"])
    if file_format is not None and file_format not in FORMATS:
        raise ConfigError([f"--format: {file_format!a} is none of {', '.join(FORMATS)}"])
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder of zones
        raise ConfigError([f"--timezone: there is no zone {timezone!a}; name one like Europe/Paris"]) from None
    return FileSpec(
        name="standard input" if file == STDIN else file,
        format=file_format,
        id_column=id_column,
        submitted_at_column=submitted_at_column,
        group_column=group_column,
        time_format=time_format,
        zone=zone,
        uuid_ids=uuid_ids,
    )


def built_in_target(config: Config, name: str | None, *, instead: str) -> str:
    """The name of the target whose built-in log is meant. Raises ConfigError if there is none, or more than one.

    `instead`: what to do if the target has its own sync log.
    """
    listed = [target for target in config.targets if name in {None, target.name}]
    if not listed:
        raise unknown_target(config, str(name))
    built_in = [target.name for target in listed if target.sync_log is None]
    if len(built_in) == 1:
        return built_in[0]
    if built_in:
        raise ConfigError([f"--target: name the target of the log: {', '.join(built_in)}"])
    owners = ", ".join(target.name for target in listed)
    reason = "the ids come from its own table ([targets.sync_log]), not from the built-in sync log"
    raise ConfigError([f"{owners}: {reason}; {instead}"])


def uuid_ids(config: Config, target: str) -> bool:
    """Whether the ids of a target are UUIDs. Raises ConfigError if its provider can't be built."""
    return any(has_uuid_ids(build_provider(each)) for each in config.targets if each.name == target)


@contextmanager
def open_stream(file: str) -> Iterator[BinaryIO]:
    """The file, or standard input for `-`. Raises ConfigError if it can't be opened."""
    if file == STDIN:
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(file).open("rb"))
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            reason = getattr(error, "strerror", None) or error
            raise ConfigError([f"{file!a}: can't be opened ({reason}); name a file that this user may read"]) from None
        yield stream


def parse_file(stream: BinaryIO, spec: FileSpec) -> ImportedFile:
    """Starts to read a file; what had to be guessed is printed on stderr."""
    parsed = read_items(LineReader(stream, spec.name), spec)
    for note in parsed.notes:
        print(f"note: {note}", file=sys.stderr)
    return parsed


@contextmanager
def ids_to_remove(item_ids: Sequence[str], file: str | None, spec: FileSpec) -> Iterator[Iterator[Sequence[str]]]:
    """Batches of ids: those of the file, then those of the command line."""
    given = [canonical_uuid(item_id) or item_id for item_id in item_ids] if spec.uuid_ids else item_ids
    if file is None:
        yield iter([given])
        return
    with open_stream(file) as stream:
        batches = Reader(name=spec.name, now=utcnow()).batches(parse_file(stream, spec))
        # the file first: if none of its lines can be used, nothing is removed
        yield chain(([entry.item_id or "" for entry in batch] for batch in batches), [given])


@dataclass(slots=True, kw_only=True)
class Reader:
    """Yields a file's usable lines in batches, and prints the bad ones on stderr."""

    name: str
    now: datetime
    strict: bool = False
    read: int = 0
    counts: SyncReport = field(default_factory=SyncReport)
    """Of the usable lines: what their upload times are like."""
    bad: int = 0
    listed: list[BadLine] = field(default_factory=list)

    def batches(self, parsed: ImportedFile) -> Iterator[list[SyncLogEntry]]:
        """All usable lines. Raises ConfigError at the end if there are none, or `strict` is set and one is bad.

        A line whose upload time can't be read is usable without it, and bad only if `strict` is set.
        """
        for batch in self._batches(parsed):
            self.counts = add_counts(self.counts, validate_entries(batch, now=self.now)[1])
            yield batch
        self._finish()

    def _batches(self, parsed: ImportedFile) -> Iterator[list[SyncLogEntry]]:
        batch: list[SyncLogEntry] = []
        for each in parsed.entries:
            if isinstance(each, BadLine):
                self._report_bad_line(each)
                continue
            batch.append(each)
            self.read += 1
            if len(batch) == BATCH:
                yield batch
                batch = []
        yield batch

    def _report_bad_line(self, bad: BadLine) -> None:
        self.bad += bad.lines
        if len(self.listed) < MAX_LISTED:
            self.listed.append(bad)
            where = f"line {bad.first}" if bad.lines == 1 else f"lines {bad.first} to {bad.last}"
            print(f"{self.name}, {where}: {bad.reason}", file=sys.stderr)

    def _finish(self) -> None:
        if unlisted := self.bad - sum(bad.lines for bad in self.listed):
            print(f"{self.name}: {unlisted} more lines can't be used", file=sys.stderr)
        if self.bad and not self.read:
            raise ConfigError([f"{self.name}: none of its lines can be used; nothing was changed"])
        if self.counts.unreadable and self.strict:
            lines, samples = plural(self.counts.unreadable, "line"), ", ".join(self.counts.unreadable_times)
            problem = f"{lines} with an upload time that can't be read: {samples}; with --strict nothing was changed"
            raise ConfigError([f"{self.name}: {problem}"])
        if self.bad and self.strict:
            raise ConfigError(
                [f"{self.name}: {plural(self.bad, 'line')} can't be used; with --strict nothing was changed"]
            )
