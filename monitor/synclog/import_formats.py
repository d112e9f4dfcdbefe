"""CSV with a header line, or one id per line without any."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import BinaryIO

import msgspec

from monitor.database.text import UNPRINTABLE, escape_unprintable
from monitor.errors import ConfigError
from monitor.model import SyncLogEntry
from monitor.synclog.timestamps import parse_timestamp
from monitor.synclog.validation import MAX_ID_LENGTH

MAX_LINE_BYTES = 2**24
"""Bytes. Records that carry whole documents are long; a file without line ends must not fill the memory."""
_CHUNK = 2**20
_BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class LineTooLongError(Exception):
    """A line is longer than `MAX_LINE_BYTES`; the next one can be read."""


class LineReader(Iterator[str]):
    """Gives the lines of a file, with their ends, and counts them.

    Args:
        stream: the file, opened for reading bytes.
        name: what people call it.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.number = 0
        """Of the line given last, from 1."""
        self._stream, self._name = stream, name
        self._peeked: str | None = None

    @property
    def next_number(self) -> int:
        """The number of the next line."""
        return self.number + (self._peeked is None)

    def peek(self) -> str:
        """The next line that is not blank, which stays the next; blank ones before it are passed over. "" at the end.

        Raises:
            ConfigError: the file can't be read as text.
            LineTooLongError: that line is too long.
        """
        if self._peeked is None:
            self._peeked = next((line for line in self if line.strip()), None)
        return self._peeked or ""

    def __next__(self) -> str:
        """The next line.

        Raises:
            ConfigError: the file can't be read, or is not UTF-8.
            LineTooLongError: the line is too long; it is passed over.
            StopIteration: there is none.
        """
        if self._peeked is not None:
            line, self._peeked = self._peeked, None
            return line
        raw = self._read(MAX_LINE_BYTES)
        if not raw:
            raise StopIteration
        self.number += 1
        if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
            self._skip_rest()
            raise LineTooLongError
        return self._text(raw)

    def _read(self, size: int) -> bytes:
        try:
            return self._stream.readline(size)
        except OSError as error:
            raise ConfigError(
                [f"{self._name}: can't be read ({error.strerror}); check the disk or the pipe, and try again"]
            ) from error

    def _skip_rest(self) -> None:
        while (rest := self._read(_CHUNK)) and not rest.endswith(b"\n"):
            pass

    def _text(self, raw: bytes) -> str:
        if self.number == 1:
            if raw.startswith(_UTF_16) or b"\0" in raw[:2]:
                raise self._encoding_error("it looks like UTF-16")
            raw = raw.removeprefix(_BOM)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self._encoding_error(f"line {self.number} is not UTF-8") from None

    def _encoding_error(self, why: str) -> ConfigError:
        return ConfigError([f"{self._name}: {why}; save the file as UTF-8 and try again"])


FORMATS = ("csv", "jsonl")
ITEM_ID = "item_id"
MAX_QUOTED_LENGTH = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSpec:
    """A file as the user describes it."""

    name: str
    """What people call it."""
    format: str | None = None
    """One of `FORMATS`; None: guessed."""
    id_column: str | None = None
    """None: `item_id`, or the only column there is."""
    submitted_at_column: str | None = None
    group_column: str | None = None
    zone: tzinfo = field(default=UTC)
    """What times without an offset are in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """Lines of the file that can't be used: one, or several that belong together."""

    first: int
    last: int
    reason: str

    @property
    def lines(self) -> int:
        """How many they are."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BlankLine:
    """A line with nothing on it: of no meaning at the end of a file, a missing id anywhere else."""

    line: int


ParsedLine = SyncLogEntry | BadLine | BlankLine
"""What comes of one line, or of the several that a quoted field spans."""


def make_entry(*, item_id: str, submitted_at: object, group: str | None, zone: tzinfo) -> SyncLogEntry | str:
    """One row of the sync log from what a line says, or the reason why there can be none.

    Args:
        item_id: the id, to the letter.
        submitted_at: the upload time as it stands there; None or "" when the line has none.
        group: the group; None when the line has none.
        zone: what times without an offset are in.
    """
    if problem := _id_problem(item_id):
        return problem
    at: datetime | None = None
    if submitted_at is not None and submitted_at != "":
        at = parse_timestamp(submitted_at, zone)
        if at is None:
            return f"{quoted(submitted_at)} is no time; write it like 2026-03-01T12:00:00Z, or as Unix seconds"
    return SyncLogEntry(item_id=item_id, submitted_at=at, group=group or None)


def _id_problem(item_id: str) -> str | None:
    if not item_id or item_id.isspace():
        return "its id is blank"
    if len(item_id) > MAX_ID_LENGTH:
        return f"its id is longer than {MAX_ID_LENGTH} characters: {quoted(item_id)}"
    if UNPRINTABLE.search(item_id):
        return f"its id holds a control character: {quoted(item_id)}"
    return None


def quoted(value: object) -> str:
    """A value of the file, quoted for people: short, and free of what would garble a terminal."""
    text = str(value)
    cut = text[:MAX_QUOTED_LENGTH]
    return f'"{escape_unprintable(cut)}{"…" if len(text) > len(cut) else ""}"'


_MAX_NAMED_KEYS = 8


def read_json_lines(lines: LineReader, spec: FileSpec) -> Iterator[ParsedLine]:
    """Reads each line by itself, so that a broken one costs nothing but itself.

    Raises:
        ConfigError: the file can't be read as text.
    """
    while True:
        try:
            line = next(lines)
        except StopIteration:
            return
        except LineTooLongError:
            found: SyncLogEntry | str = f"it is longer than {MAX_LINE_BYTES} bytes"
        else:
            if not line.strip():
                yield BlankLine(line=lines.number)
                continue
            found = _parse_json_line(line, spec)
        yield BadLine(first=lines.number, last=lines.number, reason=found) if isinstance(found, str) else found


def _parse_json_line(line: str, spec: FileSpec) -> SyncLogEntry | str:
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        return f"it is not JSON ({error})"
    if not isinstance(value, dict):
        value = {spec.id_column or ITEM_ID: value}
    return _entry(value, spec)


def _entry(value: Mapping[str, object], spec: FileSpec) -> SyncLogEntry | str:
    key = spec.id_column or ITEM_ID
    if key not in value:
        keys = ", ".join(quoted(name) for name in list(value)[:_MAX_NAMED_KEYS])
        return f"it has no {quoted(key)}" + (f"; its keys are {keys}" if keys else "")
    item_id, group = _text(value[key]), value.get(spec.group_column or "")
    if item_id is None:
        return f"its id is neither text nor a whole number: {quoted(value[key])}"
    if group is not None and _text(group) is None:
        return f"its group is neither text nor a whole number: {quoted(group)}"
    submitted_at = value.get(spec.submitted_at_column or "")
    return make_entry(item_id=item_id, submitted_at=submitted_at, group=_text(group), zone=spec.zone)


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


MAX_FIELD_LENGTH = 2**20
"""Characters; Python's own limit is an eighth of it, which whole documents in a column go beyond."""
_DELIMITERS = (",", ";", "\t", "|")
_ID_HEADER = re.compile(r"(?:(?:item|document|doc|file)[ _-]?)?ids?", re.IGNORECASE)
_MAX_NAMED_COLUMNS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvTable:
    """An opened table: what people should know about how it is read, and its rows."""

    notes: tuple[str, ...]
    rows: Iterator[ParsedLine]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """Where in a row what stands."""

    width: int
    item_id: int
    submitted_at: int | None = None
    group: int | None = None


def open_csv(lines: LineReader, spec: FileSpec) -> CsvTable:
    """Finds the columns that are wanted.

    A file of one column needs no header: unless its first line names ids, every line is an id.

    Raises:
        ConfigError: a column is not there; the sentence names those that are.
    """
    first = lines.peek()
    if not first:
        return CsvTable(notes=(), rows=iter(()))
    delimiter = next((mark for mark in _DELIMITERS if mark in first), ",")
    csv.field_size_limit(MAX_FIELD_LENGTH)
    if delimiter not in first:
        single = _single_column(first.strip().strip('"').strip(), spec)
        if single is not None:
            header, note = single
            if header:
                next(lines)
            rows = csv.reader(lines, strict=True)
            return CsvTable(notes=(note,) if note else (), rows=_rows(rows, lines, _Columns(width=1, item_id=0), spec))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    columns = _columns(_header(reader, spec), spec)
    return CsvTable(notes=(), rows=_rows(reader, lines, columns, spec))


def _single_column(first: str, spec: FileSpec) -> tuple[bool, str | None] | None:
    """Whether the first line of a one-column file is its header, and what to tell; None: it must be one."""
    if spec.submitted_at_column or spec.group_column or spec.id_column:
        return None
    if first.casefold() == ITEM_ID:
        return True, None
    if _ID_HEADER.fullmatch(first):
        return True, f"{spec.name}: the ids are taken from its only column, {quoted(first)}"
    return False, f"{spec.name}: there is no header line; every line is taken for an id, the first one too"


def _header(reader: Iterator[list[str]], spec: FileSpec) -> list[str]:
    try:
        return [name.strip() for name in next(reader, [])]
    except (csv.Error, LineTooLongError) as error:
        why = str(error) or f"it is longer than {MAX_LINE_BYTES} bytes"
        raise ConfigError([f"{spec.name}: the header line can't be read as CSV ({why}); correct it"]) from None


def _columns(names: Sequence[str], spec: FileSpec) -> _Columns:
    found = {
        option: _position(names, wanted, option, spec)
        for option, wanted in (
            ("--id-column", spec.id_column or ITEM_ID),
            ("--submitted-at-column", spec.submitted_at_column),
            ("--group-column", spec.group_column),
        )
        if wanted is not None
    }
    return _Columns(
        width=len(names),
        item_id=found["--id-column"],
        submitted_at=found.get("--submitted-at-column"),
        group=found.get("--group-column"),
    )


def _position(names: Sequence[str], wanted: str, option: str, spec: FileSpec) -> int:
    same_ignoring_case = [n for n, name in enumerate(names) if name.casefold() == wanted.casefold()]
    exact = [n for n in same_ignoring_case if names[n] == wanted]
    if len(exact or same_ignoring_case) == 1:
        return (exact or same_ignoring_case)[0]
    if same_ignoring_case:
        raise ConfigError(
            [f"{spec.name}: {len(same_ignoring_case)} of its columns are called {quoted(wanted)}; rename the others"]
        )
    there = ", ".join(quoted(name) for name in names[:_MAX_NAMED_COLUMNS]) or "none at all"
    more = f" and {len(names) - _MAX_NAMED_COLUMNS} more" if len(names) > _MAX_NAMED_COLUMNS else ""
    raise ConfigError(
        [f"{spec.name}: it has no column {quoted(wanted)}; its header line has {there}{more}: name one with {option}"]
    )


def _rows(reader: Iterator[list[str]], lines: LineReader, columns: _Columns, spec: FileSpec) -> Iterator[ParsedLine]:
    while True:
        first = lines.next_number
        try:
            fields = next(reader)
        except StopIteration:
            return
        except LineTooLongError:
            yield BadLine(first=first, last=lines.number, reason=f"it is longer than {MAX_LINE_BYTES} bytes")
        except csv.Error as error:
            unclosed = " (a quote that is not closed?)" if lines.number > first else ""
            yield BadLine(first=first, last=lines.number, reason=f"it can't be read as CSV: {error}{unclosed}")
        else:
            yield _row(fields, columns, spec, first, lines.number)


def _row(fields: Sequence[str], columns: _Columns, spec: FileSpec, first: int, last: int) -> ParsedLine:
    if not fields or (len(fields) == 1 and not fields[0].strip()):
        return BlankLine(line=last)
    if len(fields) != columns.width:
        reason = f"its number of fields is {len(fields)} instead of {columns.width}"
        return BadLine(first=first, last=last, reason=reason)
    entry = make_entry(
        item_id=fields[columns.item_id].strip(),
        submitted_at=None if columns.submitted_at is None else fields[columns.submitted_at].strip(),
        group=None if columns.group is None else fields[columns.group].strip(),
        zone=spec.zone,
    )
    return BadLine(first=first, last=last, reason=entry) if isinstance(entry, str) else entry
