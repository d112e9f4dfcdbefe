"""CSV with a header line, or one id per line without any."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from monitor.errors import ConfigError
from monitor.importing.lines import LONGEST_LINE, Lines, LineTooLongError
from monitor.importing.spec import ITEM_ID, BadLine, Blank, FileSpec, Line, entry_of, shown

__all__ = ["Table", "open_table"]

LONGEST_FIELD = 2**20
"""Characters; Python's own limit is an eighth of it, which whole documents in a column go beyond."""
_DELIMITERS = (",", ";", "\t", "|")
_NAME_OF_IDS = re.compile(r"(?:(?:item|document|doc|file)[ _-]?)?ids?", re.IGNORECASE)
_COLUMNS_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """An opened table: what people should know about how it is read, and its rows."""

    notes: tuple[str, ...]
    rows: Iterator[Line]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """Where in a row what stands."""

    width: int
    item_id: int
    submitted_at: int | None = None
    group: int | None = None


def open_table(lines: Lines, spec: FileSpec) -> Table:
    """Finds the columns that are wanted.

    A file of one column needs no header: unless its first line names ids, every line is an id.

    Raises:
        ConfigError: a column is not there; the sentence names those that are.
    """
    first = lines.peek()
    if not first:
        return Table(notes=(), rows=iter(()))
    delimiter = next((mark for mark in _DELIMITERS if mark in first), ",")
    csv.field_size_limit(LONGEST_FIELD)
    if delimiter not in first:
        only = _one_column(first.strip().strip('"').strip(), spec)
        if only is not None:
            header, note = only
            if header:
                next(lines)
            rows = csv.reader(lines, strict=True)
            return Table(notes=(note,) if note else (), rows=_rows(rows, lines, _Columns(width=1, item_id=0), spec))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    columns = _columns(_header(reader, spec), spec)
    return Table(notes=(), rows=_rows(reader, lines, columns, spec))


def _one_column(first: str, spec: FileSpec) -> tuple[bool, str | None] | None:
    """Whether the first line of a one-column file is its header, and what to tell; None: it must be one."""
    if spec.submitted_at_column or spec.group_column or spec.id_column:
        return None
    if first.casefold() == ITEM_ID:
        return True, None
    if _NAME_OF_IDS.fullmatch(first):
        return True, f"{spec.name}: the ids are taken from its only column, {shown(first)}"
    return False, f"{spec.name}: there is no header line; every line is taken for an id, the first one too"


def _header(reader: Iterator[list[str]], spec: FileSpec) -> list[str]:
    try:
        return [name.strip() for name in next(reader, [])]
    except (csv.Error, LineTooLongError) as error:
        why = str(error) or f"it is longer than {LONGEST_LINE} bytes"
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
    alike = [n for n, name in enumerate(names) if name.casefold() == wanted.casefold()]
    exact = [n for n in alike if names[n] == wanted]
    if len(exact or alike) == 1:
        return (exact or alike)[0]
    if alike:
        raise ConfigError([f"{spec.name}: {len(alike)} of its columns are called {shown(wanted)}; rename the others"])
    there = ", ".join(shown(name) for name in names[:_COLUMNS_NAMED]) or "none at all"
    more = f" and {len(names) - _COLUMNS_NAMED} more" if len(names) > _COLUMNS_NAMED else ""
    raise ConfigError(
        [f"{spec.name}: it has no column {shown(wanted)}; its header line has {there}{more}: name one with {option}"]
    )


def _rows(reader: Iterator[list[str]], lines: Lines, columns: _Columns, spec: FileSpec) -> Iterator[Line]:
    while True:
        first = lines.upcoming
        try:
            fields = next(reader)
        except StopIteration:
            return
        except LineTooLongError:
            yield BadLine(first=first, last=lines.number, reason=f"it is longer than {LONGEST_LINE} bytes")
        except csv.Error as error:
            unclosed = " (a quote that is not closed?)" if lines.number > first else ""
            yield BadLine(first=first, last=lines.number, reason=f"it can't be read as CSV: {error}{unclosed}")
        else:
            yield _row(fields, columns, spec, first, lines.number)


def _row(fields: Sequence[str], columns: _Columns, spec: FileSpec, first: int, last: int) -> Line:
    if not fields or (len(fields) == 1 and not fields[0].strip()):
        return Blank(line=last)
    if len(fields) != columns.width:
        reason = f"its number of fields is {len(fields)} instead of {columns.width}"
        return BadLine(first=first, last=last, reason=reason)
    entry = entry_of(
        item_id=fields[columns.item_id].strip(),
        submitted_at=None if columns.submitted_at is None else fields[columns.submitted_at].strip(),
        group=None if columns.group is None else fields[columns.group].strip(),
        zone=spec.zone,
    )
    return BadLine(first=first, last=last, reason=entry) if isinstance(entry, str) else entry
