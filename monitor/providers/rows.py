"""Reads a JSON array of objects out of a stream of bytes, stretch by stretch: never the whole body, never an exception.

A stretch is cut between two rows and decoded at once, which is far faster than parsing byte by byte. A cut inside a
text or a nested value can't decode, so what decodes was cut rightly.
"""

import re
from typing import Generic, TypeVar

import msgspec

__all__ = ["Rows"]

_BETWEEN = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*\{")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_TRIES = 16
"""Places that look like the end of a row, from the last one back, at which a stretch is cut before more is read."""
_LONGEST_ROW = 4 << 20
"""Bytes; a stretch that can be cut nowhere is no list of rows."""

_Row = TypeVar("_Row", bound=msgspec.Struct)


class Rows(Generic[_Row]):
    """The rows of one array.

    Args:
        kind: what a row is; one that has another form is counted as unreadable and left out.
    """

    def __init__(self, kind: type[_Row]) -> None:
        self._row, self._many = msgspec.json.Decoder(kind), msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]  # a class is a type at run time
        self._raw = msgspec.json.Decoder(list[msgspec.Raw])
        self._rest, self._opened = bytearray(), False
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
        rows = self._decoded(b"[" + self._rest) if self._opened else None
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
        end = len(self._rest)
        for _ in range(_TRIES):
            end = self._rest.rfind(b"}", 0, end)
            if end < 0:
                break
            between = _BETWEEN.match(self._rest, end + 1)
            if between is None:
                continue
            rows = self._decoded(b"[" + self._rest[: end + 1] + b"]")
            if rows is not None:
                del self._rest[: between.end() - 1]
                return rows
        return []

    def _decoded(self, stretch: bytes | bytearray) -> list[_Row] | None:
        """The rows of a stretch that ends as an array does; None when it is no array."""
        try:
            rows: list[_Row] = self._many.decode(stretch)
        except (ValueError, RecursionError):
            return self._one_by_one(stretch)
        self.readable += len(rows)
        return rows

    def _one_by_one(self, stretch: bytes | bytearray) -> list[_Row] | None:
        """Leaves out the rows that have another form, so that they do not spoil their neighbours."""
        raw = self._split(stretch)
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
        # a lone surrogate in one title would spoil the whole stretch
        for text in (stretch, _SURROGATE.sub(rb"\\ufffd", stretch)):
            try:
                return self._raw.decode(text)
            except (ValueError, RecursionError):
                continue
        return None
