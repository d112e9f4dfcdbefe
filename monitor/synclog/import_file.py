"""Any file of ids: which format it has, and what its lines say."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

import msgspec

from monitor.errors import ConfigError
from monitor.model import LogEntry
from monitor.synclog.import_formats import (
    ITEM_ID,
    LONGEST_LINE,
    BadLine,
    Blank,
    FileSpec,
    Line,
    Lines,
    LineTooLongError,
    open_table,
    records,
)

_BY_SUFFIX = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a file holds."""

    format: str
    notes: tuple[str, ...]
    """What people should know about how it is read."""
    entries: Iterator[LogEntry | BadLine]
    """In the file's order; it is read as they are taken."""


def read_items(lines: Lines, spec: FileSpec) -> Found:
    """Reads the ids of a file, with their upload times and groups if columns for these are named.

    Raises:
        ConfigError: the file can't be read as text, or lacks a column; also later, from `entries`.
    """
    try:
        first = lines.peek().strip()
    except LineTooLongError:
        raise ConfigError([f"{spec.name}: its first line is longer than {LONGEST_LINE} bytes; is it a text?"]) from None
    chosen = spec.format or _guess(first, spec)
    if chosen == "jsonl":
        if first.startswith("["):
            raise ConfigError([f"{spec.name}: it is a JSON array; write one object per line, as `jq -c '.[]'` does"])
        return Found(format=chosen, notes=(), entries=_settled(records(lines, spec)))
    table = open_table(lines, spec)
    return Found(format=chosen, notes=table.notes, entries=_settled(table.rows))


def _guess(first: str, spec: FileSpec) -> str:
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


def _settled(found: Iterator[Line]) -> Iterator[LogEntry | BadLine]:
    """Blank lines mean nothing at the end of a file; before that a line lacks its id."""
    blank: list[int] = []
    for each in found:
        if isinstance(each, Blank):
            blank = [blank[0] if blank else each.line, each.line]
            continue
        if blank:
            yield BadLine(first=blank[0], last=blank[1], reason="nothing stands there")
            blank = []
        yield each
