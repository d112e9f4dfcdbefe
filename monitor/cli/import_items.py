"""`items import` and `items remove`: the built-in sync log."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import BinaryIO
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from monitor.app import utcnow
from monitor.cli.items import require_storable
from monitor.cli.session import load, open_app, print_json, print_lines, unknown_target
from monitor.config import Config, TargetConfig
from monitor.database.engine import reading
from monitor.errors import ConfigError
from monitor.model import SyncLogEntry
from monitor.notifications.texts import format_items
from monitor.reports.formatting import plural
from monitor.synclog import builtin as builtin_log
from monitor.synclog.import_file import ImportedFile, read_items
from monitor.synclog.import_formats import FORMATS, BadLine, FileSpec, LineReader

STDIN = "-"
BATCH = 1000
MAX_LISTED = 20
"""Bad lines and unknown ids that are named; the rest are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """The command line of `items import`, and of `items remove` as far as it has the same options."""

    target: str | None = None
    format: str | None = None
    id_column: str | None = None
    submitted_at_column: str | None = None
    group_column: str | None = None
    timezone: str = "UTC"
    strict: bool = False
    as_json: bool = False


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Takes a file's usable lines in batches, and names the bad ones on stderr."""

    name: str
    strict: bool = False
    read: int = 0
    bad: int = 0
    listed: list[BadLine] = field(default_factory=list)

    def batches(self, parsed: ImportedFile) -> Iterator[list[SyncLogEntry]]:
        """All usable lines.

        Raises:
            ConfigError: at the end, when no line could be used, or one could not and all were wanted.
        """
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
        self._finish()
        yield batch

    def _report_bad_line(self, bad: BadLine) -> None:
        self.bad += bad.lines
        if len(self.listed) < MAX_LISTED:
            self.listed.append(bad)
            where = f"line {bad.first}" if bad.lines == 1 else f"lines {bad.first} to {bad.last}"
            print(f"{self.name}, {where}: {bad.reason}", file=sys.stderr)

    def _finish(self) -> None:
        if unnamed := self.bad - sum(bad.lines for bad in self.listed):
            print(f"{self.name}: {unnamed} more lines can't be used", file=sys.stderr)
        if self.bad and not self.read:
            raise ConfigError([f"{self.name}: none of its lines can be used; nothing was changed"])
        if self.bad and self.strict:
            raise ConfigError(
                [f"{self.name}: {plural(self.bad, 'line')} can't be used; by --strict nothing was changed"]
            )


def import_items(path: Path | None, file: str, options: ImportOptions) -> None:
    """Takes the ids of a file into the built-in log of a target, all usable ones in one transaction.

    Raises:
        ConfigError: an option is wrong, or the file can't be read; nothing was changed.
        StoreError: the database can't be used; nothing was changed.
    """
    spec, config = _spec(file, options), load(path)
    target = _built_in_target(config, options.target, instead="record new ones there").name
    reader = _Reader(name=spec.name, strict=options.strict)
    with _stream(file) as stream:
        parsed = _read_file(stream, spec)
        with open_app(config) as app:
            batches = reader.batches(parsed)
            counts = builtin_log.add(app.engine, target=target, batches=batches, now=utcnow())
            with reading(app.engine) as conn:
                total = builtin_log.count(conn, target=target)
    if options.as_json:
        bad_lines = [asdict(bad) for bad in reader.listed]
        print_json({"target": target, **asdict(counts), "bad": reader.bad, "bad_lines": bad_lines, "tracked": total})
    else:
        print_lines(_imported_text(target, counts, reader.bad, total))


def _imported_text(target: str, counts: builtin_log.ImportResult, bad: int, total: int) -> str:
    lines = [f"{target}: {counts.new} new, {counts.known} known, {counts.updated} updated"]
    if counts.duplicate:
        lines.append(f"  {plural(counts.duplicate, 'line')} with an id that stood there before: the first one counts")
    if bad:
        lines.append(f"  {plural(bad, 'line')} could not be used: named on stderr")
    return "\n".join([*lines, f"  {format_items(total)} in the built-in log"])


def remove(path: Path | None, item_ids: Sequence[str], file: str | None, options: ImportOptions) -> None:
    """Takes ids out of the built-in log of a target; those that it does not have are named.

    Raises:
        ConfigError: an option is wrong, the file can't be read, or the log has none of the ids; nothing was removed,
            but for ids before a place where a file turned out to be unreadable.
        StoreError: the database can't be used.
    """
    if not item_ids and file is None:
        raise ConfigError(["items remove: give the ids to remove, or a file of them with --from"])
    spec, config = _spec(file or "", options), load(path)
    target = _built_in_target(config, options.target, instead="remove them there, or use `items ignore`").name
    with _ids_to_remove(item_ids, file, spec) as batches, open_app(config) as app:
        counts = builtin_log.remove(app.engine, target=target, batches=batches)
    if counts.unknown:
        more = (
            f" and {counts.unknown - len(counts.unknown_ids)} more" if counts.unknown > len(counts.unknown_ids) else ""
        )
        listed = f"not in the built-in log of {target}: {', '.join(counts.unknown_ids)}{more}"
        if not counts.removed:
            raise ConfigError([f"{listed}; nothing was removed"])
        print(listed, file=sys.stderr)
    print_lines(f"{target}: {format_items(counts.removed)} removed; the next run takes them off the work list")


@contextmanager
def _ids_to_remove(item_ids: Sequence[str], file: str | None, spec: FileSpec) -> Iterator[Iterator[Sequence[str]]]:
    from_arguments = iter([require_storable(item_ids)])
    if file is None:
        yield from_arguments
        return
    with _stream(file) as stream:
        batches = _Reader(name=spec.name).batches(_read_file(stream, spec))
        # the file first: if none of its lines can be used, nothing is removed
        yield chain(([entry.item_id or "" for entry in batch] for batch in batches), from_arguments)


def _spec(file: str, options: ImportOptions) -> FileSpec:
    if options.format is not None and options.format not in FORMATS:
        raise ConfigError([f"--format: {options.format!a} is none of {', '.join(FORMATS)}"])
    try:
        zone = ZoneInfo(options.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder of zones
        raise ConfigError([f"--timezone: there is no zone {options.timezone!a}; name one like Europe/Paris"]) from None
    return FileSpec(
        name="standard input" if file == STDIN else file,
        format=options.format,
        id_column=options.id_column,
        submitted_at_column=options.submitted_at_column,
        group_column=options.group_column,
        zone=zone,
    )


def _built_in_target(config: Config, name: str | None, *, instead: str) -> TargetConfig:
    """The target whose built-in log is meant."""
    listed = [target for target in config.targets if name in {None, target.name}]
    if not listed:
        raise unknown_target(config, str(name))
    built_in = [target for target in listed if target.sync_log is None]
    if len(built_in) == 1:
        return built_in[0]
    if built_in:
        raise ConfigError([f"--target: say whose log is meant: {', '.join(target.name for target in built_in)}"])
    owners = ", ".join(target.name for target in listed)
    where = "says where the ids are; a target without that table uses the built-in log"
    raise ConfigError([f"{owners}: this is not the built-in sync log: [targets.sync_log] {where}; {instead}"])


@contextmanager
def _stream(file: str) -> Iterator[BinaryIO]:
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


def _read_file(stream: BinaryIO, spec: FileSpec) -> ImportedFile:
    parsed = read_items(LineReader(stream, spec.name), spec)
    for note in parsed.notes:
        print(f"note: {note}", file=sys.stderr)
    return parsed
