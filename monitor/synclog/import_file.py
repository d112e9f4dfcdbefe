"""Ids from a file: CSV with a header line, one id per line, or JSON lines. Bad lines are reported, not raised."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from pathlib import PurePath
from typing import BinaryIO

import msgspec

from monitor.database.text import UNPRINTABLE, escape_unprintable
from monitor.errors import ConfigError
from monitor.model import SyncLogEntry
from monitor.synclog.ids import canonical_uuid
from monitor.synclog.timestamps import AUTO, is_empty, time_reader, unreadable_sample
from monitor.synclog.validation import MAX_ID_LENGTH

FORMATS = ("csv", "jsonl")
ITEM_ID = "item_id"
MAX_LINE_BYTES = 2**24
"""Records with whole documents are long, but a file without line ends must not fill the memory."""
MAX_FIELD_LENGTH = 2**20
"""Characters. Python's default is an eighth of it; columns with document texts exceed that."""
MAX_QUOTED_LENGTH = 40
_MAX_NAMED = 20
_BY_SUFFIX = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_DELIMITERS = (",", ";", "\t", "|")
_ID_HEADER = re.compile(r"(?:(?:item|document|doc|file)[ _-]?)?ids?", re.IGNORECASE)
_RULER = re.compile(r"[\s|+:─━═│┃┌┬┐├┼┤└┴┘╞╪╡-]*(?:--|──|━━|══)[\s|+:─━═│┃┌┬┐├┼┤└┴┘╞╪╡-]*")
"""The line under a header, or a border, as psql, `sqlite3 -column` and Markdown draw it."""
_ROW_COUNT = re.compile(r"\(\d+ \w+\)")
"""Such as `(2 rows)`, the last line of psql."""
_BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class LineReader(Iterator[str]):
    """Yields the lines of a binary file as text, with their line ends, and counts them; `name` is for messages."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.number = 0
        self._stream, self._name = stream, name
        self._peeked: str | None = None

    @property
    def next_number(self) -> int:
        """The number of the next line."""
        return self.number + (self._peeked is None)

    def peek(self) -> str:
        """The next line that is not blank, without consuming it; blank lines before it are skipped. "" at the end."""
        if self._peeked is None:
            self._peeked = next((line for line in self if line.strip()), None)
        return self._peeked or ""

    def __next__(self) -> str:
        """The next line. Raises ConfigError if it can't be read, is too long or not UTF-8."""
        if self._peeked is not None:
            line, self._peeked = self._peeked, None
            return line
        try:
            raw = self._stream.readline(MAX_LINE_BYTES)
        except OSError as error:
            raise self._error(f"can't be read ({error.strerror}); check the disk or the pipe, and try again") from error
        if not raw:
            raise StopIteration
        self.number += 1
        if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
            raise self._error(
                f"line {self.number} is longer than {MAX_LINE_BYTES} bytes; write one item per line, without its text"
            )
        return self._text(raw)

    def _text(self, raw: bytes) -> str:
        if self.number == 1:
            if raw.startswith(_UTF_16) or b"\0" in raw[:2]:
                raise self._error("it looks like UTF-16; save the file as UTF-8 and try again")
            raw = raw.removeprefix(_BOM)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self._error(f"line {self.number} is not UTF-8; save the file as UTF-8 and try again") from None

    def _error(self, problem: str) -> ConfigError:
        return ConfigError([f"{self._name}: {problem}"])


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSpec:
    """A file as the user describes it."""

    name: str
    format: str | None = None
    """One of `FORMATS`; None: by the file's name, else by its first line."""
    id_column: str | None = None
    """None: `item_id`, or the only column."""
    submitted_at_column: str | None = None
    group_column: str | None = None
    time_format: str = AUTO
    zone: tzinfo = field(default=UTC)
    uuid_ids: bool = False
    """Whether ids are UUIDs, which are made canonical."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A line that can't be used, or several lines that belong to one record."""

    first: int
    last: int
    reason: str

    @property
    def lines(self) -> int:
        """The number of lines."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedFile:
    """The contents of a file."""

    format: str
    notes: tuple[str, ...]
    """What users should know about how it is read."""
    entries: Iterator[SyncLogEntry | BadLine]
    """In the order of the file, which is read while they are consumed."""


def read_items(lines: LineReader, spec: FileSpec) -> ImportedFile:
    """Reads the ids of a file, with upload times and groups if their columns are named. Blank lines are skipped.

    Raises ConfigError, also while `entries` are read, if it can't be read as text or a column is missing.
    """
    first = lines.peek().strip()
    by_name = _BY_SUFFIX.get(PurePath(spec.name).suffix.lower())
    chosen = spec.format or by_name or ("jsonl" if first.startswith(("{", "[")) else "csv")
    if chosen == "csv":
        notes, entries = _open_csv(lines, spec)
        return ImportedFile(format=chosen, notes=notes, entries=entries)
    if first.startswith("["):
        raise ConfigError([f"{spec.name}: it is a JSON array; write one object per line, as `jq -c '.[]'` does"])
    return ImportedFile(format=chosen, notes=(), entries=_read_json_lines(lines, spec))


def _entry(spec: FileSpec, *, item_id: str, submitted_at: object, group: str | None) -> SyncLogEntry | str:
    """A row of the sync log, or why the line can't be used."""
    if not item_id or item_id.isspace():
        return "the id is blank"
    if len(item_id) > MAX_ID_LENGTH:
        return f"the id is longer than {MAX_ID_LENGTH} characters: {_quoted(item_id)}"
    if UNPRINTABLE.search(item_id):
        return f"the id contains a control character: {_quoted(item_id)}"
    if spec.uuid_ids:
        item_id = canonical_uuid(item_id) or item_id
    at = None if is_empty(submitted_at) else time_reader(spec.time_format, spec.zone)(submitted_at)
    unreadable = unreadable_sample(submitted_at) if at is None else None
    return SyncLogEntry(item_id=item_id, submitted_at=at, group=group or None, unreadable_time=unreadable)


def _quoted(value: object) -> str:
    """A value of the file for messages: short, and safe for a terminal."""
    text = str(value)
    cut = text[:MAX_QUOTED_LENGTH]
    return f'"{escape_unprintable(cut)}{"…" if len(text) > len(cut) else ""}"'


def _quoted_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(_quoted(name) for name in names[:_MAX_NAMED]) + more


def _read_json_lines(lines: LineReader, spec: FileSpec) -> Iterator[SyncLogEntry | BadLine]:
    for line in lines:
        if line.strip():
            found = _parse_json_line(line, spec)
            yield BadLine(first=lines.number, last=lines.number, reason=found) if isinstance(found, str) else found


def _parse_json_line(line: str, spec: FileSpec) -> SyncLogEntry | str:
    key = spec.id_column or ITEM_ID
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        return f"it is not JSON ({error})"
    fields: Mapping[str, object] = value if isinstance(value, dict) else {key: value}
    if key not in fields:
        return f"it has no {_quoted(key)}" + (f"; its keys are {_quoted_names(list(fields))}" if fields else "")
    item_id, group = _text(fields[key]), fields.get(spec.group_column or "")
    if item_id is None:
        return f"the id is neither text nor a whole number: {_quoted(fields[key])}"
    if group is not None and _text(group) is None:
        return f"the group is neither text nor a whole number: {_quoted(group)}"
    submitted_at = fields.get(spec.submitted_at_column or "")
    return _entry(spec, item_id=item_id, submitted_at=submitted_at, group=_text(group))


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """Positions in a row."""

    width: int
    item_id: int
    submitted_at: int | None = None
    group: int | None = None


def _open_csv(lines: LineReader, spec: FileSpec) -> tuple[tuple[str, ...], Iterator[SyncLogEntry | BadLine]]:
    """The notes and the entries of a CSV file.

    The first of `_DELIMITERS` in the first line separates its fields. A file of one column needs no header: if its
    first line is no name of an id column, every line is an id.
    """
    first = lines.peek()
    delimiter = next((mark for mark in _DELIMITERS if mark in first), None)
    csv.field_size_limit(MAX_FIELD_LENGTH)
    reader = csv.reader(lines, delimiter=delimiter or ",", strict=True)
    if not first:
        return (), iter(())
    if _RULER.fullmatch(first.strip()):
        raise _drawn_table(spec)
    notes: tuple[str, ...] = ()
    if delimiter or spec.id_column or spec.submitted_at_column or spec.group_column:
        columns = _columns(_header(reader, spec), spec)
    else:
        columns, name = _Columns(width=1, item_id=0), first.strip().strip('"').strip()
        if _ID_HEADER.fullmatch(name):
            next(lines)
            if name.casefold() != ITEM_ID:
                notes = (f"{spec.name}: ids are read from the only column, {_quoted(name)}",)
        else:
            notes = (f"{spec.name}: there is no header line; every line is read as an id, also the first",)
    return notes, _rows(reader, lines, columns, spec)


def _header(reader: Iterator[list[str]], spec: FileSpec) -> list[str]:
    try:
        return [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise ConfigError([f"{spec.name}: the header line can't be read as CSV ({error}); correct it"]) from None


def _columns(names: Sequence[str], spec: FileSpec) -> _Columns:
    def position(wanted: str | None, option: str) -> int | None:
        return None if wanted is None else _position(names, wanted, option, spec)

    return _Columns(
        width=len(names),
        item_id=_position(names, spec.id_column or ITEM_ID, "--id-column", spec),
        submitted_at=position(spec.submitted_at_column, "--submitted-at-column"),
        group=position(spec.group_column, "--group-column"),
    )


def _position(names: Sequence[str], wanted: str, option: str, spec: FileSpec) -> int:
    same_ignoring_case = [n for n, name in enumerate(names) if name.casefold() == wanted.casefold()]
    found = [n for n in same_ignoring_case if names[n] == wanted] or same_ignoring_case
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError([f"{spec.name}: {len(found)} columns are called {_quoted(wanted)}; rename all but one"])
    raise ConfigError(
        [f"{spec.name}: there is no column {_quoted(wanted)}; the header has {_quoted_names(names)}: set {option}"]
    )


def _rows(
    reader: Iterator[list[str]], lines: LineReader, columns: _Columns, spec: FileSpec
) -> Iterator[SyncLogEntry | BadLine]:
    while True:
        first = lines.next_number
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            unclosed = " (is a quote not closed?)" if lines.number > first else ""
            yield BadLine(first=first, last=lines.number, reason=f"it can't be read as CSV: {error}{unclosed}")
            continue
        if len(fields) > 1 or any(map(str.strip, fields)):
            found = _drawing(fields, columns, spec) or _row(fields, columns, spec)
            yield BadLine(first=first, last=lines.number, reason=found) if isinstance(found, str) else found


def _drawing(fields: Sequence[str], columns: _Columns, spec: FileSpec) -> str | None:
    """Why a line is no row: it belongs to a table that is drawn for people.

    Raises ConfigError if it shows that the lines read as ids are rows of such a table, of several columns.
    """
    line = "|".join(fields).strip()
    if _ROW_COUNT.fullmatch(line):
        return f"it is a count of rows, as psql prints it; {_EXPORT_PLAIN}"
    if not _RULER.fullmatch(line):
        return None
    if columns.width == 1 and len(re.findall(r"[-─━═]{2,}", line)) > 1:
        raise _drawn_table(spec)
    return f"it is a line of a drawn table; {_EXPORT_PLAIN}"


def _drawn_table(spec: FileSpec) -> ConfigError:
    return ConfigError([f"{spec.name}: it is a table that is drawn for people, not one id per line; {_EXPORT_PLAIN}"])


_EXPORT_PLAIN = "export it with `psql --csv` or `sqlite3 -csv -header`"


def _row(fields: Sequence[str], columns: _Columns, spec: FileSpec) -> SyncLogEntry | str:
    if len(fields) != columns.width:
        return f"its number of fields is {len(fields)} instead of {columns.width}"
    return _entry(
        spec,
        item_id=fields[columns.item_id].strip(),
        submitted_at=None if columns.submitted_at is None else fields[columns.submitted_at].strip(),
        group=None if columns.group is None else fields[columns.group].strip(),
    )
