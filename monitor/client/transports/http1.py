"""HTTP/1.1 as bytes: writes requests and reads answers (RFC 9112). Pure: no socket, no clock, no decoding.

It reads as hyper does, the parser behind pyreqwest: line ends may lack their carriage return, a folded header is one
line, and a header that is not text is left out. What could hide where an answer ends is refused.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from monitor.model.http import NetworkFault

MAX_HEAD_BYTES = 8192 + 4096 * 100
MAX_HEADERS = 100
_MAX_OVERHEAD_BYTES = 1 << 14
"""Of a chunked body: the extensions of its chunks, its trailers, and a line that is not complete yet."""
_MAX_LENGTH_DIGITS = 18
_MAX_CACHED_LINE, _MAX_CACHED_HEAD = 256, 1024
"""Characters; most lines of a head come again with the next answer. Of a short head all are kept."""

_START = b"HTTP/1."
_HEAD_END = re.compile(rb"\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?\r?")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e]*)\r?")
_CONTINUATION = re.compile(rb"[\t ]([\t\x20-\x7e]*)\r?")
_FRAMING_FIELD = re.compile(rb"\s*(?:content-length|transfer-encoding)\s*:", re.IGNORECASE)
_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]+)[\t ]*(?:;[^\r\n]*)?\r\n")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

_CONTINUES, _LEFT_OUT = " ", ""
"""In place of a header's name."""
_FRAMING = frozenset({"content-length", "transfer-encoding"})
_ENDING_THE_CONNECTION, _BY_LENGTH, _CHUNKED = range(3)
_SIZE, _DATA, _DATA_END, _TRAILER = range(4)


class InvalidAnswerError(Exception):
    """The answer is no HTTP, or ends too early, or its head is too large."""

    def __init__(self, fault: NetworkFault) -> None:
        super().__init__(fault.value)
        self.fault = fault


def encode_head(headers: Mapping[str, str], *, defaults: Mapping[str, str]) -> bytes:
    """The header lines of a request, without the empty one; a default counts where `headers` lacks it.

    Raises:
        ValueError: a name is no token. Values must have been checked (`are_valid_headers`).
    """
    names = {name.lower() for name in headers}
    fields = {**{name: value for name, value in defaults.items() if name not in names}, **headers}
    if not all(_NAME.fullmatch(name) for name in fields):
        raise ValueError("a header's name must be a token")
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items() if name.lower() not in _FRAMING).encode()


class AnswerReader:
    """Reads one answer; interim ones (1xx) are skipped. `method` is the request's."""

    # on the class, because most answers change few of them, and one reader is made per answer
    status = 0
    """0 until the head is complete."""
    complete = False
    is_reusable = False
    """Whether the connection may serve another request after this answer."""
    headers: dict[str, str]
    """Names in lower case; repeated headers joined with a comma. Set with the status."""
    _buffer: bytes | bytearray = b""
    _searched = _left = _overhead = 0
    _framing, _phase = _ENDING_THE_CONNECTION, _SIZE

    def __init__(self, method: str) -> None:
        self._has_body = method != "HEAD"

    def feed(self, data: bytes) -> bytes:
        """Takes what was received; returns what of it belongs to the body, undecoded.

        Raises:
            InvalidAnswerError: it is no HTTP, or its head is too large.
        """
        if self.status == 0:
            rest = self._read_head(data)
            if rest is None:
                return b""
            data = rest
        if self._framing == _BY_LENGTH:
            left = self._left - len(data)
            if left > 0:
                self._left = left
                return data
            self.complete = True
            if left < 0:
                self.is_reusable = False  # nobody asked for what follows
                data = data[: self._left]
            return data
        return self._read_chunks(data) if self._framing == _CHUNKED else data

    def end(self, *, cleanly: bool) -> None:
        """Takes the end of the connection, which completes a body without a length. `cleanly`: nothing was cut off.

        Raises:
            InvalidAnswerError: the answer is not complete.
        """
        if not (cleanly and self.status and self._framing == _ENDING_THE_CONNECTION):
            raise InvalidAnswerError(NetworkFault.RESET)
        self.complete = True

    def _read_head(self, data: bytes) -> bytes | None:
        """Reads the head; returns the bytes after it, None if it is not complete."""
        if self._buffer:
            self._buffer += data
            if _HEAD_END.search(self._buffer, self._searched) is None:
                self._wait_for_head()
                return None
            data, self._buffer = bytes(self._buffer), b""
        while True:
            if data[:1] in {b"\r", b"\n"}:
                data = data.lstrip(b"\r\n")  # empty lines before a status line (RFC 9112, 2.2)
            end = _HEAD_END.search(data)
            if end is None:
                self._buffer = bytearray(data)
                self._wait_for_head()
                return None
            if end.start() > MAX_HEAD_BYTES:
                raise InvalidAnswerError(NetworkFault.TOO_LARGE)
            self._parse_head(data[: end.start()])
            data = data[end.end() :]
            if self.status >= 200 or self.status == 101:
                return data
            self.status = 0

    def _wait_for_head(self) -> None:
        """Refuses at once what can't become a head."""
        buffer = self._buffer
        if not _START.startswith(buffer[: len(_START)]):
            raise InvalidAnswerError(NetworkFault.PROTOCOL)
        if len(buffer) > MAX_HEAD_BYTES:
            raise InvalidAnswerError(NetworkFault.TOO_LARGE)
        self._searched = max(0, len(buffer) - 2)

    def _parse_head(self, head: bytes) -> None:
        start, *lines = head.split(b"\n")
        status, is_current = _status(start[:_MAX_CACHED_LINE])
        if len(lines) > MAX_HEADERS:
            raise InvalidAnswerError(NetworkFault.TOO_LARGE)
        headers: dict[str, str] = {}
        last = _LEFT_OUT
        for name, value in map(_field if len(head) <= _MAX_CACHED_HEAD else _long_field, lines):
            if name in headers:
                headers[name] = f"{headers[name]}, {value}"
            elif name > _CONTINUES:
                headers[name] = value
            elif name == _CONTINUES:
                if last > _CONTINUES:
                    headers[last] = f"{headers[last]} {value}"
                continue
            last = name
        self.status, self.headers = status, headers
        self._frame(is_current=is_current)

    def _frame(self, *, is_current: bool) -> None:
        """Finds out where the body ends (RFC 9112, 6.3). `is_current`: HTTP/1.1, not 1.0."""
        headers, status = self.headers, self.status
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        connection = headers.get("connection")
        self.is_reusable = is_current if connection is None else _keeps_alive(connection, is_current=is_current)
        if not self._has_body or status in {101, 204, 304}:
            self._framing, self._left = _BY_LENGTH, 0
            # what a 204 announces (RFC 9110, 8.6: it must not) may follow, and would be taken for the next answer
            is_odd = status == 101 or (status == 204 and (coding is not None or length not in {None, "0"}))
            self.is_reusable = self.is_reusable and not is_odd
        elif coding is not None:
            if not is_current:
                raise InvalidAnswerError(NetworkFault.PROTOCOL)  # RFC 9112, 6.1
            is_chunked = coding.rpartition(",")[2].strip().lower() == "chunked"
            self._framing = _CHUNKED if is_chunked else _ENDING_THE_CONNECTION
            # with a length besides, someone on the way may have seen another end
            self.is_reusable = self.is_reusable and is_chunked and length is None
        elif length is not None:
            self._framing, self._left = _BY_LENGTH, _length(length)
        else:
            self._framing, self.is_reusable = _ENDING_THE_CONNECTION, False

    def _read_chunks(self, data: bytes) -> bytes:
        if self._buffer:
            data, self._buffer = bytes(self._buffer) + data, b""
        pieces: list[bytes] = []
        at, size = 0, len(data)
        while not self.complete:
            if self._phase == _DATA:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
                self._phase = _DATA_END
            end = data.find(b"\n", at) + 1
            if not end:
                self._count_overhead(size - at, keep=False)
                self._buffer = data[at:]
                break
            self._read_line(data[at:end])
            at = end
        if self.complete and at < size:
            self.is_reusable = False
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_line(self, line: bytes) -> None:
        """Reads a line between the chunks or after them."""
        if self._phase == _SIZE:
            found = _CHUNK_LINE.fullmatch(line)
            if found is None:
                raise InvalidAnswerError(NetworkFault.PROTOCOL)
            self._left = int(found[1], 16)
            self._count_overhead(len(line) - len(found[1]) - 2, keep=True)
            self._phase = _DATA if self._left else _TRAILER
        elif self._phase == _DATA_END:
            if line != b"\r\n":
                raise InvalidAnswerError(NetworkFault.PROTOCOL)
            self._phase = _SIZE
        else:
            self._count_overhead(len(line), keep=True)
            self.complete = line in {b"\r\n", b"\n"}
            if not self.complete:
                _field.__wrapped__(line[:-1])  # nobody reads a trailer, but it is refused for what a header is

    def _count_overhead(self, count: int, *, keep: bool) -> None:
        if self._overhead + count > _MAX_OVERHEAD_BYTES:
            raise InvalidAnswerError(NetworkFault.PROTOCOL)
        self._overhead += count if keep else 0


@lru_cache(maxsize=256)
def _status(line: bytes) -> tuple[int, bool]:
    """The status, and whether the version is 1.1. The line may be cut off: nobody reads its reason."""
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise InvalidAnswerError(NetworkFault.PROTOCOL)
    return int(found[2]), found[1] == b"1"


@lru_cache(maxsize=1024)
def _field(line: bytes) -> tuple[str, str]:
    """Name and value. The name is `_CONTINUES` for more of the one before, `_LEFT_OUT` for what is no text."""
    found = _FIELD.fullmatch(line)
    if found is not None:
        return found[1].decode().lower(), found[2].decode().strip()
    if (found := _CONTINUATION.fullmatch(line)) is not None:
        return _CONTINUES, found[1].decode().strip()
    if _FRAMING_FIELD.match(line) or b"\r" in line[:-1] or b"\0" in line:
        raise InvalidAnswerError(NetworkFault.PROTOCOL)
    return _LEFT_OUT, ""


def _long_field(line: bytes) -> tuple[str, str]:
    """The same for a head with long lines, which are not kept."""
    return _field(line) if len(line) <= _MAX_CACHED_LINE else _field.__wrapped__(line)


def _keeps_alive(connection: str, *, is_current: bool) -> bool:
    """RFC 9112, 9.3."""
    if connection == "keep-alive":  # what nearly every server says that says anything
        return True
    options = {option.strip() for option in connection.lower().split(",")}
    return "close" not in options and (is_current or "keep-alive" in options)


def _length(text: str) -> int:
    if not text.isdigit():  # the same length may be there twice (RFC 9110, 8.6)
        lengths = {each.strip() for each in text.split(",")}
        text = lengths.pop()
        if lengths or not text.isdigit():
            raise InvalidAnswerError(NetworkFault.PROTOCOL)
    if len(text) > _MAX_LENGTH_DIGITS:
        raise InvalidAnswerError(NetworkFault.PROTOCOL)
    return int(text)
