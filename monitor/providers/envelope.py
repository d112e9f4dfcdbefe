"""Finds the array of a list inside its JSON envelope, `{"data": [ … ], "next": "…"}`, while the body arrives. Pure."""

import re

import msgspec

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\],"]', re.DOTALL)
"""A text, whole; a bracket; a comma; or the quote of a text that is not complete yet."""


class _Container:
    """An object or an array that is open, and where in it we are."""

    __slots__ = ("is_array", "step", "wants_key")

    def __init__(self, *, is_array: bool) -> None:
        self.is_array, self.wants_key = is_array, not is_array
        self.step = "0" if is_array else ""

    def next(self) -> None:
        """The next element or member follows."""
        if self.is_array:
            self.step = str(int(self.step) + 1)
        self.wants_key = not self.is_array


class ArrayFinder:
    """Looks for the array at a path (names and indexes joined by dots; empty: the body itself), each byte once."""

    def __init__(self, path: str) -> None:
        self._path = path.split(".") if path else []
        self._open: list[_Container] = []
        self._seen = 0

    def find(self, buffer: bytes | bytearray) -> int | None:
        """Where the array begins, in a buffer that only grows; None if that is not there yet."""
        for token in _TOKEN.finditer(buffer, self._seen):
            mark = token[0]
            if mark == b'"':
                self._seen = token.start()
                return None
            self._seen = token.end()
            if mark == b"[" and [each.step for each in self._open] == self._path:
                return token.start()
            self._take(mark)
        return None

    def _take(self, mark: bytes) -> None:
        here = self._open[-1] if self._open else None
        if mark in {b"{", b"["}:
            self._open.append(_Container(is_array=mark == b"["))
        elif mark in {b"}", b"]"}:
            if here is not None:
                self._open.pop()
        elif here is not None and mark == b",":
            here.next()
        elif here is not None and here.wants_key:
            here.step, here.wants_key = _text(mark), False


def _text(quoted: bytes) -> str:
    """A member's name; one that can't be read is none of ours."""
    try:
        return msgspec.json.decode(quoted, type=str)
    except ValueError:
        return ""
