"""The lines of a file as text: UTF-8 and nothing else, each no longer than memory can bear."""

from collections.abc import Iterator
from typing import BinaryIO

from monitor.errors import ConfigError

__all__ = ["LONGEST_LINE", "LineTooLongError", "Lines"]

LONGEST_LINE = 2**24
"""Bytes. Records that carry whole documents are long; a file without line ends must not fill the memory."""
_CHUNK = 2**20
_BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class LineTooLongError(Exception):
    """A line is longer than `LONGEST_LINE`; the next one can be read."""


class Lines(Iterator[str]):
    """Gives the lines of a file, with their ends, and counts them.

    Args:
        stream: the file, opened for reading bytes.
        name: what people call it.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.number = 0
        """Of the line given last, from 1."""
        self._stream, self._name = stream, name
        self._held: str | None = None

    @property
    def upcoming(self) -> int:
        """The number of the next line."""
        return self.number + (self._held is None)

    def peek(self) -> str:
        """The next line that is not blank, which stays the next; blank ones before it are passed over. "" at the end.

        Raises:
            ConfigError: the file can't be read as text.
            LineTooLongError: that line is too long.
        """
        if self._held is None:
            self._held = next((line for line in self if line.strip()), None)
        return self._held or ""

    def __next__(self) -> str:
        """The next line.

        Raises:
            ConfigError: the file can't be read, or is not UTF-8.
            LineTooLongError: the line is too long; it is passed over.
            StopIteration: there is none.
        """
        if self._held is not None:
            line, self._held = self._held, None
            return line
        raw = self._read(LONGEST_LINE)
        if not raw:
            raise StopIteration
        self.number += 1
        if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
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
                raise self._refused("it looks like UTF-16")
            raw = raw.removeprefix(_BOM)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self._refused(f"line {self.number} is not UTF-8") from None

    def _refused(self, why: str) -> ConfigError:
        return ConfigError([f"{self._name}: {why}; save the file as UTF-8 and try again"])
