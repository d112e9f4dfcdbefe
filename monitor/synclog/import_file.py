"""Any file of ids: which format it has, and what its lines say."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

import msgspec

from monitor.errors import ConfigError
from monitor.model import SyncLogEntry
from monitor.synclog.import_formats import (
    ITEM_ID,
    MAX_LINE_BYTES,
    BadLine,
    BlankLine,
    FileSpec,
    LineReader,
    LineTooLongError,
    ParsedLine,
    open_csv,
    read_json_lines,
)

_BY_SUFFIX = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedFile:
    """What a file holds."""

    format: str
    notes: tuple[str, ...]
    """What people should know about how it is read."""
    entries: Iterator[SyncLogEntry | BadLine]
    """In the file's order; it is read as they are taken."""


def read_items(lines: LineReader, spec: FileSpec) -> ImportedFile:
    """Reads the ids of a file, with their upload times and groups if columns for these are named.

    Raises:
        ConfigError: the file can't be read as text, or lacks a column; also later, from `entries`.
    """
    try:
        first = lines.peek().strip()
    except LineTooLongError:
        raise ConfigError(
            [f"{spec.name}: its first line is longer than {MAX_LINE_BYTES} bytes; is it a text?"]
        ) from None
    chosen = spec.format or _guess_format(first, spec)
    if chosen == "jsonl":
        if first.startswith("["):
            raise ConfigError([f"{spec.name}: it is a JSON array; write one object per line, as `jq -c '.[]'` does"])
        return ImportedFile(format=chosen, notes=(), entries=_skip_trailing_blanks(read_json_lines(lines, spec)))
    table = open_csv(lines, spec)
    return ImportedFile(format=chosen, notes=table.notes, entries=_skip_trailing_blanks(table.rows))


def _guess_format(first: str, spec: FileSpec) -> str:
    by_name = _BY_SUFFIX.get(PurePath(spec.name).suffix.lower())
    if by_name:
        return by_name
    if first.startswith(("{", "[")):
        return "jsonl"
    if not first.startswith('"'):
        return "csv"
    try:
        # a quoted word is JSON as well as CSV; as CSV it can only be the header
        return "csv" if msgspec.json.decode(first) == (spec.id_column or ITEM_ID) else "jsonl"
    except msgspec.DecodeError:
        return "csv"


def _skip_trailing_blanks(found: Iterator[ParsedLine]) -> Iterator[SyncLogEntry | BadLine]:
    """Blank lines mean nothing at the end of a file; before that a line lacks its id."""
    blank: list[int] = []
    for each in found:
        if isinstance(each, BlankLine):
            blank = [blank[0] if blank else each.line, each.line]
            continue
        if blank:
            yield BadLine(first=blank[0], last=blank[1], reason="nothing stands there")
            blank = []
        yield each
