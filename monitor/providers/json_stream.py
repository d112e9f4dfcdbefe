"""Reads a JSON array of objects from a stream of bytes, chunk by chunk: never the whole body, never an exception.

A chunk is cut between two rows and decoded at once, which is far faster than parsing byte by byte. The place to cut is
a guess: a wrong one, inside a text or a nested value, does not decode. After wrong guesses the brackets are counted.
It is decoded where it lies, with brackets in place of the commas around it: copies cost more than decoding.
"""

import re
from typing import Generic, TypeVar

import msgspec

from monitor.model.json_body import BYTE_ORDER_MARK, replace_lone_surrogates
from monitor.providers.envelope import ArrayFinder

_ROW_SEPARATOR = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*\{")
_STRUCTURAL = re.compile(rb'\\.|["{}\[\]]', re.DOTALL)
_WHITESPACE = b" \t\r\n"
_OPEN, _CLOSE = b"[]"
_MAX_GUESSES = 4
"""Places that look like the end of a row, from the last one back, tried before brackets are counted."""
_MAX_ROW_BYTES = 4 << 20
"""Anything longer is not a row of a list."""

_Row = TypeVar("_Row")


class JsonArrayReader(Generic[_Row]):
    """The rows of one array; a row that is not a `row_type` is counted as unreadable and left out.

    `path` says where in the body the array is, if it is not the body itself; the rest of the body is kept.
    """

    def __init__(self, row_type: type[_Row], *, path: str = "") -> None:
        self._row, self._array = msgspec.json.Decoder(row_type), msgspec.json.Decoder(list[row_type])  # type: ignore[valid-type]  # a class is a type at run time
        self._raw = msgspec.json.Decoder(list[msgspec.Raw])
        self._buffer, self._scanner, self._started = bytearray(), _BracketScanner(), False
        """Once the array has begun, the buffer begins with a bracket, and the rows that are not read yet follow."""
        self._finder = ArrayFinder(path) if path else None
        self._before = b""
        self._after: bytearray | None = None
        self.readable = self.unreadable = 0
        """Rows that were read, and rows of another form."""
        self.error: str | None = None
        """Why the body can't be read further; it quotes nothing."""

    def feed(self, piece: bytes) -> list[_Row]:
        """The rows that are complete with this piece; none once the body is broken."""
        if self.error is not None:
            return []
        if self._after is not None:
            self._after += piece
        else:
            self._buffer += piece
        found = self._complete_rows() if self._after is None and (self._started or self._start()) else []
        if len(self._buffer) + len(self._after or b"") > _MAX_ROW_BYTES:
            self.error = "the list has a row of more than 4 MiB, or no rows"
        return found

    def finish(self) -> list[_Row]:
        """The last rows, at the end of the body; sets `error` if the array is not complete."""
        if self.error is not None:
            return []
        rows: list[_Row] | None = None
        if self._started and self._finder is not None:
            rows = self._last_rows()
        elif self._started:
            rows = self._decoded(self._buffer, repair=True)
        self._buffer.clear()
        if rows is None:
            self.error = "the list is empty or not a JSON array" if not self._started else "the list ends too early"
            return []
        return rows

    @property
    def started(self) -> bool:
        """Whether the array has begun."""
        return self._started

    @property
    def envelope(self) -> bytes:
        """The body without the rows, once it is finished: the array is empty in it."""
        return self._before + b"[]" + bytes(self._after or b"")

    def _last_rows(self) -> list[_Row] | None:
        """The rows up to the end of an array that is not the whole body."""
        if self._after is not None:
            return []
        rows = self._rows_to_end()
        return None if self._scanner.end is None else rows

    def _rows_to_end(self) -> list[_Row]:
        """The last rows, if the buffer has the end of the array; what follows it is kept apart."""
        self._scanner.last_row(self._buffer)
        end = self._scanner.end
        if end is None:
            return []
        rows = self._decoded(self._buffer[: end + 1], repair=True)
        if rows is None:
            self.error = "the list is not JSON"
        self._after = self._buffer[end + 1 :]
        self._buffer.clear()
        return rows or []

    def _start(self) -> bool:
        """Whether the array has begun."""
        if self._finder is not None:
            start_at = self._finder.find(self._buffer)
            if start_at is not None:
                self._before = bytes(self._buffer[:start_at]).removeprefix(BYTE_ORDER_MARK)
                del self._buffer[:start_at]
                self._started = True
            return self._started
        start = self._buffer.removeprefix(BYTE_ORDER_MARK).lstrip(_WHITESPACE)
        if not start or (len(self._buffer) < len(BYTE_ORDER_MARK) and BYTE_ORDER_MARK.startswith(self._buffer)):
            return False
        if not start.startswith(b"["):
            self.error = "the list is not a JSON array"
            return False
        self._buffer, self._started = start, True
        return True

    def _complete_rows(self) -> list[_Row]:
        """The complete rows before the last place where the buffer can be cut."""
        rows = self._rows_by_guess()
        if rows is None and (start := self._scanner.last_row(self._buffer)):
            rows = self._decoded(self._buffer[:start].rstrip(_WHITESPACE).removesuffix(b",") + b"]", repair=True)
            if rows is None:
                self.error = "the list is not JSON"
            self._discard(start)
        if not rows and self._finder is not None and self.error is None:
            return self._rows_to_end()
        return rows or []

    def _rows_by_guess(self) -> list[_Row] | None:
        buffer = self._buffer
        end = len(buffer)
        for _ in range(_MAX_GUESSES):
            end = buffer.rfind(b"}", 0, end)
            between = _ROW_SEPARATOR.match(buffer, end + 1) if end >= 0 else None
            if between is None:
                continue
            separator, buffer[end + 1] = buffer[end + 1], _CLOSE
            with memoryview(buffer) as view, view[: end + 2] as chunk:
                rows = self._decoded(chunk)
            if rows is not None:
                self._discard(between.end() - 1)
                return rows
            buffer[end + 1] = separator
        return None

    def _discard(self, until: int) -> None:
        """Discards what is before this row."""
        del self._buffer[: until - 1]
        self._buffer[0] = _OPEN
        self._scanner = _BracketScanner()

    def _decoded(self, chunk: bytearray | memoryview, *, repair: bool = False) -> list[_Row] | None:
        """The rows of a chunk that ends as an array; None if it is not an array."""
        try:
            rows: list[_Row] = self._array.decode(chunk)
        except msgspec.ValidationError:
            return self._one_by_one(bytes(chunk), repair=repair)
        except (ValueError, RecursionError):
            return self._one_by_one(bytes(chunk), repair=repair) if repair else None
        self.readable += len(rows)
        return rows

    def _one_by_one(self, chunk: bytes, *, repair: bool) -> list[_Row] | None:
        """Leaves out the rows of another form, and keeps the others."""
        raw = self._split(chunk)
        if raw is None and repair:
            # a lone surrogate in one title makes the whole chunk invalid
            raw = self._split(replace_lone_surrogates(chunk))
        if raw is None:
            return None
        rows = []
        for raw_row in raw:
            try:
                rows.append(self._row.decode(raw_row))
            except (ValueError, RecursionError):
                self.unreadable += 1
        self.readable += len(rows)
        return rows

    def _split(self, chunk: bytes | bytearray) -> list[msgspec.Raw] | None:
        try:
            return self._raw.decode(chunk)
        except (ValueError, RecursionError):
            return None


class _BracketScanner:
    """Counts quotes and brackets of a growing buffer, each byte once, after the bracket with which it begins."""

    def __init__(self) -> None:
        self._seen, self._depth = 1, 0
        self._quoted = False
        self.end: int | None = None
        """Where the array ends that the rows are in, if it does."""

    def last_row(self, buffer: bytearray) -> int:
        """Where the last row begins that has another before it; 0 if there is none."""
        start = 0
        if self.end is not None:
            return start
        for mark in _STRUCTURAL.finditer(buffer, self._seen):
            self._seen = mark.end()
            if mark[0] == b'"':
                self._quoted = not self._quoted
            elif self._quoted:
                continue
            elif mark[0] in b"{[":
                start = start if self._depth or mark.start() == 1 else mark.start()
                self._depth += 1
            elif self._depth:
                self._depth -= 1
            else:
                self.end = mark.start()
                return start
        if not buffer.endswith(b"\\"):  # it may escape what comes next
            self._seen = len(buffer)
        return start
