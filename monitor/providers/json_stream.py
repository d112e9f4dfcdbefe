"""Reads a JSON array of objects out of a stream of bytes, stretch by stretch: never the whole body, never an exception.

A stretch is cut between two rows and decoded at once, which is far faster than parsing byte by byte. Where to cut is
guessed: inside a text or a nested value it can't decode, so what decodes was cut rightly. After wrong guesses the
brackets are counted.
"""

import re
from typing import Generic, TypeVar

import msgspec

_BETWEEN = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*\{")
_MARK = re.compile(rb'\\.|["{}\[\]]', re.DOTALL)
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)
"""A pair of surrogates, one alone (the group), any other escape."""
_BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_GUESSES = 4
"""Places that look like the end of a row, from the last one back, that are tried before brackets are counted."""
_LONGEST_ROW = 4 << 20
"""Bytes; what is longer is no row of a list."""

_Row = TypeVar("_Row", bound=msgspec.Struct)


class Rows(Generic[_Row]):
    """The rows of one array.

    Args:
        kind: what a row is; one that has another form is counted as unreadable and left out.
    """

    def __init__(self, kind: type[_Row]) -> None:
        self._row, self._many = msgspec.json.Decoder(kind), msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]  # a class is a type at run time
        self._raw = msgspec.json.Decoder(list[msgspec.Raw])
        self._rest, self._marks, self._opened = bytearray(), _Marks(), False
        self.readable = self.unreadable = 0
        """Rows that were read, and rows of another form."""
        self.broken: str | None = None
        """Why the body can't be read on, in our own words."""

    def feed(self, piece: bytes) -> list[_Row]:
        """The rows that are complete with this piece; none once the body is broken."""
        if self.broken is not None:
            return []
        self._rest += piece
        if not self._opened and not self._open():
            return []
        found = self._stretch()
        if len(self._rest) > _LONGEST_ROW:
            self.broken = "the list holds no rows that can be told apart"
        return found

    def finish(self) -> list[_Row]:
        """The last rows, at the end of the body; sets `broken` when it did not end as an array does."""
        if self.broken is not None:
            return []
        rows = self._decoded(b"[" + self._rest, mend=True) if self._opened else None
        self._rest.clear()
        if rows is None:
            self.broken = "the list is empty or no JSON array" if not self._opened else "the list ends too early"
            return []
        return rows

    def _open(self) -> bool:
        """Whether the array has begun."""
        start = self._rest.removeprefix(_BOM).lstrip(_BLANK)
        if not start or (len(self._rest) < len(_BOM) and _BOM.startswith(self._rest)):
            return False
        if not start.startswith(b"["):
            self.broken = "the list is not a JSON array"
            return False
        self._rest, self._opened = start[1:], True
        return True

    def _stretch(self) -> list[_Row]:
        """The rows that are complete, as far as a place to cut was found."""
        rows = self._guessed()
        if rows is None and (start := self._marks.last_row(self._rest)):
            rows = self._decoded(b"[" + self._rest[:start].rstrip(_BLANK).removesuffix(b",") + b"]", mend=True)
            if rows is None:
                self.broken = "the list is not JSON"
            self._drop(start)
        return rows or []

    def _guessed(self) -> list[_Row] | None:
        end = len(self._rest)
        for _ in range(_GUESSES):
            end = self._rest.rfind(b"}", 0, end)
            between = _BETWEEN.match(self._rest, end + 1) if end >= 0 else None
            if between is None:
                continue
            rows = self._decoded(b"[" + self._rest[: end + 1] + b"]")
            if rows is not None:
                self._drop(between.end() - 1)
                return rows
        return None

    def _drop(self, until: int) -> None:
        del self._rest[:until]
        self._marks = _Marks()

    def _decoded(self, stretch: bytes | bytearray, *, mend: bool = False) -> list[_Row] | None:
        """The rows of a stretch that ends as an array does; None when it is no array."""
        try:
            rows: list[_Row] = self._many.decode(stretch)
        except msgspec.ValidationError:
            return self._one_by_one(stretch, mend=mend)
        except (ValueError, RecursionError):
            return self._one_by_one(stretch, mend=mend) if mend else None
        self.readable += len(rows)
        return rows

    def _one_by_one(self, stretch: bytes | bytearray, *, mend: bool) -> list[_Row] | None:
        """Leaves out the rows that have another form, so that they do not spoil their neighbours."""
        raw = self._split(stretch)
        if raw is None and mend:
            # a lone surrogate in one title would spoil the whole stretch
            raw = self._split(_ESCAPE.sub(_whole, stretch))
        if raw is None:
            return None
        rows = []
        for each in raw:
            try:
                rows.append(self._row.decode(each))
            except (ValueError, RecursionError):
                self.unreadable += 1
        self.readable += len(rows)
        return rows

    def _split(self, stretch: bytes | bytearray) -> list[msgspec.Raw] | None:
        try:
            return self._raw.decode(stretch)
        except (ValueError, RecursionError):
            return None


def _whole(escape: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if escape[1] else escape[0]


class _Marks:
    """Counts quotes and brackets of a growing stretch, each byte once."""

    def __init__(self) -> None:
        self._seen = self._depth = 0
        self._quoted = False

    def last_row(self, rest: bytearray) -> int:
        """Where the last row begins that has another before it; 0 when there is none."""
        start = 0
        for mark in _MARK.finditer(rest, self._seen):
            self._seen = mark.end()
            if mark[0] == b'"':
                self._quoted = not self._quoted
            elif self._quoted:
                continue
            elif mark[0] in b"{[":
                start = start if self._depth else mark.start()
                self._depth += 1
            else:
                self._depth -= 1
        if not rest.endswith(b"\\"):  # it may escape what comes next
            self._seen = len(rest)
        return start
